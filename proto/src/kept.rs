//! What is kept beside a record and can be erased: salts and texts, on their way into the audit service's own store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::audit::CONTENTS;
use crate::content::Salt;
use crate::name::Component;
use crate::subject::{Queued, Subject};
use crate::version;

/// What is kept beside a record and can be erased: queue subject `nachos.audit.content.<component>`. The component in the subject is
/// the record's, because the server lets nobody else publish there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Who recorded.
    pub component: Component,
    /// The record's id.
    pub record: Uuid,
    /// By the name of the field in the record's `data`.
    pub parts: BTreeMap<String, Part>,
}

/// What is kept beside a record about one of its texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The salt of the digest in the record.
    pub salt: Salt,
    /// The text, or what the setting `content` leaves of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// True if `text` is not the whole text as it was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

impl Queued for Kept {
    const STREAM: &'static str = CONTENTS;

    fn subject(&self) -> Subject {
        Subject::new(format!("nachos.audit.content.{}", self.component))
    }
}

/// Takes what is kept beside a record out of its JSON: the record that is left holds digests and sizes.
pub fn detach(record: &mut Value) -> BTreeMap<String, Part> {
    let mut parts = BTreeMap::new();
    let fields = record.get_mut("data").and_then(Value::as_object_mut);
    for (name, content) in fields.into_iter().flatten() {
        let Some(content) = content.as_object_mut().filter(|content| content.contains_key("salt")) else { continue };
        let part: Map<String, Value> =
            ["salt", "text", "redacted"].into_iter().filter_map(|key| content.remove_entry(key)).collect();
        if let Ok(part) = serde_json::from_value(Value::Object(part)) {
            parts.insert(name.clone(), part);
        }
    }
    parts
}

/// Puts what is kept beside a record back into its JSON, without the salts: for people, who look at texts.
pub fn attach(record: &mut Value, parts: &BTreeMap<String, Part>) {
    for (name, part) in parts {
        let content = record.get_mut("data").and_then(|data| data.get_mut(name)).and_then(Value::as_object_mut);
        let Some(content) = content else { continue };
        if let Some(text) = &part.text {
            content.insert("text".to_owned(), text.clone().into());
        }
        if part.redacted {
            content.insert("redacted".to_owned(), true.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::audit::Fact;
    use crate::content::{Content, ContentMode};

    #[test]
    fn texts_are_taken_out_and_put_back() {
        let text = Content::of_text("hello", ContentMode::Full);
        let fact = Fact::MessageReceived { event: "e".into(), conversation: "c".into(), text: text.clone() };
        let mut record = json!({"id": "i"});
        record.as_object_mut().unwrap().extend(serde_json::to_value(&fact).unwrap().as_object().unwrap().clone());
        let parts = detach(&mut record);
        assert_eq!(record["data"]["text"], json!({"digest": text.digest, "bytes": 5}));
        assert_eq!(parts["text"].text.as_deref(), Some("hello"));
        assert_eq!(parts["text"].salt.digest("hello"), text.digest);
        attach(&mut record, &parts);
        assert_eq!(record["data"]["text"], json!({"digest": text.digest, "bytes": 5, "text": "hello"}));
        assert_eq!(detach(&mut record), BTreeMap::new(), "what has no salt is not taken out");
    }
}
