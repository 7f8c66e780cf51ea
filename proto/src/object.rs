//! Bodies too large for a message: stored once under an unguessable id, passed on by reference.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::Component;
use crate::subject::Subject;

/// The stream that holds objects. Unlike the audit stream it forgets: see [`OBJECT_LIFETIME_HOURS`].
pub const STREAM: &str = "OBJECTS";

/// Largest object in bytes: one bus message (1 MiB) less room for headers.
pub const MAX_OBJECT: usize = 1_000_000;

/// How long an object is kept: a conversation that goes on the next week can still read it.
pub const OBJECT_LIFETIME_HOURS: u64 = 7 * 24;

/// Where an object is and what it must hash to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Who stored it; the server vouches for it.
    pub owner: Component,
    /// Its id.
    pub id: Uuid,
    /// Size in bytes.
    pub bytes: u64,
    /// `sha256:<hex>`; a reader checks it.
    pub digest: String,
}

impl ObjectRef {
    /// `nachos.object.<owner>.<id>`.
    pub fn subject(&self) -> Subject {
        Subject::new(format!("nachos.object.{}.{}", self.owner, self.id.simple()))
    }
}
