//! The proof of the record, without the stack: leaves, tree, checkpoints, the rules that a record must keep, and the files that carry it.
//!
//! What is here is used by whoever verifies: the user's tool, the web pages, the one-shot that drops archived records, and the audit
//! service, which seals by the same code. There is no bus and no clock; the only IO is on files that the caller names.

pub mod bundle;
pub mod checkpoint;
pub mod convert;
pub mod facts;
pub mod leaf;
pub mod ocsf;
pub mod pack;
mod rules;
pub mod table;
pub mod tree;
pub mod verify;

pub use proto::seal::NodeHash;
