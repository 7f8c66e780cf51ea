//! A turn as people read it: for whom, when, then step by step who did what and which rule decided, and at the end whether it is proven.

use jiff::{SignedDuration, Timestamp};
use proto::audit::StoredRecord;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr as _;

use super::describe::{Piece, describe};
use super::show::Evidence;
use super::{count, print_json};
use crate::clean;
use crate::clock;
use crate::failure::{Ending, Failure};
use crate::out::{Out, Paint, Style, pad};

/// Columns for the time since the beginning, up to hours.
const OFFSET: usize = 9;

/// Longest component, `channel-slack`.
const COMPONENT: usize = 13;

/// Longest type that is often seen in a turn, `message.received`.
const KIND: usize = 16;

/// Fewest columns that a sentence is wrapped into; on a terminal narrower than that its own wrapping does no worse.
const NARROW: usize = 30;

/// Prints the story; whether all of it is proven.
pub(super) fn print(out: &mut Out, evidence: &[Evidence], json: bool) -> Result<Ending, Failure> {
    if json {
        print_json(out, &as_json(evidence))?;
    } else {
        out.text(&render(out.paint(), evidence))?;
    }
    Ok(if proven(evidence) { Ending::Done } else { Ending::Unwell })
}

fn proven(evidence: &[Evidence]) -> bool {
    evidence.iter().all(|one| one.unproven.is_none())
}

fn as_json(evidence: &[Evidence]) -> Value {
    let begin = begin(evidence);
    let step = |one: &Evidence| {
        json!({
            "seq": one.record.seq,
            "offset_ms": one.record.stored.duration_since(begin).as_millis_f64(),
            "component": one.record.component,
            "stored": one.record.stored,
            "record": one.record.record,
            "verified": one.unproven.is_none(),
            "why_not": one.unproven,
        })
    };
    json!({
        "turn": first(evidence, "turn"),
        "session": first(evidence, "session"),
        "principal": first(evidence, "principal"),
        "channel": first(evidence, "channel"),
        "begun": begin,
        "lasted_ms": lasted(evidence).as_millis_f64(),
        "verified": proven(evidence),
        "steps": evidence.iter().map(step).collect::<Vec<_>>(),
    })
}

fn render(paint: Paint, evidence: &[Evidence]) -> String {
    let begin = begin(evidence);
    let mut text = heading(paint, evidence);
    for one in evidence {
        text.push_str(&step(paint, one, begin));
    }
    text.push('\n');
    text.push_str(&mark(paint, evidence));
    text
}

/// For whom, where and when.
fn heading(paint: Paint, evidence: &[Evidence]) -> String {
    let told = |key| first(evidence, key).map_or_else(|| "–".to_owned(), |value| clean::line(&value));
    let trace = first(evidence, "traceparent").and_then(|parent| parent.split('-').nth(1).map(str::to_owned));
    let rows = [
        ("for", told("principal")),
        ("channel", told("channel")),
        ("session", told("session")),
        ("turn", told("turn")),
        ("trace", trace.map_or_else(|| "–".to_owned(), |trace| clean::line(&trace))),
        ("begun", format!("{}, lasted {}", stamp(begin(evidence)), span(lasted(evidence)))),
    ];
    let lines = rows.map(|(name, value)| format!("{}  {value}\n", paint.with(Style::Dim, &pad(name, 7))));
    format!("{}\n", lines.concat())
}

/// One record: when, who, what kind, and a sentence that is not cut.
fn step(paint: Paint, one: &Evidence, begin: Timestamp) -> String {
    let record = &one.record;
    let offset = format!("+{}", span(record.stored.duration_since(begin)));
    let kind = field(record, "type").unwrap_or_else(|| "unreadable".to_owned());
    let head = [
        paint.with(Style::Dim, &pad(&offset, OFFSET)),
        pad(&clean::line(&record.component), COMPONENT),
        paint.with(Style::Cyan, &pad(&clean::line(&kind), KIND)),
    ];
    let indent = OFFSET + COMPONENT + KIND + 6;
    let room = paint.width.map_or(usize::MAX, |all| all.saturating_sub(indent).max(NARROW));
    let gap = format!("\n{}", " ".repeat(indent));
    let sentence = wrap(paint, &describe(&record.record), room).join(&gap);
    let mut text = format!("{}  {sentence}\n", head.join("  "));
    if let Some(why) = &one.unproven {
        let why = format!("✗ record {} is not proven: {}", record.seq, clean::line(why));
        text.push_str(&format!("{}{}\n", " ".repeat(indent), paint.with(Style::Red, &why)));
    }
    text
}

/// The words of the pieces in lines that fit.
fn wrap(paint: Paint, pieces: &[Piece], room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    let words = pieces.iter().flat_map(|(style, text)| text.split_whitespace().map(move |word| (*style, word)));
    for (style, word) in words {
        if used > 0 && used + 1 + word.width() > room {
            lines.push(String::new());
            used = 0;
        }
        let Some(line) = lines.last_mut() else { continue };
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(&paint.with(style, word));
        used += word.width();
    }
    lines
}

/// What is said about the proof stands last, where people look for it.
fn mark(paint: Paint, evidence: &[Evidence]) -> String {
    let all = evidence.len() as u64;
    let bad = evidence.iter().filter(|one| one.unproven.is_some()).count() as u64;
    let text = match (all, bad) {
        (1, 0) => "verified: the record is what was sealed".to_owned(),
        (_, 0) => format!("verified: all {all} records are what was sealed"),
        _ => format!(
            "NOT verified: {} of {} not proven; nachos audit verify looks at the whole log",
            bad,
            count(all, "record")
        ),
    };
    format!("{}\n", paint.with(if bad == 0 { Style::Green } else { Style::Red }, &text))
}

fn begin(evidence: &[Evidence]) -> Timestamp {
    evidence.first().map_or(Timestamp::UNIX_EPOCH, |one| one.record.stored)
}

fn lasted(evidence: &[Evidence]) -> SignedDuration {
    let end = evidence.last().map_or(Timestamp::UNIX_EPOCH, |one| one.record.stored);
    end.duration_since(begin(evidence))
}

fn stamp(at: Timestamp) -> String {
    at.to_zoned(clock::zone()).strftime("%Y-%m-%d %H:%M:%S%.3f %Z").to_string()
}

fn span(duration: SignedDuration) -> String {
    clock::micros(u64::try_from(duration.as_micros()).unwrap_or(0))
}

/// The first record that says so speaks for all of them.
fn first(evidence: &[Evidence], key: &str) -> Option<String> {
    evidence.iter().find_map(|one| field(&one.record, key))
}

fn field(record: &StoredRecord, key: &str) -> Option<String> {
    record.record.get(key).and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn evidence(seq: u64, millis: i64, component: &str, record: Value) -> Evidence {
        let mut record = record;
        let scope = json!({
            "specversion": "1.0", "id": "00000000-0000-0000-0000-000000000001", "source": "/nachos/x",
            "time": "2026-11-20T14:00:00Z", "datacontenttype": "application/json",
            "traceparent": "00-1a2b3c4d000000000000000000000000-0000000000000001-01",
            "principal": "cli/bob", "channel": "cli", "turn": "00000000-0000-0000-0000-000000000002",
        });
        record.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        let stored = Timestamp::from_millisecond(1_795_183_200_000 + millis).unwrap();
        Evidence { record: StoredRecord { seq, stored, component: component.into(), record }, unproven: None }
    }

    fn denied() -> Vec<Evidence> {
        let said = json!({"type": "message.received", "data": {"event": "e", "conversation": "c",
            "text": {"digest": "d", "bytes": 9, "text": "mail\u{1b}[2J all"}}});
        let decided = json!({"type": "policy.decided", "data": {"action": "call_tool", "resource": "mail", "outcome": "deny",
            "policies": ["staff-only"], "reason": "mail is for staff", "caller": "gateway", "policy_set": "s", "micros": 80,
            "arguments": {"digest": "d", "bytes": 9, "text": "{\"to\":\"all\"}"}}});
        vec![evidence(3, 0, "cli", said), evidence(5, 12, "policy", decided)]
    }

    fn shown(paint: Paint, evidence: &[Evidence]) -> String {
        render(paint, evidence)
    }

    #[test]
    fn a_story_tells_who_what_why_and_whether_it_is_proven() {
        let mut story = denied();
        let text = shown(Paint::PLAIN, &story);
        let from_steps = text.split_once("\n\n").unwrap().1;
        expect![[r#"
            +0 µs      cli            message.received  “mail all”
            +12.0 ms   policy         policy.decided    deny call_tool mail by staff-only {"to":"all"} – mail is for staff

            verified: all 2 records are what was sealed
        "#]]
        .assert_eq(from_steps);
        assert!(text.contains("cli/bob") && text.contains("1a2b3c4d"), "{text}");

        story[1].unproven = Some("the proof is another's".into());
        let text = shown(Paint::PLAIN, &story);
        assert!(text.contains("✗ record 5 is not proven: the proof is another's"), "{text}");
        assert!(text.contains("NOT verified: 1 of 2 records not proven"), "{text}");
        assert_eq!(as_json(&story)["verified"], false);
    }

    #[test]
    fn a_narrow_terminal_wraps_and_cuts_nothing() {
        let text = shown(Paint { colour: false, width: Some(80) }, &denied());
        let steps = text.split_once("\n\n").unwrap().1;
        assert!(steps.lines().take(3).all(|line| line.width() <= 80), "{steps}");
        assert!(steps.split_whitespace().collect::<Vec<_>>().join(" ").contains("– mail is for staff"), "{steps}");
    }
}
