//! What a record says, as a short sentence: the decisive word first, and in colour where something was refused or went wrong.

use proto::audit::{Fact, Record};
use proto::content::Content;
use proto::llm::{FinishReason, Usage};
use proto::policy::Outcome;
use serde_json::Value;

use crate::clean;
use crate::clock::micros;
use crate::out::Style;

/// A styled piece of a line.
pub(super) type Piece = (Style, String);

/// The sentence. A record of a type that this release does not know is shown as its data.
pub(super) fn describe(record: &Value) -> Vec<Piece> {
    let Ok(known) = serde_json::from_value::<Record>(record.clone()) else {
        let data = record.get("data").unwrap_or(record);
        return vec![(Style::Plain, clean::line(&data.to_string()))];
    };
    let pieces = fact(known.fact).into_iter().map(|(style, text)| (style, clean::line(&text)));
    pieces.filter(|(_, text)| !text.is_empty()).flat_map(spaced).collect()
}

/// Pieces are separated by a blank that takes part in no style.
fn spaced(piece: Piece) -> [Piece; 2] {
    [piece, (Style::Plain, " ".to_owned())]
}

fn fact(fact: Fact) -> Vec<Piece> {
    match fact {
        Fact::MessageReceived { text, .. } | Fact::MessageSent { text, .. } => vec![said(&text)],
        Fact::MessageUndeliverable { reason, .. } => vec![red("undeliverable"), because(reason)],
        Fact::PolicyDecided { action, resource, outcome, policies, reason, arguments, .. } => {
            decided(outcome, vec![plain(action), bold(resource)], arguments, &policies, reason)
        }
        Fact::ToolStarted { tool, arguments, .. } => vec![bold(tool), shown(&arguments)],
        Fact::ToolFinished { tool, outcome, result, micros: took, .. } => {
            vec![bold(tool), well(&outcome, "ok"), dim(micros(took)), shown(&result)]
        }
        Fact::ToolRefused { tool, reason } => vec![bold(tool), red("refused"), because(reason)],
        Fact::ModelRequested { model, provider, messages, tools, .. } => {
            let offered = format!("{}, {}", count(messages, "message"), count(tools.len() as u64, "tool"));
            vec![bold(model), plain(offered), dim(format!("({provider})"))]
        }
        Fact::ModelAnswered { model, provider, finish, error, usage, tool_calls, text, micros: took, .. } => {
            let ended = ending(finish, error, &tool_calls, &text);
            vec![bold(model), ended, dim(format!("({provider}, {}, {})", micros(took), tokens(usage)))]
        }
        Fact::SessionOpened { conversation } => vec![plain(format!("conversation {conversation}"))],
        Fact::TurnFinished { outcome, reason, model_calls, tool_calls, usage } => {
            let spent = format!(
                "({}, {}, {})",
                count(model_calls, "model call"),
                count(tool_calls, "tool call"),
                tokens(usage)
            );
            vec![well(&outcome, "answered"), because(reason.unwrap_or_default()), dim(spent)]
        }
        Fact::ComponentStarted { version } => vec![plain(format!("version {version}"))],
        Fact::ComponentDenied { subject, operation } => vec![red("denied"), plain(operation), bold(subject)],
        Fact::ConfigChanged { what, digest, refused } => match refused {
            Some(why) => vec![bold(what), red("refused"), because(why), dim(format!("(still {digest})"))],
            None => vec![bold(what), dim(digest)],
        },
        Fact::ContentErased { what, records, reason } => {
            vec![plain(format!("texts of {records} records of")), bold(what), because(reason)]
        }
        Fact::LogArchived { file, first, last, .. } => vec![bold(file), dim(format!("records {first} to {last}"))],
        Fact::LogPruned { first, files } => {
            vec![plain(format!("the stream begins at {first}")), dim(format!("what was before: {}", files.join(", ")))]
        }
        Fact::WebLogin { user, outcome } => vec![bold(user), plain(outcome)],
    }
}

/// A denial says why; an allowance says which rule.
fn decided(
    outcome: Outcome,
    about: Vec<Piece>,
    arguments: Option<Content>,
    policies: &[String],
    reason: String,
) -> Vec<Piece> {
    let word = match outcome {
        Outcome::Allow => (Style::Green, "allow".to_owned()),
        Outcome::Deny => red("deny"),
        Outcome::Ask => (Style::Yellow, "ask".to_owned()),
    };
    let mut pieces = vec![word];
    pieces.extend(about);
    // Before the arguments: a narrow terminal cuts what stands last.
    if !policies.is_empty() {
        pieces.push(dim(format!("by {}", policies.join(", "))));
    }
    pieces.extend(arguments.iter().map(shown));
    if outcome != Outcome::Allow {
        pieces.push(because(reason));
    }
    pieces
}

/// How a model's answer ended.
fn ending(finish: Option<FinishReason>, error: Option<String>, calls: &[String], text: &Content) -> Piece {
    match (error, finish) {
        (Some(error), _) => red(format!("failed: {error}")),
        (None, None) => red("ended without a reason"),
        (None, Some(FinishReason::Refused)) => red("refused"),
        (None, Some(FinishReason::Length)) => red("cut off at its longest"),
        (None, Some(_)) if !calls.is_empty() => plain(format!("asks for {}", calls.join(", "))),
        (None, Some(_)) => said(text),
    }
}

/// What a person or a model said.
fn said(text: &Content) -> Piece {
    match &text.text {
        Some(words) => plain(format!("“{words}”")),
        None => unseen(text),
    }
}

/// Arguments and results, as they are.
fn shown(content: &Content) -> Piece {
    match &content.text {
        Some(text) => plain(text.clone()),
        None => unseen(content),
    }
}

/// Where records hold no content: enough of the digest to compare by eye.
fn unseen(content: &Content) -> Piece {
    let short: String = content.digest.chars().take("hmac-sha256:".len() + 12).collect();
    dim(format!("{short}…, {} bytes", content.bytes))
}

fn well(word: &str, good: &str) -> Piece {
    let style = if word == good { Style::Green } else { Style::Red };
    (style, word.to_owned())
}

fn tokens(usage: Usage) -> String {
    format!("{} + {} tokens", usage.input, usage.output)
}

fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// Why, where somebody said why.
fn because(reason: String) -> Piece {
    if reason.is_empty() { plain(reason) } else { plain(format!("– {reason}")) }
}

fn plain(text: impl ToString) -> Piece {
    (Style::Plain, text.to_string())
}

fn bold(text: impl ToString) -> Piece {
    (Style::Bold, text.to_string())
}

fn dim(text: impl ToString) -> Piece {
    (Style::Dim, text.to_string())
}

fn red(text: impl ToString) -> Piece {
    (Style::Red, text.to_string())
}
