//! Answering: every call in its own task, within its deadline, and only to the inbox of its caller.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use proto::audit::{Fact, Scope};
use proto::links::QUEUE;
use proto::subject::{Request, StreamRequest, Subject};
use proto::trace::Trace;
use proto::{Component, Refusal, RefusalCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, interval_at, timeout_at};

use crate::connection::Bus;
use crate::discovery::EndpointStats;
use crate::error::{BusError, CallError};
use crate::request::to_json;
use crate::wire::{self, ALIVE, SEQ};

/// Calls that one endpoint answers at the same time. Beyond it callers are told to come back instead of piling up.
const MAX_CALLS: usize = 1024;

/// How often the server of a stream says that it is still at it. A model may be silent for minutes; a server that was killed is found
/// out by the absence of this within [`crate::request::GONE`].
pub(crate) const PULSE: Duration = Duration::from_secs(2);

/// A call as its handler sees it.
#[derive(Debug)]
pub struct Call<R> {
    /// What is asked.
    pub body: R,
    /// Who asks, where the subject names the caller: the server lets nobody else say it.
    pub caller: Option<Component>,
    /// The trace that it belongs to.
    pub trace: Trace,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

impl Bus {
    /// Serves one kind of request, sharing the work with other replicas. Returns when calls get through.
    ///
    /// # Errors
    /// [`BusError::Denied`] when the server does not permit it.
    pub async fn serve<R, H, A>(&self, handler: H) -> Result<(), BusError>
    where
        R: Request,
        H: Fn(Call<R>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<R::Reply, Refusal>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.serve_subject(R::ENDPOINT, R::served_by(self.component()), move |bus, incoming| {
            let handler = Arc::clone(&handler);
            async move {
                let (call, reply) = incoming.open::<R>()?;
                let deadline = call.deadline;
                let answer = timeout_at(deadline, handler(call)).await.map_err(|_| too_late())??;
                let body = to_json(&answer).map_err(|error| Refusal::new(RefusalCode::Internal, error))?;
                bus.answer(reply, HeaderMap::new(), body).await
            }
        })
        .await
    }

    /// Serves one kind of request with a stream of chunks. Returns when calls get through.
    ///
    /// # Errors
    /// [`BusError::Denied`] when the server does not permit it.
    pub async fn serve_stream<R, H, A>(&self, handler: H) -> Result<(), BusError>
    where
        R: StreamRequest,
        H: Fn(Call<R>, Replies<R::Chunk>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.serve_subject(R::ENDPOINT, R::served_by(self.component()), move |bus, incoming| {
            let handler = Arc::clone(&handler);
            async move {
                let (call, reply) = incoming.open::<R>()?;
                let deadline = call.deadline;
                let replies =
                    Replies { bus: bus.clone(), reply: reply.clone(), sent: AtomicU64::new(0), kind: PhantomData };
                let work = timeout_at(deadline, handler(call, replies));
                let outcome = bus.while_alive(&reply, work).await.map_err(|_| too_late()).flatten();
                if let Err(refusal) = &outcome {
                    bus.publish_raw(reply.clone(), Some(wire::refusal_headers(refusal)), Bytes::new()).await;
                }
                bus.publish_raw(reply, None, Bytes::new()).await;
                // The refusal was said already; the outcome is for the statistics.
                outcome.map_err(|refusal| Refusal { reason: String::new(), ..refusal })
            }
        })
        .await
    }

    async fn serve_subject<H, A>(&self, endpoint: &'static str, subject: Subject, handle: H) -> Result<(), BusError>
    where
        H: Fn(Bus, Incoming) -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let watch = self.inner.inbox.expect(subject.as_str(), 1);
        let calls = self
            .inner
            .client
            .queue_subscribe(subject.as_str().to_owned(), QUEUE.to_owned())
            .await
            .map_err(|error| BusError::Broken(error.to_string()))?;
        self.confirm_subscription(watch).await?;
        let stats = self.inner.endpoints.add(endpoint, subject.as_str());
        self.inner.calls.spawn(self.clone().take_calls(subject, calls, stats, handle));
        Ok(())
    }

    async fn take_calls<H, A>(self, subject: Subject, mut calls: Subscriber, stats: Arc<EndpointStats>, handle: H)
    where
        H: Fn(Bus, Incoming) -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let room = Arc::new(Semaphore::new(MAX_CALLS));
        let names_caller = subject.as_str().ends_with(".*");
        loop {
            let message = tokio::select! {
                biased;
                () = self.inner.stopping.cancelled() => break,
                message = calls.next() => match message { Some(message) => message, None => break },
            };
            self.take_call(message, names_caller, &room, &stats, &handle).await;
        }
        // What the server handed to us before it heard that we stop is ours to answer.
        let _ = calls.drain().await;
        while let Some(message) = calls.next().await {
            self.take_call(message, names_caller, &room, &stats, &handle).await;
        }
    }

    async fn take_call<H, A>(
        &self,
        message: Message,
        names_caller: bool,
        room: &Arc<Semaphore>,
        stats: &Arc<EndpointStats>,
        handle: &H,
    ) where
        H: Fn(Bus, Incoming) -> A,
        A: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let caller = if names_caller { last_token(&message) } else { None };
        let Some(reply) = message.reply.as_ref().map(|reply| reply.to_string()) else { return };
        if !is_inbox_of(&reply, caller) || (names_caller && caller.is_none()) {
            self.refuse_to_answer(reply);
            return;
        }
        let Ok(place) = Arc::clone(room).try_acquire_owned() else {
            let busy = Refusal::new(RefusalCode::Busy, format!("{} has too much to do; try again", self.component()));
            self.publish_raw(reply, Some(wire::refusal_headers(&busy)), Bytes::new()).await;
            return;
        };
        let work = handle(self.clone(), Incoming { message, reply: reply.clone(), caller });
        self.inner.calls.spawn(self.clone().run_call(work, reply, place, Arc::clone(stats)));
    }

    async fn run_call(
        self,
        work: impl Future<Output = Result<(), Refusal>> + Send,
        reply: String,
        place: OwnedSemaphorePermit,
        stats: Arc<EndpointStats>,
    ) {
        let started = Instant::now();
        let outcome = work.await;
        if let Err(refusal) = &outcome
            && !refusal.reason.is_empty()
        {
            self.publish_raw(reply, Some(wire::refusal_headers(refusal)), Bytes::new()).await;
        }
        stats.count(started.elapsed(), outcome.err());
        drop(place);
    }

    /// A reply subject that is not the caller's inbox would make us say something, with our rights, where the caller
    /// may not speak (the confused deputy).
    fn refuse_to_answer(&self, reply: String) {
        tracing::warn!(reply, "a caller asked for an answer outside its own inbox");
        let bus = self.clone();
        self.spawn(async move {
            let fact = Fact::ComponentDenied { subject: reply, operation: "reply".to_owned() };
            if let Err(error) = bus.record(None, Scope::default(), fact).await {
                tracing::error!(%error, "the refusal could not be recorded");
            }
        });
    }

    async fn answer(&self, reply: String, headers: HeaderMap, body: Bytes) -> Result<(), Refusal> {
        if let Err(error) = self.check_sendable(body.len()) {
            return Err(Refusal::new(RefusalCode::TooLarge, error));
        }
        let headers = (!headers.is_empty()).then_some(headers);
        self.publish_raw(reply, headers, body).await;
        Ok(())
    }

    /// Waits for `work` and says meanwhile that somebody is at it.
    async fn while_alive<T>(&self, reply: &str, work: impl Future<Output = T>) -> T {
        let mut pulse = interval_at(Instant::now() + PULSE, PULSE);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = pulse.tick() => self.say_alive(reply).await,
            }
        }
    }

    /// Not while disconnected: the client would keep it and say it too late.
    async fn say_alive(&self, reply: &str) {
        if self.is_connected() {
            let mut headers = HeaderMap::new();
            headers.insert(ALIVE, "1");
            self.publish_raw(reply.to_owned(), Some(headers), Bytes::new()).await;
        }
    }

    /// Says something on an inbox; if the connection is gone the caller's own deadline tells it.
    async fn publish_raw(&self, subject: String, headers: Option<HeaderMap>, body: Bytes) {
        let client = &self.inner.client;
        let sent = match headers {
            Some(headers) => client.publish_with_headers(subject, headers, body).await,
            None => client.publish(subject, body).await,
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "an answer could not be sent");
        }
    }
}

fn too_late() -> Refusal {
    Refusal::new(RefusalCode::Deadline, "the answer was not ready when the caller stopped waiting")
}

fn last_token(message: &Message) -> Option<Component> {
    message.subject.as_str().rsplit('.').next()?.parse().ok()
}

fn is_inbox_of(reply: &str, caller: Option<Component>) -> bool {
    let clean = !reply.contains(['*', '>', ' ']);
    clean
        && caller.map_or_else(|| reply.starts_with("_INBOX."), |caller| reply.starts_with(&format!("_INBOX.{caller}.")))
}

/// A call before it is understood.
struct Incoming {
    message: Message,
    reply: String,
    caller: Option<Component>,
}

impl Incoming {
    fn open<R: DeserializeOwned>(self) -> Result<(Call<R>, String), Refusal> {
        let headers = self.message.headers.as_ref();
        let deadline = wire::deadline(headers).ok_or_else(too_late)?;
        let trace = wire::trace(headers).unwrap_or_else(Bus::new_trace);
        let body = serde_json::from_slice(&self.message.payload)
            .map_err(|error| Refusal::new(RefusalCode::Invalid, format!("the request is not understood: {error}")))?;
        Ok((Call { body, caller: self.caller, trace, deadline }, self.reply))
    }
}

/// Where a handler sends its chunks.
pub struct Replies<C> {
    bus: Bus,
    reply: String,
    sent: AtomicU64,
    kind: PhantomData<fn(C)>,
}

impl<C: Serialize> Replies<C> {
    /// Sends the next chunk. Chunks are numbered in the order of the calls; one task sends.
    ///
    /// # Errors
    /// [`BusError`] when the connection is gone or the chunk does not fit a message.
    pub async fn send(&self, chunk: &C) -> Result<(), BusError> {
        let body = to_json(chunk).map_err(|error| BusError::Unsendable(error.to_string()))?;
        self.bus.check_sendable(body.len()).map_err(|error| match error {
            CallError::TooLarge(_) => BusError::Unsendable(error.to_string()),
            error => BusError::Broken(error.to_string()),
        })?;
        let seq = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        let mut headers = HeaderMap::new();
        headers.insert(SEQ, seq.to_string());
        let client = &self.bus.inner.client;
        let sent = client.publish_with_headers(self.reply.clone(), headers, body).await;
        sent.map_err(|error| BusError::Broken(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_inboxes_only() {
        assert!(is_inbox_of("_INBOX.gateway.a.b", Some(Component::Gateway)));
        assert!(is_inbox_of("_INBOX.gateway.a.b", None));
        assert!(!is_inbox_of("_INBOX.cli.a.b", Some(Component::Gateway)));
        assert!(!is_inbox_of("nachos.tool.wasm.request", None));
        assert!(!is_inbox_of("_INBOX.gateway.>", None));
    }
}
