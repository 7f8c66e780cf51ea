//! What the index keeps of one record: a pure reading of its JSON into columns.

use ledger::leaf;
use proto::Component;
use proto::seal::{Body, NodeHash, RawRecord};
use proto::trace::Trace;
use serde_json::Value;

/// What the subject of every record begins with.
const SUBJECT: &str = "nachos.audit.log.";

/// The type under which a record is filed whose bytes are no CloudEvent. It is never dropped: somebody published it.
pub const UNREADABLE: &str = "unreadable";

/// One row of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The record's number in the stream.
    pub seq: u64,
    /// When the stream stored it, in nanoseconds since 1970.
    pub time_ns: i64,
    /// The subject.
    pub subject: String,
    /// Who published it, from the subject.
    pub component: String,
    /// What its body says.
    pub facts: Facts,
    /// The body as it was published.
    pub raw: Vec<u8>,
    /// The leaf of the tree.
    pub leaf: NodeHash,
}

/// The type of the row in the place of a record that the stream confirmed not to hold any more.
pub const MISSING: &str = "missing";

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
    pub fn new(record: &RawRecord) -> Self {
        let component = record.subject.strip_prefix(SUBJECT).filter(|name| name.parse::<Component>().is_ok());
        let body = record.body.as_bytes();
        let facts = serde_json::from_slice(body).ok().and_then(|body| Facts::of(&body));
        Self {
            seq: record.seq,
            time_ns: record.time_ns,
            subject: record.subject.clone(),
            component: component.unwrap_or("unknown").to_owned(),
            facts: facts.unwrap_or_else(|| Facts::of_type(UNREADABLE)),
            raw: body.to_vec(),
            leaf: leaf::hash(record),
        }
    }

    /// In the place of a record that is gone from the stream.
    pub fn missing(seq: u64) -> Self {
        Self {
            seq,
            time_ns: 0,
            subject: String::new(),
            component: "unknown".to_owned(),
            facts: Facts::of_type(MISSING),
            raw: Vec::new(),
            leaf: leaf::missing(seq),
        }
    }

    /// The record that it is a row of.
    pub fn record(&self) -> RawRecord {
        let body = Body::new(self.raw.clone());
        RawRecord { seq: self.seq, time_ns: self.time_ns, subject: self.subject.clone(), body }
    }

    /// When the stream stored it, in microseconds since 1970.
    pub fn stored(&self) -> i64 {
        self.time_ns.div_euclid(1000)
    }

    /// Whether it is sealed at once: something was refused, or a human decided.
    pub fn is_urgent(&self) -> bool {
        let decided = self.facts.kind == "policy.decided" && self.facts.outcome.as_deref() != Some("allow");
        decided
            || ["tool.refused", "component.denied"].contains(&&*self.facts.kind)
            || self.facts.kind.starts_with("approval.")
    }
}

impl Facts {
    fn of_type(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
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

    fn row(component: &str, payload: &[u8]) -> Row {
        let subject = format!("nachos.audit.log.{component}");
        Row::new(&RawRecord { seq: 1, time_ns: 2000, subject, body: Body::new(payload.to_vec()) })
    }

    fn facts(body: &Value) -> Facts {
        row("policy", body.to_string().as_bytes()).facts
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
    fn what_was_refused_is_sealed_at_once() {
        let urgent = |kind: &str, outcome: &str| {
            row("policy", json!({"type": kind, "data": {"outcome": outcome}}).to_string().as_bytes()).is_urgent()
        };
        assert!(urgent("policy.decided", "deny") && urgent("policy.decided", "ask") && urgent("tool.refused", ""));
        assert!(!urgent("policy.decided", "allow") && !urgent("tool.finished", "failed"));
    }

    #[test]
    fn a_subject_that_names_no_component_is_nobodys() {
        assert_eq!(row("somebody", b"{}").component, "unknown");
    }

    #[test]
    fn what_is_no_cloud_event_is_kept_as_text() {
        for payload in [&b"not json"[..], b"\xff\xfe", b"{}", b"[1]", b"{\"type\":7}", b""] {
            let row = row("gateway", payload);
            assert_eq!(row.facts, Facts::of_type(UNREADABLE));
            assert_eq!((row.component.as_str(), row.raw.as_slice()), ("gateway", payload));
            assert_eq!(leaf::hash(&row.record()), row.leaf);
        }
    }
}
