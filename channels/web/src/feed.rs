//! The live stream of a page (server-sent events): each record once, in order, from the number that the page has seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use bus::{Bus, CallError};
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use proto::audit::{Page, Query};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout};

use crate::App;
use crate::filter::Form;
use crate::page::{seal_line, timeline};
use crate::shown::{lacks_text, without_salts};

/// Streams at once: each asks the index whenever something is recorded.
pub(crate) const MAX_STREAMS: usize = 32;

/// Life of one stream. The browser asks again with the last number it saw; whoever is gone without a word is found out by then.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// A sign of life when there is nothing new, also for proxies in between, which drop what is silent.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Pause after news, so that the records of a moment come as one question.
const GATHER: Duration = Duration::from_millis(60);

/// How often, and how many times, it is looked whether the texts of a young record are there. Where none are kept, lines come this much later.
const MOMENT: Duration = Duration::from_millis(100);

/// See [`MOMENT`].
const MOMENTS: u32 = 6;

/// Records asked for at a time.
const BATCH: u32 = 100;

/// Most records that a page catches up with; one that has missed more begins anew.
const MAX_CATCH_UP: u64 = 500;

/// Longest wait for a browser that takes nothing.
const STUCK: Duration = Duration::from_secs(20);

/// Wait of the browser before it connects again, in milliseconds.
const RETRY: u64 = 1000;

/// One open stream.
struct Feed {
    app: Arc<App>,
    form: Form,
    cookie: String,
    seen: u64,
    behind: u64,
    out: mpsc::Sender<Bytes>,
}

/// Why a stream ends; the browser connects again unless its session is over.
struct Over;

/// The body of the answer. What is written into it comes from a task of its own, whose life does not depend on the reader.
pub(crate) fn open(app: Arc<App>, form: Form, cookie: String, after: u64, place: OwnedSemaphorePermit) -> Body {
    let (out, taken) = mpsc::channel(1);
    let feed = Feed { app: app.clone(), form, cookie, seen: after, behind: 0, out };
    app.bus.spawn(async move {
        let _ended = timeout(LIFETIME, feed.run()).await;
        drop(place);
    });
    Body::from_stream(stream::unfold(taken, |mut taken| async move {
        let piece = taken.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), taken))
    }))
}

impl Feed {
    async fn run(mut self) -> Result<(), Over> {
        self.send(format!("retry: {RETRY}\n\n")).await?;
        let mut news = self.app.news.watch();
        self.beat().await?;
        let mut beat = Instant::now();
        loop {
            self.catch_up().await?;
            let quiet = HEARTBEAT.saturating_sub(beat.elapsed());
            tokio::select! {
                _ = news.changed() => sleep(GATHER).await,
                () = sleep(quiet) => {
                    self.beat().await?;
                    beat = Instant::now();
                }
            }
        }
    }

    /// Sends everything that matches and was not sent yet.
    async fn catch_up(&mut self) -> Result<(), Over> {
        loop {
            // An index that cannot be asked now is asked again with the next news or heartbeat.
            let Ok(page) = self.ask_with_texts().await else { return Ok(()) };
            for record in page.records {
                self.behind += 1;
                let (seq, html) = (record.seq, timeline::row(&without_salts(record)).into_string());
                self.send(event(Some(seq), "record", &html)).await?;
                self.seen = seq;
            }
            if !page.more {
                self.seen = self.seen.max(page.indexed);
                self.behind = 0;
                return Ok(());
            }
            if self.behind >= MAX_CATCH_UP {
                return self.send(event(None, "reload", "")).await.and(Err(Over));
            }
        }
    }

    /// Texts come by a way of their own, a moment after their record: the young ones get that moment.
    async fn ask_with_texts(&self) -> Result<Page, CallError> {
        let mut page = self.ask().await?;
        for _ in 0..MOMENTS {
            let young = Timestamp::now() - SignedDuration::try_from(MOMENT * MOMENTS).unwrap_or_default();
            if !page.records.iter().any(|record| record.stored > young && lacks_text(record)) {
                break;
            }
            sleep(MOMENT).await;
            page = self.ask().await?;
        }
        Ok(page)
    }

    async fn ask(&self) -> Result<Page, CallError> {
        // Times that are counted from now move on while the page is open.
        let filter = self.form.filter(Timestamp::now()).unwrap_or_default();
        let query = Query { v: proto::VERSION, filter, after: Some(self.seen), limit: BATCH, newest: false };
        self.app.bus.request(Bus::new_trace(), &query).await
    }

    /// How far the record is sealed, and with it up to which number everything was sent.
    async fn beat(&mut self) -> Result<(), Over> {
        if self.app.session(&self.cookie).is_none() {
            return self.send(event(None, "over", "")).await.and(Err(Over));
        }
        let line = seal_line(&self.app.proofs.seal(&self.app.bus).await).into_string();
        self.send(event(Some(self.seen), "seal", &line)).await
    }

    async fn send(&self, piece: String) -> Result<(), Over> {
        let sent = timeout(STUCK, self.out.send(Bytes::from(piece))).await;
        sent.map_err(|_| Over)?.map_err(|_| Over)
    }
}

/// One event. A line break in data would end it: each line is a field of its own.
fn event(id: Option<u64>, name: &str, data: &str) -> String {
    let mut out = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    out.push_str(&format!("event: {name}\n"));
    for line in data.split(['\n', '\r']) {
        out.push_str(&format!("data: {line}\n"));
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_an_event_early() {
        assert_eq!(
            event(Some(7), "record", "a\nid: 9\r\n\nb"),
            "id: 7\nevent: record\ndata: a\ndata: id: 9\ndata: \ndata: \ndata: b\n\n"
        );
        assert_eq!(event(None, "over", ""), "event: over\ndata: \n\n");
    }
}
