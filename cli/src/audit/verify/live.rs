//! The log on the bus, read there message by message: nobody's word is taken for what is in it.

use std::io;

use bus::Bus;
use futures_util::{StreamExt as _, pin_mut};
use ledger::checkpoint;
use ledger::verify::{self, Report, Verifier};
use proto::audit::{CHECKPOINTS, STREAM};
use proto::seal::{RawRecord, SealRequest};
use serde_json::Value;

use super::super::count;
use super::super::progress::Progress;
use super::super::trust::Trust;
use super::pinpoint::{self, Sealed};
use super::store::{self, Store};
use super::verdict::{Finding, Verdict};
use super::{Places, index, old};
use crate::failure::Failure;

/// Verifies everything.
pub(super) async fn verify(bus: &Bus, trust: &Trust, places: &Places) -> Result<Verdict, Failure> {
    let mut verdict = Verdict { subject: "the log on the bus".to_owned(), ..Verdict::default() };
    let mut verifier = Verifier::new(trust.keys.clone(), trust.witnesses.clone());
    // What is stored now shall be sealed now. Whether it is, the records and checkpoints tell; nothing is taken from the answer.
    if let Err(error) = bus.request(Bus::new_trace(), &SealRequest { v: proto::VERSION, now: true }).await {
        verdict.notes.push(format!(
            "the audit service made no checkpoint for this ({error}): the newest records may not be sealed"
        ));
    }
    // Checkpoints before records: whatever they cover is then stored already, however fast it is written.
    let mut known = Known { trust, verifier: &mut verifier, sealed: Sealed::new() };
    checkpoints(bus, places, &mut known, &mut verdict).await?;
    let sealed = known.sealed;
    let state = bus.stream_state(STREAM).await?;
    let (first, last) = (state.first_seq.max(1), state.last_seq);
    old::begin(bus, trust, places, first, &mut verifier, &mut verdict).await?;
    let pruned_to = records(bus, first, last, &mut verifier).await?;
    if first > 1 && pruned_to < first {
        let what =
            format!("records 1 to {} are gone from the stream, and no record says that they were dropped", first - 1);
        verdict.problems.push(Finding::new(Some(pruned_to.max(1)), "deleted", what));
    }
    let mut report = verifier.finish();
    pinpoint::name_it(bus, &sealed, &mut report).await;
    adopt(report, &mut verdict);
    if places.index {
        let compared = index::compare(bus, last).await;
        verdict.index = Some(format!("{} rows compared", compared.upto));
        verdict.problems.extend(compared.wrong);
    }
    Ok(verdict)
}

/// Checkpoints as they become known.
struct Known<'a> {
    trust: &'a Trust,
    verifier: &'a mut Verifier,
    sealed: Sealed,
}

impl Known<'_> {
    fn add(&mut self, note: &str, store: &str) {
        if let Ok(opened) = checkpoint::open(note, &self.trust.keys, &[]) {
            self.sealed.insert(opened.size, opened.root);
        }
        self.verifier.checkpoint(note, store);
    }
}

/// Those of the stream and those of the second store, each for itself and beside each other.
async fn checkpoints(bus: &Bus, places: &Places, known: &mut Known<'_>, verdict: &mut Verdict) -> Result<(), Failure> {
    let in_stream = stream_checkpoints(bus, verdict).await?;
    for (_, note) in &in_stream {
        known.add(note, verify::STREAM);
    }
    let Some((path, named)) = &places.checkpoints else { return Ok(()) };
    let store = match Store::read(path) {
        Ok(store) => store,
        Err(error) if !named && error.kind() == io::ErrorKind::NotFound => {
            verdict.notes.push(format!("no second store of checkpoints: {} is not there", path.display()));
            return Ok(());
        }
        Err(error) => {
            let what = format!("the second store of checkpoints is not readable: {}: {error}", path.display());
            verdict.problems.push(Finding::new(None, "checkpoint", what));
            return Ok(());
        }
    };
    for note in store.notes.iter().chain(&store.witnessed) {
        known.add(note, verify::SECOND_STORE);
    }
    verdict.second_store = Some(format!("{} checkpoints in {}", store.notes.len(), path.display()));
    verdict.notes.extend(store::unpublished(&in_stream, &store.notes));
    if store.broken > 0 {
        verdict.notes.push(format!("{} of the second store cut off", count(store.broken as u64, "line")));
    }
    Ok(())
}

async fn stream_checkpoints(bus: &Bus, verdict: &mut Verdict) -> Result<Vec<(u64, String)>, Failure> {
    let state = bus.stream_state(CHECKPOINTS).await?;
    let stored = bus.look_up_all(CHECKPOINTS, state.first_seq.max(1)..=state.last_seq);
    pin_mut!(stored);
    let mut notes = Vec::new();
    while let Some(found) = stored.next().await {
        let (seq, found) = found?;
        match found {
            Some(found) => notes.push((seq, String::from_utf8_lossy(found.body.as_bytes()).into_owned())),
            None => {
                let what = format!("checkpoint {seq} was deleted from the stream CHECKPOINTS");
                verdict.problems.push(Finding::new(None, "checkpoint", what));
            }
        }
    }
    Ok(notes)
}

/// All records in their order; the number up to which a record says that the stream was shortened.
async fn records(bus: &Bus, first: u64, last: u64, verifier: &mut Verifier) -> Result<u64, Failure> {
    let shown = Progress::bar("verifying", (last + 1).saturating_sub(first));
    let stored = bus.look_up_all(STREAM, first..=last);
    pin_mut!(stored);
    let mut pruned_to = 0;
    while let Some(found) = stored.next().await {
        let (seq, found) = found?;
        match found {
            Some(record) => {
                pruned_to = pruned_to.max(pruned(&record));
                verifier.record(&record);
            }
            None => verifier.missing(seq),
        }
        shown.done(1);
    }
    Ok(pruned_to)
}

/// When it was stored.
pub(super) fn time(record: &RawRecord) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_nanosecond(record.time_ns.into()).ok()
}

/// Where the stream begins since this record, if it says so and is of the identity that may shorten it; else 0.
fn pruned(record: &RawRecord) -> u64 {
    if record.subject != proto::audit::log_subject(proto::Component::Provision).as_str() {
        return 0;
    }
    let body: Value = serde_json::from_slice(record.body.as_bytes()).unwrap_or_default();
    let first = body.pointer("/data/first").and_then(Value::as_u64);
    let said = body.get("type").and_then(Value::as_str) == Some("log.pruned");
    first.filter(|_| said).unwrap_or(0)
}

/// What the verifier found.
pub(super) fn adopt(report: Report, verdict: &mut Verdict) {
    verdict.records = report.records;
    verdict.first = (report.records > 0).then_some(report.first);
    verdict.last = (report.records > 0).then_some(report.last);
    (verdict.from, verdict.to) = (report.from, report.to);
    verdict.checkpoints = report.checkpoints;
    verdict.sealed_upto = report.sealed_upto;
    verdict.notes.extend(report.notes);
    verdict.untold += report.problems_total.saturating_sub(report.problems.len() as u64);
    verdict.witnesses = report.witnesses.iter().map(|(name, at)| format!("{name} at {at}")).collect();
    verdict.rules = format!("{} and {} follow the rules", count(report.runs, "tool run"), count(report.turns, "turn"));
    verdict.problems.extend(report.problems.into_iter().map(Finding::from));
}

#[cfg(test)]
mod tests {
    use proto::seal::Body;

    use super::*;

    #[test]
    fn only_the_one_that_may_shorten_the_stream_is_believed_about_it() {
        let record = |component, body: &str| RawRecord {
            seq: 9,
            time_ns: 0,
            subject: proto::audit::log_subject(component).as_str().to_owned(),
            body: Body::new(body.as_bytes().to_vec()),
        };
        let said = r#"{"type":"log.pruned","data":{"first":61,"files":["a"]}}"#;
        assert_eq!(pruned(&record(proto::Component::Provision, said)), 61);
        assert_eq!(pruned(&record(proto::Component::Gateway, said)), 0);
        assert_eq!(pruned(&record(proto::Component::Provision, "nonsense")), 0);
    }
}
