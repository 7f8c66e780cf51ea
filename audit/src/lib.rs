//! The audit service: reads the stream `AUDIT`, keeps a query index of it and answers questions about it.
//!
//! The stream is the record; nobody, this service included, holds a right to change or delete in it. What is kept here, in SQLite, is
//! an index: one row a record ([`row`]), stored before the delivery is acknowledged ([`intake`]), read by `nachos.audit.query` and
//! `nachos.audit.tail` ([`answer`]). Who published a record is taken from the subject, which the server vouches for, never from the
//! body. Bytes that are no CloudEvent are filed as [`row::UNREADABLE`] and not dropped.
//!
//! Roads not taken: answering from the stream itself (no filters, and every question would read all of it); a broadcast of records to
//! the tails (a slow tail would skip some: here a tail is woken and then reads the index, so it can be slow and still sees all).
//!
//! Sealing (a Merkle log over the records, and checkpoints signed with `/keys/checkpoint.key` in the stream `CHECKPOINTS`) comes
//! later. It belongs into [`intake`], between storing a batch and acknowledging it: every record passes there, and
//! [`progress::Progress::upto`] is the length of the prefix without holes, which is what a tree can be built over.

mod answer;
pub mod index;
pub mod intake;
pub mod progress;
pub mod row;
pub mod select;
mod watch;

use std::path::PathBuf;

use anyhow::Context as _;
use bus::Bus;
use serde::Deserialize;
use tokio::sync::watch as channel;

use crate::index::Index;
use crate::progress::Progress;

/// Settings of the audit service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory of the index, on a volume of its own.
    pub data: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self { data: "/data".into() }
    }
}

/// Opens the index, starts to read the stream and to answer.
///
/// # Errors
/// The index cannot be opened, or the bus does not let us read or answer.
pub fn serve(bus: Bus, config: Config) -> bus::Serving {
    Box::pin(start(bus, config))
}

async fn start(bus: Bus, config: Config) -> anyhow::Result<()> {
    let index = Index::open(&config.data.join("index.db")).await?;
    let progress = index.progress().await.context("cannot read the index")?;
    let (publish, follow) = channel::channel(progress.clone());
    intake::start(&bus, index.clone(), progress, publish).await?;
    answer::start(&bus, index.clone(), follow.clone()).await?;
    bus.spawn(watch::run(bus.clone(), index, follow));
    Ok(())
}

/// How far the index is, as everybody but the writer sees it.
pub(crate) type Follow = channel::Receiver<Progress>;
