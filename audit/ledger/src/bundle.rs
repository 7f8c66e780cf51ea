//! One record and all that proves it: checked on a machine that has nothing but the public key.

use std::collections::BTreeMap;

use proto::audit::Part;
use proto::keys::PublicKey;
use proto::seal::{Bundle, RawRecord};
use serde_json::Value;

use crate::checkpoint::{self, Checkpoint, CheckpointError};
use crate::{leaf, tree};

/// Why a bundle proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The checkpoint is not to be believed.
    #[error("the checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The record is not what the tree holds at its place.
    #[error(
        "record {seq} is not in the tree of checkpoint {size}: it, its number, time or subject was altered, or the proof was"
    )]
    NotIncluded {
        /// The record's number.
        seq: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// A text is not the one that was recorded.
    #[error("record {seq}: the text of `{field}` is not the one that was recorded: its salted digest differs")]
    OtherText {
        /// The record's number.
        seq: u64,
        /// The field.
        field: String,
    },
}

/// What a bundle proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The checkpoint that the record is under.
    pub checkpoint: Checkpoint,
    /// Fields whose whole text was checked against the record.
    pub texts: Vec<String>,
    /// Fields whose text is a preview or gone, so that nothing can be said about it.
    pub unchecked: Vec<String>,
}

/// Checks a bundle against keys that the verifier trusts.
///
/// # Errors
/// [`BundleError`]: what is wrong.
pub fn verify(bundle: &Bundle, trusted: &[PublicKey]) -> Result<Verified, BundleError> {
    let checkpoint = checkpoint::open(&bundle.checkpoint, trusted, &[])?;
    let (seq, size) = (bundle.record.seq, checkpoint.size);
    let index = seq.checked_sub(1).ok_or(BundleError::NotIncluded { seq, size })?;
    if !tree::check_inclusion(checkpoint.root, &bundle.proof, index, size, leaf::hash(&bundle.record)) {
        return Err(BundleError::NotIncluded { seq, size });
    }
    let (texts, unchecked) = check_parts(&bundle.record, &bundle.parts)?;
    Ok(Verified { checkpoint, texts, unchecked })
}

/// Checks what is kept beside a record against its digests: the fields whose text is right, and those that nothing can be said about.
///
/// # Errors
/// [`BundleError::OtherText`].
pub fn check_parts(
    record: &RawRecord,
    parts: &BTreeMap<String, Part>,
) -> Result<(Vec<String>, Vec<String>), BundleError> {
    let (mut texts, mut unchecked) = (Vec::new(), Vec::new());
    if parts.is_empty() {
        return Ok((texts, unchecked));
    }
    let digests = digests(record.body.as_bytes());
    for (field, part) in parts {
        match part.text.as_ref().filter(|_| !part.redacted) {
            None => unchecked.push(field.clone()),
            Some(text) if digests.get(field) == Some(&part.salt.digest(text)) => texts.push(field.clone()),
            Some(_) => return Err(BundleError::OtherText { seq: record.seq, field: field.clone() }),
        }
    }
    Ok((texts, unchecked))
}

/// The digests of texts that a record holds, by field.
pub fn digests(record: &[u8]) -> BTreeMap<String, String> {
    let record: Value = serde_json::from_slice(record).unwrap_or_default();
    let fields = record.get("data").and_then(Value::as_object);
    let digest = |(name, value): (&String, &Value)| Some((name.clone(), value.get("digest")?.as_str()?.to_owned()));
    fields.into_iter().flatten().filter_map(digest).collect()
}

#[cfg(test)]
mod tests {
    use proto::content::Salt;
    use proto::keys::SigningKey;
    use proto::seal::{Body, NodeHash};

    use super::*;
    use crate::tree::TreeFile;

    fn bundle(key: &SigningKey) -> (tempfile::TempDir, Bundle) {
        let salt = Salt::random();
        let body = format!(r#"{{"data":{{"text":{{"digest":"{}","bytes":5}}}}}}"#, salt.digest("hello"));
        let record = RawRecord {
            seq: 3,
            time_ns: 9,
            subject: "nachos.audit.log.cli".into(),
            body: Body::new(body.into_bytes()),
        };
        let dir = tempfile::tempdir().unwrap();
        let mut tree = TreeFile::open(&dir.path().join("tree")).unwrap();
        tree.append(&[NodeHash([1; 32]), NodeHash([2; 32]), leaf::hash(&record), NodeHash([4; 32])]).unwrap();
        let parts = BTreeMap::from([("text".into(), Part { salt, text: Some("hello".into()), redacted: false })]);
        let checkpoint = checkpoint::sign(key, 4, tree.root(4).unwrap()).unwrap();
        (dir, Bundle { v: 1, proof: tree.prove(2, 4).unwrap(), record, checkpoint, key: key.public(), parts })
    }

    #[test]
    fn a_bundle_proves_record_and_text_and_nothing_that_was_changed() {
        let key = SigningKey::from_seed([1; 32]);
        let (_dir, bundle) = bundle(&key);
        let trusted = [key.public()];
        assert_eq!(verify(&bundle, &trusted).unwrap().texts, ["text"]);

        let mut other = bundle.clone();
        other.record.time_ns += 1;
        assert!(matches!(verify(&other, &trusted), Err(BundleError::NotIncluded { .. })));
        for seq in [0, 1, 4, u64::MAX] {
            let mut other = bundle.clone();
            other.record.seq = seq;
            assert!(matches!(verify(&other, &trusted), Err(BundleError::NotIncluded { .. })));
        }
        let mut other = bundle.clone();
        other.parts.get_mut("text").unwrap().text = Some("hullo".into());
        assert!(matches!(verify(&other, &trusted), Err(BundleError::OtherText { .. })));
        let mut preview = bundle.clone();
        preview.parts.get_mut("text").unwrap().redacted = true;
        assert_eq!(verify(&preview, &trusted).unwrap().unchecked, ["text"]);
        // The key that a bundle names itself is not trusted for that.
        let stranger = SigningKey::from_seed([2; 32]);
        assert!(matches!(verify(&bundle, &[stranger.public()]), Err(BundleError::Checkpoint(_))));
    }
}
