//! `nachos policy check`: what the rules would say to this person doing that, and which rules.

use std::collections::BTreeSet;

use bus::Bus;
use clap::{Subcommand, ValueEnum};
use proto::Name;
use proto::policy::{Action, Explain, Explanation, Outcome};
use proto::tool::Taint;
use serde_json::Value;

use crate::clean;
use crate::failure::{Ending, Failure};
use crate::out::{Out, Paint, Style};
use crate::session::Session;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The user's id in the channel.
    #[arg(long)]
    user: String,
    /// The channel they write in.
    #[arg(long, default_value = "cli")]
    channel: Name,
    /// Their team, where the channel has teams (Slack's team id).
    #[arg(long)]
    team: Option<String>,
    /// What the session has come into contact with; may be repeated.
    #[arg(long, value_enum)]
    taint: Vec<TaintArg>,
    /// The answer as one JSON object.
    #[arg(long)]
    json: bool,
    /// What they do.
    #[command(subcommand)]
    action: ActionArg,
}

/// A taint by its word in policies.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TaintArg {
    /// Text written by strangers.
    Untrusted,
    /// Private data.
    Private,
}

/// What they do.
#[derive(Debug, Subcommand)]
enum ActionArg {
    /// They write a message.
    ReceiveMessage,
    /// A model is asked on their behalf.
    CallModel {
        /// The model's configured name.
        model: Name,
    },
    /// A tool runs on their behalf.
    CallTool {
        /// The tool.
        tool: Name,
        /// Its arguments, a JSON object.
        #[arg(long, default_value = "{}", value_parser = json_object)]
        args: Value,
    },
}

fn json_object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err(r#"the arguments are a JSON object, such as '{"zone": "Asia/Tokyo"}'"#.to_owned()),
        Err(error) => Err(format!("no JSON: {error}")),
    }
}

/// Asks policy, shows what it says.
pub(crate) async fn run(session: Session, mut out: Out, args: Args) -> Result<Ending, Failure> {
    let json = args.json;
    let question = question(args);
    let bus = session.connect().await?;
    let answer = bus.request(Bus::new_trace(), &question).await;
    let explanation = answer.map_err(|error| Failure::from(error).context("policy did not answer"))?;
    if json {
        let line = serde_json::to_string(&explanation).map_err(anyhow::Error::new)?;
        out.line(&clean::json(&line))?;
    } else {
        out.text(&render(out.paint(), &question, &explanation))?;
    }
    let allowed = explanation.outcome == Outcome::Allow;
    Ok(if allowed { Ending::Done } else { Ending::Refused })
}

fn question(args: Args) -> Explain {
    let taint = |word: &TaintArg| match word {
        TaintArg::Untrusted => Taint::Untrusted,
        TaintArg::Private => Taint::Private,
    };
    Explain {
        v: proto::VERSION,
        channel: args.channel,
        team: args.team,
        user: args.user,
        taint: args.taint.iter().map(taint).collect::<BTreeSet<_>>(),
        action: match args.action {
            ActionArg::ReceiveMessage => Action::ReceiveMessage,
            ActionArg::CallModel { model } => Action::CallModel { model },
            ActionArg::CallTool { tool, args } => {
                Action::CallTool { call: "dry-run".to_owned(), tool, arguments: args }
            }
        },
    }
}

fn render(paint: Paint, question: &Explain, explanation: &Explanation) -> String {
    let who = match &question.team {
        Some(team) => format!("{}/{team}/{}", question.channel, question.user),
        None => format!("{}/{}", question.channel, question.user),
    };
    let what = match &question.action {
        Action::ReceiveMessage => "receive_message".to_owned(),
        Action::CallModel { model } => format!("call_model {model}"),
        Action::CallTool { tool, arguments, .. } => format!("call_tool {tool} {arguments}"),
    };
    let (style, word) = outcome(explanation.outcome);
    let mut text = format!("{}  {} for {}\n", paint.with(style, word), clean::line(&what), clean::line(&who));
    text.push_str(&format!("       {}\n", clean::line(&explanation.reason)));
    if explanation.policies.is_empty() {
        text.push_str(
            &paint.with(Style::Dim, "\nNo rule says anything about it, and what no rule allows is denied.\n"),
        );
    }
    for policy in &explanation.policies {
        let head = format!("{}  {}", paint.with(Style::Bold, &clean::line(&policy.id)), clean::line(&policy.file));
        text.push_str(&format!("\n{head}\n{}", indented(&clean::text(&policy.text))));
    }
    text.push_str(&paint.with(Style::Dim, &format!("\npolicy set {}\n", clean::line(&explanation.policy_set))));
    text
}

fn outcome(outcome: Outcome) -> (Style, &'static str) {
    match outcome {
        Outcome::Allow => (Style::Green, "allow"),
        Outcome::Deny => (Style::Red, "deny "),
        Outcome::Ask => (Style::Yellow, "ask  "),
    }
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use expect_test::{Expect, expect};
    use proto::policy::PolicyText;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn asked(line: &[&str]) -> Explain {
        question(Line::parse_from([&["check"], line].concat()).args)
    }

    fn check(line: &[&str], explanation: &Explanation, expected: &Expect) {
        expected.assert_eq(&render(Paint::PLAIN, &asked(line), explanation));
    }

    #[test]
    fn an_answer_shows_the_deciding_rules() {
        let explanation = Explanation {
            outcome: Outcome::Allow,
            reason: "allowed by demo-tools".into(),
            policies: vec![PolicyText {
                id: "demo-tools".into(),
                file: "20-tools.cedar".into(),
                text: "permit (\n  principal,\n  action == Action::\"call_tool\",\n  resource\n);\n".into(),
            }],
            policy_set: "sha256:12".into(),
        };
        let line = ["--user", "ann", "--taint", "untrusted", "call-tool", "clock", "--args", r#"{"zone":"UTC"}"#];
        check(
            &line,
            &explanation,
            &expect![[r#"
                allow  call_tool clock {"zone":"UTC"} for cli/ann
                       allowed by demo-tools

                demo-tools  20-tools.cedar
                  permit (
                    principal,
                    action == Action::"call_tool",
                    resource
                  );

                policy set sha256:12
            "#]],
        );
        assert_eq!(asked(&line).taint, BTreeSet::from([Taint::Untrusted]));
    }

    #[test]
    fn a_denial_without_a_rule_says_so() {
        let explanation = Explanation {
            outcome: Outcome::Deny,
            reason: "no policy allows it".into(),
            policies: vec![],
            policy_set: "sha256:12".into(),
        };
        check(
            &["--user", "U1", "--channel", "slack", "--team", "T1", "receive-message"],
            &explanation,
            &expect![[r#"
                deny   receive_message for slack/T1/U1
                       no policy allows it

                No rule says anything about it, and what no rule allows is denied.

                policy set sha256:12
            "#]],
        );
    }

    #[test]
    fn arguments_are_a_json_object() {
        assert!(json_object("[1]").is_err() && json_object("{").is_err());
        assert_eq!(json_object("{}"), Ok(serde_json::json!({})));
    }
}
