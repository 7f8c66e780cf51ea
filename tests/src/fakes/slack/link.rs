//! Socket Mode of the fake: connections, envelopes and their repetition.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Extract;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Shared, TEAM, Track};

/// What a connection is told.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    Say(String),
    Freeze,
    Close,
    Cut,
}

/// An open connection.
pub(crate) struct Conn {
    told: mpsc::UnboundedSender<Told>,
}

impl Conn {
    pub(crate) fn tell(&self, told: Told) -> bool {
        self.told.send(told).is_ok()
    }
}

/// A dial. The ticket is good for one.
pub(super) async fn upgrade(Extract(shared): Extract<Arc<Shared>>, uri: Uri, upgrade: WebSocketUpgrade) -> Response {
    let ticket: u64 = uri.query().and_then(|query| query.strip_prefix("ticket=")?.parse().ok()).unwrap_or_default();
    let mut state = shared.lock();
    let before = state.tickets.len();
    state.tickets.retain(|known| *known != ticket);
    if state.tickets.len() == before {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    drop(state);
    upgrade.on_upgrade(move |socket| async move { serve(shared, ticket, socket).await })
}

async fn serve(shared: Arc<Shared>, number: u64, mut socket: WebSocket) {
    let (told, orders) = mpsc::unbounded_channel();
    let greeting = greet(&shared, number, told);
    if let Some(greeting) = greeting {
        let _sent = socket.send(Message::text(greeting)).await;
    }
    shared.changed.notify_waiters();
    converse(&shared, socket, orders).await;
    shared.lock().conns.remove(&number);
    shared.changed.notify_waiters();
}

/// Hello, or that there are too many.
fn greet(shared: &Shared, number: u64, told: mpsc::UnboundedSender<Told>) -> Option<String> {
    let mut state = shared.lock();
    state.opened += 1;
    if state.conns.len() >= state.max_connections {
        return Some(json!({"type": "disconnect", "reason": "too_many_websockets"}).to_string());
    }
    let mute = state.mute_hello;
    state.conns.insert(number, Conn { told });
    let hello = json!({"type": "hello", "num_connections": state.conns.len(), "connection_info": {"app_id": "A0APP"}});
    (!mute).then(|| hello.to_string())
}

async fn converse(shared: &Shared, mut socket: WebSocket, mut orders: mpsc::UnboundedReceiver<Told>) {
    let mut frozen = false;
    // A connection that was not let in has no orders; it is read until the client closes it.
    let mut ordered = true;
    loop {
        tokio::select! {
            order = orders.recv(), if ordered => match order {
                Some(Told::Say(text)) if !frozen => {
                    let _sent = socket.send(Message::text(text)).await;
                }
                Some(Told::Say(_)) => {}
                Some(Told::Freeze) => frozen = true,
                Some(Told::Close) => {
                    let _sent = socket.send(Message::Close(None)).await;
                }
                Some(Told::Cut) => return,
                None => ordered = false,
            },
            message = socket.recv(), if !frozen => match message {
                Some(Ok(Message::Text(text))) => acked(shared, &text),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

fn acked(shared: &Shared, text: &str) {
    let frame: Value = serde_json::from_str(text).unwrap_or_default();
    let id = frame["envelope_id"].as_str().unwrap_or_default();
    if let Some(track) = shared.lock().envelopes.get_mut(id)
        && track.acked.is_none()
    {
        track.acked = Some(Timestamp::now());
        track.ack_latency = track.last_sent.map(|sent| sent.elapsed());
    }
    shared.changed.notify_waiters();
}

/// Sends an event in an envelope, on one connection, and again as long as it is not acknowledged.
pub(super) fn deliver(shared: &Arc<Shared>, event: Value) -> String {
    let id = uuid::Uuid::now_v7().to_string();
    let ts = event["ts"].as_str().unwrap_or_default().to_owned();
    let track = Track { ts, sent: 0, last_sent: None, acked: None, ack_latency: None };
    shared.lock().envelopes.insert(id.clone(), track);
    let payload = json!({
        "team_id": TEAM, "api_app_id": "A0APP", "type": "event_callback", "event_id": format!("Ev{id}"), "event": event,
        "authorizations": [{"team_id": TEAM, "user_id": super::BOT_USER, "is_bot": true}],
    });
    tokio::spawn(insist(shared.clone(), id.clone(), payload));
    id
}

async fn insist(shared: Arc<Shared>, id: String, payload: Value) {
    let pace = shared.lock().pace.clone();
    let pauses = std::iter::once(Duration::ZERO).chain(pace.retries);
    for (attempt, pause) in pauses.enumerate() {
        tokio::time::sleep(pause).await;
        let frame = json!({
            "type": "events_api", "envelope_id": id, "payload": payload, "accepts_response_payload": false,
            "retry_attempt": attempt, "retry_reason": if attempt > 0 { "timeout" } else { "" },
        });
        send(&shared, &id, attempt, frame.to_string());
        let until = Instant::now() + pace.ack_within;
        while Instant::now() < until {
            if shared.lock().envelopes.get(&id).is_none_or(|track| track.acked.is_some()) {
                return;
            }
            let _news = tokio::time::timeout_at(until, shared.changed.notified()).await;
        }
    }
}

/// On one of the open connections, in turn; with none open the attempt is lost, as with the real one.
fn send(shared: &Shared, id: &str, attempt: usize, frame: String) {
    let mut state = shared.lock();
    state.next += 1;
    let (turn, open) = (state.next as usize + attempt, state.conns.len());
    if open == 0 {
        return;
    }
    if let Some(conn) = state.conns.values().nth(turn % open) {
        let _told = conn.tell(Told::Say(frame));
    }
    if let Some(track) = state.envelopes.get_mut(id) {
        track.sent += 1;
        track.last_sent = Some(Instant::now());
    }
}

/// Says `disconnect` on every connection that is open now, and ends them after the grace time.
pub(super) fn disconnect(shared: &Arc<Shared>, reason: &str) {
    let frame = json!({"type": "disconnect", "reason": reason}).to_string();
    let state = shared.lock();
    let numbers: Vec<u64> = state.conns.keys().copied().collect();
    for conn in state.conns.values() {
        conn.tell(Told::Say(frame.clone()));
    }
    let grace = state.pace.warning;
    drop(state);
    let shared = shared.clone();
    tokio::spawn(async move {
        tokio::time::sleep(grace).await;
        for number in numbers {
            if let Some(conn) = shared.lock().conns.get(&number) {
                conn.tell(Told::Close);
            }
        }
    });
}
