//! Verifying a file by itself: offline, with keys that are trusted from elsewhere.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use proto::keys::PublicKey;
use proto::seal::{Bundle, RawRecord};
use sha2::{Digest as _, Sha256};

use super::{Entry, Kind, PackError, Reader};
use crate::bundle;
use crate::checkpoint::WitnessKey;
use crate::convert::Converter;
use crate::tree::Frontier;
use crate::verify::{ProblemKind, Report, Verifier};

/// Where the checkpoints of a file are from.
const FILE: &str = "the file";

/// Checks everything: digests, tree, checkpoints, rules, texts, and that what was converted is what the records convert to. `more` are
/// checkpoints from elsewhere (where from, note).
///
/// # Errors
/// [`PackError`] if it cannot be read as such a file; whatever is wrong with its records is in the report.
pub fn verify<R: Read>(
    file: R,
    keys: &[PublicKey],
    witnesses: &[WitnessKey],
    more: &[(String, String)],
) -> Result<Report, PackError> {
    let mut reader = Reader::open(file)?;
    let hash = SharedHash::default();
    let mut again = Converter::new(reader.manifest().format, hash.clone()).map_err(broken)?;
    let mut report = match reader.manifest().kind {
        Kind::Range => range(&mut reader, keys, witnesses, more, &mut again)?,
        Kind::Selection => selection(&mut reader, keys, &mut again)?,
    };
    let manifest = reader.manifest().clone();
    if (manifest.first, manifest.last) != (report.first, report.last) && report.records > 0 {
        let what = format!(
            "the manifest says records {} to {}, the file holds {} to {}",
            manifest.first, manifest.last, report.first, report.last
        );
        report.problem(None, ProblemKind::File, what);
    }
    if let (Some(found), Some(again), Some(name)) = (reader.converted()?, again, manifest.format.entry()) {
        again.finish().map_err(broken)?;
        if hash.hex() != found {
            report.problem(None, ProblemKind::File, format!("{name} is not what the records convert to"));
        }
    }
    Ok(report)
}

fn broken(error: anyhow::Error) -> PackError {
    PackError::Broken(format!("{error:#}"))
}

/// Where the records are converted to once more: only its digest is of interest.
#[derive(Clone, Default)]
struct SharedHash(Arc<Mutex<Sha256>>);

impl SharedHash {
    fn hex(&self) -> String {
        hex::encode(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize())
    }
}

impl Write for SharedHash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What converts once more, if anything was converted.
type Again = Option<Converter<SharedHash>>;

fn convert(again: &mut Again, record: &RawRecord) -> Result<(), PackError> {
    again.as_mut().map_or(Ok(()), |again| again.record(record)).map_err(broken)
}

fn range<R: Read>(
    reader: &mut Reader<R>,
    keys: &[PublicKey],
    witnesses: &[WitnessKey],
    more: &[(String, String)],
    again: &mut Again,
) -> Result<Report, PackError> {
    let mut verifier = Verifier::new(keys.to_vec(), witnesses.to_vec());
    let manifest = reader.manifest();
    let before = manifest.first.saturating_sub(1);
    let tree = Frontier::resume(before, &manifest.frontier);
    verifier
        .start_at(tree.ok_or_else(|| PackError::Broken("the hashes before its first record do not fit".to_owned()))?);
    for note in reader.checkpoints() {
        verifier.checkpoint(note, FILE);
    }
    // One from elsewhere that covers more than the file says nothing against it.
    for (store, note) in more {
        verifier.checkpoint_within(note, store, manifest.last);
    }
    let mut texts = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        match entry {
            Entry::Missing(seq) => verifier.missing(seq),
            Entry::Record { record, parts, .. } => {
                texts.extend(bundle::check_parts(&record, &parts).err());
                convert(again, &record)?;
                verifier.record(&record);
            }
        }
    }
    let mut report = verifier.finish();
    texts.iter().for_each(|wrong| report.problem(None, ProblemKind::Altered, wrong.to_string()));
    Ok(report)
}

fn selection<R: Read>(reader: &mut Reader<R>, keys: &[PublicKey], again: &mut Again) -> Result<Report, PackError> {
    let mut report = Report::default();
    let (key, note) = (reader.manifest().key, reader.checkpoints().first().cloned());
    let note = note.ok_or_else(|| PackError::Broken("there is no checkpoint in it".to_owned()))?;
    while let Some(entry) = reader.next_entry()? {
        let Entry::Record { record, proof, parts } = entry else { continue };
        let seq = record.seq;
        convert(again, &record)?;
        report.first = if report.records == 0 { seq } else { report.first };
        if report.records > 0 && seq <= report.last {
            let what = format!("record {seq} comes after record {}", report.last);
            report.problem(Some(seq), ProblemKind::Reordered, what);
        }
        report.last = seq;
        report.records += 1;
        let bundle = Bundle { v: 1, record, proof: proof.unwrap_or_default(), checkpoint: note.clone(), key, parts };
        match bundle::verify(&bundle, keys) {
            Ok(verified) => {
                report.checkpoints = 1;
                report.sealed_upto = verified.checkpoint.size;
                report.root = Some(verified.checkpoint.root);
                report.origin = Some(verified.checkpoint.origin);
            }
            Err(error @ bundle::BundleError::Checkpoint(_)) => {
                report.problem(None, ProblemKind::Checkpoint, error.to_string());
                return Ok(report);
            }
            Err(error) => report.problem(Some(seq), ProblemKind::Altered, error.to_string()),
        }
    }
    if report.records != reader.manifest().records {
        let what =
            format!("the manifest says {} records, the file holds {}", reader.manifest().records, report.records);
        report.problem(None, ProblemKind::File, what);
    }
    report.notes.push("a selection: each record is proven by itself; that none was left out is not".to_owned());
    Ok(report)
}
