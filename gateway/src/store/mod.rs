//! Sessions, turns and their steps on disk. All SQL is in [`sqlite`]; Postgres will be a second module beside it.

use std::collections::BTreeSet;

use proto::Name;
use proto::tool::Taint;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::turn::{Reply, Totals};

mod sqlite;
#[cfg(test)]
mod tests;

pub use sqlite::Store;

/// The store does not work, or holds something that this release cannot read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the database failed while it was to {doing}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("the database's schema could not be brought up to date")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A stored value is not readable. Asking again does not help.
    #[error("the stored {what} is not readable")]
    Corrupt {
        /// Which value.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

/// A message that came, as far as it names its turn.
#[derive(Debug, Clone)]
pub struct Arrival<'a> {
    /// The channel.
    pub channel: &'a Name,
    /// The conversation.
    pub conversation: &'a str,
    /// The channel's id of the event.
    pub event: &'a str,
    /// Its number in the stream: the order of turns.
    pub position: u64,
}

/// A session as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// The id of the record that says that it was opened.
    pub record: Uuid,
    /// Whether it was opened.
    pub opened: bool,
    /// What it has come into contact with.
    pub taint: BTreeSet<Taint>,
}

/// A turn as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTurn {
    /// Its id.
    pub id: Uuid,
    /// Its session.
    pub session: Session,
    /// How far it is.
    pub state: State,
    /// What the person is told, once that is decided.
    pub farewell: Option<Farewell>,
}

/// How far a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Steps may follow.
    Open,
    /// The reply is decided and stored.
    Replied,
    /// The reply is in the outbound queue.
    Published,
    /// The end is recorded.
    Finished,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replied => "replied",
            Self::Published => "published",
            Self::Finished => "finished",
        }
    }

    /// The schema lets no other word in.
    fn read(word: &str) -> Self {
        match word {
            "replied" => Self::Replied,
            "published" => Self::Published,
            "finished" => Self::Finished,
            _ => Self::Open,
        }
    }
}

/// The end of a turn with the ids that make it happen once: stored before anything of it is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Farewell {
    /// Id of the outbound message.
    pub message: Uuid,
    /// Id of the record of the turn's end.
    pub record: Uuid,
    /// What is said.
    pub reply: Reply,
    /// What the turn has used.
    pub totals: Totals,
    /// Whether policy let the message in: only then is it known who wrote it.
    pub admitted: bool,
}
