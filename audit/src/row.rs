//! What the index keeps of one record: a pure reading of its JSON into columns.

pub use ledger::facts::{Facts, UNREADABLE};
use ledger::leaf;
use proto::Component;
use proto::seal::{Body, NodeHash, RawRecord};

/// What the subject of every record begins with.
const SUBJECT: &str = "nachos.audit.log.";

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

impl Row {
    /// Reads a record.
    pub fn new(record: &RawRecord) -> Self {
        let component = record.subject.strip_prefix(SUBJECT).filter(|name| name.parse::<Component>().is_ok());
        let body = record.body.as_bytes();
        Self {
            seq: record.seq,
            time_ns: record.time_ns,
            subject: record.subject.clone(),
            component: component.unwrap_or("unknown").to_owned(),
            facts: Facts::read(body),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
