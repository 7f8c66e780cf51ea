//! Everything that is in the stream, sealed by a checkpoint that is made for it.

use std::collections::BTreeMap;

use bus::Bus;
use futures_util::{StreamExt as _, pin_mut};
use ledger::checkpoint;
use ledger::pack::Kind;
use proto::audit::{CHECKPOINTS, STREAM};
use proto::seal::{FrontierRequest, SealRequest};

use super::super::ask::ask;
use super::super::progress::Progress;
use super::Order;
use super::contents::Contents;
use super::sink::Sink;
use crate::failure::Failure;

/// Reads the stream into a sink.
pub(super) async fn collect(bus: &Bus, order: &Order) -> Result<Sink, Failure> {
    let seal = ask(bus, &SealRequest { v: proto::VERSION, now: true }).await?;
    let end = order.opened(&seal.checkpoint)?.size;
    let first = bus.stream_state(STREAM).await?.first_seq.max(1);
    let mut about = order.manifest(Kind::Range, first, seal.key);
    if first > 1 {
        about.frontier = ask(bus, &FrontierRequest { v: proto::VERSION, size: first - 1 }).await?.hashes;
    }
    let mut sink = order.sink(about)?;
    for (size, note) in checkpoints(bus, order, &seal.checkpoint).await? {
        if (first..=end).contains(&size) {
            sink.checkpoint(&note)?;
        }
    }
    let mut contents = Contents::new(first, end, order.contents);
    let shown = Progress::bar("exporting", (end + 1).saturating_sub(first));
    let stored = bus.look_up_all(STREAM, first..=end);
    pin_mut!(stored);
    while let Some(found) = stored.next().await {
        let (seq, found) = found?;
        match found {
            Some(record) => sink.record(&record, None, &contents.of(bus, seq).await?)?,
            None => sink.missing(seq)?,
        }
        shown.done(1);
    }
    Ok(sink)
}

/// Those of the stream and the one that was made for the export, by size.
async fn checkpoints(bus: &Bus, order: &Order, newest: &str) -> Result<BTreeMap<u64, String>, Failure> {
    let state = bus.stream_state(CHECKPOINTS).await?;
    let stored = bus.look_up_all(CHECKPOINTS, state.first_seq.max(1)..=state.last_seq);
    pin_mut!(stored);
    let mut notes = BTreeMap::new();
    while let Some(found) = stored.next().await {
        let Some(found) = found?.1 else { continue };
        let note = String::from_utf8_lossy(found.body.as_bytes()).into_owned();
        // One that is not genuine is what `verify` is for; an export is to be verifiable.
        if let Ok(opened) = checkpoint::open(&note, &order.trust.keys, &[]) {
            notes.insert(opened.size, note);
        }
    }
    notes.insert(order.opened(newest)?.size, newest.to_owned());
    Ok(notes)
}
