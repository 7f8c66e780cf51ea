//! The audit service: reads the stream `AUDIT`, seals it, keeps a query index of it and answers questions about it.
//!
//! The stream is the record; nobody, this service included, holds a right to change or delete in it. What is kept here is
//! * an index in SQLite: one row a record ([`row`]), stored before the delivery is acknowledged ([`intake`]), read by queries and tails
//!   ([`answer`]);
//! * a Merkle tree over the same records in stream order ([`seal`]), whose root is signed again and again: into the stream `CHECKPOINTS`
//!   and into a second store outside the bus ([`store`]);
//! * texts and salts beside the records, where they can be erased ([`contents`]);
//! * sealed files of old records ([`archive`]).
//!
//! Index and tree are rebuilt from the stream and the archive if they are lost. Who published a record is taken from the subject, which
//! the server vouches for, never from the body. Bytes that are no CloudEvent are filed as [`row::UNREADABLE`] and not dropped.
//!
//! Roads not taken: answering from the stream itself (no filters, and every question would read all of it); a broadcast of records to
//! the tails (a slow tail would skip some: here a tail is woken and then reads the index, so it can be slow and still sees all); a tree
//! in SQLite (two thirds of its size would be row headers, and a root would touch as many pages as hashes).

mod answer;
pub mod archive;
pub mod contents;
pub mod index;
mod intake;
pub mod progress;
mod proof;
pub mod row;
mod seal;
pub mod select;
pub mod store;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bus::Bus;
use proto::keys::SigningKey;
use serde::Deserialize;
use tokio::sync::{Mutex, watch as channel};

use crate::archive::{Archiver, Retention};
use crate::contents::Contents;
use crate::index::Index;
use crate::progress::Progress;
use crate::proof::Prover;
use crate::seal::Sealer;
use crate::store::SecondStore;

/// Settings of the audit service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory of index, tree and texts, on a volume of its own.
    pub data: PathBuf,
    /// The key that signs checkpoints, PKCS#8 PEM.
    pub checkpoint_key: PathBuf,
    /// Directory of the second store of checkpoints, on a volume of its own, or mounted from another machine.
    pub checkpoints: PathBuf,
    /// C2SP verifier keys of witnesses. Cosigned notes that somebody puts into `witnessed/` of the second store are then handed out.
    pub witnesses: Vec<String>,
    /// Directory of the archive files, on a volume of its own.
    pub archive: PathBuf,
    /// When records are moved into archive files.
    pub retention: Retention,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "/data".into(),
            checkpoint_key: "/keys/checkpoint.key".into(),
            checkpoints: "/checkpoints".into(),
            witnesses: Vec::new(),
            archive: "/archive".into(),
            retention: Retention::default(),
        }
    }
}

/// Opens what it keeps, starts to read the stream and to answer.
///
/// # Errors
/// Index, tree or key cannot be opened, or the bus does not let us read or answer.
pub fn serve(bus: Bus, config: Config) -> bus::Serving {
    Box::pin(start(bus, config))
}

async fn start(bus: Bus, config: Config) -> anyhow::Result<()> {
    let key = std::fs::read_to_string(&config.checkpoint_key);
    let key = key.with_context(|| format!("cannot read {}", config.checkpoint_key.display()))?;
    let key = SigningKey::from_pem(&key).with_context(|| config.checkpoint_key.display().to_string())?;
    let witnesses = config.witnesses.iter().map(|key| key.parse().with_context(|| format!("the witness `{key}`")));
    let witnesses = witnesses.collect::<anyhow::Result<Vec<_>>>()?.into();
    let index = Index::open(&config.data.join("index.db")).await?;
    let contents = Contents::open(&config.data.join("contents.db")).await?;
    let sealer = Sealer::open(&bus, &config.data, key, SecondStore::new(config.checkpoints)).await?;
    let sealer = Arc::new(Mutex::new(sealer));
    let progress = index.progress().await.context("cannot read the index")?;
    let (publish, follow) = channel::channel(progress.clone());
    intake::start(&bus, index.clone(), (progress, publish), sealer.clone(), config.archive.clone()).await?;
    contents::start(&bus, contents.clone()).await?;
    answer::start(&bus, index.clone(), contents.clone(), follow.clone()).await?;
    let archiver = Archiver {
        bus: bus.clone(),
        index: index.clone(),
        sealer: sealer.clone(),
        folder: config.archive,
        retention: config.retention,
        running: Mutex::new(()),
    };
    let archiver = Arc::new(archiver);
    let prover = Prover {
        bus: bus.clone(),
        index: index.clone(),
        sealer: sealer.clone(),
        contents,
        follow: follow.clone(),
        archiver: archiver.clone(),
        witnesses,
    };
    proof::start(&bus, prover).await?;
    bus.spawn(archiver.keep());
    bus.spawn(seal::keep_time(sealer, index.clone(), follow.clone()));
    bus.spawn(watch::run(bus.clone(), index, follow));
    Ok(())
}

/// How far the index is, as everybody but the writer sees it.
pub(crate) type Follow = channel::Receiver<Progress>;
