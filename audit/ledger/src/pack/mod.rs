//! The file that carries records with their proof: exports and archives. A tar, compressed with zstd: `manifest.json`,
//! `checkpoints.jsonl`, `records.jsonl`, and in an export the same records converted.
//!
//! It is written and read piece by piece and never held in memory as a whole. A reader believes nothing in it but what leads to a
//! checkpoint signed by a key that it trusts from elsewhere, and takes no path from it: names are compared, not opened.

mod read;
mod verify;
mod write;

use std::collections::BTreeMap;

use jiff::Timestamp;
use proto::audit::Part;
use proto::keys::PublicKey;
use proto::seal::{Body, NodeHash, RawRecord};
use serde::{Deserialize, Serialize};

pub use read::Reader;
pub use verify::verify;
pub use write::Writer;

/// The format that this release writes.
pub const VERSION: u32 = 1;

/// Names of the entries, in their order.
const MANIFEST: &str = "manifest.json";
const CHECKPOINTS: &str = "checkpoints.jsonl";
const RECORDS: &str = "records.jsonl";

/// Whether all records of a stretch are in it, or some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Every record from the first to the last: they lead to the checkpoints together.
    Range,
    /// Some records, each with its own inclusion proof.
    Selection,
}

/// What the records were converted to, beside their own form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Nothing else.
    Jsonl,
    /// OCSF events, one a line.
    Ocsf,
    /// A table as CSV (RFC 4180).
    Csv,
    /// The same table as Apache Parquet.
    Parquet,
}

impl Format {
    /// The entry that holds the converted records.
    pub fn entry(self) -> Option<&'static str> {
        match self {
            Self::Jsonl => None,
            Self::Ocsf => Some("records.ocsf.jsonl"),
            Self::Csv => Some("records.csv"),
            Self::Parquet => Some("records.parquet"),
        }
    }
}

/// What a file is. Nothing in it is believed for being there: it says what to check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Whether it is whole.
    pub kind: Kind,
    /// The first record's number.
    pub first: u64,
    /// The last record's.
    pub last: u64,
    /// How many.
    pub records: u64,
    /// Roots of the subtrees before the first record, largest first; of a range only.
    #[serde(default)]
    pub frontier: Vec<NodeHash>,
    /// The key that seals this log, as who wrote the file knows it.
    pub key: PublicKey,
    /// The filter of a selection, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// What the records were converted to.
    pub format: Format,
    /// When it was written.
    pub created: Timestamp,
    /// By which program.
    pub tool: String,
    /// SHA-256 of every other entry, in hex.
    #[serde(default)]
    pub sha256: BTreeMap<String, String>,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It is cut off, or not such a file.
    #[error("it is cut off, altered or no export of an audit log: {0}")]
    Broken(String),
    /// It was written by a newer release.
    #[error("it has format {0}; this release reads {VERSION}")]
    Newer(u32),
}

impl From<std::io::Error> for PackError {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A line of `records.jsonl`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Line {
    #[serde(default, skip_serializing_if = "is_zero")]
    seq: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    time_ns: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Vec<NodeHash>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    parts: BTreeMap<String, Part>,
    /// Instead of everything else: the number of a record that the stream does not hold any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing: Option<u64>,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// What a line of `records.jsonl` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A record.
    Record {
        /// As the stream stored it.
        record: RawRecord,
        /// Its inclusion proof, in a selection.
        proof: Option<Vec<NodeHash>>,
        /// Salts and texts beside it.
        parts: BTreeMap<String, Part>,
    },
    /// This number is not in the stream any more.
    Missing(u64),
}

impl Line {
    fn of(record: &RawRecord) -> Self {
        let (body, body_base64) = match &record.body {
            Body::Text(text) => (Some(text.clone()), None),
            Body::Binary(bytes) => {
                (None, Some(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)))
            }
        };
        let RawRecord { seq, time_ns, subject, .. } = record.clone();
        Self { seq, time_ns, subject, body, body_base64, ..Self::default() }
    }

    fn entry(self) -> Result<Entry, PackError> {
        if let Some(seq) = self.missing {
            return Ok(Entry::Missing(seq));
        }
        let body = match (self.body, self.body_base64) {
            (Some(text), None) => Body::Text(text),
            (None, Some(text)) => Body::Binary(
                base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text)
                    .map_err(|error| PackError::Broken(format!("record {}: {error}", self.seq)))?,
            ),
            _ => return Err(PackError::Broken(format!("record {} has no body", self.seq))),
        };
        let record = RawRecord { seq: self.seq, time_ns: self.time_ns, subject: self.subject, body };
        Ok(Entry::Record { record, proof: self.proof, parts: self.parts })
    }
}

#[derive(Serialize, Deserialize)]
struct Note {
    note: String,
}

#[cfg(test)]
mod tests;
