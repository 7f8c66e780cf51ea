//! One record: everything that is known of it, and whether it is what was sealed.

use maud::{Markup, html};
use proto::audit::StoredRecord;
use proto::seal::Bundle;
use serde_json::Value;

use super::{date_time, inside, pieces, same};
use crate::proof::{Evidence, Mark, Sealed};
use crate::shown::{attribute, kind, trace};
use crate::visible::{Block, Line};
use crate::words::{grouped, sentence};

/// The page.
pub(crate) fn page(user: &str, sealed: &Sealed, record: &StoredRecord, evidence: &Evidence) -> Markup {
    let seq = record.seq;
    let body = html! {
        nav.crumbs aria-label="Records" {
            a href="/" data-key="u" { "← Timeline" }
            span {}
            @if seq > 1 { a href=(format!("/record/{}", seq - 1)) data-key="k" { "#" (seq - 1) } }
            a href=(format!("/record/{}", seq + 1)) data-key="j" { "#" (seq + 1) }
        }
        h1.record-title { span.dim { "#" (grouped(seq)) } " " (Line(kind(record))) }
        p.lead { (pieces(&sentence(&record.record))) }
        (verdict(record.seq, evidence))
        (facts(record))
        (texts(record, evidence))
        h2 { "As it was written" }
        @let json = serde_json::to_string_pretty(&record.record).unwrap_or_default();
        pre.json tabindex="0" { (Block(&json)) }
    };
    inside(&format!("Record {seq}"), user, sealed, &body)
}

/// A sentence.
fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map(|first| first.to_uppercase().chain(rest).collect()).unwrap_or_default()
}

/// Whether it is what was sealed, and what that rests on.
fn verdict(seq: u64, evidence: &Evidence) -> Markup {
    let title = match &evidence.mark {
        Mark::Verified => "Verified",
        Mark::Pending => "Not sealed yet",
        Mark::Stale => "Changed meanwhile",
        Mark::Failed(_) => "Not verified",
        Mark::Unchecked(_) => "Not checked",
    };
    html! {
        section.verdict data-mark=(evidence.mark.name()) aria-label="Proof" {
            h2 { span.sign aria-hidden="true" {} (title) }
            p { (Line(&capital(&evidence.mark.why()))) }
            @if let (Some(bundle), Some(checkpoint)) = (&evidence.bundle, &evidence.checkpoint) {
                p.dim {
                    "Checked here: leaf " (grouped(bundle.record.seq.saturating_sub(1))) ", "
                    (bundle.proof.len()) " hashes up to the root of a checkpoint over " (grouped(checkpoint.size)) " records, signed by "
                    code { (Line(&checkpoint.origin)) } ". The key came from provisioning, not from the audit service."
                }
            }
            p.dim { "For another machine: " code { "./nachos audit prove " (seq) } }
        }
    }
}

fn facts(record: &StoredRecord) -> Markup {
    html! {
        dl.facts {
            dt { "Stored" } dd { (date_time(record.stored)) }
            dt { "Written by" } dd { (same("component", &record.component, &record.component)) }
            @if let Some(turn) = attribute(record, "turn") {
                dt { "Turn" } dd {
                    @if turn.parse::<uuid::Uuid>().is_ok() { a href=(format!("/turn/{turn}")) data-key="t" { code { (turn) } } }
                    @else { (Line(turn)) }
                }
            }
            @for name in ["principal", "session", "channel"] {
                @if let Some(value) = attribute(record, name) { dt { (name) } dd { (same(name, value, value)) } }
            }
            @if let Some(trace) = trace(record) { dt { "Trace" } dd { (same("trace", &trace, &trace)) } }
            @if let Some(id) = attribute(record, "id") { dt { "Id" } dd { code { (Line(id)) } } }
        }
    }
}

/// What stands behind the texts: the record holds digests, the words are kept beside it.
fn texts(record: &StoredRecord, evidence: &Evidence) -> Markup {
    let data = record.record.get("data").and_then(Value::as_object);
    let contents: Vec<_> = data.into_iter().flatten().filter(|(_, value)| value.get("digest").is_some()).collect();
    html! {
        @for (name, content) in &contents {
            h2 { "Text: " (Line(name)) }
            @if let Some(text) = content.get("text").and_then(Value::as_str) {
                pre.text tabindex="0" { (Block(text)) }
            }
            p.dim { (standing(name, content, evidence.bundle.as_ref())) }
        }
    }
}

/// How much a text is worth.
fn standing(name: &str, content: &Value, bundle: Option<&Bundle>) -> &'static str {
    let shown = content.get("text").and_then(Value::as_str);
    let redacted = content.get("redacted").and_then(Value::as_bool) == Some(true);
    let part = bundle.and_then(|bundle| bundle.parts.get(name));
    let digest = content.get("digest").and_then(Value::as_str);
    match (shown, part) {
        (None, _) => "The words are not kept, or were erased; the record holds their salted digest.",
        (Some(_), _) if redacted => {
            "A preview: shortened, or with what looks like a secret masked. The digest is of the whole, so nobody can compare it with this."
        }
        (Some(text), Some(part)) if Some(part.salt.digest(text).as_str()) == digest => {
            "The whole text. It matches the digest that was sealed."
        }
        (Some(_), Some(_)) => "It does NOT match the digest that was sealed.",
        (Some(_), None) => "It was not compared with the digest that was sealed.",
    }
}
