//! A record as a page shows it, and a fingerprint of exactly that: what is proven must be what is seen.

use proto::Component;
use proto::audit::{StoredRecord, attach};
use proto::seal::Bundle;
use proto::trace::Trace;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use jiff::Timestamp;

/// Digits of a fingerprint: 128 bits.
const PRINT: usize = 32;

/// Makes a record fit to be shown. Recorders take salts out before they publish; should one not have, nobody sees it here.
pub(crate) fn without_salts(mut record: StoredRecord) -> StoredRecord {
    drop_salts(&mut record.record);
    record
}

fn drop_salts(record: &mut Value) {
    let data = record.get_mut("data").and_then(Value::as_object_mut);
    for content in data.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        if content.contains_key("digest") {
            content.remove("salt");
        }
    }
}

/// The record that a bundle proves, as the index would answer it.
pub(crate) fn proven(bundle: &Bundle) -> Option<StoredRecord> {
    let raw = &bundle.record;
    let bytes = raw.body.as_bytes();
    let text = || Value::String(String::from_utf8_lossy(bytes).into_owned());
    let mut record = serde_json::from_slice(bytes).unwrap_or_else(|_| text());
    attach(&mut record, &bundle.parts);
    let component = raw.subject.strip_prefix(subject_prefix().as_str())?.to_owned();
    let stored = Timestamp::from_nanosecond(i128::from(raw.time_ns)).ok()?;
    Some(without_salts(StoredRecord { seq: raw.seq, stored, component, record }))
}

/// What stands before the component in a record's subject.
fn subject_prefix() -> String {
    let subject = proto::audit::log_subject(Component::Audit);
    subject.as_str().trim_end_matches(Component::Audit.as_str()).to_owned()
}

/// The fingerprint of everything about a record that a page shows. The index keeps time in microseconds.
pub(crate) fn print(record: &StoredRecord) -> String {
    let framed =
        format!("{}\n{}\n{}\n{}", record.seq, record.stored.as_microsecond(), record.component, sorted(&record.record));
    let digest = Sha256::digest(framed.as_bytes());
    digest.iter().take(PRINT / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// JSON with the keys of every object in order: how they stood in the stream does not matter for what is seen.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut pairs: Vec<_> = fields.iter().map(|(key, value)| format!("{key:?}:{}", sorted(value))).collect();
            pairs.sort();
            format!("{{{}}}", pairs.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// An attribute of the record.
pub(crate) fn attribute<'a>(record: &'a StoredRecord, name: &str) -> Option<&'a str> {
    record.record.get(name).and_then(Value::as_str)
}

/// Its type, or what the index files it under.
pub(crate) fn kind(record: &StoredRecord) -> &str {
    attribute(record, "type").unwrap_or(crate::filter::UNREADABLE)
}

/// Its trace id.
pub(crate) fn trace(record: &StoredRecord) -> Option<String> {
    attribute(record, "traceparent").and_then(|parent| parent.parse::<Trace>().ok()).map(Trace::id)
}

/// An id that a person recognises: its last characters. The first ones of ids that were made at the same time are the same.
pub(crate) fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(8)..).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proto::audit::Part;
    use proto::content::Salt;
    use proto::keys::SigningKey;
    use proto::seal::{Body, RawRecord};
    use serde_json::json;

    use super::*;

    fn stored(record: Value) -> StoredRecord {
        StoredRecord {
            seq: 3,
            stored: "2026-11-20T10:00:00.000001Z".parse().unwrap(),
            component: "policy".into(),
            record,
        }
    }

    fn bundle(body: &str) -> Bundle {
        let part = Part { salt: Salt::random(), text: Some("hello".into()), redacted: false };
        Bundle {
            v: 1,
            record: RawRecord {
                seq: 3,
                time_ns: 1_795_168_800_000_001_999,
                subject: "nachos.audit.log.policy".into(),
                body: Body::new(body.as_bytes().to_vec()),
            },
            proof: vec![],
            checkpoint: String::new(),
            key: SigningKey::from_seed([1; 32]).public(),
            parts: BTreeMap::from([("text".to_owned(), part)]),
        }
    }

    #[test]
    fn what_is_proven_has_the_fingerprint_of_what_is_shown() {
        let proof = bundle(r#"{"type":"message.received","data":{"text":{"digest":"d","bytes":5}}}"#);
        let content = json!({"text": "hello", "digest": "d", "bytes": 5});
        let shown = stored(json!({"data": {"text": content}, "type": "message.received"}));
        assert_eq!(print(&proven(&proof).unwrap()), print(&shown));
        let other = stored(json!({"data": {"text": {"text": "hallo"}}, "type": "message.received"}));
        assert_ne!(print(&proven(&proof).unwrap()), print(&other));
        assert_ne!(print(&shown), print(&StoredRecord { component: "gateway".into(), ..shown.clone() }));
    }

    #[test]
    fn a_salt_is_never_shown() {
        let leaky = stored(json!({"data": {"text": {"digest": "d", "bytes": 5, "salt": "s"}}}));
        assert!(!without_salts(leaky).record.to_string().contains("salt"));
        let proof = bundle(r#"{"data":{"text":{"digest":"d","bytes":5}}}"#);
        assert!(!proven(&proof).unwrap().record.to_string().contains("salt"));
    }

    #[test]
    fn bytes_that_are_no_json_are_shown_as_text() {
        assert_eq!(proven(&bundle("not json")).unwrap().record, json!("not json"));
    }
}
