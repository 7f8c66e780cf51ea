//! One record as one line: when, who, what kind, which turn, for whom, and a sentence of what happened.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proto::audit::StoredRecord;
use serde_json::Value;

use super::describe::{Piece, describe};
use crate::clean;
use crate::clock;
use crate::out::{Paint, Style, cut, pad};

/// What [`clock::local`] takes at most.
const TIME: usize = 12;

/// Longest component, `channel-slack`.
const COMPONENT: usize = 13;

/// Longest type that is often seen, `component.started`.
const KIND: usize = 17;

/// Hex digits of a trace that are shown; `--trace` finds a trace by as many.
const TRACE: usize = 8;

/// Most columns for a principal before it pushes the sentence out.
const PRINCIPAL: usize = 20;

/// The line, cut to the width of the terminal.
pub(super) fn render(paint: Paint, record: &StoredRecord, now: Timestamp, zone: &TimeZone) -> String {
    let kind = text(&record.record, "type").unwrap_or_else(|| "unreadable".to_owned());
    let principal = text(&record.record, "principal").unwrap_or_else(|| "–".to_owned());
    let mut pieces: Vec<Piece> = vec![
        (Style::Dim, format!("{}  ", pad(&clock::local(record.stored, now, zone), TIME))),
        (Style::Plain, format!("{}  ", pad(&clean::line(&record.component), COMPONENT))),
        (Style::Cyan, format!("{}  ", pad(&clean::line(&kind), KIND))),
        (Style::Dim, format!("{}  ", pad(&trace(&record.record), TRACE))),
        (Style::Dim, format!("{}  ", pad(&cut(&clean::line(&principal), PRINCIPAL), 9))),
    ];
    pieces.extend(describe(&record.record));
    fit(paint, pieces)
}

/// The titles of the columns.
pub(super) fn heading() -> String {
    let columns = [("time", TIME), ("component", COMPONENT), ("type", KIND), ("trace", TRACE), ("for", 9)];
    let titles: String = columns.iter().map(|(title, width)| format!("{}  ", pad(title, *width))).collect();
    format!("{titles}what")
}

fn text(record: &Value, key: &str) -> Option<String> {
    record.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// The first digits of the trace id, the second field of a `traceparent`.
fn trace(record: &Value) -> String {
    let parent = text(record, "traceparent").unwrap_or_default();
    let id = parent.split('-').nth(1).unwrap_or("–");
    clean::line(id).chars().take(TRACE).collect()
}

/// Joins the pieces and cuts where the terminal ends.
fn fit(paint: Paint, pieces: Vec<Piece>) -> String {
    let mut room = paint.width.unwrap_or(usize::MAX);
    let mut line = String::new();
    for (style, text) in pieces {
        if room == 0 {
            break;
        }
        let shown = cut(&text, room);
        room = if shown == text { room - unicode_width::UnicodeWidthStr::width(text.as_str()) } else { 0 };
        line.push_str(&paint.with(style, &shown));
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proto::Component;
    use proto::audit::{Fact, Record, Scope};
    use proto::content::{Content, ContentMode};
    use proto::llm::{FinishReason, Usage};
    use proto::policy::Outcome;
    use proto::trace::Trace;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn stored(component: Component, fact: Fact) -> StoredRecord {
        let stored: Timestamp = "2026-11-20T14:03:07.123Z".parse().unwrap();
        let scope = Scope { principal: Some("cli/local".into()), channel: Some("cli".into()), ..Scope::default() };
        let trace = Some(Trace::new(0x1a2b_3c4d << 96, 1));
        let record = Record::new(component, Uuid::from_u128(9), stored, trace, scope, fact);
        StoredRecord { seq: 1, stored, component: component.to_string(), record: serde_json::to_value(record).unwrap() }
    }

    fn shown(paint: Paint, records: &[StoredRecord]) -> String {
        let now = "2026-11-20T15:00:00Z".parse().unwrap();
        records.iter().map(|record| render(paint, record, now, &TimeZone::UTC) + "\n").collect()
    }

    fn check(records: &[StoredRecord], expected: &Expect) {
        expected.assert_eq(&shown(Paint::PLAIN, records));
    }

    fn content(text: &str) -> Content {
        Content::of_text(text, ContentMode::Redacted)
    }

    fn decided(outcome: Outcome, policies: &[&str]) -> Fact {
        Fact::PolicyDecided {
            action: "call_tool".into(),
            resource: "clock".into(),
            outcome,
            policies: policies.iter().map(ToString::to_string).collect(),
            reason: "no rule allows it".into(),
            caller: Component::Gateway,
            policy_set: "sha256:1".into(),
            permit: None,
            call: Some("c1".into()),
            arguments: Some(content(r#"{"zone":"Asia/Tokyo"}"#)),
            taint: vec![],
            micros: 80,
        }
    }

    fn answered(finish: Option<FinishReason>, error: Option<&str>, tool_calls: &[&str]) -> Fact {
        Fact::ModelAnswered {
            request: Uuid::nil(),
            model: "demo".parse().unwrap(),
            provider: "offline".into(),
            finish,
            error: error.map(str::to_owned),
            usage: Usage { input: 120, output: 14, cached: 0 },
            tool_calls: tool_calls.iter().map(ToString::to_string).collect(),
            text: content("It is\n14:03."),
            micros: 1_200,
        }
    }

    #[test]
    fn a_turn_reads_as_what_happened() {
        let (request, run) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let records = [
            stored(
                Component::Cli,
                Fact::MessageReceived {
                    event: "e".into(),
                    conversation: "c".into(),
                    text: content("what time is it in Tokyo?"),
                },
            ),
            stored(Component::Policy, decided(Outcome::Allow, &["demo-tools"])),
            stored(
                Component::LlmProxy,
                Fact::ModelRequested {
                    request,
                    model: "demo".parse().unwrap(),
                    provider: "offline".into(),
                    messages: 1,
                    tools: vec!["clock".parse().unwrap(), "calc".parse().unwrap()],
                    content: content("x"),
                },
            ),
            stored(Component::LlmProxy, answered(Some(FinishReason::ToolCalls), None, &["clock"])),
            stored(
                Component::ToolsWasm,
                Fact::ToolFinished {
                    run,
                    tool: "clock".parse().unwrap(),
                    outcome: "ok".into(),
                    result: content(r#"{"time":"23:03"}"#),
                    micros: 1_250,
                },
            ),
            stored(Component::LlmProxy, answered(Some(FinishReason::Stop), None, &[])),
            stored(
                Component::Gateway,
                Fact::TurnFinished {
                    outcome: "answered".into(),
                    reason: None,
                    model_calls: 2,
                    tool_calls: 1,
                    usage: Usage { input: 240, output: 28, cached: 0 },
                },
            ),
            stored(
                Component::Cli,
                Fact::MessageSent {
                    message: run,
                    conversation: "c".into(),
                    posted: None,
                    text: Content {
                        digest: "hmac-sha256:ada2ea4349f2c935".into(),
                        text: None,
                        salt: None,
                        ..Content::of_text("It is 14:03.", ContentMode::Digest)
                    },
                },
            ),
        ];
        check(
            &records,
            &expect![[r#"
                14:03:07.123  cli            message.received   1a2b3c4d  cli/local  “what time is it in Tokyo?”
                14:03:07.123  policy         policy.decided     1a2b3c4d  cli/local  allow call_tool clock by demo-tools {"zone":"Asia/Tokyo"}
                14:03:07.123  llm-proxy      model.requested    1a2b3c4d  cli/local  demo 1 message, 2 tools (offline)
                14:03:07.123  llm-proxy      model.answered     1a2b3c4d  cli/local  demo asks for clock (offline, 1.2 ms, 120 + 14 tokens)
                14:03:07.123  tools-wasm     tool.finished      1a2b3c4d  cli/local  clock ok 1.2 ms {"time":"23:03"}
                14:03:07.123  llm-proxy      model.answered     1a2b3c4d  cli/local  demo “It is 14:03.” (offline, 1.2 ms, 120 + 14 tokens)
                14:03:07.123  gateway        turn.finished      1a2b3c4d  cli/local  answered (2 model calls, 1 tool call, 240 + 28 tokens)
                14:03:07.123  cli            message.sent       1a2b3c4d  cli/local  hmac-sha256:ada2ea4349f2…, 12 bytes
            "#]],
        );
    }

    #[test]
    fn what_went_wrong_says_why() {
        let records = [
            stored(Component::Policy, decided(Outcome::Deny, &[])),
            stored(Component::Policy, decided(Outcome::Ask, &["ask-first"])),
            stored(
                Component::ToolsWasm,
                Fact::ToolRefused { tool: "clock".into(), reason: "the permit was already used".into() },
            ),
            stored(
                Component::ToolsWasm,
                Fact::ToolFinished {
                    run: Uuid::nil(),
                    tool: "calc".parse().unwrap(),
                    outcome: "limit".into(),
                    result: content("it took too long"),
                    micros: 5_000_000,
                },
            ),
            stored(Component::LlmProxy, answered(None, Some("the provider is not reachable"), &[])),
            stored(
                Component::Gateway,
                Fact::ComponentDenied { subject: "nachos.x".into(), operation: "publish".into() },
            ),
            stored(
                Component::Policy,
                Fact::ConfigChanged {
                    what: "policy set".into(),
                    digest: "sha256:1".into(),
                    refused: Some("10.cedar:3".into()),
                },
            ),
        ];
        check(
            &records,
            &expect![[r#"
                14:03:07.123  policy         policy.decided     1a2b3c4d  cli/local  deny call_tool clock {"zone":"Asia/Tokyo"} – no rule allows it
                14:03:07.123  policy         policy.decided     1a2b3c4d  cli/local  ask call_tool clock by ask-first {"zone":"Asia/Tokyo"} – no rule allows it
                14:03:07.123  tools-wasm     tool.refused       1a2b3c4d  cli/local  clock refused – the permit was already used
                14:03:07.123  tools-wasm     tool.finished      1a2b3c4d  cli/local  calc limit 5.0 s it took too long
                14:03:07.123  llm-proxy      model.answered     1a2b3c4d  cli/local  demo failed: the provider is not reachable (offline, 1.2 ms, 120 + 14 tokens)
                14:03:07.123  gateway        component.denied   1a2b3c4d  cli/local  denied publish nachos.x
                14:03:07.123  policy         config.changed     1a2b3c4d  cli/local  policy set refused – 10.cedar:3 (still sha256:1)
            "#]],
        );
    }

    #[test]
    fn what_this_release_does_not_know_is_shown_as_it_is() {
        let mut unknown = stored(Component::Policy, Fact::ComponentStarted { version: "1".into() });
        unknown.record = json!({"type": "egress.opened", "data": {"host": "a\u{1b}[1m.example"}});
        let mut unreadable = unknown.clone();
        unreadable.record = json!("not json");
        unreadable.stored = "2026-11-19T09:00:00Z".parse().unwrap();
        check(
            &[unknown, unreadable],
            &expect![[r#"
                14:03:07.123  policy         egress.opened      –         –          {"host":"a\u001b[1m.example"}
                11-19 09:00   policy         unreadable         –         –          "not json"
            "#]],
        );
    }

    #[test]
    fn a_line_ends_where_the_terminal_ends_and_is_coloured_only_there() {
        let denied = [stored(Component::Policy, decided(Outcome::Deny, &[]))];
        let narrow = shown(Paint { colour: false, width: Some(80) }, &denied);
        assert_eq!(narrow.trim_end().chars().count(), 80);
        let coloured = shown(Paint { colour: true, width: None }, &denied);
        assert!(coloured.contains("\u{1b}[31mdeny\u{1b}[0m"), "{coloured}");
    }
}
