//! The addresses, and what is asked of whom for each.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use bus::{Bus, CallError};
use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use proto::audit::{Fact, Filter, MAX_QUERY, Query, Scope, StoredRecord};
use serde_json::json;
use url::form_urlencoded;
use uuid::Uuid;

use crate::door::{Refused, Session};
use crate::filter::Form;
use crate::guard::{Cookie, guard};
use crate::page::{self, login, record, timeline, turn};
use crate::proof::{Evidence, Mark};
use crate::shown::{Print, trace, without_salts};
use crate::{App, assets, feed};

/// Largest body of a request in bytes: a token.
const MAX_BODY: usize = 4 * 1024;

/// Records on one page.
const PAGE: u32 = 60;

/// Most records that one question about marks may name: a page, and what came live meanwhile.
const MAX_MARKS: usize = 100;

/// Proofs that one question asks for at the same time.
const MAX_CHECKS: usize = 8;

type Web = State<Arc<App>>;

/// All addresses.
pub(crate) fn all(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(show_timeline))
        .route("/events", get(events))
        .route("/marks", get(marks))
        .route("/turn/{turn}", get(show_turn))
        .route("/record/{seq}", get(show_record))
        .route("/row/{seq}", get(show_row))
        .route("/login", get(show_login).post(log_in))
        .route("/logout", axum::routing::post(log_out))
        .route("/assets/{version}/{name}", get(assets::get))
        .fallback(async || page::trouble(StatusCode::NOT_FOUND, "There is no such page."))
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app)
}

async fn show_timeline(app: Web, session: Extension<Session>, RawQuery(query): RawQuery) -> Response {
    let form = Form::parse(&query.unwrap_or_default());
    let filter = form.filter(Timestamp::now());
    let sealed = app.proofs.seal(&app.bus).await;
    let found = match filter {
        Err(wrong) => return html(timeline::wrong(&session.user, &sealed, &form, &wrong)),
        Ok(filter) => ask(&app.bus, filter, None, (PAGE, true)).await,
    };
    match found {
        Ok(page) => html(timeline::page(&session.user, &sealed, &form, &page)),
        Err(error) => page::unanswered(&error),
    }
}

/// The live stream. `Last-Event-ID` is what a browser saw before it was cut off.
async fn events(app: Web, cookie: Extension<Cookie>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let number = |text: &str| text.parse::<u64>().ok();
    let asked = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "after");
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(number);
    let Some(after) = asked.and_then(|(_, after)| number(&after)).max(last) else {
        return (StatusCode::BAD_REQUEST, "after: a stream number is missing").into_response();
    };
    let form = Form::parse(&query).with("before", "");
    if let Err(wrong) = form.filter(Timestamp::now()) {
        return (StatusCode::BAD_REQUEST, wrong.join("; ")).into_response();
    }
    let Ok(place) = app.streams.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open").into_response();
    };
    let body = feed::open(app.0.clone(), form, cookie.0.0, after, place);
    // Proxies in between must not gather.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), "no");
    ([(header::CONTENT_TYPE, "text/event-stream"), unbuffered], body).into_response()
}

/// Verified or not: `r=<number>.<fingerprint>` for each record that is shown.
async fn marks(app: Web, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let asked = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "r").take(MAX_MARKS);
    let read =
        |value: &str| value.split_once('.').and_then(|(seq, print)| Some((seq.parse().ok()?, print.parse().ok()?)));
    let asked: Vec<(u64, Print)> = asked.filter_map(|(_, value)| read(&value)).collect();
    let checks = asked.into_iter().map(|(seq, print)| {
        let app = app.clone();
        async move { (seq.to_string(), app.proofs.mark(&app.bus, seq, &print).await) }
    });
    let marks: Vec<_> = stream::iter(checks).buffer_unordered(MAX_CHECKS).collect().await;
    let said = |mark: &Mark| json!({"mark": mark.name(), "why": mark.why()});
    Json(marks.iter().map(|(seq, mark)| (seq.clone(), said(mark))).collect::<serde_json::Map<_, _>>()).into_response()
}

async fn show_turn(app: Web, session: Extension<Session>, turn: Result<Path<Uuid>, PathRejection>) -> Response {
    let Ok(Path(turn)) = turn else { return no_such("turn") };
    let sealed = app.proofs.seal(&app.bus).await;
    match records_of(&app.bus, turn).await {
        Err(error) => page::unanswered(&error),
        Ok(records) if records.is_empty() => no_such("turn"),
        Ok(records) => html(turn::page(&session.user, &sealed, turn, &records)),
    }
}

/// The records of a turn, and those of the same trace that were written before there was a turn: the message itself.
async fn records_of(bus: &Bus, turn: Uuid) -> Result<Vec<StoredRecord>, CallError> {
    let by_turn = Filter { turn: Some(turn), ..Filter::default() };
    let mut records = ask(bus, by_turn, None, (MAX_QUERY, false)).await?.records;
    if let Some(trace) = records.first().and_then(trace) {
        let by_trace = Filter { trace: Some(trace), ..Filter::default() };
        records.extend(ask(bus, by_trace, None, (MAX_QUERY, false)).await?.records);
    }
    records.sort_by_key(|record| record.seq);
    records.dedup_by_key(|record| record.seq);
    Ok(records.into_iter().map(without_salts).collect())
}

async fn show_record(app: Web, session: Extension<Session>, seq: Result<Path<u64>, PathRejection>) -> Response {
    let (mut found, mut evidence) = match with_evidence(&app, seq.map(|Path(seq)| seq).unwrap_or_default()).await {
        Ok(Some(found)) => found,
        Ok(None) => return no_such("record"),
        Err(error) => return page::unanswered(&error),
    };
    if evidence.mark == Mark::Stale
        && let Ok(Some(again)) = with_evidence(&app, found.seq).await
    {
        (found, evidence) = again;
    }
    let sealed = app.proofs.seal(&app.bus).await;
    html(record::page(&session.user, &sealed, &found, &evidence))
}

async fn with_evidence(app: &App, seq: u64) -> Result<Option<(StoredRecord, Evidence)>, CallError> {
    let Some(found) = by_number(&app.bus, seq).await? else { return Ok(None) };
    let evidence = app.proofs.evidence(&app.bus, &found).await;
    Ok(Some((found, evidence)))
}

/// One line of the list, for a page that shows an older state of it.
async fn show_row(app: Web, seq: Result<Path<u64>, PathRejection>) -> Response {
    match by_number(&app.bus, seq.map(|Path(seq)| seq).unwrap_or_default()).await {
        Ok(Some(record)) => html(timeline::row(&record)),
        Ok(None) => no_such("record"),
        Err(error) => page::unanswered(&error),
    }
}

/// Numbers begin with one.
async fn by_number(bus: &Bus, seq: u64) -> Result<Option<StoredRecord>, CallError> {
    let Some(before) = seq.checked_sub(1) else { return Ok(None) };
    let page = ask(bus, Filter::default(), Some(before), (1, false)).await?;
    Ok(page.records.into_iter().find(|record| record.seq == seq).map(without_salts))
}

async fn ask(
    bus: &Bus,
    filter: Filter,
    after: Option<u64>,
    (limit, newest): (u32, bool),
) -> Result<proto::audit::Page, CallError> {
    let query = Query { v: proto::VERSION, filter, after, limit, newest };
    bus.request(Bus::new_trace(), &query).await
}

/// The page behind the link. It uses nothing up: programs that look at links before people do only fetch.
async fn show_login(RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let token = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token");
    match token {
        Some((_, token)) => html(login::page(&token)),
        None => login::closed(),
    }
}

async fn log_in(app: Web, body: String) -> Response {
    let token = form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "token");
    let token = token.map(|(_, token)| token.into_owned()).unwrap_or_default();
    let redeemed = app.door().redeem(&token, Instant::now());
    let (user, outcome) = match &redeemed {
        Ok(user) => (user.as_str(), "ok"),
        Err(Refused::Used(user)) => (user.as_str(), "refused: the link was used already"),
        Err(Refused::Expired(user)) => (user.as_str(), "refused: the link has expired"),
        Err(Refused::Unknown) => ("unknown", "refused: there is no such link"),
        Err(Refused::TooMany) => return login::refused(StatusCode::TOO_MANY_REQUESTS, "there were too many attempts"),
    };
    let fact = Fact::WebLogin { user: user.to_owned(), outcome: outcome.to_owned() };
    let recorded = app.bus.record(Some(Bus::new_trace()), Scope::default(), fact).await;
    match (redeemed, recorded) {
        (Err(_), _) => login::refused(StatusCode::FORBIDDEN, outcome.trim_start_matches("refused: ")),
        (Ok(_), Err(error)) => {
            tracing::error!(%error, "a login could not be recorded");
            login::refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "the login could not be recorded, and so it does not happen",
            )
        }
        (Ok(user), Ok(_)) => come_in(&app, &user),
    }
}

fn come_in(app: &App, user: &str) -> Response {
    let mut door = app.door();
    match door.admit(user, Instant::now()) {
        Ok(token) => {
            let cookie = set_cookie(app, &token, door.lifetime().as_secs());
            (StatusCode::SEE_OTHER, [(header::LOCATION, "/".to_owned()), (header::SET_COOKIE, cookie)]).into_response()
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "no session could be made");
            page::trouble(StatusCode::INTERNAL_SERVER_ERROR, "No session could be made.")
        }
    }
}

async fn log_out(app: Web, cookie: Extension<Cookie>) -> Response {
    app.door().dismiss(&cookie.0.0);
    let gone = set_cookie(&app, "", 0);
    ([(header::SET_COOKIE, gone)], login::left()).into_response()
}

fn set_cookie(app: &App, value: &str, seconds: u64) -> String {
    let secure = if app.site.secure { "; Secure" } else { "" };
    format!("{}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}", app.site.cookie())
}

fn html(page: maud::Markup) -> Response {
    Html(page.into_string()).into_response()
}

fn no_such(what: &str) -> Response {
    page::trouble(StatusCode::NOT_FOUND, &format!("There is no such {what} in the index."))
}
