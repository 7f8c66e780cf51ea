//! Sealing: the tree grows with the index, and its root is signed again and again.
//!
//! A checkpoint is made in this order: the leaves are on disk, the note is signed, it is in the second store, it is in the stream. A kill
//! in between leaves either nothing signed, or a note that is in the second store and comes into the stream at the next start. What was
//! signed once binds: a tree that contradicts an own checkpoint is not signed any more.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bus::Bus;
use jiff::Timestamp;
use ledger::checkpoint;
use ledger::tree::TreeFile;
use proto::admin::Condition;
use proto::keys::SigningKey;
use proto::seal::NodeHash;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::index::Index;
use crate::store::SecondStore;

/// Records after which a checkpoint is made at the latest.
pub(crate) const CHECKPOINT_RECORDS: u64 = 1000;

/// Time after which new records are sealed at the latest.
pub(crate) const CHECKPOINT_TIME: Duration = Duration::from_secs(10);

/// Leaves that are read from the index at a time.
const MAX_LEAVES: u32 = 4096;

/// A checkpoint of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) note: String,
    pub(crate) size: u64,
    pub(crate) root: NodeHash,
    pub(crate) at: Option<Timestamp>,
}

/// The tree, the key and what was signed.
pub(crate) struct Sealer {
    pub(crate) tree: TreeFile,
    pub(crate) last: Option<Signed>,
    bus: Bus,
    key: SigningKey,
    store: SecondStore,
    /// The largest checkpoint that was ever signed by this key, as far as known: the tree has to lead to it.
    bound: Option<Signed>,
    /// Why nothing may be signed.
    pub(crate) contradiction: Option<String>,
    unsealed_since: Option<Instant>,
}

/// One sealer, used by the intake, by the clock and by who asks.
pub(crate) type Shared = Arc<Mutex<Sealer>>;

impl Sealer {
    /// Opens the tree and looks up what was signed before.
    pub(crate) async fn open(bus: &Bus, data: &Path, key: SigningKey, store: SecondStore) -> anyhow::Result<Self> {
        let tree = TreeFile::open(&data.join("tree")).context("cannot open the tree")?;
        let mut sealer = Self {
            tree,
            last: None,
            bus: bus.clone(),
            key,
            store,
            bound: None,
            contradiction: None,
            unsealed_since: None,
        };
        sealer.find_last().await?;
        Ok(sealer)
    }

    /// The newest own checkpoint is in the second store, in the stream, or in both. One that did not get into the stream goes there now.
    async fn find_last(&mut self) -> anyhow::Result<()> {
        let published = self.bus.last_checkpoint().await.context("cannot read the newest checkpoint")?;
        let published = published.map(|note| String::from_utf8_lossy(note.body.as_bytes()).into_owned());
        self.report_origin(published.as_deref());
        let published = published.and_then(|note| self.own(&note));
        let stored = self.store.last().and_then(|note| self.own(&note));
        if let Some(stored) =
            stored.as_ref().filter(|stored| published.as_ref().is_none_or(|found| found.size < stored.size))
        {
            let known = self.bus.publish_checkpoint(stored.note.clone()).await;
            known.context("cannot publish the newest checkpoint of the second store")?;
        }
        let newest = [stored, published].into_iter().flatten().max_by_key(|signed| signed.size);
        self.last = newest.clone();
        self.bound = newest;
        // What lies behind the newest checkpoint may not have reached the disk: it is taken from the index again.
        let sure = self.bound.as_ref().map_or(0, |bound| bound.size);
        self.tree.truncate(sure).context("cannot shorten the tree")?;
        self.check_bound()?;
        if self.contradiction.take().is_some() {
            // A damaged file is made anew from the index; if it is the records that differ, that shows again where it was signed.
            tracing::warn!("the tree is damaged and is made anew");
            self.tree.truncate(0).context("cannot shorten the tree")?;
        }
        Ok(())
    }

    fn own(&self, note: &str) -> Option<Signed> {
        let found = checkpoint::open(note, &[self.key.public()], &[]).ok()?;
        Some(Signed { note: note.to_owned(), size: found.size, root: found.root, at: None })
    }

    /// Takes the leaves from the index that are new up to `upto`.
    pub(crate) async fn extend(&mut self, index: &Index, upto: u64) -> anyhow::Result<()> {
        while self.tree.size() < upto {
            let size = self.tree.size();
            // Up to a checkpoint that binds, and then on: the root is compared where it was signed.
            let bound = self.bound.as_ref().map(|bound| bound.size).filter(|bound| *bound > size);
            let stop = bound.map_or(upto, |bound| bound.min(upto));
            let leaves = index.leaves(size, stop, MAX_LEAVES).await.context("cannot read the index")?;
            if leaves.is_empty() {
                return Ok(());
            }
            self.tree.append(&leaves).context("cannot write the tree")?;
            self.check_bound()?;
        }
        if self.unsealed() > 0 {
            self.unsealed_since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn check_bound(&mut self) -> anyhow::Result<()> {
        let Some(bound) = self.bound.as_ref().filter(|bound| bound.size == self.tree.size() && bound.size > 0) else {
            return Ok(());
        };
        if self.tree.root(bound.size).context("cannot read the tree")? != bound.root {
            self.contradiction = Some(format!(
                "the records are not those that were sealed: the tree over {0} records differs from the checkpoint over {0}",
                bound.size
            ));
        }
        Ok(())
    }

    /// Leaves behind the newest checkpoint.
    pub(crate) fn unsealed(&self) -> u64 {
        self.tree.size().saturating_sub(self.last.as_ref().map_or(0, |last| last.size))
    }

    /// Whether it is time for a checkpoint.
    pub(crate) fn is_due(&self, urgent: bool) -> bool {
        let old = self.unsealed_since.is_some_and(|since| since.elapsed() >= CHECKPOINT_TIME);
        self.unsealed() > 0 && (urgent || old || self.unsealed() >= CHECKPOINT_RECORDS)
    }

    /// Signs what the tree holds, unless it contradicts what was signed or nothing is new.
    pub(crate) async fn seal(&mut self) -> anyhow::Result<()> {
        let size = self.tree.size();
        let behind = self.bound.as_ref().is_some_and(|bound| bound.size > size);
        if self.unsealed() == 0 || self.contradiction.is_some() || behind {
            return Ok(());
        }
        // Every note of the second store gets into the stream: one that is only here would look like one that was dropped there.
        self.publish().await?;
        if self.unsealed() == 0 {
            return Ok(());
        }
        self.tree.sync().context("cannot flush the tree")?;
        let root = self.tree.root(size).context("cannot read the tree")?;
        let note = checkpoint::sign(&self.key, size, root)?;
        let at = Timestamp::now();
        self.report_store(self.store.append(at, &note));
        let signed = Signed { note, size, root, at: Some(at) };
        // From here on it binds, whether the stream took it or not.
        self.bound = Some(signed);
        self.publish().await
    }

    /// Brings what was signed last into the stream, if it is not there.
    async fn publish(&mut self) -> anyhow::Result<()> {
        let published = self.last.as_ref().map_or(0, |last| last.size);
        let Some(signed) = self.bound.clone().filter(|bound| bound.size > published) else { return Ok(()) };
        self.bus.publish_checkpoint(signed.note.clone()).await.context("cannot publish a checkpoint")?;
        self.last = Some(signed);
        self.unsealed_since = (self.unsealed() > 0).then(Instant::now);
        Ok(())
    }

    /// The stream is not the one that was read before: nothing more is signed. The first reason stays.
    pub(crate) fn contradict(&mut self, why: String) {
        tracing::error!("the record contradicts what was read before: {why}");
        self.contradiction.get_or_insert(why);
        self.report(None);
    }

    /// The public key.
    pub(crate) fn key(&self) -> proto::keys::PublicKey {
        self.key.public()
    }

    /// The second store.
    pub(crate) fn store(&self) -> &SecondStore {
        &self.store
    }

    fn report_store(&self, written: std::io::Result<()>) {
        let ok = written.is_ok();
        self.bus.report(Condition {
            name: "second store".to_owned(),
            ok,
            detail: written.map_or_else(
                |error| format!("a checkpoint could not be written: {error}"),
                |()| "checkpoints are written".to_owned(),
            ),
            hint: (!ok).then(|| {
                "without it whoever owns the bus's volume could rewrite the record unseen: see docs/AUDIT.md".to_owned()
            }),
        });
    }

    /// A stream whose newest checkpoint is another key's was restored from another stack, or somebody put theirs in.
    fn report_origin(&self, newest: Option<&str>) {
        let foreign = newest.filter(|note| self.own(note).is_none()).and_then(|note| note.lines().next());
        self.bus.report(Condition {
            name: "origin".to_owned(),
            ok: foreign.is_none(),
            detail: foreign.map_or_else(
                || format!("checkpoints are signed as {}", checkpoint::name(&self.key.public())),
                |foreign| format!("the newest checkpoint in the stream is signed as {foreign}, not by this stack's key"),
            ),
            hint: foreign.map(|_| {
                "right after a restore from another stack; otherwise somebody else wrote it: verify with both keys (--key)".to_owned()
            }),
        });
    }

    /// Tells how it is about the seal.
    pub(crate) fn report(&self, failed: Option<&anyhow::Error>) {
        let behind = self.bound.as_ref().filter(|bound| bound.size > self.tree.size());
        let detail = match (&self.contradiction, failed, behind) {
            (Some(contradiction), _, _) => contradiction.clone(),
            (None, Some(error), _) => format!("{error:#}"),
            (None, None, Some(bound)) => {
                format!("a checkpoint covers {} records, {} are there", bound.size, self.tree.size())
            }
            (None, None, None) => format!("{} records sealed", self.last.as_ref().map_or(0, |last| last.size)),
        };
        let ok = self.contradiction.is_none() && failed.is_none() && behind.is_none();
        let hint = (!ok).then(|| {
            "nothing more is sealed until this is settled: run `nachos audit verify`, which names the record".to_owned()
        });
        let condition = Condition { name: "seal".to_owned(), ok, detail, hint };
        if self.contradiction.is_some() { self.bus.report_vital(condition) } else { self.bus.report(condition) }
    }

    /// Extends and seals, if it is due; tells where it fails. What fails is tried again with the next records.
    pub(crate) async fn carry_on(&mut self, index: &Index, upto: u64, urgent: bool) {
        let mut done = self.extend(index, upto).await;
        if done.is_ok() && self.is_due(urgent) {
            done = self.seal().await;
        }
        if let Err(error) = &done {
            tracing::error!("sealing: {error:#}");
        }
        self.report(done.as_ref().err());
    }
}

/// Seals what is old enough although nothing new comes.
pub(crate) async fn keep_time(sealer: Shared, index: Index, follow: crate::Follow) {
    loop {
        sleep(CHECKPOINT_TIME / 10).await;
        let upto = follow.borrow().upto();
        let mut sealer = sealer.lock().await;
        if sealer.unsealed() > 0 || sealer.tree.size() < upto {
            sealer.carry_on(&index, upto, false).await;
        }
    }
}
