//! What a record says, as a short sentence: the decisive word first, with a tone where something was allowed, refused or went wrong.

use proto::audit::{Fact, Record};
use proto::content::Content;
use proto::llm::{FinishReason, Usage};
use proto::policy::Outcome;
use serde_json::Value;

/// Longest piece of a sentence in characters; the record's own page shows all of it.
const MAX_PIECE: usize = 240;

/// How a word is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As the rest.
    Plain,
    /// What it is about.
    Strong,
    /// Of less importance.
    Dim,
    /// Allowed, done.
    Good,
    /// Refused, failed.
    Bad,
    /// Somebody has to look.
    Ask,
    /// What somebody said, or gave as arguments.
    Quote,
}

impl Tone {
    /// The class in the style sheet.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Strong => "strong",
            Self::Dim => "dim",
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Ask => "ask",
            Self::Quote => "quote",
        }
    }
}

/// A word or some, and how they are meant.
pub(crate) type Piece = (Tone, String);

/// The sentence. A record of a type that this release does not know is shown as its data.
pub(crate) fn sentence(record: &Value) -> Vec<Piece> {
    let pieces = match serde_json::from_value::<Record>(record.clone()) {
        Ok(known) => fact(known.fact),
        Err(_) => vec![(Tone::Quote, record.get("data").unwrap_or(record).to_string())],
    };
    pieces.into_iter().filter(|(_, text)| !text.is_empty()).map(|(tone, text)| (tone, cut(&text))).collect()
}

/// The tone of the whole: that of its first word that has one.
pub(crate) fn tone(pieces: &[Piece]) -> Tone {
    let decisive = |tone: &Tone| matches!(tone, Tone::Good | Tone::Bad | Tone::Ask);
    pieces.iter().map(|(tone, _)| *tone).find(decisive).unwrap_or(Tone::Plain)
}

fn fact(fact: Fact) -> Vec<Piece> {
    match fact {
        Fact::MessageReceived { text, .. } | Fact::MessageSent { text, .. } => vec![said(&text)],
        Fact::MessageUndeliverable { reason, .. } => vec![bad("undeliverable"), because(reason)],
        Fact::PolicyDecided { action, resource, outcome, policies, reason, arguments, .. } => {
            decided(outcome, vec![plain(action), strong(resource)], arguments, &policies, reason)
        }
        Fact::ToolStarted { tool, arguments, .. } => vec![strong(tool), quoted(&arguments)],
        Fact::ToolFinished { tool, outcome, result, micros: took, .. } => {
            vec![strong(tool), well(&outcome, "ok"), dim(micros(took)), quoted(&result)]
        }
        Fact::ToolRefused { tool, reason } => vec![strong(tool), bad("refused"), because(reason)],
        Fact::ModelRequested { model, provider, messages, tools, .. } => {
            let offered = format!("{}, {}", count(messages, "message"), count(tools.len() as u64, "tool"));
            vec![strong(model), plain(offered), dim(provider)]
        }
        Fact::ModelAnswered { model, finish, error, usage, tool_calls, text, micros: took, .. } => {
            let ended = ending(finish, error, &tool_calls, &text);
            vec![strong(model), ended, dim(format!("{} · {}", micros(took), tokens(usage)))]
        }
        Fact::SessionOpened { conversation } => vec![plain(format!("conversation {conversation}"))],
        Fact::TurnFinished { outcome, reason, model_calls, tool_calls, usage } => {
            let calls = format!("{}, {}", count(model_calls, "model call"), count(tool_calls, "tool call"));
            let spent = dim(format!("{calls} · {}", tokens(usage)));
            vec![well(&outcome, "answered"), because(reason.unwrap_or_default()), spent]
        }
        other => platform(other),
    }
}

/// What is of no turn.
fn platform(fact: Fact) -> Vec<Piece> {
    match fact {
        Fact::ComponentStarted { version } => vec![plain("started"), dim(format!("version {version}"))],
        Fact::ComponentDenied { subject, operation } => vec![bad("denied"), plain(operation), strong(subject)],
        Fact::ConfigChanged { what, digest, refused: None } => vec![strong(what), dim(brief(&digest))],
        Fact::ConfigChanged { what, digest, refused: Some(why) } => {
            vec![strong(what), bad("refused"), because(why), dim(format!("still {}", brief(&digest)))]
        }
        Fact::ContentErased { what, records, reason } => {
            vec![strong("texts erased"), plain(what), dim(count(records, "record")), because(reason)]
        }
        Fact::LogArchived { file, first, last, .. } => {
            vec![strong("archived"), plain(format!("records {first} to {last}")), dim(file)]
        }
        Fact::LogPruned { first, files } => {
            vec![strong("pruned"), plain(format!("the stream now begins at {first}")), dim(files.join(", "))]
        }
        Fact::WebLogin { user, outcome } => vec![strong(user), well(&outcome, "ok")],
        // Everything else was told by `fact`.
        _ => vec![],
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
    let mut pieces = vec![verdict(outcome)];
    pieces.extend(about);
    if outcome != Outcome::Allow {
        pieces.push(because(reason));
    }
    if !policies.is_empty() {
        pieces.push(dim(format!("by {}", policies.join(", "))));
    }
    pieces.extend(arguments.iter().map(quoted));
    pieces
}

/// The word of a decision.
pub(crate) fn verdict(outcome: Outcome) -> Piece {
    match outcome {
        Outcome::Allow => (Tone::Good, "allow".to_owned()),
        Outcome::Deny => bad("deny"),
        Outcome::Ask => (Tone::Ask, "ask".to_owned()),
    }
}

/// How a model's answer ended.
pub(crate) fn ending(finish: Option<FinishReason>, error: Option<String>, calls: &[String], text: &Content) -> Piece {
    match (error, finish) {
        (Some(error), _) => bad(format!("failed: {error}")),
        (None, None) => bad("ended without a reason"),
        (None, Some(FinishReason::Refused)) => bad("refused"),
        (None, Some(FinishReason::Length)) => bad("cut off at its longest"),
        (None, Some(_)) if !calls.is_empty() => plain(format!("asks for {}", calls.join(", "))),
        (None, Some(_)) => said(text),
    }
}

fn said(text: &Content) -> Piece {
    match &text.text {
        Some(words) => (Tone::Quote, format!("“{words}”")),
        None => unseen(text),
    }
}

fn quoted(content: &Content) -> Piece {
    content.text.clone().map_or_else(|| unseen(content), |text| (Tone::Quote, text))
}

/// Where there is no text: that it is so, and how long it was.
fn unseen(text: &Content) -> Piece {
    dim(format!("text not kept, {} bytes", text.bytes))
}

/// A word that is good if it is the good one.
pub(crate) fn well(word: &str, good: &str) -> Piece {
    let tone = if word == good { Tone::Good } else { Tone::Bad };
    (tone, word.to_owned())
}

/// Tokens read and written.
pub(crate) fn tokens(usage: Usage) -> String {
    format!("{} + {} tokens", grouped(usage.input), grouped(usage.output))
}

/// So many of something.
pub(crate) fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{} {thing}s", grouped(number)) }
}

/// A number with a thin space between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{2009}');
        }
        out.push(digit);
    }
    out
}

/// Microseconds in the unit that people compare in.
pub(crate) fn micros(micros: u64) -> String {
    // Shown, not calculated with: the loss of precision is below what is printed.
    let exact = micros as f64;
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", exact / 1e3),
        _ => format!("{:.1} s", exact / 1e6),
    }
}

/// Enough of a digest to compare by eye.
fn brief(digest: &str) -> String {
    let short: String = digest.chars().take("sha256:".len() + 12).collect();
    if short.len() < digest.len() { format!("{short}…") } else { short }
}

fn because(reason: String) -> Piece {
    if reason.is_empty() { plain(reason) } else { plain(format!("– {reason}")) }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_PIECE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn plain(text: impl ToString) -> Piece {
    (Tone::Plain, text.to_string())
}

fn strong(text: impl ToString) -> Piece {
    (Tone::Strong, text.to_string())
}

fn dim(text: impl ToString) -> Piece {
    (Tone::Dim, text.to_string())
}

fn bad(text: impl ToString) -> Piece {
    (Tone::Bad, text.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(kind: &str, data: &Value) -> (Tone, String) {
        let record = json!({
            "specversion": "1.0", "id": "00000000-0000-0000-0000-000000000001", "source": "/nachos/x",
            "time": "2026-11-20T10:00:00Z", "datacontenttype": "application/json", "type": kind, "data": data,
        });
        let pieces = sentence(&record);
        let words: Vec<_> = pieces.iter().map(|(_, text)| text.as_str()).collect();
        (tone(&pieces), words.join(" "))
    }

    #[test]
    fn a_denial_says_why_and_by_which_rule() {
        let data = json!({"action": "call_tool", "resource": "fetch", "outcome": "deny", "policies": ["no-fetch"],
            "reason": "not for guests", "caller": "gateway", "policy_set": "x", "micros": 3});
        assert_eq!(
            told("policy.decided", &data),
            (Tone::Bad, "deny call_tool fetch – not for guests by no-fetch".into())
        );
    }

    #[test]
    fn every_fact_says_something() {
        let erased = json!({"what": "principal a", "records": 1, "reason": "asked"});
        assert_eq!(told("content.erased", &erased).1, "texts erased principal a 1 record – asked");
        assert_eq!(told("web.login", &json!({"user": "ann", "outcome": "used already"})).0, Tone::Bad);
        assert_eq!(told("component.started", &json!({"version": "1"})).1, "started version 1");
        let gone = json!({"digest": "hmac-sha256:0", "bytes": 12345});
        let received = json!({"event": "e", "conversation": "c", "text": gone});
        assert_eq!(told("message.received", &received).1, "text not kept, 12345 bytes");
    }

    #[test]
    fn what_is_not_known_is_shown_as_it_is() {
        assert_eq!(told("egress.opened", &json!({"host": "x"})).1, r#"{"host":"x"}"#);
        assert_eq!(sentence(&json!("not json")), vec![(Tone::Quote, "\"not json\"".to_owned())]);
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([7, 1234, 1_234_567].map(grouped), ["7", "1\u{2009}234", "1\u{2009}234\u{2009}567"]);
        assert_eq!([7, 1_250, 2_500_000].map(micros), ["7 µs", "1.2 ms", "2.5 s"]);
    }
}
