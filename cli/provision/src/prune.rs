//! Dropping the old end of the record from the stream: only what a sealed archive holds, which is verified here and compared with the
//! stream record by record. The audit service that wrote the archive has no part in it: it could not make anybody forget a record.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use bus::Bus;
use futures_util::{StreamExt as _, pin_mut};
use ledger::pack::{self, Entry};
use proto::Component;
use proto::audit::{CHECKPOINTS, Fact, STREAM, Scope};
use proto::keys::PublicKey;

use super::proof::{Proof, must_hold};
use super::streams::{self, StreamPlan};

/// Checkpoints that stay in their stream: the newest ones, for whoever follows it.
const CHECKPOINTS_KEPT: u64 = 1000;

/// Drops what is archived; tells what was done.
///
/// # Errors
/// An archive that does not verify or is not what the stream holds, or a reader that has not read so far.
pub async fn prune(plan: &StreamPlan) -> anyhow::Result<String> {
    let bus = streams::connect(plan).await?;
    let done = prune_on(&bus, plan).await;
    bus.drain().await;
    done
}

async fn prune_on(bus: &Bus, plan: &StreamPlan) -> anyhow::Result<String> {
    let proof = Proof::load(plan)?;
    let first = bus.stream_state(STREAM).await?.first_seq;
    let mut next = first;
    let mut files = Vec::new();
    for path in proof.archives()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (begin, end) = verified(&path, proof.keys()).with_context(|| format!("the archive file {name}"))?;
        if end < next {
            continue;
        }
        ensure!(begin <= next, "the archive has a gap: {next} to {} are in no file. Nothing was dropped", begin - 1);
        same_as_stream(bus, &path, next, end).await.with_context(|| format!("the archive file {name}"))?;
        next = end + 1;
        files.push(name);
    }
    if next == first {
        return Ok(format!("nothing is archived beyond what was dropped before; the stream begins at {first}"));
    }
    for reader in [Component::Audit, Component::Forwarder] {
        let (acknowledged, ever) = bus.acknowledged(STREAM, reader).await?;
        if ever && acknowledged + 1 < next {
            bail!(
                "{reader} has read up to {acknowledged} only, and {} would be dropped. Nothing was dropped; run it until it is done",
                next - 1
            );
        }
    }
    let fact = Fact::LogPruned { first: next, files: files.clone() };
    bus.record(None, Scope::default(), fact).await.context("cannot record what is to be dropped")?;
    bus.drop_before(STREAM, next).await.context("cannot drop the old records")?;
    let checkpoints = bus.stream_state(CHECKPOINTS).await?;
    let keep_from = checkpoints.last_seq.saturating_sub(CHECKPOINTS_KEPT);
    if keep_from > checkpoints.first_seq {
        bus.drop_before(CHECKPOINTS, keep_from).await.context("cannot drop the old checkpoints")?;
    }
    Ok(format!("records {first} to {} are dropped from the stream; {} hold them, verified", next - 1, files.join(", ")))
}

/// Verifies a file by itself; the numbers of its first and last record.
fn verified(path: &Path, keys: &[PublicKey]) -> anyhow::Result<(u64, u64)> {
    let file = BufReader::new(File::open(path)?);
    let report = pack::verify(file, keys, &[], &[])?;
    must_hold(&report, "nothing was dropped")?;
    Ok((report.first, report.last))
}

/// The seal says that the audit service archived what it sealed; this, that it sealed what is in the stream.
async fn same_as_stream(bus: &Bus, path: &Path, from: u64, to: u64) -> anyhow::Result<()> {
    let mut archived = pack::Reader::open(BufReader::new(File::open(path)?))?;
    let stored = bus.look_up_all(STREAM, from..=to);
    pin_mut!(stored);
    while let Some(found) = stored.next().await {
        let (seq, found) = found?;
        let kept = loop {
            match archived.next_entry()? {
                Some(Entry::Record { record, .. }) if record.seq < seq => {}
                Some(Entry::Missing(gone)) if gone < seq => {}
                Some(Entry::Record { record, .. }) if record.seq == seq => break Some(record),
                _ => break None,
            }
        };
        ensure!(kept == found, "record {seq} of the stream is not what the archive holds. Nothing was dropped");
    }
    Ok(())
}
