//! Retention: old records into sealed files, each verified by reading it back. Dropping them from the stream is not this service's right:
//! `provision` does it, after verifying once more.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bus::Bus;
use futures_util::{StreamExt as _, pin_mut};
use jiff::{SignedDuration, Timestamp};
use ledger::checkpoint;
use ledger::pack::{self, Entry, Format, Kind, Manifest, Reader, Writer};
use proto::admin::Condition;
use proto::audit::{CHECKPOINTS, Fact, STREAM, Scope};
use proto::seal::Archived;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::index::Index;
use crate::row::Row;
use crate::seal::Shared;

/// How often it is looked whether something is old enough.
const EVERY: Duration = Duration::from_secs(600);

/// Most checkpoints in a file: the one at its end proves it, the others only narrow down where it was altered.
const MAX_CHECKPOINTS: usize = 2000;

/// From this share of the stream's limit on, in percent, somebody should act.
const NEARLY_FULL: u64 = 80;

/// Settings of retention.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Records older than this are archived; 0 keeps all in the stream for as long as there is room.
    pub max_age_days: u32,
    /// Bytes of the stream over which the oldest records are archived.
    pub max_bytes: u64,
    /// Most records of a file.
    pub segment: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age_days: 0, max_bytes: 1536 << 20, segment: 100_000 }
    }
}

/// What archiving works with.
pub(crate) struct Archiver {
    pub(crate) bus: Bus,
    pub(crate) index: Index,
    pub(crate) sealer: Shared,
    pub(crate) folder: PathBuf,
    pub(crate) retention: Retention,
    /// One run at a time.
    pub(crate) running: Mutex<()>,
}

/// The archive files in a folder, oldest first.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| numbers(path).is_some());
    paths.sort();
    paths
}

/// First and last number, from the name `audit-<first>-<last>.tar.zst`.
pub fn numbers(path: &Path) -> Option<(u64, u64)> {
    let name = path.file_name()?.to_str()?.strip_prefix("audit-")?.strip_suffix(".tar.zst")?;
    let (first, last) = name.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Opens a file.
pub(crate) fn open(path: &Path) -> anyhow::Result<Reader<File>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Reader::open(file).with_context(|| path.display().to_string())
}

/// The next rows of a file; none at its end.
pub(crate) fn next_rows(file: &mut Reader<File>, most: usize) -> anyhow::Result<Option<Vec<Row>>> {
    let mut rows = Vec::new();
    while rows.len() < most {
        match file.next_entry()? {
            Some(Entry::Record { record, .. }) => rows.push(Row::new(&record)),
            Some(Entry::Missing(seq)) => rows.push(Row::missing(seq)),
            None => break,
        }
    }
    Ok((!rows.is_empty()).then_some(rows))
}

impl Archiver {
    /// Archives what the settings say, again and again.
    pub(crate) async fn keep(self: std::sync::Arc<Self>) {
        loop {
            let failed = self.run(None).await.err();
            if let Some(error) = &failed {
                tracing::error!("archiving: {error:#}");
            }
            self.report(failed).await;
            sleep(EVERY).await;
        }
    }

    /// Archives everything stored before `before`, or what the settings say.
    pub(crate) async fn run(&self, before: Option<Timestamp>) -> anyhow::Result<Archived> {
        let _one = self.running.lock().await;
        let first = self.bus.stream_state(STREAM).await.context("cannot ask for the stream")?.first_seq;
        let archived = files(&self.folder).last().and_then(|path| numbers(path)).map_or(0, |(_, last)| last);
        // What the stream does not hold any more was archived: its file may have been moved elsewhere.
        let mut next = (archived + 1).max(first).max(1);
        let upto = match before {
            Some(before) => self.index.last_before(before).await?,
            None => self.due().await?,
        };
        let mut written = Vec::new();
        if next <= upto {
            // The last of it may not be sealed yet.
            self.sealer.lock().await.seal().await?;
        }
        while next <= upto {
            let most = upto.min(next + self.retention.segment.max(1) - 1);
            let notes = self.checkpoints(next, most).await?;
            let Some(last) = notes.keys().next_back().copied() else { break };
            written.push(self.write(next, last, &notes).await?);
            next = last + 1;
        }
        Ok(Archived { files: written, upto: next - 1 })
    }

    /// Up to which number the settings want records archived.
    async fn due(&self) -> anyhow::Result<u64> {
        let state = self.bus.stream_state(STREAM).await.context("cannot ask for the stream")?;
        let mut upto = 0;
        if self.retention.max_age_days > 0 {
            let age = SignedDuration::from_hours(i64::from(self.retention.max_age_days) * 24);
            upto = self.index.last_before(Timestamp::now() - age).await?;
        }
        if state.bytes > self.retention.max_bytes && state.messages > 0 {
            let each = (state.bytes / state.messages).max(1);
            upto = upto.max(state.first_seq + (state.bytes - self.retention.max_bytes) / each);
        }
        Ok(upto.min(state.last_seq))
    }

    /// Our checkpoints over at least `from` and at most `to` records, by size.
    async fn checkpoints(&self, from: u64, to: u64) -> anyhow::Result<BTreeMap<u64, String>> {
        let key = self.sealer.lock().await.key();
        let state = self.bus.stream_state(CHECKPOINTS).await.context("cannot ask for the checkpoints")?;
        let stored = self.bus.look_up_all(CHECKPOINTS, state.first_seq..=state.last_seq);
        pin_mut!(stored);
        let mut notes = BTreeMap::new();
        while let Some(found) = stored.next().await {
            let Some(note) = found.context("cannot read the checkpoints")?.1 else { continue };
            let note = String::from_utf8_lossy(note.body.as_bytes()).into_owned();
            let Ok(found) = checkpoint::open(&note, &[key], &[]) else { continue };
            if (from..=to).contains(&found.size) {
                notes.insert(found.size, note);
            }
            if notes.len() > MAX_CHECKPOINTS {
                notes.pop_first();
            }
        }
        Ok(notes)
    }

    async fn write(&self, first: u64, last: u64, notes: &BTreeMap<u64, String>) -> anyhow::Result<String> {
        let (key, frontier) = {
            let sealer = self.sealer.lock().await;
            (sealer.key(), sealer.tree.frontier(first - 1).context("cannot read the tree")?)
        };
        let about = Manifest {
            version: pack::VERSION,
            kind: Kind::Range,
            first,
            last,
            records: 0,
            frontier,
            key,
            filter: None,
            format: Format::Jsonl,
            created: Timestamp::now(),
            tool: format!("nachos audit {}", env!("CARGO_PKG_VERSION")),
            sha256: BTreeMap::new(),
        };
        let mut writer =
            Writer::new(&self.folder, about).with_context(|| format!("cannot write in {}", self.folder.display()))?;
        notes.values().try_for_each(|note| writer.checkpoint(note))?;
        let records = self.bus.look_up_all(STREAM, first..=last);
        pin_mut!(records);
        while let Some(found) = records.next().await {
            match found.context("cannot read the stream")? {
                (_, Some(record)) => writer.record(&record, None, &BTreeMap::new())?,
                (seq, None) => writer.missing(seq)?,
            }
        }
        let name = format!("audit-{first:012}-{last:012}.tar.zst");
        let (half, whole) = (self.folder.join(format!("{name}.part")), self.folder.join(&name));
        let (_, file) = writer.finish(File::create(&half)?)?;
        file.sync_all()?;
        let digest = self.read_back(&half, key).await?;
        fs::rename(&half, &whole)?;
        File::open(&self.folder)?.sync_all()?;
        let fact = Fact::LogArchived { file: name.clone(), first, last, digest };
        self.bus.record(None, Scope::default(), fact).await.context("cannot record the archive file")?;
        Ok(name)
    }

    /// Verifies what was written as a stranger would; its digest.
    async fn read_back(&self, path: &Path, key: proto::keys::PublicKey) -> anyhow::Result<String> {
        let path = path.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            let report = pack::verify(BufReader::new(File::open(&path)?), &[key], &[], &[])?;
            // A record that was deleted is reported and still archived as that: there is nothing better to keep.
            let worse = report.problems.iter().find(|problem| {
                problem.kind != ledger::verify::ProblemKind::Rule
                    && problem.kind != ledger::verify::ProblemKind::Deleted
                    && problem.kind != ledger::verify::ProblemKind::Time
            });
            if let Some(problem) = worse {
                bail!("the archive file does not verify: {}", problem.what);
            }
            ensure!(report.sealed_upto == report.last, "the archive file does not end at a checkpoint");
            digest_of(&path)
        });
        read.await.context("reading back ended early")?
    }

    async fn report(&self, failed: Option<anyhow::Error>) {
        let Ok(state) = self.bus.stream_state(STREAM).await else { return };
        let percent = state.bytes.saturating_mul(100) / state.max_bytes.max(1);
        let archived = files(&self.folder).last().and_then(|path| numbers(path)).map_or(0, |(_, last)| last);
        let ok = failed.is_none() && percent < NEARLY_FULL;
        let detail = match &failed {
            Some(error) => format!("nothing is archived: {error:#}"),
            None => {
                format!("the stream is {percent} % full; archived up to {archived}, it begins at {}", state.first_seq)
            }
        };
        let hint = (!ok).then(|| {
            "./nachos audit prune archives and drops the oldest records; a full stream stops everything".to_owned()
        });
        self.bus.report(Condition { name: "retention".to_owned(), ok, detail, hint });
    }
}

fn digest_of(path: &Path) -> anyhow::Result<String> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("sha256:{}", hex::encode(hash.finalize()))),
            read => hash.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_tells_what_is_in_it() {
        assert_eq!(numbers(Path::new("/archive/audit-000000000001-000000001000.tar.zst")), Some((1, 1000)));
        for other in ["audit-1-2.tar.zst.part", "audit-x-2.tar.zst", "notes.txt"] {
            assert_eq!(numbers(Path::new(other)), None, "{other}");
        }
    }
}
