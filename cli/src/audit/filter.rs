//! Which records are meant, as the command line of `nachos audit` says it.

use jiff::Timestamp;
use proto::audit::{FACTS, Filter};
use uuid::Uuid;

use crate::clock;
use crate::failure::Failure;

/// What the command line says; all given conditions must hold.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Args {
    /// Only this type, such as policy.decided or tool.*; may be repeated.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only of this session.
    #[arg(long)]
    session: Option<String>,
    /// Only of this turn.
    #[arg(long, value_name = "UUID")]
    turn: Option<Uuid>,
    /// Only of this trace, or of those that begin so.
    #[arg(long, value_name = "HEX")]
    trace: Option<String>,
    /// Only on behalf of this user, such as cli/local or slack/T1/*.
    #[arg(long, visible_alias = "user", value_name = "CHANNEL/TEAM/USER")]
    principal: Option<String>,
    /// Only of this channel.
    #[arg(long)]
    channel: Option<String>,
    /// Only about this tool.
    #[arg(long)]
    tool: Option<String>,
    /// Only with this outcome: allow, deny, ask, ok, failed, refused, denied, limit, crashed …
    #[arg(long)]
    outcome: Option<String>,
    /// Only by this component.
    #[arg(long)]
    component: Option<String>,
    /// Only where this policy decided.
    #[arg(long)]
    policy: Option<String>,
    /// Only since this time: RFC 3339, or how long ago (90s, 10m, 2h, 3d).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Args {
    /// The filter; times are counted from `now`.
    pub(crate) fn into_filter(self, now: Timestamp) -> Result<Filter, Failure> {
        let time = |text: Option<String>| text.map(|text| clock::parse(&text, now)).transpose();
        let usage = |message: String| Failure::new(message, "nachos audit query --help shows the filters");
        self.types.iter().try_for_each(|wanted| known_type(wanted)).map_err(usage)?;
        if let Some(trace) = &self.trace {
            hex(trace).map_err(usage)?;
        }
        Ok(Filter {
            types: self.types,
            session: self.session,
            turn: self.turn,
            trace: self.trace,
            principal: self.principal,
            channel: self.channel,
            tool: self.tool,
            outcome: self.outcome,
            component: self.component,
            policy: self.policy,
            since: time(self.since).map_err(usage)?,
            until: time(self.until).map_err(usage)?,
            before: None,
        })
    }
}

/// The type under which audit files what is no record.
const UNREADABLE: &str = "unreadable";

/// A mistyped type would find nothing and look like peace.
fn known_type(wanted: &str) -> Result<(), String> {
    let known = match wanted.strip_suffix('*') {
        Some(prefix) => FACTS.iter().chain(&[UNREADABLE]).any(|fact| fact.starts_with(prefix)),
        None => FACTS.contains(&wanted) || wanted == UNREADABLE,
    };
    let all = || format!("there are no records of type `{wanted}`; there are {} and {UNREADABLE}", FACTS.join(", "));
    if known { Ok(()) } else { Err(all()) }
}

fn hex(trace: &str) -> Result<(), String> {
    let fits = (1..=32).contains(&trace.len()) && trace.bytes().all(|b| b.is_ascii_hexdigit());
    if fits { Ok(()) } else { Err(format!("`{trace}` is no trace: give its hex digits, all 32 or the first few")) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn filter(line: &str) -> Result<Filter, String> {
        let now = "2026-11-20T14:00:00Z".parse().unwrap();
        let words = ["tail"].into_iter().chain(line.split_whitespace());
        let parsed = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        parsed.args.into_filter(now).map_err(|failure| failure.to_string())
    }

    #[test]
    fn filters_are_what_was_typed() {
        let found = filter(
            "--type tool.* --type policy.decided --trace 0a1B --outcome deny --since 10m --until 2026-11-20T13:55:00Z",
        );
        let expected = Filter {
            types: vec!["tool.*".into(), "policy.decided".into()],
            trace: Some("0a1B".into()),
            outcome: Some("deny".into()),
            since: Some("2026-11-20T13:50:00Z".parse().unwrap()),
            until: Some("2026-11-20T13:55:00Z".parse().unwrap()),
            ..Filter::default()
        };
        assert_eq!(found, Ok(expected));
        assert_eq!(filter(""), Ok(Filter::default()));
        assert!(filter("--type unreadable").is_ok());
    }

    #[test]
    fn what_could_find_nothing_is_said_at_once() {
        for bad in
            ["--type tool.stared", "--type foo.*", "--trace xyz", "--trace 00-11", "--since yesterday", "--turn 1"]
        {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
