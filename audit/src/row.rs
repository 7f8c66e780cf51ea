//! What the index keeps of one record: a pure reading of its JSON into columns.

use proto::trace::Trace;
use serde_json::Value;

/// The type under which a record is filed whose bytes are no CloudEvent. It is never dropped: somebody published it.
pub const UNREADABLE: &str = "unreadable";

/// One row of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The record's number in the stream.
    pub seq: u64,
    /// When the stream stored it, in microseconds since 1970.
    pub stored: i64,
    /// Who published it, from the subject.
    pub component: String,
    /// What its body says.
    pub facts: Facts,
    /// The body as it was published.
    pub raw: String,
}

/// The columns that come from the body, and so are worth what its publisher is worth.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// CloudEvents `type`.
    pub kind: String,
    /// CloudEvents `id`.
    pub id: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The turn.
    pub turn: Option<String>,
    /// The trace id, 32 hex digits.
    pub trace: Option<String>,
    /// On whose behalf.
    pub principal: Option<String>,
    /// The channel.
    pub channel: Option<String>,
    /// The tool that it is about.
    pub tool: Option<String>,
    /// How it came out, in one word.
    pub outcome: Option<String>,
    /// The policies that decided.
    pub policies: Vec<String>,
}

impl Row {
    /// Reads a record.
    pub fn new(seq: u64, stored: i64, component: &str, payload: &[u8]) -> Self {
        let raw = String::from_utf8_lossy(payload).into_owned();
        let facts = serde_json::from_str(&raw).ok().and_then(|body| Facts::of(&body));
        Self { seq, stored, component: component.to_owned(), facts: facts.unwrap_or_else(Facts::unreadable), raw }
    }
}

impl Facts {
    fn unreadable() -> Self {
        Self { kind: UNREADABLE.to_owned(), ..Self::default() }
    }

    /// The columns of a CloudEvent of any type, known to this release or not; `None` if it has no type.
    fn of(body: &Value) -> Option<Self> {
        let kind = text(body, "type")?;
        let data = body.get("data").unwrap_or(&Value::Null);
        Some(Self {
            id: text(body, "id"),
            session: text(body, "session"),
            turn: text(body, "turn"),
            trace: text(body, "traceparent").and_then(|parent| parent.parse::<Trace>().ok()).map(Trace::id),
            principal: text(body, "principal"),
            channel: text(body, "channel"),
            tool: tool(data),
            outcome: outcome(&kind, data),
            policies: policies(data),
            kind,
        })
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// A decision names the tool as its resource.
fn tool(data: &Value) -> Option<String> {
    text(data, "tool").or_else(|| {
        let about_tool = data.get("action").and_then(Value::as_str) == Some("call_tool");
        about_tool.then(|| text(data, "resource")).flatten()
    })
}

/// The outcome that the record names, or the one that its type amounts to, so that one filter finds all that went wrong.
fn outcome(kind: &str, data: &Value) -> Option<String> {
    let failed = |key: &str| !data.get(key).unwrap_or(&Value::Null).is_null();
    text(data, "outcome").or_else(|| {
        let word = match kind {
            "tool.refused" => "refused",
            "component.denied" => "denied",
            "message.undeliverable" => "failed",
            "config.changed" if failed("refused") => "refused",
            "config.changed" => "ok",
            "model.answered" if failed("error") => "failed",
            "model.answered" => "ok",
            _ => return None,
        };
        Some(word.to_owned())
    })
}

fn policies(data: &Value) -> Vec<String> {
    let listed = data.get("policies").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(body: &Value) -> Facts {
        Row::new(1, 2, "policy", body.to_string().as_bytes()).facts
    }

    #[test]
    fn a_decision_about_a_tool_is_found_by_tool_outcome_and_policy() {
        let facts = facts(&json!({
            "type": "policy.decided", "id": "i", "session": "s", "turn": "t", "principal": "cli/ann",
            "traceparent": "00-0000000000000000000000000000000a-0000000000000001-01",
            "data": {"action": "call_tool", "resource": "clock", "outcome": "allow", "policies": ["a", "b"]},
        }));
        assert_eq!(facts.trace.as_deref(), Some("0000000000000000000000000000000a"));
        assert_eq!((facts.tool.as_deref(), facts.outcome.as_deref()), (Some("clock"), Some("allow")));
        assert_eq!(facts.policies, ["a", "b"]);
        assert_eq!(facts.session.as_deref(), Some("s"));
    }

    #[test]
    fn a_decision_about_a_model_names_no_tool() {
        let data = json!({"action": "call_model", "resource": "demo", "outcome": "deny"});
        assert_eq!(facts(&json!({"type": "policy.decided", "data": data})).tool, None);
    }

    #[test]
    fn what_went_wrong_has_an_outcome_even_if_the_record_has_no_such_field() {
        for (kind, data, word) in [
            ("tool.refused", json!({"tool": "clock"}), "refused"),
            ("component.denied", json!({}), "denied"),
            ("config.changed", json!({"refused": "bad"}), "refused"),
            ("config.changed", json!({}), "ok"),
            ("model.answered", json!({"error": "gone"}), "failed"),
            ("model.answered", json!({"finish": "stop"}), "ok"),
        ] {
            let facts = facts(&json!({"type": kind, "data": data}));
            assert_eq!(facts.outcome.as_deref(), Some(word), "{kind}");
        }
    }

    #[test]
    fn a_type_that_this_release_does_not_know_is_filed_under_its_own_name() {
        assert_eq!(facts(&json!({"type": "egress.opened", "data": 7})).kind, "egress.opened");
    }

    #[test]
    fn what_is_no_cloud_event_is_kept_as_text() {
        for payload in [&b"not json"[..], b"\xff\xfe", b"{}", b"[1]", b"{\"type\":7}", b""] {
            let row = Row::new(1, 2, "gateway", payload);
            assert_eq!(row.facts, Facts::unreadable());
            assert_eq!(row.component, "gateway");
            assert_eq!(row.raw, String::from_utf8_lossy(payload));
        }
    }
}
