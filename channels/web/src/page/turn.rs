//! One turn as a story: what was asked, what was decided and by which rule, what ran, and what came of it.

use jiff::Timestamp;
use maud::{Markup, html};
use proto::audit::{Fact, Record, StoredRecord};
use proto::content::Content;
use uuid::Uuid;

use super::{date_time, inside, pieces, same};
use crate::proof::Sealed;
use crate::shown::{attribute, kind, print, trace};
use crate::visible::{Block, Line};
use crate::words::{Tone, count, micros, sentence, tokens, tone, verdict, well};

/// The page.
pub(crate) fn page(user: &str, sealed: &Sealed, turn: Uuid, records: &[StoredRecord]) -> Markup {
    let start = records.first().map(|record| record.stored);
    let end = records.last().map(|record| record.stored);
    let body = html! {
        nav.crumbs aria-label="Timeline" { a href="/" data-key="u" { "← Timeline" } }
        h1 { "A turn" }
        (summary(turn, records, start.zip(end)))
        ol.story #records {
            @for record in records { (step(record, start)) }
        }
    };
    inside("Turn", user, sealed, &body)
}

fn summary(turn: Uuid, records: &[StoredRecord], span: Option<(Timestamp, Timestamp)>) -> Markup {
    let first = |name: &str| records.iter().find_map(|record| attribute(record, name));
    let end = records.iter().rev().find_map(|record| match fact(record)? {
        Fact::TurnFinished { outcome, reason, model_calls, tool_calls, usage } => Some((
            outcome,
            reason,
            format!("{}, {}, {}", count(model_calls, "model call"), count(tool_calls, "tool call"), tokens(usage)),
        )),
        _ => None,
    });
    let denials = records.iter().filter(|record| tone(&sentence(&record.record)) == Tone::Bad).count();
    html! {
        dl.facts {
            dt { "Outcome" }
            dd {
                @match &end {
                    Some((outcome, reason, _)) => {
                        (pieces(&[well(outcome, "answered")]))
                        @if let Some(reason) = reason { (Line(reason)) }
                    },
                    None => span.ask { "not finished" },
                }
                @if denials > 0 { " · " span.bad { (count(denials as u64, "refusal")) } }
            }
            @if let Some((start, end)) = span {
                dt { "When" } dd { (date_time(start)) span.dim { " · " (took(start, end)) } }
            }
            @if let Some((_, _, spent)) = &end { dt { "Spent" } dd { (spent) } }
            @for name in ["principal", "channel", "session"] {
                @if let Some(value) = first(name) { dt { (name) } dd { (same(name, value, value)) } }
            }
            @if let Some(trace) = records.iter().find_map(trace) { dt { "Trace" } dd { (same("trace", &trace, &trace)) } }
            dt { "Turn" } dd { code { (turn) } }
        }
    }
}

/// One step. Steps that were allowed or are routine are quiet, refusals are not.
fn step(record: &StoredRecord, start: Option<Timestamp>) -> Markup {
    let words = sentence(&record.record);
    let seq = record.seq.to_string();
    let known = fact(record);
    html! {
        li.step.rec id=(format!("r{seq}")) data-seq=(seq) data-print=(print(record)) data-tone=(tone(&words).class())
            data-kind=(kind(record)) {
            p.when {
                span.offset { "+" (took(start.unwrap_or(record.stored), record.stored)) }
                span.who { (Line(&record.component)) }
                a.seq href=(format!("/record/{seq}")) { "#" (seq) }
                span.mark data-mark="" {}
            }
            h2 { (title(record, known.as_ref())) }
            (known.map_or_else(|| html! { p { (pieces(&words)) } }, told))
        }
    }
}

fn fact(record: &StoredRecord) -> Option<Fact> {
    serde_json::from_value::<Record>(record.record.clone()).ok().map(|record| record.fact)
}

/// What happened, in words; a type that this release does not know by its name.
fn title(record: &StoredRecord, fact: Option<&Fact>) -> Markup {
    let who = attribute(record, "principal").unwrap_or("Somebody");
    match fact {
        Some(Fact::MessageReceived { .. }) => html! { (Line(who)) " wrote" },
        Some(Fact::MessageSent { .. }) => html! { "The reply is out" },
        Some(Fact::MessageUndeliverable { .. }) => html! { "The reply could not be delivered" },
        Some(Fact::PolicyDecided { action, resource, outcome, .. }) => html! {
            "Policy: " (pieces(&[verdict(*outcome)])) "– " (asked(action)) " " b { (Line(resource)) }
        },
        Some(Fact::ToolStarted { tool, .. }) => html! { "Tool " b { (Line(tool.as_str())) } " started" },
        Some(Fact::ToolFinished { tool, outcome, .. }) => html! {
            "Tool " b { (Line(tool.as_str())) } " ended: " (pieces(&[well(outcome, "ok")]))
        },
        Some(Fact::ToolRefused { tool, .. }) => html! { "Tool " b { (Line(tool)) } " " span.bad { "refused to run" } },
        Some(Fact::ModelRequested { model, .. }) => html! { "Model " b { (Line(model.as_str())) } " was asked" },
        Some(Fact::ModelAnswered { model, error, tool_calls, .. }) => html! {
            "Model " b { (Line(model.as_str())) }
            @if error.is_some() { " " span.bad { "failed" } }
            @else if tool_calls.is_empty() { " answered" }
            @else { " wants " (Line(&tool_calls.join(", "))) }
        },
        Some(Fact::SessionOpened { .. }) => html! { "A session was opened" },
        Some(Fact::TurnFinished { outcome, .. }) => html! { "The turn ended: " (pieces(&[well(outcome, "answered")])) },
        _ => html! { (Line(kind(record))) },
    }
}

fn asked(action: &str) -> &str {
    match action {
        "receive_message" => "talk on",
        "call_model" => "ask the model",
        "call_tool" => "use the tool",
        other => other,
    }
}

/// Whether a reason is only the names of the rules, which are shown as links.
fn says_no_more(reason: &str, policies: &[String]) -> bool {
    !policies.is_empty() && reason == format!("allowed by {}", policies.join(", "))
}

/// The details of a step.
fn told(fact: Fact) -> Markup {
    match fact {
        Fact::MessageReceived { text, .. } | Fact::MessageSent { text, .. } => content("said", &text),
        Fact::PolicyDecided { policies, reason, arguments, taint, micros: took, outcome, .. } => html! {
            @if !reason.is_empty() && !says_no_more(&reason, &policies) { p.reason data-tone=(verdict(outcome).0.class()) { (Line(&reason)) } }
            p.dim {
                @if policies.is_empty() { "by no rule: what no rule allows is denied" }
                @else { "by " @for policy in &policies { (same("policy", policy, policy)) " " } }
                " · " (micros(took))
                @if !taint.is_empty() { " · the session had come into contact with " (Line(&taint.join(", "))) }
            }
            @if let Some(arguments) = &arguments { (content("arguments", arguments)) }
        },
        Fact::ToolStarted { arguments, .. } => content("arguments", &arguments),
        Fact::ToolFinished { result, micros: took, .. } => html! {
            p.dim { "ran for " (micros(took)) }
            (content("result", &result))
        },
        Fact::MessageUndeliverable { reason, .. } | Fact::ToolRefused { reason, .. } => {
            html! { p.reason data-tone="bad" { (Line(&reason)) } }
        }
        Fact::ModelRequested { provider, messages, tools, .. } => html! {
            p.dim {
                (Line(&provider)) " · " (count(messages, "message")) " · "
                @if tools.is_empty() { "no tools offered" }
                @else { "may ask for " (Line(&tools.iter().map(|tool| tool.as_str()).collect::<Vec<_>>().join(", "))) }
            }
        },
        Fact::ModelAnswered { error, usage, text, tool_calls, micros: took, .. } => html! {
            @if let Some(error) = error { p.reason data-tone="bad" { (Line(&error)) } }
            p.dim { (micros(took)) " · " (tokens(usage)) }
            @if tool_calls.is_empty() { (content("said", &text)) }
        },
        Fact::TurnFinished { reason: Some(reason), .. } => html! { p.reason { (Line(&reason)) } },
        _ => html! {},
    }
}

/// A text, or that it is not kept.
fn content(class: &str, text: &Content) -> Markup {
    html! {
        @match &text.text {
            Some(words) if !words.is_empty() => { pre class=(class) { (Block(words)) } },
            _ if text.bytes == 0 => {},
            _ => { p.dim { (class) ": the words are not kept, " (text.bytes) " bytes" } },
        }
    }
}

fn took(start: Timestamp, end: Timestamp) -> String {
    let passed = end.duration_since(start).as_micros().max(0);
    micros(u64::try_from(passed).unwrap_or(u64::MAX))
}
