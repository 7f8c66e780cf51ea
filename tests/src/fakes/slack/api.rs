//! The Web API of the fake.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::{APP_TOKEN, BOT_ID, BOT_TOKEN, BOT_USER, Fault, Post, Shared, State, TEAM, link};

/// Characters that Slack takes in the markdown blocks of one message.
const MAX_MARKDOWN: usize = 12_000;

/// One call.
pub(super) async fn call(
    Extract(shared): Extract<Arc<Shared>>,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (fault, latency) = meet(&shared, &method);
    tokio::time::sleep(latency).await;
    let answer = match fault {
        Some(Fault::Limited(seconds)) => {
            let body = axum::Json(json!({"ok": false, "error": "ratelimited"}));
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())], body).into_response();
        }
        Some(Fault::Status(status)) => return StatusCode::from_u16(status).expect("a status").into_response(),
        Some(Fault::Error(code)) => error(code),
        Some(Fault::MissingScope(scope)) => json!({"ok": false, "error": "missing_scope", "needed": scope}),
        Some(Fault::LostAnswer) => {
            serve(&shared, &method, &headers, &body);
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        Some(Fault::Slow(time)) => {
            let answer = serve(&shared, &method, &headers, &body);
            tokio::time::sleep(time).await;
            answer
        }
        None => serve(&shared, &method, &headers, &body),
    };
    let scopes = shared.lock().scopes.clone();
    ([("x-oauth-scopes", scopes)], axum::Json(answer)).into_response()
}

fn meet(shared: &Shared, method: &str) -> (Option<Fault>, std::time::Duration) {
    let mut state = shared.lock();
    *state.calls.entry(method.to_owned()).or_default() += 1;
    let queued = state.faults.get_mut(method).and_then(std::collections::VecDeque::pop_front);
    (queued.or_else(|| state.standing.get(method).cloned()), state.pace.latency)
}

fn serve(shared: &Arc<Shared>, method: &str, headers: &HeaderMap, body: &[u8]) -> Value {
    if let Err(refusal) = authorize(method, headers) {
        return refusal;
    }
    let arguments = arguments(headers, body);
    let word = |field: &str| arguments[field].as_str().unwrap_or_default().to_owned();
    match method {
        "apps.connections.open" => open(shared),
        "auth.test" => json!({"ok": true, "user_id": BOT_USER, "bot_id": BOT_ID, "team_id": TEAM, "team": "Fake"}),
        "chat.postMessage" => post(shared, &arguments),
        "conversations.replies" => replies(&shared.lock(), &word("channel"), &word("ts")),
        "users.info" => user(&shared.lock(), &word("user")),
        "reactions.add" => json!({"ok": true}),
        _ => error("unknown_method"),
    }
}

fn authorize(method: &str, headers: &HeaderMap) -> Result<(), Value> {
    let header = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = header.strip_prefix("Bearer ").unwrap_or_default();
    match (method == "apps.connections.open", token) {
        (true, APP_TOKEN) | (false, BOT_TOKEN) => Ok(()),
        (true, BOT_TOKEN) | (false, APP_TOKEN) => Err(error("not_allowed_token_type")),
        (_, "") => Err(error("not_authed")),
        _ => Err(error("invalid_auth")),
    }
}

/// Arguments as JSON or as a form, as the real one takes them.
fn arguments(headers: &HeaderMap, body: &[u8]) -> Value {
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        return serde_json::from_slice(body).unwrap_or_default();
    }
    let query = format!("http://form/?{}", String::from_utf8_lossy(body));
    let form = reqwest::Url::parse(&query).expect("a form");
    form.query_pairs().map(|(key, value)| (key.into_owned(), Value::from(value.into_owned()))).collect()
}

fn open(shared: &Shared) -> Value {
    let mut state = shared.lock();
    state.next += 1;
    let ticket = state.next;
    state.tickets.push(ticket);
    json!({"ok": true, "url": format!("ws://{}/link?ticket={ticket}", shared.base)})
}

fn post(shared: &Arc<Shared>, arguments: &Value) -> Value {
    let word = |field: &str| arguments[field].as_str().unwrap_or_default().to_owned();
    let (channel, thread, id) = (word("channel"), word("thread_ts"), arguments["client_msg_id"].as_str());
    let mut state = shared.lock();
    // The same client message id again: the message that was posted then.
    if let Some(known) = state.posts.iter().find(|post| id.is_some() && post.client_msg_id.as_deref() == id) {
        return json!({"ok": true, "channel": known.channel, "ts": known.ts});
    }
    let blocks = arguments["blocks"].as_array().cloned().unwrap_or_default();
    let markdown: String = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
    if let Some(code) = refuse(&state, &channel, &thread, (&markdown, &word("text"))) {
        return error(code);
    }
    let ts = state.next_ts();
    let plain = blocks.is_empty();
    let text = if plain { word("text") } else { markdown };
    let echo = json!({
        "type": "message", "user": BOT_USER, "bot_id": BOT_ID, "app_id": "A0APP", "text": text, "ts": ts, "thread_ts": thread,
        "channel": channel, "channel_type": if channel.starts_with('D') { "im" } else { "channel" }, "event_ts": ts,
    });
    state.remember(&channel, &thread, &echo);
    state.posts.push(Post {
        channel: channel.clone(),
        thread,
        text,
        plain,
        client_msg_id: id.map(str::to_owned),
        ts: ts.clone(),
    });
    drop(state);
    shared.changed.notify_waiters();
    // What an app posts comes back to it.
    link::deliver(shared, echo);
    json!({"ok": true, "channel": channel, "ts": ts})
}

fn refuse(state: &State, channel: &str, thread: &str, (markdown, text): (&str, &str)) -> Option<&'static str> {
    if !state.threads.keys().any(|(known, _)| known == channel) {
        Some("channel_not_found")
    } else if !state.threads.contains_key(&(channel.to_owned(), thread.to_owned())) {
        Some("invalid_thread_ts")
    } else if markdown.chars().count() > MAX_MARKDOWN {
        Some("msg_too_long")
    } else if text.is_empty() {
        Some("no_text")
    } else {
        None
    }
}

fn replies(state: &State, channel: &str, root: &str) -> Value {
    match state.threads.get(&(channel.to_owned(), root.to_owned())) {
        Some(messages) => json!({"ok": true, "messages": messages, "has_more": false}),
        None => error("thread_not_found"),
    }
}

fn user(state: &State, user: &str) -> Value {
    match state.users.get(user) {
        Some(name) => json!({"ok": true, "user": {"id": user, "name": user, "profile": {"display_name": name}}}),
        None => error("user_not_found"),
    }
}

fn error(code: &str) -> Value {
    json!({"ok": false, "error": code})
}
