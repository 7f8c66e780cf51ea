//! The way in and out.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Response};
use maud::{Markup, html};

use super::outside;

/// Behind the link: a button, because only a person presses one.
pub(crate) fn page(token: &str) -> Markup {
    outside(
        "Log in",
        &html! {
            h1 { "The timeline of the record" }
            p { "This link works once, for five minutes after it was made. Using it is recorded." }
            form method="post" action="/login" {
                input type="hidden" name="token" value=(token);
                button.main type="submit" autofocus { "Log in" }
            }
        },
    )
}

/// Nobody is logged in.
pub(crate) fn closed() -> Response {
    let body = html! {
        h1 { "Please log in" }
        p { "Ask for a link in a terminal on the machine that runs Nachos:" }
        pre.command { "./nachos web login" }
        p.dim { "Logged in already, and led here by a link from elsewhere? " a href="/" { "To the timeline" } }
    };
    (StatusCode::UNAUTHORIZED, Html(outside("Log in", &body).into_string())).into_response()
}

/// The link opened nothing.
pub(crate) fn refused(status: StatusCode, why: &str) -> Response {
    let body = html! {
        h1 { "This link does not work" }
        p { "Because " (why) "." }
        p { "Ask for a new one:" }
        pre.command { "./nachos web login" }
    };
    (status, Html(outside("Log in", &body).into_string())).into_response()
}

/// Somebody left.
pub(crate) fn left() -> Html<String> {
    let body = html! {
        h1 { "Logged out" }
        p { "The next login needs a new link:" }
        pre.command { "./nachos web login" }
    };
    Html(outside("Logged out", &body).into_string())
}
