//! A copy of the record as one file, and the way back: both streams of the proof in the server's own form, with numbers and times, so
//! that what was sealed verifies after it was restored.
//!
//! The file is a tar: `AUDIT.json` (settings and state), `AUDIT/00001`, … (pieces of the copy), the same for `CHECKPOINTS`, and at the
//! end `manifest.json` with the digest of each copy. A file without it was cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use bus::Bus;
use clap::Args;
use proto::audit::{CHECKPOINTS, STREAM};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::proof::{self, Proof};
use super::streams::{self, StreamPlan};

/// The format that this release writes.
const VERSION: u32 = 1;

/// Size of a piece: little enough to hold one in memory, enough that a copy of gigabytes has few.
const PIECE: usize = 4 << 20;

/// Largest description of a stream or of the file that is read.
const MAX_DESCRIPTION: u64 = 1 << 20;

/// The streams of a backup, in the order in which they stand in it: a checkpoint never covers more than the records before it.
const STREAMS: [&str; 2] = [STREAM, CHECKPOINTS];

/// What stands at the end of a backup.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    /// The checkpoint key's public half, as this stack knows it.
    key: String,
    /// SHA-256 of each stream's copy, in hex.
    sha256: BTreeMap<String, String>,
}

/// Where a backup is read from.
#[derive(Debug, Clone, Args)]
pub struct Backup {
    /// The stack.
    #[command(flatten)]
    pub plan: StreamPlan,
    /// The backup.
    #[arg(long, default_value = "/in/backup")]
    pub file: PathBuf,
}

/// Verifies the record and writes a copy of it.
///
/// # Errors
/// A record that does not verify is not copied: nobody would notice until the copy is needed.
pub async fn back_up(plan: &StreamPlan, out: impl Write) -> anyhow::Result<String> {
    let bus = streams::connect(plan).await?;
    let copied = copy_all(&bus, plan, out).await;
    bus.drain().await;
    copied
}

async fn copy_all(bus: &Bus, plan: &StreamPlan, out: impl Write) -> anyhow::Result<String> {
    let proof = Proof::load(plan)?;
    let report = proof::verify(bus, &proof).await?;
    proof::must_hold(&report, "it is not copied")?;
    let mut tar = tar::Builder::new(out);
    let mut manifest = Manifest { version: VERSION, key: String::from(proof.key), sha256: BTreeMap::new() };
    for stream in STREAMS {
        let digest = copy(bus, stream, &mut tar).await?;
        manifest.sha256.insert(stream.to_owned(), digest);
    }
    append(&mut tar, "manifest.json", &serde_json::to_vec_pretty(&manifest)?)?;
    tar.into_inner().and_then(|mut out| out.flush()).context("cannot write the backup")?;
    Ok(format!("{} records verified and copied", report.records))
}

/// The settings come before the pieces, but are known only with the first of them: pieces wait in `Pieces` until then.
async fn copy<W: Write>(bus: &Bus, stream: &str, tar: &mut tar::Builder<W>) -> anyhow::Result<String> {
    let mut pieces = Pieces { tar, stream, number: 0, waiting: Vec::with_capacity(PIECE), hash: Sha256::new() };
    let about =
        bus.back_up(stream, |chunk| pieces.add(chunk)).await.with_context(|| format!("cannot copy {stream}"))?;
    pieces.put().context("cannot write the backup")?;
    let digest = hex::encode(pieces.hash.finalize());
    append(tar, &format!("{stream}.json"), &serde_json::to_vec(&about)?)?;
    Ok(digest)
}

struct Pieces<'a, W: Write> {
    tar: &'a mut tar::Builder<W>,
    stream: &'a str,
    number: u32,
    waiting: Vec<u8>,
    hash: Sha256,
}

impl<W: Write> Pieces<'_, W> {
    fn add(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.hash.update(chunk);
        self.waiting.extend_from_slice(chunk);
        if self.waiting.len() >= PIECE { self.put() } else { Ok(()) }
    }

    fn put(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.number += 1;
        let name = format!("{}/{:05}", self.stream, self.number);
        entry(self.tar, &name, &self.waiting)?;
        self.waiting.clear();
        Ok(())
    }
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, content: &[u8]) -> anyhow::Result<()> {
    entry(tar, name, content).context("cannot write the backup")
}

fn entry<W: Write>(tar: &mut tar::Builder<W>, name: &str, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    tar.append_data(&mut header, name, content)
}

/// Checks a backup, makes the streams from it and verifies what came of it.
///
/// # Errors
/// A backup that is cut off or altered, streams that are there already, or a record that does not verify.
pub async fn restore(from: &Backup) -> anyhow::Result<String> {
    let (manifest, about) = check(&from.file)?;
    streams::wait_until_healthy(&from.plan.monitor).await?;
    let bus = streams::connect(&from.plan).await?;
    let done = restore_all(&bus, from, &manifest, &about).await;
    bus.drain().await;
    done
}

async fn restore_all(
    bus: &Bus,
    from: &Backup,
    manifest: &Manifest,
    about: &BTreeMap<String, Value>,
) -> anyhow::Result<String> {
    for stream in STREAMS {
        let there = bus.stream_settings(stream).await.with_context(|| format!("cannot ask for {stream}"))?;
        ensure!(
            there.is_none(),
            "this stack has a stream {stream} already. A backup goes into an empty stack: \
             ./nachos down --volumes deletes the record that is here"
        );
    }
    for stream in STREAMS {
        let about = about.get(stream).with_context(|| format!("the backup has no {stream}"))?;
        let mut copy = Copy::open(&from.file, stream)?;
        bus.restore(stream, about, &mut copy).await.with_context(|| format!("cannot restore {stream}"))?;
    }
    streams::remember(&from.plan, &BTreeSet::from(STREAMS.map(str::to_owned)))?;
    let mut proof = Proof::load(&from.plan)?;
    let other = manifest.key != String::from(proof.key);
    proof.also_trust(&manifest.key)?;
    let report = proof::verify(bus, &proof).await?;
    proof::must_hold(&report, "it was restored as it is in the backup")?;
    let key = if other { format!("; sealed by another stack's key: {}", manifest.key) } else { String::new() };
    Ok(format!("{} records restored and verified{key}", report.records))
}

/// Reads the whole file once before anything is made from it.
fn check(file: &Path) -> anyhow::Result<(Manifest, BTreeMap<String, Value>)> {
    let mut hashes: BTreeMap<&str, Sha256> = STREAMS.into_iter().map(|stream| (stream, Sha256::new())).collect();
    let (mut about, mut manifest) = (BTreeMap::new(), None);
    let mut tar = tar::Archive::new(open(file)?);
    for entry in tar.entries().context("not a backup")? {
        let mut entry = entry.context("the backup is cut off or no backup")?;
        let name = entry.path().context("not a backup")?.to_string_lossy().into_owned();
        if let Some((stream, _)) = name.split_once('/') {
            let hash =
                hashes.get_mut(stream).with_context(|| format!("the backup holds {name}, which no backup does"))?;
            digest(&mut entry, hash).context("the backup is cut off")?;
        } else if name == "manifest.json" {
            manifest = Some(serde_json::from_slice::<Manifest>(&description(entry)?).context("a bad manifest")?);
        } else if let Some(stream) = name.strip_suffix(".json") {
            about.insert(stream.to_owned(), serde_json::from_slice(&description(entry)?).context("not a backup")?);
        } else {
            bail!("the backup holds {name}, which no backup does");
        }
    }
    let manifest = manifest.context("the backup is cut off: its manifest, which stands at the end, is missing")?;
    ensure!(manifest.version == VERSION, "the backup has format {}, this release reads {VERSION}", manifest.version);
    for (stream, hash) in hashes {
        let found = hex::encode(hash.finalize());
        ensure!(
            manifest.sha256.get(stream) == Some(&found),
            "the backup was altered: {stream} is not what the manifest says"
        );
    }
    Ok((manifest, about))
}

fn digest(from: &mut impl Read, hash: &mut Sha256) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => hash.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

fn open(file: &Path) -> anyhow::Result<File> {
    File::open(file).with_context(|| format!("cannot open {}", file.display()))
}

fn description(entry: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(MAX_DESCRIPTION).read_to_end(&mut bytes).context("the backup is cut off")?;
    Ok(bytes)
}

/// The pieces of one stream, one after the other.
struct Copy {
    places: std::vec::IntoIter<(u64, u64)>,
    now: io::Take<File>,
}

impl Copy {
    fn open(file: &Path, stream: &str) -> anyhow::Result<Self> {
        let mut tar = tar::Archive::new(open(file)?);
        let mut places = Vec::new();
        for entry in tar.entries().context("not a backup")? {
            let entry = entry.context("the backup is cut off")?;
            if entry.path().context("not a backup")?.starts_with(stream) {
                places.push((entry.raw_file_position(), entry.size()));
            }
        }
        Ok(Self { places: places.into_iter(), now: open(file)?.take(0) })
    }
}

impl Read for Copy {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.now.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            let Some((start, size)) = self.places.next() else { return Ok(0) };
            io::Seek::seek(self.now.get_mut(), io::SeekFrom::Start(start))?;
            self.now.set_limit(size);
        }
    }
}
