//! Verifying the record in the bus by reading it there, with the public key that this identity was given and the archives it sees.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bus::Bus;
use futures_util::{StreamExt as _, pin_mut};
use ledger::leaf;
use ledger::pack::{self, Entry};
use ledger::tree::Frontier;
use ledger::verify::{Report, Verifier};
use proto::audit::{CHECKPOINTS, STREAM};
use proto::keys::PublicKey;

use super::files;
use super::streams::StreamPlan;

/// What a verification starts from.
pub(super) struct Proof {
    /// The checkpoint key of this stack.
    pub(super) key: PublicKey,
    trusted: Vec<PublicKey>,
    archive: PathBuf,
}

impl Proof {
    pub(super) fn load(plan: &StreamPlan) -> anyhow::Result<Self> {
        let path = plan.keys.join("checkpoint.pub");
        let text =
            files::read(&path)?.with_context(|| format!("{} is missing: ./nachos up provisions it", path.display()))?;
        let key = PublicKey::try_from(text).with_context(|| format!("{} is not readable", path.display()))?;
        Ok(Self { key, trusted: vec![key], archive: plan.archive.clone() })
    }

    pub(super) fn also_trust(&mut self, key: &str) -> anyhow::Result<()> {
        self.trusted.push(PublicKey::try_from(key.to_owned()).context("the backup's key")?);
        Ok(())
    }

    /// The keys that are trusted.
    pub(super) fn keys(&self) -> &[PublicKey] {
        &self.trusted
    }

    /// The archive files, oldest first: their names begin with the number of their first record.
    pub(super) fn archives(&self) -> anyhow::Result<Vec<PathBuf>> {
        archives_in(&self.archive)
    }
}

/// Reads the whole stream and every checkpoint in the bus.
pub(super) async fn verify(bus: &Bus, proof: &Proof) -> anyhow::Result<Report> {
    let mut verifier = Verifier::new(proof.trusted.clone(), Vec::new());
    let (records, notes) = (bus.stream_state(STREAM).await?, bus.stream_state(CHECKPOINTS).await?);
    if records.first_seq > 1 && records.messages > 0 {
        verifier.start_at(tree_before(proof, records.first_seq)?);
    }
    let found = bus.look_up_all(CHECKPOINTS, notes.first_seq..=notes.last_seq);
    pin_mut!(found);
    while let Some(note) = found.next().await {
        if let (_, Some(note)) = note? {
            verifier.checkpoint(&String::from_utf8_lossy(note.body.as_bytes()), ledger::verify::STREAM);
        }
    }
    let found = bus.look_up_all(STREAM, records.first_seq..=records.last_seq);
    pin_mut!(found);
    while let Some(record) = found.next().await {
        match record? {
            (_, Some(record)) => verifier.record(&record),
            (seq, None) => verifier.missing(seq),
        }
    }
    Ok(verifier.finish())
}

/// The tree over everything that is only in the archive: the file that holds the record before `first` leads to it.
fn tree_before(proof: &Proof, first: u64) -> anyhow::Result<Frontier> {
    for path in proof.archives()? {
        let mut file =
            pack::Reader::open(BufReader::new(File::open(&path)?)).with_context(|| path.display().to_string())?;
        let (begin, end) = (file.manifest().first, file.manifest().last);
        if !(begin..=end + 1).contains(&first) {
            continue;
        }
        let tree = Frontier::resume(begin - 1, &file.manifest().frontier);
        let mut tree = tree.with_context(|| format!("{} does not say what is before it", path.display()))?;
        while tree.size() + 1 < first {
            match file.next_entry()? {
                Some(Entry::Record { record, .. }) => tree.push(leaf::hash(&record)),
                Some(Entry::Missing(seq)) => tree.push(leaf::missing(seq)),
                None => bail!("{} is shorter than it says", path.display()),
            }
        }
        return Ok(tree);
    }
    bail!("records before {first} are in no archive file in {}: put the files back", proof.archive.display())
}

/// A report with problems is an error that names the first ones.
pub(super) fn must_hold(report: &Report, consequence: &str) -> anyhow::Result<()> {
    if report.ok() {
        return Ok(());
    }
    let first: Vec<&str> = report.problems.iter().take(3).map(|problem| problem.what.as_str()).collect();
    bail!(
        "the record does not verify; {consequence}. {} problems, the first: {}",
        report.problems_total,
        first.join("; ")
    )
}

fn archives_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("audit-") && name.ends_with(".tar.zst") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
