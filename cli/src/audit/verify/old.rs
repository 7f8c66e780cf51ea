//! What stood before the first record of a stream that was shortened: read from the archive where that is at hand, else only its hashes.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use bus::Bus;
use ledger::pack::{self, Entry};
use ledger::tree::Frontier;
use ledger::verify::Verifier;
use proto::seal::FrontierRequest;

use super::super::ask::ask;
use super::super::progress::Progress;
use super::super::trust::Trust;
use super::Places;
use super::verdict::{Finding, Verdict};
use crate::failure::Failure;

/// Brings the verifier to the first record of the stream.
pub(super) async fn begin(
    bus: &Bus,
    trust: &Trust,
    places: &Places,
    first: u64,
    verifier: &mut Verifier,
    verdict: &mut Verdict,
) -> Result<(), Failure> {
    let files = archive_files(places, verdict);
    let next = archived(&files, trust, first, verifier, verdict);
    if next == first {
        return Ok(());
    }
    if !files.is_empty() && next < first {
        let what = format!("records {next} to {} are neither in the stream nor in the archive", first - 1);
        verdict.problems.push(Finding::new(Some(next), "deleted", what));
    }
    let size = first - 1;
    let frontier = ask(bus, &FrontierRequest { v: proto::VERSION, size }).await?;
    match Frontier::resume(size, &frontier.hashes) {
        Some(frontier) => verifier.start_at(frontier),
        None => {
            verdict.problems.push(Finding::new(None, "tree", "the audit service gave no hashes of what was dropped"))
        }
    }
    verdict.notes.push(format!(
        "records 1 to {size} are no longer in the stream and were checked by their hashes only; --archive DIR checks them whole"
    ));
    Ok(())
}

/// The files, oldest first: their names begin with the number of their first record.
fn archive_files(places: &Places, verdict: &mut Verdict) -> Vec<PathBuf> {
    let Some((folder, named)) = &places.archive else { return Vec::new() };
    match list(folder) {
        Ok(files) => files,
        Err(_) if !named => Vec::new(),
        Err(error) => {
            let what = format!("the archive is not readable: {}: {error}", folder.display());
            verdict.problems.push(Finding::new(None, "archive", what));
            Vec::new()
        }
    }
}

fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".tar.zst")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Verifies each file by itself, and hands on the records that the stream no longer has; the number of the first that was not handed on.
fn archived(files: &[PathBuf], trust: &Trust, first: u64, verifier: &mut Verifier, verdict: &mut Verdict) -> u64 {
    let shown = Progress::bar("verifying the archive", files.len() as u64);
    let mut next = 1;
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Err(error) = one(path, &name, trust, verdict) {
            verdict.problems.push(Finding::new(None, "archive", format!("the archive file {name}: {error:#}")));
            continue;
        }
        if let Err(error) = hand_on(path, first, &mut next, verifier) {
            verdict.problems.push(Finding::new(Some(next), "archive", format!("the archive file {name}: {error:#}")));
        }
        shown.done(1);
    }
    if !files.is_empty() {
        verdict.notes.push(format!("{} archive files verified", files.len()));
    }
    next
}

fn one(path: &Path, name: &str, trust: &Trust, verdict: &mut Verdict) -> anyhow::Result<()> {
    let report = pack::verify(BufReader::new(File::open(path)?), &trust.keys, &trust.witnesses, &[])?;
    for problem in report.problems {
        let what = format!("the archive file {name}: {}", problem.what);
        verdict.problems.push(Finding::new(problem.seq, "archive", what));
    }
    Ok(())
}

fn hand_on(path: &Path, first: u64, next: &mut u64, verifier: &mut Verifier) -> anyhow::Result<()> {
    let mut reader = pack::Reader::open(BufReader::new(File::open(path)?))?;
    while let Some(entry) = reader.next_entry()? {
        let seq = match &entry {
            Entry::Record { record, .. } => record.seq,
            Entry::Missing(seq) => *seq,
        };
        // The archive is ahead of what was dropped, and files may overlap.
        if seq != *next || seq >= first {
            continue;
        }
        match &entry {
            Entry::Record { record, .. } => verifier.record(record),
            Entry::Missing(seq) => verifier.missing(*seq),
        }
        *next += 1;
    }
    Ok(())
}
