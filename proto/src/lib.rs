//! Everything that crosses the Nachos bus: names, subjects, messages, permits and the one table of who may say what to whom.
//!
//! A type is here if and only if it crosses the bus, in the file named after its subject family, beside its subject. There is no
//! IO, no clock and no NATS client in this crate: times and random ids come in as arguments, so every rule here is a pure function.
//!
//! Bodies are JSON. Every body carries its version in `v` ([`VERSION`]); unknown fields are ignored, so an older reader survives a
//! newer writer.

pub mod admin;
pub mod audit;
pub mod canonical;
pub mod channel;
pub mod content;
mod kept;
pub mod keys;
pub mod links;
pub mod llm;
pub mod name;
pub mod object;
pub mod permit;
pub mod policy;
pub mod refusal;
pub mod seal;
pub mod subject;
pub mod tool;
pub mod trace;

pub use name::{Component, Family, Name};
pub use refusal::{Refusal, RefusalCode};
pub use subject::{Event, Queued, Request, StreamRequest};

/// The version of every body that this release writes in `v`.
pub const VERSION: u32 = 1;

/// Serde default of `v` for bodies that older writers sent without it.
pub(crate) fn version() -> u32 {
    VERSION
}
