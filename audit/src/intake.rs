//! From the stream into the index and the tree: batches of deliveries, stored in one transaction and only then acknowledged.
//!
//! What does not come is fetched: at the start everything that the index lacks, so that a lost volume is rebuilt from the stream and the
//! archive, and later a number that deliveries skip. Only when the stream itself says that it holds no such record, a row says so.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bus::{Bus, Deliveries, Delivery};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, pin_mut};
use proto::admin::Condition;
use proto::audit::STREAM;
use proto::seal::{Body, RawRecord};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::archive;
use crate::index::Index;
use crate::progress::Progress;
use crate::row::{MISSING, Row};
use crate::seal::Shared;

/// Most records of one transaction. A commit costs a flush to disk; a few hundred share it without holding readers up.
const MAX_BATCH: usize = 256;

/// Pause before a batch is tried again that the index did not take, say because the disk is full.
const RETRY: Duration = Duration::from_secs(1);

/// How often a hole in the stream's numbers is looked at while nothing comes.
const SETTLE: Duration = Duration::from_millis(500);

/// A delivery as the stream hands it out: whatever it says, it is filed.
type Raw = Delivery<Value>;

/// Reads on where the last acknowledgement stood.
///
/// # Errors
/// The bus does not hand out the records.
pub(crate) async fn start(
    bus: &Bus,
    index: Index,
    (progress, publish): (Progress, watch::Sender<Progress>),
    sealer: Shared,
    archive: PathBuf,
) -> anyhow::Result<()> {
    let records = bus.records().await.context("cannot read the audit stream")?;
    let (queue, waiting) = mpsc::channel(MAX_BATCH);
    bus.spawn(read(records, queue));
    let intake = Intake { bus: bus.clone(), index, progress, publish, sealer, archive };
    intake.report(Ok(()));
    bus.spawn(intake.run(waiting));
    Ok(())
}

/// A task of its own, so that the next records travel while a batch is written.
async fn read(mut records: Deliveries<Value>, queue: mpsc::Sender<Raw>) {
    while let Some(delivery) = records.next().await {
        if queue.send(delivery).await.is_err() {
            return;
        }
    }
}

struct Intake {
    bus: Bus,
    index: Index,
    progress: Progress,
    publish: watch::Sender<Progress>,
    sealer: Shared,
    archive: PathBuf,
}

impl Intake {
    async fn run(mut self, mut waiting: mpsc::Receiver<Raw>) {
        while let Err(error) = self.catch_up().await {
            tracing::error!("catching up: {error:#}");
            self.report_lack(&error);
            sleep(RETRY).await;
        }
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            match timeout(SETTLE, waiting.recv_many(&mut batch, MAX_BATCH)).await {
                Ok(0) => return,
                Ok(_) => self.take(std::mem::take(&mut batch)).await,
                Err(_) => {}
            }
            self.settle().await;
        }
    }

    async fn take(&mut self, batch: Vec<Raw>) {
        let rows: Vec<Row> = batch.iter().map(row).collect();
        self.compare(&rows).await;
        self.file(&rows).await;
        // What is not acknowledged comes again and changes nothing.
        for error in join_all(batch.iter().map(Delivery::done)).await.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "an acknowledgement was not confirmed");
        }
    }

    /// A number that comes again has to bring the same record: a stream that was put back to an earlier state uses numbers twice.
    async fn compare(&self, rows: &[Row]) {
        for row in rows.iter().filter(|row| row.seq <= self.progress.upto()) {
            let known = self.index.leaves(row.seq.saturating_sub(1), row.seq, 1).await.unwrap_or_default();
            if known.first().is_some_and(|known| *known != row.leaf) {
                let why = format!(
                    "record {} of the stream is not the one that was read before: was an old copy of the bus's volume put back?",
                    row.seq
                );
                self.sealer.lock().await.contradict(why);
            }
        }
    }

    /// Into the index, for readers to see, and into the tree.
    async fn file(&mut self, rows: &[Row]) {
        self.progress = self.store(rows).await;
        self.publish.send_replace(self.progress.clone());
        let urgent = rows.iter().any(Row::is_urgent);
        self.sealer.lock().await.carry_on(&self.index, self.progress.upto(), urgent).await;
    }

    /// Fetches everything that the index lacks: what the stream dropped from the archive, the rest from the stream.
    async fn catch_up(&mut self) -> anyhow::Result<()> {
        let state = self.bus.stream_state(STREAM).await.context("cannot ask for the stream")?;
        if state.last_seq < self.progress.upto() {
            let why = format!(
                "the stream ends at record {}, and {} were read from it before: was an old copy of the bus's volume put back?",
                state.last_seq,
                self.progress.upto()
            );
            self.sealer.lock().await.contradict(why);
        }
        if self.progress.upto() + 1 < state.first_seq {
            self.read_archive(state.first_seq).await?;
        }
        let (from, to) = (self.progress.upto() + 1, state.last_seq);
        if from <= to {
            self.fetch(from, to).await?;
        }
        self.sealer.lock().await.carry_on(&self.index, self.progress.upto(), false).await;
        Ok(())
    }

    /// Reads the archive files up to the record before `first`.
    async fn read_archive(&mut self, first: u64) -> anyhow::Result<()> {
        for path in archive::files(&self.archive) {
            let Some((_, last)) = archive::numbers(&path) else { continue };
            if last <= self.progress.upto() {
                continue;
            }
            let mut file = archive::open(&path)?;
            while let Some(rows) = archive::next_rows(&mut file, MAX_BATCH)? {
                self.file(&rows).await;
            }
        }
        let upto = self.progress.upto();
        ensure!(
            upto + 1 >= first,
            "records {} to {} are neither in the stream nor in the archive: put the archive files back",
            upto + 1,
            first - 1
        );
        Ok(())
    }

    /// Asks the stream itself for these numbers.
    async fn fetch(&mut self, from: u64, to: u64) -> anyhow::Result<()> {
        let first = self.bus.stream_state(STREAM).await.context("cannot ask for the stream")?.first_seq;
        let found = self.bus.look_up_all(STREAM, from.max(first)..=to).chunks(MAX_BATCH);
        pin_mut!(found);
        while let Some(some) = found.next().await {
            let some: Vec<_> = some.into_iter().collect::<Result<_, _>>().context("cannot read the stream")?;
            let rows =
                some.into_iter().map(|(seq, record)| record.as_ref().map_or_else(|| Row::missing(seq), Row::new));
            let rows: Vec<Row> = rows.collect();
            for row in rows.iter().filter(|row| row.facts.kind == MISSING) {
                tracing::error!(seq = row.seq, "the stream does not hold this record any more");
            }
            self.file(&rows).await;
        }
        Ok(())
    }

    fn report_lack(&self, error: &anyhow::Error) {
        self.bus.report(Condition {
            name: "intake".to_owned(),
            ok: false,
            detail: format!("{error:#}"),
            hint: Some(
                "the index lacks records until this is settled; docs/audit-log.md tells where they are kept".to_owned(),
            ),
        });
    }

    /// Tries until the index takes it: to go on without would leave a hole that nobody sees.
    async fn store(&self, rows: &[Row]) -> Progress {
        loop {
            match self.index.insert(rows, &self.progress).await {
                Ok(progress) => {
                    self.report(Ok(()));
                    return progress;
                }
                Err(error) => {
                    tracing::error!(%error, "the index does not take records");
                    self.report(Err(error));
                }
            }
            sleep(RETRY).await;
        }
    }

    fn report(&self, written: sqlx::Result<()>) {
        let ok = written.is_ok();
        self.bus.report(Condition {
            name: "intake".to_owned(),
            ok,
            detail: written.map_or_else(
                |error| format!("the index does not take records: {error}"),
                |()| "records are indexed".to_owned(),
            ),
            hint: (!ok).then(|| "records are safe in the stream and will be indexed: is the disk full?".to_owned()),
        });
    }

    async fn settle(&mut self) {
        let Some((first, last)) = self.progress.overdue(Instant::now()) else { return };
        tracing::info!(first, last, "asking the stream for records that did not come");
        if let Err(error) = self.fetch(first, last).await {
            tracing::error!("{error:#}");
            self.report_lack(&error);
        }
    }
}

fn row(delivery: &Raw) -> Row {
    let time_ns = i64::try_from(delivery.stored.as_nanosecond()).unwrap_or_default();
    let (seq, subject) = (delivery.seq, delivery.subject.clone());
    Row::new(&RawRecord { seq, time_ns, subject, body: Body::new(delivery.payload.to_vec()) })
}
