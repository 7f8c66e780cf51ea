//! The timeline: newest records first, filters, and the place into which the script puts what comes.

use maud::{Markup, html};
use proto::Component;
use proto::audit::{FACTS, Page, StoredRecord};

use super::{inside, pieces, same, time};
use crate::filter::{FIELDS, Form, UNREADABLE};
use crate::proof::Sealed;
use crate::shown::{attribute, kind, print, short, trace, without_salts};
use crate::visible::Line;
use crate::words::{grouped, sentence, tone};

/// Questions that people come with: what they are called, and the field that answers them.
const QUESTIONS: [(&str, &str, &str); 7] = [
    ("Everything", "", ""),
    ("Denied", "outcome", "deny"),
    ("Decisions", "type", "policy.decided"),
    ("Tools", "type", "tool.*"),
    ("Models", "type", "model.*"),
    ("Messages", "type", "message.*"),
    ("Changes", "type", "config.* content.* log.* web.* component.*"),
];

/// Words of outcomes, for the form to propose.
const OUTCOMES: [&str; 10] =
    ["allow", "deny", "ask", "ok", "failed", "refused", "denied", "limit", "crashed", "answered"];

/// The page.
pub(crate) fn page(user: &str, sealed: &Sealed, form: &Form, page: &Page) -> Markup {
    let oldest = page.records.first().map(|record| record.seq);
    let live = form.get("before").is_empty() && form.get("until").is_empty();
    let body = html! {
        (filters(form))
        (toolbar(form, page, live))
        ol #records.records data-live[live] data-after=(page.indexed) data-events=(form.with("before", "").address("/events")) {
            @for record in page.records.iter().rev() { (row(&without_salts(record.clone()))) }
        }
        @if page.records.is_empty() { p.empty #empty { "Nothing matches. What matches and is recorded from now on appears here." } }
        nav.pages aria-label="Pages" {
            @if !form.get("before").is_empty() { a href=(form.with("before", "").address("/")) { "← Newest" } }
            span {}
            @if let (true, Some(oldest)) = (page.more, oldest) {
                a rel="next" href=(form.with("before", &oldest.to_string()).address("/")) { "Older →" }
            }
        }
        div #announce.skip aria-live="polite" {}
    };
    inside("Timeline", user, sealed, &body)
}

/// The page of filters that make no sense: nothing is shown, so that nobody takes it for an answer.
pub(crate) fn wrong(user: &str, sealed: &Sealed, form: &Form, wrong: &[String]) -> Markup {
    let body = html! {
        (filters(form))
        div.wrong role="alert" { @for why in wrong { p { (Line(why)) } } }
    };
    inside("Timeline", user, sealed, &body)
}

fn filters(form: &Form) -> Markup {
    let (active, mut asked) = (form.active(), false);
    let questions = QUESTIONS.map(|(text, name, value)| {
        let there = if name.is_empty() { Form::default() } else { Form::of(name, value) };
        let here = form.with("before", "") == there;
        // The answer to a question is what people came for; the form that says the same stays closed.
        asked |= here;
        (text, there.address("/"), here)
    });
    html! {
        nav.questions aria-label="Questions" {
            @for (text, address, here) in &questions { a href=(address) aria-current=[here.then_some("page")] { (text) } }
        }
        details.filters #filters open[active > 0 && !asked] {
            summary { "Filters" @if active > 0 { " " span.badge { (active) } } }
            form method="get" action="/" {
                @for field in FIELDS.iter().filter(|field| field.name != "before") {
                    label {
                        span { (field.label) }
                        input name=(field.name) value=(form.get(field.name)) placeholder=(field.example)
                            list=[has_list(field.name).then(|| format!("list-{}", field.name))] maxlength="200"
                            autocomplete="off" autocapitalize="none" spellcheck="false";
                    }
                }
                div.actions { button.main type="submit" { "Apply" } " " a href="/" { "Clear" } }
            }
            (list("type", FACTS.into_iter().chain([UNREADABLE, "tool.*", "model.*", "message.*"])))
            (list("outcome", OUTCOMES))
            (list("component", Component::ALL.iter().map(|component| component.as_str())))
        }
    }
}

fn has_list(name: &str) -> bool {
    matches!(name, "type" | "outcome" | "component")
}

fn list(name: &str, values: impl IntoIterator<Item = &'static str>) -> Markup {
    html! { datalist id=(format!("list-{name}")) { @for value in values { option value=(value) {} } } }
}

fn toolbar(form: &Form, page: &Page, live: bool) -> Markup {
    html! {
        div.toolbar {
            h1 { @if form.active() > 0 { "Matching records" } @else { "Records" } }
            p.count {
                b #shown { (page.records.len()) } @if page.more { " newest" } " shown of "
                @if form.active() > 0 { "those that match, in " }
                span #indexed { (grouped(page.indexed)) }
            }
            @if live {
                span.live #live data-state="off" hidden { span.dot aria-hidden="true" {} span.word { "Connecting" } }
                button.quiet #pause type="button" hidden { "Pause" }
            }
            button.quiet #keys type="button" hidden aria-label="Keys" { "?" }
        }
    }
}

/// One record as a line of the list. It is also what the live stream sends.
pub(crate) fn row(record: &StoredRecord) -> Markup {
    let words = sentence(&record.record);
    let seq = record.seq.to_string();
    html! {
        li.rec id=(format!("r{seq}")) data-seq=(seq) data-print=(print(record)) data-tone=(tone(&words).class()) {
            a.seq href=(format!("/record/{seq}")) { "#" (seq) }
            (time(record.stored))
            span.who { (Line(&record.component)) }
            span.kind { (Line(kind(record))) }
            span.what { (pieces(&words)) }
            span.meta {
                @if let Some(principal) = attribute(record, "principal") { (same("principal", principal, principal)) }
                (turn_link(record))
            }
            span.mark data-mark="" {}
        }
    }
}

fn turn_link(record: &StoredRecord) -> Markup {
    match (attribute(record, "turn"), trace(record)) {
        (Some(turn), _) if turn.parse::<uuid::Uuid>().is_ok() => {
            html! { a.turn href=(format!("/turn/{turn}")) title="The turn as a story" { "turn " code { (short(turn)) } } }
        }
        (_, Some(trace)) => same("trace", &trace, trace.get(..8).unwrap_or_default()),
        _ => html! {},
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_in_a_record_is_markup() {
        let evil = "<img src=x onerror=alert(1)>\"'";
        let record = StoredRecord {
            seq: 1,
            stored: "2026-11-20T10:00:00Z".parse().unwrap(),
            component: evil.into(),
            record: json!({"type": evil, "principal": evil, "turn": evil, "session": evil, "data": {evil: evil}}),
        };
        let html = row(&record).into_string();
        assert!(!html.contains("<img") && html.matches("&lt;img").count() >= 4, "{html}");
        assert_eq!(html.matches('<').count(), html.matches('>').count(), "{html}");
    }
}
