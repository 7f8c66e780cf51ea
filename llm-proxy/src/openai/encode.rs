//! Our request as OpenAI's.

use proto::llm::{ChatMessage, ModelRequest, ToolSpec, ToolUse};
use serde_json::{Map, Value, json};

use super::Dialect;
use crate::conversation::{identifier, object, paired};

/// The body of `POST /chat/completions` for the provider's model `id`; `extra` fields are added last.
pub fn to_provider(request: &ModelRequest, id: &str, dialect: Dialect, extra: &Map<String, Value>) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(id));
    body.insert("messages".into(), Value::Array(messages(request)));
    body.insert("stream".into(), json!(true));
    match dialect {
        Dialect::OpenAi => {
            body.insert("max_completion_tokens".into(), json!(request.max_tokens));
            // Padding against traffic analysis costs more bytes than the text.
            body.insert("stream_options".into(), json!({"include_usage": true, "include_obfuscation": false}));
        }
        Dialect::Compatible => {
            body.insert("max_tokens".into(), json!(request.max_tokens));
            body.insert("stream_options".into(), json!({"include_usage": true}));
        }
    }
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
    }
    body.extend(extra.clone());
    Value::Object(body)
}

fn messages(request: &ModelRequest) -> Vec<Value> {
    let system = (!request.system.is_empty()).then(|| json!({"role": "system", "content": request.system}));
    let said = paired(&request.messages).into_iter().map(|said| message(&said)).collect::<Vec<_>>();
    system.into_iter().chain(said).collect()
}

fn message(message: &ChatMessage) -> Value {
    match message {
        ChatMessage::User { text } => json!({"role": "user", "content": text}),
        ChatMessage::Assistant { text, tool_calls, .. } => assistant(text, tool_calls),
        ChatMessage::Tool { call, text, is_error, .. } => {
            // There is no flag for it on this wire.
            let content = if *is_error { format!("error: {text}") } else { text.clone() };
            json!({"role": "tool", "tool_call_id": identifier(call), "content": content})
        }
    }
}

fn assistant(text: &str, calls: &[ToolUse]) -> Value {
    if calls.is_empty() {
        return json!({"role": "assistant", "content": text});
    }
    let content = if text.is_empty() { Value::Null } else { json!(text) };
    let calls: Vec<Value> = calls.iter().map(call).collect();
    json!({"role": "assistant", "content": content, "tool_calls": calls})
}

fn call(call: &ToolUse) -> Value {
    json!({
        "id": identifier(&call.id),
        "type": "function",
        "function": {"name": identifier(&call.name), "arguments": object(&call.arguments).to_string()},
    })
}

fn tool(tool: &ToolSpec) -> Value {
    json!({
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    })
}
