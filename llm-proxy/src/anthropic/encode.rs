//! Our request as Anthropic's.

use proto::llm::{ChatMessage, ModelRequest, ToolSpec, ToolUse};
use serde_json::{Map, Value, json};

use super::STATE_FORMAT;
use crate::conversation::{identifier, object, paired};

/// What stands where a person wrote nothing: empty text blocks are refused.
const NO_TEXT: &str = "(no text)";

/// What opens a conversation whose beginning was left out: the first message must be a person's.
const CONTINUED: &str = "(the conversation goes on)";

/// The body of `POST /v1/messages` for the provider's model `id`; `extra` fields are added last.
pub fn to_provider(request: &ModelRequest, id: &str, extra: &Map<String, Value>) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(id));
    body.insert("max_tokens".into(), json!(request.max_tokens));
    body.insert("stream".into(), json!(true));
    if !request.system.is_empty() {
        // The first of two cache marks: tools and system prompt are the same in every request of a session.
        let block = json!({"type": "text", "text": request.system, "cache_control": {"type": "ephemeral"}});
        body.insert("system".into(), json!([block]));
    }
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
    }
    body.insert("messages".into(), Value::Array(messages(&request.messages)));
    body.extend(extra.clone());
    Value::Object(body)
}

fn tool(tool: &ToolSpec) -> Value {
    json!({"name": tool.name, "description": tool.description, "input_schema": tool.parameters})
}

/// Messages of one side in a row become one message: the results of parallel calls have to stand together.
fn messages(messages: &[ChatMessage]) -> Vec<Value> {
    let mut sides: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in paired(messages) {
        let (role, blocks) = blocks(&message);
        if sides.is_empty() && role == "assistant" {
            sides.push(("user", vec![text(CONTINUED)]));
        }
        match sides.last_mut() {
            Some((last, all)) if *last == role => all.extend(blocks),
            _ if blocks.is_empty() => {}
            _ => sides.push((role, blocks)),
        }
    }
    mark_last(&mut sides);
    sides.into_iter().map(|(role, blocks)| json!({"role": role, "content": blocks})).collect()
}

/// The second cache mark: the conversation up to here is the beginning of the next request.
fn mark_last(sides: &mut [(&str, Vec<Value>)]) {
    if let Some(Value::Object(block)) = sides.last_mut().and_then(|(_, blocks)| blocks.last_mut()) {
        block.insert("cache_control".into(), json!({"type": "ephemeral"}));
    }
}

fn blocks(message: &ChatMessage) -> (&'static str, Vec<Value>) {
    match message {
        ChatMessage::User { text: said } if said.trim().is_empty() => ("user", vec![text(NO_TEXT)]),
        ChatMessage::User { text: said } => ("user", vec![text(said)]),
        ChatMessage::Assistant { text, tool_calls, provider_state } => {
            ("assistant", assistant(text, tool_calls, provider_state.as_ref()))
        }
        ChatMessage::Tool { call, text, is_error, .. } => ("user", vec![result(call, text, *is_error)]),
    }
}

/// Signed thinking goes back unmodified and first; the provider checks both.
fn assistant(said: &str, calls: &[ToolUse], state: Option<&Value>) -> Vec<Value> {
    let mut blocks = state.map(thinking).unwrap_or_default();
    if !said.trim().is_empty() {
        blocks.push(text(said));
    }
    blocks.extend(calls.iter().map(|call| {
        json!({
            "type": "tool_use",
            "id": identifier(&call.id),
            "name": identifier(&call.name),
            "input": object(&call.arguments),
        })
    }));
    blocks
}

/// The blocks that the decoder kept; state of another provider is left out.
fn thinking(state: &Value) -> Vec<Value> {
    let ours = state.get("format").and_then(Value::as_str) == Some(STATE_FORMAT);
    let blocks = state.get("blocks").and_then(Value::as_array).filter(|_| ours);
    blocks.cloned().unwrap_or_default()
}

fn result(call: &str, said: &str, is_error: bool) -> Value {
    let mut block = json!({"type": "tool_result", "tool_use_id": identifier(call), "content": said});
    if let (true, Value::Object(fields)) = (is_error, &mut block) {
        fields.insert("is_error".into(), json!(true));
    }
    block
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}
