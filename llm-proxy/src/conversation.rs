//! A conversation in the shape that every provider insists on: each tool call is followed by exactly one result, and names and ids
//! use only the letters that providers take. One odd message would otherwise break its session for good.

use std::borrow::Cow;

use proto::llm::ChatMessage;
use serde_json::{Map, Value};

/// What stands where a result should: a turn that was cut off leaves calls without one.
const NO_RESULT: &str = "no result: the call was interrupted and its outcome is unknown";

/// Longest name or id that every provider takes.
const MAX_IDENTIFIER: usize = 64;

/// The messages with results only where a call asked for them, and no call without one.
pub(crate) fn paired(messages: &[ChatMessage]) -> Vec<Cow<'_, ChatMessage>> {
    let mut paired = Vec::with_capacity(messages.len());
    let mut open: Vec<(&str, &str)> = Vec::new();
    for message in messages {
        if let ChatMessage::Tool { call, .. } = message {
            if let Some(at) = open.iter().position(|(id, _)| id == call) {
                open.remove(at);
                paired.push(Cow::Borrowed(message));
            }
            continue;
        }
        close(&mut open, &mut paired);
        if let ChatMessage::Assistant { tool_calls, .. } = message {
            open.extend(tool_calls.iter().map(|call| (call.id.as_str(), call.name.as_str())));
        }
        paired.push(Cow::Borrowed(message));
    }
    close(&mut open, &mut paired);
    paired
}

fn close<'a>(open: &mut Vec<(&str, &str)>, paired: &mut Vec<Cow<'a, ChatMessage>>) {
    paired.extend(open.drain(..).map(|(id, name)| {
        Cow::Owned(ChatMessage::Tool {
            call: id.to_owned(),
            tool: name.to_owned(),
            text: NO_RESULT.to_owned(),
            is_error: true,
        })
    }));
}

/// A tool name or call id as every provider takes it; a model may have written anything.
pub(crate) fn identifier(text: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=MAX_IDENTIFIER).contains(&text.len()) && text.chars().all(fits) {
        return Cow::Borrowed(text);
    }
    let clean = text.chars().map(|c| if fits(c) { c } else { '_' });
    let clean: String = clean.take(MAX_IDENTIFIER).collect();
    Cow::Owned(if clean.is_empty() { "unnamed".to_owned() } else { clean })
}

/// Arguments as an object: providers (and the chat templates of local servers) take nothing else in a conversation's past.
pub(crate) fn object(arguments: &Value) -> Cow<'_, Value> {
    if arguments.is_object() {
        return Cow::Borrowed(arguments);
    }
    let mut wrapped = Map::new();
    wrapped.insert("invalid_arguments".to_owned(), arguments.clone());
    Cow::Owned(Value::Object(wrapped))
}

#[cfg(test)]
mod tests {
    use proto::llm::ToolUse;
    use serde_json::json;

    use super::*;

    fn asks(ids: &[&str]) -> ChatMessage {
        let call = |id: &&str| ToolUse { id: (*id).into(), name: "clock".into(), arguments: json!({}) };
        ChatMessage::Assistant { text: String::new(), tool_calls: ids.iter().map(call).collect(), provider_state: None }
    }

    fn result(id: &str) -> ChatMessage {
        ChatMessage::Tool { call: id.into(), tool: "clock".into(), text: "8:30".into(), is_error: false }
    }

    fn user() -> ChatMessage {
        ChatMessage::User { text: "hi".into() }
    }

    fn shape(messages: &[ChatMessage]) -> String {
        let word = |message: &Cow<'_, ChatMessage>| match message.as_ref() {
            ChatMessage::User { .. } => "user".to_owned(),
            ChatMessage::Assistant { .. } => "assistant".to_owned(),
            ChatMessage::Tool { call, is_error, .. } => format!("{call}{}", if *is_error { "!" } else { "" }),
        };
        paired(messages).iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_call_has_exactly_one_result() {
        let whole = [user(), asks(&["a", "b"]), result("b"), result("a"), user()];
        assert_eq!(shape(&whole), "user assistant b a user");
        assert_eq!(shape(&[user(), asks(&["a", "b"]), result("a"), user()]), "user assistant a b! user");
        assert_eq!(shape(&[user(), asks(&["a"])]), "user assistant a!");
        assert_eq!(shape(&[result("x"), user(), asks(&["a"]), result("a"), result("a")]), "user assistant a");
    }

    #[test]
    fn identifiers_fit_every_provider() {
        assert_eq!(identifier("call_1-A"), "call_1-A");
        assert_eq!(identifier("functions.clock:0"), "functions_clock_0");
        assert_eq!(identifier(""), "unnamed");
        assert_eq!(identifier(&"ä".repeat(100)).len(), 64);
    }

    #[test]
    fn arguments_that_are_no_object_are_wrapped() {
        assert_eq!(*object(&json!({"a": 1})), json!({"a": 1}));
        assert_eq!(*object(&json!("{\"a")), json!({"invalid_arguments": "{\"a"}));
    }
}
