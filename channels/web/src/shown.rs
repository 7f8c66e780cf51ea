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
    drop_from_contents(&mut record.record, &["salt"]);
    record
}

/// Takes fields out of everything in a record that describes a text.
fn drop_from_contents(record: &mut Value, names: &[&str]) {
    let data = record.get_mut("data").and_then(Value::as_object_mut);
    for content in data.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        if content.contains_key("digest") {
            content.retain(|name, _| !names.contains(&name.as_str()));
        }
    }
}

/// Whether something in a record is a text of which there are no words.
pub(crate) fn lacks_text(record: &StoredRecord) -> bool {
    let data = record.record.get("data").and_then(Value::as_object);
    let described =
        |content: &&Value| content.get("digest").is_some_and(Value::is_string) && content.get("bytes").is_some();
    data.into_iter().flat_map(Map::values).filter(described).any(|content| content.get("text").is_none())
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

/// The fingerprint of everything about a record that a page shows: of the record itself, and of it with the texts that are kept beside
/// it, because those come a moment later and may be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Print {
    pub(crate) record: String,
    pub(crate) texts: String,
}

impl std::fmt::Display for Print {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.record, self.texts)
    }
}

impl std::str::FromStr for Print {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (record, texts) = text.split_once('-').ok_or(())?;
        Ok(Self { record: record.to_owned(), texts: texts.to_owned() })
    }
}

/// See [`Print`].
pub(crate) fn print(record: &StoredRecord) -> Print {
    let mut bare = record.record.clone();
    drop_from_contents(&mut bare, &["text", "redacted"]);
    Print { record: digest(record, &bare), texts: digest(record, &record.record) }
}

/// The index keeps time in microseconds.
fn digest(record: &StoredRecord, json: &Value) -> String {
    let framed = format!("{}\n{}\n{}\n{}", record.seq, record.stored.as_microsecond(), record.component, sorted(json));
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
        let early = stored(json!({"data": {"text": {"digest": "d", "bytes": 5}}, "type": "message.received"}));
        assert_eq!(print(&early).record, print(&shown).record, "texts come later");
        assert_ne!(print(&early), print(&shown));
        let other = stored(json!({"data": {"text": {"digest": "e", "bytes": 5}}, "type": "message.received"}));
        assert_ne!(print(&other).record, print(&shown).record);
        assert_eq!(print(&shown).to_string().parse(), Ok(print(&shown)));
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
