//! Anthropic Messages, played.

use std::ops::Deref;

use serde_json::{Value, json};

use super::provider::{Dialect, Heard, Provider, Said};

/// A server that speaks Anthropic Messages.
pub struct FakeAnthropic(Provider);

impl FakeAnthropic {
    /// Starts on a free port.
    pub async fn start() -> Self {
        let dialect = Dialect { path: "/v1/messages", stream, hear };
        Self(Provider::start(dialect).await)
    }

    /// What goes into `base_url`.
    pub fn base_url(&self) -> String {
        self.0.address().to_owned()
    }
}

impl Deref for FakeAnthropic {
    type Target = Provider;

    fn deref(&self) -> &Provider {
        &self.0
    }
}

/// An error body, also as the data of an `error` event.
pub fn error(kind: &str, message: &str) -> String {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_fake"}).to_string()
}

/// An event with its name.
pub fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

/// A stream as Anthropic writes it, with a ping and usage in two places.
pub fn stream(said: &Said) -> String {
    let usage = json!({"input_tokens": 17, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 40, "output_tokens": 1});
    let mut events = vec![json!({"type": "message_start", "message": {
        "id": "msg_fake", "type": "message", "role": "assistant", "model": "fake", "content": [], "stop_reason": null, "usage": usage,
    }})];
    if !said.text.is_empty() {
        let pieces = said.text.split_inclusive(' ').map(|piece| json!({"type": "text_delta", "text": piece}));
        block(&mut events, 0, json!({"type": "text", "text": ""}), pieces);
    }
    for (number, (id, name, arguments)) in said.calls.iter().enumerate() {
        let text = arguments.to_string();
        let (one, two) = text.split_at(text.floor_char_boundary(text.len() / 2));
        let parts = ["", one, two].map(|part| json!({"type": "input_json_delta", "partial_json": part}));
        block(&mut events, number + 1, json!({"type": "tool_use", "id": id, "name": name, "input": {}}), parts);
    }
    let reason = if said.calls.is_empty() { "end_turn" } else { "tool_use" };
    let delta = json!({"stop_reason": reason, "stop_sequence": null});
    events.push(json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 12}}));
    events.push(json!({"type": "message_stop"}));
    events.iter().map(event).collect()
}

fn block(events: &mut Vec<Value>, index: usize, start: Value, deltas: impl IntoIterator<Item = Value>) {
    events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
    events.push(json!({"type": "ping"}));
    let delta = |delta| json!({"type": "content_block_delta", "index": index, "delta": delta});
    events.extend(deltas.into_iter().map(delta));
    events.push(json!({"type": "content_block_stop", "index": index}));
}

fn hear(body: &Value) -> Heard {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let last = messages.last().map(|message| message["content"].as_array().cloned().unwrap_or_default());
    let last = last.unwrap_or_default();
    let text = |block: &Value, field: &str| block[field].as_str().unwrap_or_default().to_owned();
    let of = |kind: &'static str| last.iter().filter(move |block| block["type"] == kind);
    let tools = body["tools"].as_array().cloned().unwrap_or_default();
    Heard {
        question: of("text").next_back().map(|block| text(block, "text")),
        results: of("tool_result").map(|block| text(block, "content")).collect(),
        tools: tools.iter().map(|tool| text(tool, "name")).collect(),
        messages: messages.len(),
    }
}
