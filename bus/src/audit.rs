//! Recording: a fact counts as recorded when the audit stream acknowledged it, after the disk did.
//!
//! The server flushes to disk for every acknowledgement, about a thousand times a second at most. Records of one process
//! that wait at the same time therefore go out as one atomic batch (NATS ADR-50), which costs one flush: group commit.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use proto::admin::Condition;
use proto::audit::{Fact, Kept, MAX_RECORD, Record, STREAM, Scope, detach, log_subject};
use proto::subject::Queued as _;
use proto::trace::Trace;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::connection::Bus;
use crate::error::{CallError, PublishError};
use crate::publish::{Envelope, Stored};

/// Most records of one batch. The server takes a thousand; a hundred already makes the flush cheap.
const MAX_BATCH: usize = 100;

/// Records that may wait. Beyond it recording waits, and with it whatever must be recorded first.
const MAX_WAITING: usize = 4096;

/// Room for headers and framing in a record's message.
const HEADROOM: usize = 1024;

/// Headers of an atomic batch (NATS ADR-50).
const BATCH_ID: &str = "Nats-Batch-Id";
const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// Whether an id was used for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// It was; the record is stored.
    First,
    /// The stream already holds a record with this id.
    AlreadyUsed,
}

/// A record that waits, and who waits for it.
struct Entry {
    envelope: Envelope,
    done: oneshot::Sender<Result<Stored, PublishError>>,
}

/// Where records wait to go out together.
pub(crate) struct Recorder {
    queue: mpsc::Sender<Entry>,
    waiting: Mutex<Option<mpsc::Receiver<Entry>>>,
    /// Whether the last record was taken.
    works: AtomicBool,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        Self { queue, waiting: Mutex::new(Some(waiting)), works: AtomicBool::new(true) }
    }
}

impl Bus {
    /// Records a fact and waits until it is on disk. Returns the record's id.
    ///
    /// # Errors
    /// [`PublishError`]; the fact may then not be taken as recorded.
    pub async fn record(&self, trace: Option<Trace>, scope: Scope, fact: Fact) -> Result<Uuid, PublishError> {
        let id = Uuid::now_v7();
        self.record_as(id, trace, scope, fact).await.map(|()| id)
    }

    /// As [`Bus::record`], with an id that the caller made: random, or others could use it up before.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn record_as(
        &self,
        id: Uuid,
        trace: Option<Trace>,
        scope: Scope,
        fact: Fact,
    ) -> Result<(), PublishError> {
        let (envelope, kept) = self.envelopes(id, id, trace, scope, fact)?;
        let (done, outcome) = oneshot::channel();
        let gone = || PublishError::Unconfirmed(CallError::Disconnected);
        self.inner.recorder.queue.send(Entry { envelope, done }).await.map_err(|_| gone())?;
        let stored = async { outcome.await.map_err(|_| gone())?.map(|_| ()) };
        tokio::try_join!(stored, self.keep(kept)).map(|_| ())
    }

    /// Stores what is kept beside a record. It travels at the same time as the record: a text without its record says nothing, and
    /// nobody acts on a record before both are stored.
    async fn keep(&self, kept: Option<Envelope>) -> Result<(), PublishError> {
        match kept {
            None => Ok(()),
            Some(envelope) => self.noted(self.store_patiently(&envelope).await).map(|_| ()),
        }
    }

    /// Records a fact that may happen once: `once` is its message id, and the stream tells whether it was used before,
    /// by whichever replica. There is one attempt; whatever leaves doubt is an error, never [`Once::First`].
    ///
    /// # Errors
    /// [`PublishError`]; nothing that depends on the record may then be done.
    pub async fn record_once(
        &self,
        once: Uuid,
        trace: Option<Trace>,
        scope: Scope,
        fact: Fact,
    ) -> Result<Once, PublishError> {
        let (envelope, kept) = self.envelopes(Uuid::now_v7(), once, trace, scope, fact)?;
        let once = async { self.noted(self.store_once(&envelope).await) };
        let (stored, ()) = tokio::try_join!(once, self.keep(kept))?;
        Ok(if stored.duplicate { Once::AlreadyUsed } else { Once::First })
    }

    /// The record for the stream, and what is kept beside it where it can be erased.
    fn envelopes(
        &self,
        id: Uuid,
        message_id: Uuid,
        trace: Option<Trace>,
        scope: Scope,
        fact: Fact,
    ) -> Result<(Envelope, Option<Envelope>), PublishError> {
        let unserializable = |error: serde_json::Error| PublishError::Unserializable(error.to_string());
        let record = Record::new(self.component(), id, Timestamp::now(), trace, scope, fact);
        let mut record = serde_json::to_value(&record).map_err(unserializable)?;
        let kept = Kept { v: proto::VERSION, component: self.component(), record: id, parts: detach(&mut record) };
        let body = record.to_string();
        if body.len() > MAX_RECORD - HEADROOM {
            return Err(PublishError::TooLarge(body.len()));
        }
        let envelope = |subject, stream, id: Uuid, body: Vec<u8>| Envelope {
            subject,
            stream,
            id: id.to_string(),
            trace,
            body: Bytes::from(body),
        };
        let beside = if kept.parts.is_empty() {
            None
        } else {
            let body = serde_json::to_vec(&kept).map_err(unserializable)?;
            Some(envelope(kept.subject(), Kept::STREAM, id, body))
        };
        Ok((envelope(log_subject(self.component()), STREAM, message_id, body.into_bytes()), beside))
    }

    /// Starts the task that sends what waits, all at once.
    pub(crate) fn start_recorder(&self) {
        let waiting = self.inner.recorder.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut waiting) = waiting else { return };
        // The task must not keep the bus alive: it ends when the last handle is dropped.
        let inner = std::sync::Arc::downgrade(&self.inner);
        self.spawn_detached(async move {
            let mut batch = Vec::with_capacity(MAX_BATCH);
            while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
                let Some(inner) = inner.upgrade() else { return };
                Bus { inner }.commit(std::mem::take(&mut batch)).await;
            }
        });
    }

    async fn commit(&self, entries: Vec<Entry>) {
        let (envelopes, waiters): (Vec<_>, Vec<_>) =
            entries.into_iter().map(|entry| (entry.envelope, entry.done)).unzip();
        if envelopes.len() > 1 {
            match self.commit_batch(&envelopes).await {
                Ok(stored) => {
                    let stored = self.noted(Ok(stored));
                    return waiters.into_iter().for_each(|done| drop(done.send(stored.clone())));
                }
                // One bad record must not take the others with it, and an unconfirmed batch must be settled: each alone.
                Err(error) => {
                    tracing::debug!(%error, records = envelopes.len(), "the batch was not taken, trying singly")
                }
            }
        }
        for (envelope, done) in envelopes.iter().zip(waiters) {
            drop(done.send(self.noted(self.store_patiently(envelope).await)));
        }
    }

    /// Tells `nachos doctor` when records are no longer taken, and when they are again: without them nothing runs.
    fn noted(&self, outcome: Result<Stored, PublishError>) -> Result<Stored, PublishError> {
        let worked = self.inner.recorder.works.swap(outcome.is_ok(), Ordering::Relaxed);
        if outcome.is_err() || !worked {
            self.report_recording(outcome.as_ref().map(|_| ()));
        }
        outcome
    }

    /// The condition `audit`.
    pub(crate) fn report_recording(&self, outcome: Result<(), &PublishError>) {
        self.report(Condition {
            name: "audit".to_owned(),
            ok: outcome.is_ok(),
            detail: outcome.map_or_else(|error| crate::connection::chain(error), |()| "records are taken".to_owned()),
            hint: outcome.err().map(|_| {
                "nothing runs that cannot be recorded: see docs/audit-log.md, \"When the record is full\", and `./nachos logs bus`".to_owned()
            }),
        });
    }

    /// All or nothing: the server stores the batch when its last message asks for it.
    async fn commit_batch(&self, envelopes: &[Envelope]) -> Result<Stored, PublishError> {
        let batch = Uuid::now_v7().to_string();
        let Some((last, others)) = envelopes.split_last() else {
            return Err(PublishError::Rejected("an empty batch".to_owned()));
        };
        self.check_sendable(0).map_err(PublishError::Unconfirmed)?;
        for (index, envelope) in others.iter().enumerate() {
            let headers = batch_headers(envelope, &batch, index);
            let sent = self
                .inner
                .client
                .publish_with_headers(envelope.subject.as_str().to_owned(), headers, envelope.body.clone())
                .await;
            sent.map_err(|error| PublishError::Unconfirmed(CallError::Broken(error.to_string())))?;
        }
        let mut headers = batch_headers(last, &batch, others.len());
        headers.insert(BATCH_COMMIT, "1");
        self.publish_acked(&last.subject, headers, last.body.clone()).await
    }
}

fn batch_headers(envelope: &Envelope, batch: &str, index: usize) -> async_nats::HeaderMap {
    let mut headers = envelope.headers();
    headers.insert(BATCH_ID, batch);
    headers.insert(BATCH_SEQUENCE, (index + 1).to_string());
    headers
}
