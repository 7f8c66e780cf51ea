//! A file alone: an export, an archive file or a bundle, with nothing but the public key.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use ledger::verify::SECOND_STORE;
use ledger::{bundle, pack};
use proto::seal::Bundle;

use super::super::output::STANDARD;
use super::super::progress::Progress;
use super::super::trust::Trust;
use super::live::{adopt, time};
use super::store::Store;
use super::verdict::{Finding, Verdict};
use crate::failure::Failure;

/// Largest bundle that is read: a record, some dozens of hashes and a note, with room to spare.
const MAX_BUNDLE: u64 = 16 << 20;

/// Verifies an export or an archive file, and that it does not contradict checkpoints from elsewhere, if there are any.
pub(super) fn verify_pack(path: &Path, trust: &Trust, elsewhere: Option<&Path>) -> Result<Verdict, Failure> {
    let mut verdict = Verdict { subject: name(path), ..Verdict::default() };
    let store = elsewhere.map(Store::read).transpose()?.unwrap_or_default();
    let notes = store.notes.into_iter().chain(store.witnessed);
    let more: Vec<_> = notes.map(|note| (SECOND_STORE.to_owned(), note)).collect();
    verdict.second_store = elsewhere.map(|path| format!("{} checkpoints in {}", more.len(), path.display()));
    let _shown = Progress::spinner("verifying");
    match pack::verify(open(path)?, &trust.keys, &trust.witnesses, &more) {
        Ok(report) => adopt(report, &mut verdict),
        Err(error) => verdict.problems.push(unreadable(path, &format!("{:#}", anyhow::Error::new(error)))),
    }
    Ok(verdict)
}

/// Verifies a bundle.
pub(super) fn verify_bundle(path: &Path, trust: &Trust) -> Result<Verdict, Failure> {
    let mut verdict = Verdict { subject: name(path), ..Verdict::default() };
    let mut text = Vec::new();
    open(path)?.take(MAX_BUNDLE).read_to_end(&mut text)?;
    match serde_json::from_slice::<Bundle>(&text) {
        Ok(bundle) => check(&bundle, trust, &mut verdict),
        Err(error) => verdict.problems.push(unreadable(path, &error.to_string())),
    }
    Ok(verdict)
}

fn check(bundle: &Bundle, trust: &Trust, verdict: &mut Verdict) {
    let seq = bundle.record.seq;
    (verdict.records, verdict.first, verdict.last) = (1, Some(seq), Some(seq));
    (verdict.from, verdict.to) = (time(&bundle.record), time(&bundle.record));
    match bundle::verify(bundle, &trust.keys) {
        Ok(verified) => {
            (verdict.checkpoints, verdict.sealed_upto) = (1, verified.checkpoint.size);
            if !verified.texts.is_empty() {
                verdict.notes.push(format!("the text is the one that was recorded: {}", verified.texts.join(", ")));
            }
            if !verified.unchecked.is_empty() {
                let fields = verified.unchecked.join(", ");
                verdict
                    .notes
                    .push(format!("a preview or nothing of the text is left, nothing can be said about it: {fields}"));
            }
        }
        Err(error) => verdict.problems.push(Finding::new(Some(seq), "bundle", error.to_string())),
    }
}

fn unreadable(path: &Path, why: &str) -> Finding {
    Finding::new(None, "file", format!("{} is not what it should be: {why}", name(path)))
}

fn name(path: &Path) -> String {
    if path == Path::new(STANDARD) { "standard input".to_owned() } else { path.display().to_string() }
}

fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path == Path::new(STANDARD) {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path);
    let file = file
        .map_err(|error| Failure::from(anyhow::Error::new(error)).context(format!("cannot open {}", path.display())))?;
    Ok(Box::new(BufReader::new(file)))
}
