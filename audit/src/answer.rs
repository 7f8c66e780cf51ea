//! Answers about the record: pages of it, and a tail that misses nothing.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Call, Replies};
use proto::audit::{Filter, MAX_QUERY, Page, Query, StoredRecord, Tail, TailChunk};
use proto::{Refusal, RefusalCode};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::Follow;
use crate::contents::Contents;
use crate::index::Index;
use crate::select::Span;

/// Silence after which a tail says that it is still there; a third of what its caller waits for.
const IDLE: Duration = Duration::from_secs(10);

/// Life of one tail. The bus does not tell that a caller left, so this is how long it holds its place; one that is still there asks
/// again with the last number it saw.
const TAIL_LIFETIME: Duration = Duration::from_secs(60);

/// Most tails at once: each wakes and reads the index on every batch.
const MAX_TAILS: usize = 64;

/// Rows that a tail reads at a time: a page of large records is still only a few megabytes.
const TAIL_PAGE: u32 = 100;

/// Serves `nachos.audit.query` and `nachos.audit.tail`.
pub(crate) async fn start(bus: &Bus, index: Index, contents: Contents, follow: Follow) -> Result<(), BusError> {
    let tails = Arc::new(Semaphore::new(MAX_TAILS));
    let shelf = Shelf { index, contents };
    let (pages, progress) = (shelf.clone(), follow.clone());
    bus.serve(move |call: Call<Query>| {
        let (shelf, progress) = (pages.clone(), progress.borrow().upto());
        async move { query(&shelf, progress, call).await }
    })
    .await?;
    let stopping = bus.clone();
    bus.serve_stream(move |call: Call<Tail>, replies| {
        let (shelf, follow, tails, bus) = (shelf.clone(), follow.clone(), tails.clone(), stopping.clone());
        async move {
            let _place = tails.try_acquire_owned().map_err(|_| too_many())?;
            tokio::select! {
                ended = tail(&shelf, follow, &call.body, &replies) => ended,
                () = sleep(TAIL_LIFETIME) => Ok(()),
                () = bus.stopping() => Ok(()),
            }
        }
    })
    .await
}

/// Records and the texts beside them.
#[derive(Clone)]
struct Shelf {
    index: Index,
    contents: Contents,
}

impl Shelf {
    async fn select(&self, filter: &Filter, span: Span) -> sqlx::Result<Vec<StoredRecord>> {
        let mut records = self.index.select(filter, span).await?;
        self.contents.attach_to(&mut records).await?;
        Ok(records)
    }
}

async fn query(shelf: &Shelf, indexed: u64, call: Call<Query>) -> Result<Page, Refusal> {
    let Query { filter, after, limit, newest, .. } = call.body;
    let limit = limit.clamp(1, MAX_QUERY);
    // One more than asked tells whether there are more.
    let span = Span { after: after.unwrap_or(0), upto: indexed, limit: limit + 1, newest };
    let found = timeout_at(call.deadline, shelf.select(&filter, span)).await.map_err(|_| too_slow())?;
    let mut records = found.map_err(|error| unreadable(&error))?;
    let more = records.len() > limit as usize;
    if more && newest {
        records.remove(0);
    }
    records.truncate(limit as usize);
    Ok(Page { records, indexed, more })
}

/// Sends what is there, waits for more, and so on. It reads the index each time and so can fall behind without missing a record.
async fn tail(shelf: &Shelf, mut follow: Follow, tail: &Tail, replies: &Replies<TailChunk>) -> Result<(), Refusal> {
    let mut seen = tail.after;
    let mut quiet_until = Instant::now() + IDLE;
    loop {
        let upto = follow.borrow_and_update().upto();
        while seen < upto {
            let (records, next) = next_page(shelf, &tail.filter, seen, upto).await?;
            for record in records {
                quiet_until = Instant::now() + IDLE;
                if replies.send(&TailChunk::Record(record)).await.is_err() {
                    return Ok(());
                }
            }
            seen = next;
        }
        // Checked here and not only when the wait runs out: records that do not match end the wait as well.
        if Instant::now() >= quiet_until {
            quiet_until = Instant::now() + IDLE;
            if replies.send(&TailChunk::Idle { seen }).await.is_err() {
                return Ok(());
            }
        }
        if let Ok(Err(_)) = timeout_at(quiet_until, follow.changed()).await {
            return Err(stopping());
        }
    }
}

/// The next records that match, and up to which number that is all of them.
async fn next_page(shelf: &Shelf, filter: &Filter, after: u64, upto: u64) -> Result<(Vec<StoredRecord>, u64), Refusal> {
    let span = Span { after, upto, limit: TAIL_PAGE, newest: false };
    let records = shelf.select(filter, span).await.map_err(|error| unreadable(&error))?;
    let full = records.len() == TAIL_PAGE as usize;
    let last = records.last().map(|record| record.seq);
    Ok((records, last.filter(|_| full).unwrap_or(upto)))
}

fn unreadable(error: &sqlx::Error) -> Refusal {
    tracing::error!(%error, "the index cannot be read");
    Refusal::new(
        RefusalCode::Internal,
        "the audit index cannot be read; `nachos doctor` and `nachos logs audit` say more",
    )
}

fn too_slow() -> Refusal {
    Refusal::new(RefusalCode::Deadline, "the question takes too long: narrow it, for example with --since 1h")
}

fn too_many() -> Refusal {
    Refusal::new(RefusalCode::Busy, format!("{MAX_TAILS} tails are followed already: end one of them"))
}

fn stopping() -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "the audit service stops: ask again in a moment")
}
