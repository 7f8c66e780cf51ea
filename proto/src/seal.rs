//! The proof of the record: what the audit service answers about its Merkle tree, and what a verifier needs.
//!
//! Bytes, hashes and rules of the tree are in the crate `ledger`; here is what crosses the bus.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::audit::Part;
use crate::keys::PublicKey;
use crate::name::Component;
use crate::subject::{Request, Subject};
use crate::version;

/// Where signed checkpoints are published.
pub fn checkpoint_subject() -> Subject {
    Subject::new("nachos.audit.checkpoint")
}

/// A record as the stream stores it: exactly what the tree's leaf is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawRecord {
    /// Its number in the stream.
    pub seq: u64,
    /// When the stream stored it, in nanoseconds since 1970.
    pub time_ns: i64,
    /// The subject it was published on.
    pub subject: String,
    /// The stored bytes.
    #[serde(flatten)]
    pub body: Body,
}

/// Bytes in JSON: as text where they are UTF-8, else as base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// UTF-8.
    #[serde(rename = "body")]
    Text(String),
    /// Anything else.
    #[serde(rename = "body_base64")]
    Binary(#[serde(with = "base64_bytes")] Vec<u8>),
}

impl Body {
    /// Of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Binary(error.into_bytes()), Self::Text)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// SHA-256 of a node of the tree (RFC 6962 section 2.1), base64 in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeHash(pub [u8; 32]);

impl From<NodeHash> for String {
    fn from(hash: NodeHash) -> Self {
        STANDARD.encode(hash.0)
    }
}

impl TryFrom<String> for NodeHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = STANDARD.decode(text).map_err(|_| "not base64")?;
        bytes.try_into().map(Self).map_err(|_| "not 32 bytes")
    }
}

/// One record with all that proves it: it verifies on a machine without the stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// The record. Its leaf has the index `seq - 1`.
    pub record: RawRecord,
    /// The inclusion proof (RFC 6962 section 2.1.1), lowest first.
    pub proof: Vec<NodeHash>,
    /// The signed checkpoint that it leads to, a C2SP signed note.
    pub checkpoint: String,
    /// The key that the checkpoint claims to be signed by. A verifier trusts the key it got from elsewhere, not this one.
    pub key: PublicKey,
    /// What is kept beside the record, as far as it is still there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, Part>,
}

/// Which record to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// By its number in the stream.
    Seq(u64),
    /// By its id.
    Id(Uuid),
}

/// Prove a record. Subject `nachos.audit.prove`. Where no checkpoint covers it yet, one is made at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prove {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Which.
    pub which: Which,
}

/// How far is the record sealed? Subject `nachos.audit.seal`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SealRequest {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Make a checkpoint over everything that is stored now, and wait for it.
    #[serde(default)]
    pub now: bool,
}

/// The answer to [`SealRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seal {
    /// Leaves in the tree.
    pub size: u64,
    /// The newest checkpoint, a signed note; empty before the first.
    pub checkpoint: String,
    /// When it was made.
    pub at: Option<Timestamp>,
    /// The key that signs.
    pub key: PublicKey,
    /// The first stream number that is still in the stream; what is before it is in archives.
    pub first: u64,
    /// Archive files, oldest first.
    pub archives: Vec<String>,
    /// What is wrong with the seal, in words; empty if nothing.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// The hashes of the complete subtrees of the first `size` leaves, largest first: what a verifier needs to go on from there. Subject
/// `nachos.audit.frontier`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontierRequest {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Leaves before.
    pub size: u64,
}

/// The answer to [`FrontierRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontierReply {
    /// Largest subtree first.
    pub hashes: Vec<NodeHash>,
}

/// Compare the query index with the tree. Subject `nachos.audit.inspect`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspect {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Rows after this stream number, at most [`MAX_INSPECT`].
    pub after: u64,
}

/// Most rows of one [`Inspect`]: a second of work.
pub const MAX_INSPECT: u64 = 10_000;

/// The answer to [`Inspect`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspected {
    /// Looked at up to this stream number.
    pub upto: u64,
    /// True if that is all.
    pub done: bool,
    /// Rows that are not what was sealed: stream number, and what is wrong.
    pub wrong: Vec<(u64, String)>,
}

/// What is kept beside records, for exports. Subject `nachos.audit.contents`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContentsRequest {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Records after this stream number.
    pub after: u64,
    /// Up to this one.
    pub upto: u64,
}

/// The answer to [`ContentsRequest`]: some, in stream order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    /// By stream number.
    pub items: Vec<(u64, BTreeMap<String, Part>)>,
    /// Everything up to this number was looked at.
    pub upto: u64,
}

/// Whose texts to erase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subjects {
    /// Of everything on behalf of this principal.
    Principal(String),
    /// Of this session.
    Session(String),
    /// Of this turn.
    Turn(Uuid),
    /// Of this record.
    Record(Uuid),
}

impl std::fmt::Display for Subjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Principal(principal) => write!(f, "principal {principal}"),
            Self::Session(session) => write!(f, "session {session}"),
            Self::Turn(turn) => write!(f, "turn {turn}"),
            Self::Record(record) => write!(f, "record {record}"),
        }
    }
}

/// Erase texts and salts kept beside records; the records stay. Subject `nachos.audit.erase`. It is recorded first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Erase {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Whose.
    pub whose: Subjects,
    /// Only of records stored before this.
    #[serde(default)]
    pub before: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// Only count.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to [`Erase`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Records whose texts are gone, or would be.
    pub records: u64,
}

/// Move old records into archive files now. Subject `nachos.audit.archive`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Archive {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Everything stored before this; without it, what the retention settings say.
    #[serde(default)]
    pub before: Option<Timestamp>,
}

/// The answer to [`Archive`]: the files that were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// Their names.
    pub files: Vec<String>,
    /// The last stream number that is archived; 0 if none.
    pub upto: u64,
}

/// A one-time link to the web pages. Subject `nachos.web.login`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginRequest {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// For whom, as the record will name them.
    pub user: String,
}

/// The answer to [`LoginRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginLink {
    /// The whole address, token included.
    pub url: String,
    /// Until when it works, once.
    pub expires: Timestamp,
}

macro_rules! request {
    ($asked:ty => $reply:ty, $endpoint:literal, $subject:literal, $patience:expr) => {
        impl Request for $asked {
            type Reply = $reply;
            const ENDPOINT: &'static str = $endpoint;
            const PATIENCE: Duration = Duration::from_secs($patience);

            fn subject(&self, _: Component) -> Subject {
                Subject::new($subject)
            }

            fn served_by(_: Component) -> Subject {
                Subject::new($subject)
            }
        }
    };
}

request!(Prove => Bundle, "prove", "nachos.audit.prove", 10);
request!(SealRequest => Seal, "seal", "nachos.audit.seal", 30);
request!(FrontierRequest => FrontierReply, "frontier", "nachos.audit.frontier", 10);
request!(Inspect => Inspected, "inspect", "nachos.audit.inspect", 30);
request!(ContentsRequest => Contents, "contents", "nachos.audit.contents", 10);
request!(Erase => Erased, "erase", "nachos.audit.erase", 60);
// An archive run writes files for as long as there is something to write: minutes.
request!(Archive => Archived, "archive", "nachos.audit.archive", 600);
request!(LoginRequest => LoginLink, "login", "nachos.web.login", 5);

mod base64_bytes {
    use base64::Engine as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::STANDARD;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_record_keeps_its_bytes_in_json() {
        for bytes in [&b"{\"a\":1}"[..], b"\xff\xfe", b"", "snow \u{2603} \u{0}".as_bytes()] {
            let record = RawRecord { seq: 1, time_ns: 2, subject: "s".into(), body: Body::new(bytes.to_vec()) };
            let json = serde_json::to_string(&record).unwrap();
            let again: RawRecord = serde_json::from_str(&json).unwrap();
            assert_eq!((again.body.as_bytes(), &again), (bytes, &record), "{json}");
        }
    }
}
