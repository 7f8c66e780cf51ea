//! Tool calls as they arrive: fragments of arguments that belong to numbered places, joined into whole calls at the end.

use proto::llm::{FinishReason, ToolUse};
use serde_json::{Map, Value};

use crate::error::{Class, Failure};

/// Most tool calls in one answer. A model that asks for more is out of its mind, and each would be decided and recorded.
pub(crate) const MAX_CALLS: usize = 128;

/// Most argument bytes of one call: a whole call is one chunk, and a bus message holds 1 MiB.
pub(crate) const MAX_ARGUMENTS: usize = 512 * 1024;

/// The calls of one answer, in the order in which they began.
#[derive(Debug)]
pub(crate) struct Calls {
    /// Prefix of the ids of calls that come without one.
    ids: String,
    begun: Vec<Call>,
}

/// A call whose arguments may still be growing.
#[derive(Debug)]
pub(crate) struct Call {
    /// The provider's number of the place.
    pub(crate) place: u64,
    pub(crate) id: String,
    pub(crate) name: String,
    /// Arguments as JSON text, as far as they came.
    json: String,
}

impl Call {
    /// More of the arguments' JSON text.
    pub(crate) fn push(&mut self, fragment: &str) -> Result<(), Failure> {
        if self.json.len() + fragment.len() > MAX_ARGUMENTS {
            return Err(Failure::new(Class::TooLarge, format!("a tool call with more than {MAX_ARGUMENTS} bytes")));
        }
        self.json.push_str(fragment);
        Ok(())
    }

    /// The arguments as a whole; they replace what came before.
    pub(crate) fn set(&mut self, whole: &Value) -> Result<(), Failure> {
        self.json.clear();
        self.push(&whole.to_string())
    }
}

impl Calls {
    /// No calls yet; one that comes without an id gets `<ids>-<number>`.
    pub(crate) fn new(ids: impl Into<String>) -> Self {
        Self { ids: ids.into(), begun: Vec::new() }
    }

    /// Begins a call at `place`.
    pub(crate) fn begin(&mut self, place: u64, id: String, name: String) -> Result<&mut Call, Failure> {
        if self.begun.len() >= MAX_CALLS {
            return Err(Failure::new(Class::TooLarge, format!("more than {MAX_CALLS} tool calls")));
        }
        let json = String::new();
        let id = if id.is_empty() { format!("{}-{}", self.ids, self.begun.len()) } else { id };
        self.begun.push(Call { place, id, name, json });
        self.last_mut().ok_or_else(|| Failure::new(Class::Malformed, "no call"))
    }

    /// The newest call at `place`.
    pub(crate) fn at(&mut self, place: u64) -> Option<&mut Call> {
        self.begun.iter_mut().rev().find(|call| call.place == place)
    }

    /// The newest call.
    pub(crate) fn last_mut(&mut self) -> Option<&mut Call> {
        self.begun.last_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.begun.len()
    }

    /// The whole calls. An answer cut at its length may end in half a call; nobody asked for that, so it is dropped.
    pub(crate) fn finish(&mut self, reason: FinishReason) -> Vec<ToolUse> {
        let cut = reason == FinishReason::Length;
        self.begun
            .drain(..)
            .filter(|call| !(cut && serde_json::from_str::<Map<String, Value>>(&call.json).is_err()))
            .map(|call| ToolUse { arguments: arguments(&call.json), id: call.id, name: call.name })
            .collect()
    }
}

/// No arguments come as no text at all; what is no JSON object is kept as text, to be refused where tools are called.
fn arguments(json: &str) -> Value {
    if json.trim().is_empty() {
        return Value::Object(Map::new());
    }
    match serde_json::from_str(json) {
        Ok(Value::Object(fields)) => Value::Object(fields),
        _ => Value::String(json.to_owned()),
    }
}

/// What the caller goes by: an answer with calls waits for tools and one without does not, whatever word the provider chose.
pub(crate) fn reason(said: FinishReason, calls: usize) -> FinishReason {
    match (said, calls) {
        (FinishReason::Stop, 1..) => FinishReason::ToolCalls,
        (FinishReason::ToolCalls, 0) => FinishReason::Stop,
        _ => said,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn calls(json: &str) -> Calls {
        let mut calls = Calls::new("test");
        let call = calls.begin(0, "a".into(), "clock".into()).unwrap();
        call.push(json).unwrap();
        calls
    }

    #[test]
    fn arguments_are_an_object_or_the_text_itself() {
        for (text, value) in [
            ("", json!({})),
            ("  ", json!({})),
            (r#"{"a":1}"#, json!({"a": 1})),
            ("[1]", json!("[1]")),
            (r#"{"a":"#, json!(r#"{"a":"#)),
            ("null", json!("null")),
        ] {
            assert_eq!(calls(text).finish(FinishReason::ToolCalls)[0].arguments, value, "{text}");
        }
    }

    #[test]
    fn half_a_call_at_the_length_limit_is_dropped() {
        assert!(calls("").finish(FinishReason::Length).is_empty());
        assert!(calls(r#"{"zone":"To"#).finish(FinishReason::Length).is_empty());
        assert_eq!(calls(r#"{"zone":"Tokyo"}"#).finish(FinishReason::Length).len(), 1);
    }

    #[test]
    fn calls_are_bounded() {
        let mut calls = Calls::new("test");
        for place in 0..MAX_CALLS as u64 {
            calls.begin(place, String::new(), String::new()).unwrap();
        }
        assert_eq!(calls.begin(1000, String::new(), String::new()).unwrap_err().class, Class::TooLarge);
    }
}
