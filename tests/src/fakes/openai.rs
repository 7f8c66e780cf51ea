//! OpenAI Chat Completions, played.

use std::ops::Deref;

use serde_json::{Value, json};

use super::provider::{Dialect, Heard, Provider, Said};

/// A server that speaks Chat Completions.
pub struct FakeOpenAi(Provider);

impl FakeOpenAi {
    /// Starts on a free port.
    pub async fn start() -> Self {
        let dialect = Dialect { path: "/v1/chat/completions", stream, hear };
        Self(Provider::start(dialect).await)
    }

    /// What goes into `base_url`.
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.0.address())
    }
}

impl Deref for FakeOpenAi {
    type Target = Provider;

    fn deref(&self) -> &Provider {
        &self.0
    }
}

/// An error body.
pub fn error(message: &str, kind: &str, code: Option<&str>) -> String {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string()
}

/// A stream as OpenAI writes it: role first, fragments, the reason, the usage in a chunk of its own, the end mark.
pub fn stream(said: &Said) -> String {
    let mut chunks = vec![delta(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null)];
    let pieces = said.text.split_inclusive(' ');
    chunks.extend(pieces.map(|piece| delta(json!({"content": piece}), Value::Null)));
    for (index, (id, name, arguments)) in said.calls.iter().enumerate() {
        let function = json!({"name": name, "arguments": ""});
        let start = json!({"index": index, "id": id, "type": "function", "function": function});
        chunks.push(delta(json!({"tool_calls": [start]}), Value::Null));
        let text = arguments.to_string();
        let (one, two) = text.split_at(text.floor_char_boundary(text.len() / 2));
        for part in [one, two] {
            let more = json!({"index": index, "function": {"arguments": part}});
            chunks.push(delta(json!({"tool_calls": [more]}), Value::Null));
        }
    }
    let reason = if said.calls.is_empty() { "stop" } else { "tool_calls" };
    chunks.push(delta(json!({}), json!(reason)));
    let mut usage = delta(json!({}), Value::Null);
    usage["choices"] = json!([]);
    usage["usage"] = json!({"prompt_tokens": 57, "completion_tokens": 12, "total_tokens": 69,
        "prompt_tokens_details": {"cached_tokens": 40}, "completion_tokens_details": {"reasoning_tokens": 0}});
    chunks.push(usage);
    let events: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    events + "data: [DONE]\n\n"
}

fn delta(delta: Value, finish: Value) -> Value {
    json!({
        "id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1_795_000_000, "model": "fake-2026-11-20",
        "service_tier": "default", "system_fingerprint": "fp_fake",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}], "usage": null,
    })
}

fn hear(body: &Value) -> Heard {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let is = |message: &Value, role: &str| message["role"] == role;
    let since = messages.iter().rposition(|message| is(message, "user")).map_or(0, |at| at + 1);
    let text = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    let tools = body["tools"].as_array().cloned().unwrap_or_default();
    Heard {
        question: messages.iter().rfind(|message| is(message, "user")).map(text),
        results: messages[since..].iter().filter(|message| is(message, "tool")).map(text).collect(),
        tools: tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap_or_default().to_owned()).collect(),
        messages: messages.len(),
    }
}
