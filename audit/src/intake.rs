//! From the stream into the index: batches of deliveries, stored in one transaction and only then acknowledged.

use std::time::Duration;

use anyhow::Context as _;
use bus::{Bus, Deliveries, Delivery};
use futures_util::future::join_all;
use proto::admin::Condition;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::index::Index;
use crate::progress::Progress;
use crate::row::Row;

/// Most records of one transaction. A commit costs a flush to disk; a few hundred share it without holding readers up.
const MAX_BATCH: usize = 256;

/// Pause before a batch is tried again that the index did not take, say because the disk is full.
const RETRY: Duration = Duration::from_secs(1);

/// How often a hole in the stream's numbers is looked at while nothing comes.
const SETTLE: Duration = Duration::from_secs(5);

/// A delivery as the stream hands it out: whatever it says, it is filed.
type Raw = Delivery<Value>;

/// Reads on where the last acknowledgement stood.
///
/// # Errors
/// The bus does not hand out the records.
pub async fn start(
    bus: &Bus,
    index: Index,
    progress: Progress,
    publish: watch::Sender<Progress>,
) -> anyhow::Result<()> {
    let records = bus.records().await.context("cannot read the audit stream")?;
    let (queue, waiting) = mpsc::channel(MAX_BATCH);
    bus.spawn(read(records, queue));
    let intake = Intake { bus: bus.clone(), index, progress, publish };
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
}

impl Intake {
    async fn run(mut self, mut waiting: mpsc::Receiver<Raw>) {
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
        self.progress = self.store(&rows).await;
        self.publish.send_replace(self.progress.clone());
        // What is not acknowledged comes again and changes nothing.
        for error in join_all(batch.iter().map(Delivery::done)).await.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "an acknowledgement was not confirmed");
        }
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
        let Some((first, last)) = self.progress.settle(Instant::now()) else { return };
        tracing::error!(first, last, "records of the stream did not come; going on without them");
        if let Err(error) = self.index.save(&self.progress).await {
            tracing::error!(%error, "the index could not be written");
        }
        self.publish.send_replace(self.progress.clone());
    }
}

fn row(delivery: &Raw) -> Row {
    let component = delivery.component.map_or("unknown", proto::Component::as_str);
    Row::new(delivery.seq, delivery.stored.as_microsecond(), component, &delivery.payload)
}
