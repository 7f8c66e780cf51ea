//! The pages, and what they have in common.

pub(crate) mod login;
pub(crate) mod record;
pub(crate) mod timeline;
pub(crate) mod turn;

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Response};
use bus::CallError;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use crate::assets;
use crate::filter::Form;
use crate::proof::Sealed;
use crate::visible::Line;
use crate::words::{Piece, grouped};

/// The sign in the tab and in the head: three corners, of course.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Cpath d='M16 4 30 27H2z' \
    fill='%23d97706' stroke='%23d97706' stroke-width='4' stroke-linejoin='round'/%3E%3Ccircle cx='12' cy='21' r='2.4' fill='%23fff7ed'/%3E\
    %3Ccircle cx='20' cy='22' r='2' fill='%23fff7ed'/%3E%3Ccircle cx='16' cy='14' r='2' fill='%23fff7ed'/%3E%3C/svg%3E";

/// A page around `body`.
fn document(title: &str, head: &Markup, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Nachos" }
                link rel="icon" href=(ICON);
                link rel="stylesheet" href=(assets::address("style.css"));
                script defer src=(assets::address("timeline.js")) {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                (head)
                main #main {
                    // The script says here if something in a list is not what was sealed.
                    p #alarm.alarm role="alert" hidden {}
                    (body)
                }
                (help())
            }
        }
    }
}

/// A page for somebody who is in.
fn inside(title: &str, user: &str, sealed: &Sealed, body: &Markup) -> Markup {
    let head = html! {
        header.top {
            a.brand href="/" { img src=(ICON) alt="" width="22" height="22"; span { "Nachos" } " " small { "Timeline" } }
            div #seal { (seal_line(sealed)) }
            form.out method="post" action="/logout" {
                span.user { (Line(user)) }
                button.quiet type="submit" { "Log out" }
            }
        }
    };
    document(title, &head, body)
}

/// A page for anybody.
fn outside(title: &str, body: &Markup) -> Markup {
    let head = html! {
        header.top.bare {
            span.brand { img src=(ICON) alt="" width="22" height="22"; span { "Nachos" } }
        }
    };
    document(title, &head, &html! { section.card { (body) } })
}

/// How far the record is sealed. The script puts newer ones in its place.
pub(crate) fn seal_line(sealed: &Sealed) -> Markup {
    let tone = if !sealed.problems.is_empty() {
        "bad"
    } else if sealed.size == 0 {
        "ask"
    } else {
        "good"
    };
    html! {
        p.seal data-tone=(tone) {
            span.dot aria-hidden="true" {}
            @if sealed.size == 0 {
                span { "No verified checkpoint" }
            } @else {
                span { "Sealed up to " a href=(format!("/record/{}", sealed.size)) { "#" (grouped(sealed.size)) } }
                @if let Some(at) = sealed.at { span.dim { "checkpoint " (age(at)) } }
            }
            @if sealed.witnesses > 0 { span.dim { (sealed.witnesses) " witnesses" } }
            code.key title="The key that these pages trust" { (sealed.key) }
        }
        @for problem in &sealed.problems { p.problem role="alert" { (Line(problem)) } }
    }
}

/// How long ago; the script counts on.
fn age(at: Timestamp) -> Markup {
    let seconds = Timestamp::now().duration_since(at).as_secs().max(0);
    let (number, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3600 => (seconds / 60, "min"),
        3600..86_400 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    html! { time data-age datetime=(at) { (number) " " (unit) " ago" } }
}

/// A time of day; the script makes it that of the reader.
fn time(at: Timestamp) -> Markup {
    html! { time datetime=(at) title=(at) { (at.strftime("%H:%M:%S%.3f")) } }
}

/// Date and time.
fn date_time(at: Timestamp) -> Markup {
    html! { time data-long datetime=(at) title=(at) { (at.strftime("%Y-%m-%d %H:%M:%S%.3f UTC")) } }
}

/// A sentence of pieces.
fn pieces(pieces: &[Piece]) -> Markup {
    html! {
        @for (tone, text) in pieces { span class=(tone.class()) { (Line(text)) } " " }
    }
}

/// A link to everything that has the same value in a field.
fn same(name: &'static str, value: &str, text: &str) -> Markup {
    html! { a.same href=(Form::of(name, value).address("/")) title=(format!("Everything of this {name}")) { (Line(text)) } }
}

/// The keys, in a dialog that the script opens.
fn help() -> Markup {
    let keys = [
        ("j / k", "next, previous record"),
        ("Enter", "open the record"),
        ("t", "open its turn"),
        ("/", "go to the filters"),
        ("p", "pause, go on"),
        ("u", "back to the timeline"),
        ("?", "this help"),
    ];
    html! {
        dialog #help aria-labelledby="help-title" {
            h2 #help-title { "Keys" }
            dl.keys { @for (key, what) in keys { dt { kbd { (key) } } dd { (what) } } }
            form method="dialog" { button { "Close" } }
        }
    }
}

/// Something is in the way.
pub(crate) fn trouble(status: StatusCode, text: &str) -> Response {
    let body = html! { h1 { (status.canonical_reason().unwrap_or("Not possible")) } p { (text) } p { a href="/" { "To the timeline" } } };
    (status, Html(outside("Not possible", &body).into_string())).into_response()
}

/// The audit service did not answer as it should.
pub(crate) fn unanswered(error: &CallError) -> Response {
    let text = format!("The audit service gave no answer: {error}. `nachos doctor` says more.");
    trouble(StatusCode::BAD_GATEWAY, &text)
}
