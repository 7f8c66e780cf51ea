//! Asking: one answer, or a numbered stream of chunks.

use std::marker::PhantomData;
use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use proto::subject::{Event, Request, StreamRequest, Subject};
use proto::trace::Trace;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use crate::connection::Bus;
use crate::error::{BusError, CallError};
use crate::inbox::{Arrival, Waiting};
use crate::wire::{self, ALIVE, SEQ};

/// Longest total time of a streamed answer: what the server allows as a deadline.
const STREAM_LIFETIME: Duration = wire::MAX_DEADLINE;

/// After so long without chunk or sign of life the server of a stream counts as gone: four times [`crate::serve::PULSE`], for a busy
/// machine. Without it a killed server would be waited for as long as a model may think.
pub(crate) const GONE: Duration = Duration::from_secs(8);

impl Bus {
    /// Asks and waits [`Request::PATIENCE`].
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn request<R: Request>(&self, trace: Trace, request: &R) -> Result<R::Reply, CallError> {
        self.request_within(trace, request, R::PATIENCE).await
    }

    /// Asks and waits at most `patience`. The other side is told when nobody waits any more.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn request_within<R: Request>(
        &self,
        trace: Trace,
        request: &R,
        patience: Duration,
    ) -> Result<R::Reply, CallError> {
        let subject = request.subject(self.component());
        let mut waiting = self.inner.inbox.expect(subject.as_str(), 1);
        self.send_call(&subject, trace, patience, &waiting, to_json(request)?).await?;
        let message = first(&subject, patience, &mut waiting).await?;
        from_json(&message.payload)
    }

    /// Asks for a stream of chunks.
    ///
    /// # Errors
    /// [`CallError`] when nothing could be sent; what happens later is told by [`Chunks::next`].
    pub async fn open<R: StreamRequest>(&self, trace: Trace, request: &R) -> Result<Chunks<R::Chunk>, CallError> {
        let subject = request.subject(self.component());
        let waiting = self.inner.inbox.expect_stream(subject.as_str());
        self.send_call(&subject, trace, STREAM_LIFETIME, &waiting, to_json(request)?).await?;
        Ok(Chunks { subject, waiting, idle: R::IDLE, seen: 0, ended: false, kind: PhantomData })
    }

    async fn send_call(
        &self,
        subject: &Subject,
        trace: Trace,
        patience: Duration,
        waiting: &Waiting,
        body: Bytes,
    ) -> Result<(), CallError> {
        self.check_sendable(body.len())?;
        let headers = wire::call_headers(trace, patience);
        self.inner
            .client
            .publish_with_reply_and_headers(subject.as_str().to_owned(), waiting.reply.clone(), headers, body)
            .await
            .map_err(|error| CallError::Broken(error.to_string()))
    }

    /// While disconnected the client would keep what is said and deliver it whenever it can: too late is worse than not.
    pub(crate) fn check_sendable(&self, bytes: usize) -> Result<(), CallError> {
        if !self.is_connected() {
            return Err(CallError::Disconnected);
        }
        let most = self.inner.client.max_payload();
        if bytes > most { Err(CallError::TooLarge(bytes)) } else { Ok(()) }
    }

    /// Publishes a core event; it may get lost.
    ///
    /// # Errors
    /// [`BusError`] if it could not even be sent.
    pub async fn emit<E: Event>(&self, event: &E) -> Result<(), BusError> {
        let body = to_json(event).map_err(|error| BusError::Unsendable(error.to_string()))?;
        self.check_sendable(body.len()).map_err(|error| BusError::Unsendable(error.to_string()))?;
        let subject = event.subject().as_str().to_owned();
        self.inner.client.publish(subject, body).await.map_err(|error| BusError::Broken(error.to_string()))
    }

    /// Subscribes to core events; everything published from now on arrives.
    ///
    /// # Errors
    /// [`BusError::Denied`] when the server does not permit it.
    pub async fn listen<E: Event>(&self, subject: Subject) -> Result<Events<E>, BusError> {
        let watch = self.inner.inbox.expect(subject.as_str(), 1);
        let messages = self
            .inner
            .client
            .subscribe(subject.as_str().to_owned())
            .await
            .map_err(|error| BusError::Broken(error.to_string()))?;
        self.confirm_subscription(watch).await?;
        Ok(Events { messages, kind: PhantomData })
    }

    /// After this the server has seen the subscription; `watch`, made before it, tells if it was refused.
    pub(crate) async fn confirm_subscription(&self, mut watch: Waiting) -> Result<(), BusError> {
        self.round_trip().await.map_err(|error| BusError::Broken(error.to_string()))?;
        // The refusal was sent before the round trip's answer, but travels through another task of the client.
        self.round_trip().await.map_err(|error| BusError::Broken(error.to_string()))?;
        match timeout(Duration::from_millis(1), watch.next()).await {
            Ok(Some(Arrival::Denied(v))) => {
                Err(BusError::Denied { subject: v.subject, operation: v.operation.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

/// The first answer of a call, if it is one.
pub(crate) async fn first(subject: &Subject, patience: Duration, waiting: &mut Waiting) -> Result<Message, CallError> {
    match timeout(patience, waiting.next()).await {
        Err(_) => Err(CallError::TimedOut(subject.to_string())),
        Ok(None) => Err(CallError::Broken("the connection was lost before the answer came".to_owned())),
        Ok(Some(arrival)) => opened(subject, arrival),
    }
}

fn opened(subject: &Subject, arrival: Arrival) -> Result<Message, CallError> {
    match arrival {
        Arrival::Denied(v) => Err(CallError::Denied { subject: v.subject, operation: v.operation.to_owned() }),
        Arrival::Message(message) if message.status == Some(StatusCode::NO_RESPONDERS) => {
            Err(CallError::NoResponder(subject.to_string()))
        }
        Arrival::Message(message) => match wire::refusal(message.headers.as_ref()) {
            Some(refusal) => Err(CallError::Refused(refusal)),
            None => Ok(*message),
        },
    }
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Bytes, CallError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| CallError::Broken(error.to_string()))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(bytes).map_err(|error| CallError::Broken(error.to_string()))
}

/// A streamed answer. Dropping it forgets the call.
pub struct Chunks<C> {
    subject: Subject,
    waiting: Waiting,
    idle: Duration,
    seen: u64,
    ended: bool,
    kind: PhantomData<fn() -> C>,
}

impl<C: DeserializeOwned> Chunks<C> {
    /// The next chunk; `None` after the proper end. A gap, a silence or a refusal is an error, and the last thing said.
    pub async fn next(&mut self) -> Option<Result<C, CallError>> {
        if self.ended {
            return None;
        }
        let outcome = self.receive().await;
        self.ended = !matches!(outcome, Some(Ok(_)));
        outcome
    }

    async fn receive(&mut self) -> Option<Result<C, CallError>> {
        let give_up = Instant::now() + self.idle;
        loop {
            let arrival = match timeout_at(give_up.min(Instant::now() + GONE), self.waiting.next()).await {
                Err(_) if Instant::now() < give_up => {
                    return Some(Err(CallError::Broken("its server is gone".to_owned())));
                }
                Err(_) => return Some(Err(CallError::TimedOut(self.subject.to_string()))),
                Ok(None) => {
                    return Some(Err(CallError::Broken(
                        "the connection was lost, or more chunks came than could be read".to_owned(),
                    )));
                }
                Ok(Some(arrival)) => arrival,
            };
            match opened(&self.subject, arrival) {
                Err(error) => return Some(Err(error)),
                Ok(message) if is_alive(&message) => {}
                Ok(message) if message.payload.is_empty() && message.headers.is_none() => return None,
                Ok(message) => return Some(self.numbered(&message)),
            }
        }
    }

    fn numbered(&mut self, message: &Message) -> Result<C, CallError> {
        let seq = message.headers.as_ref().and_then(|h| h.get(SEQ)).and_then(|v| v.as_str().parse::<u64>().ok());
        self.seen += 1;
        if seq != Some(self.seen) {
            return Err(CallError::Broken(format!("chunk {} is missing", self.seen)));
        }
        from_json(&message.payload)
    }
}

/// Whether a message of a stream says nothing but that its server is still at it.
fn is_alive(message: &Message) -> bool {
    message.headers.as_ref().is_some_and(|headers| headers.get(ALIVE).is_some())
}

/// Core events as they come.
pub struct Events<E> {
    messages: Subscriber,
    kind: PhantomData<fn() -> E>,
}

impl<E: DeserializeOwned> Events<E> {
    /// The next event; what is no event of this kind is passed over. `None` when the connection is closed.
    pub async fn next(&mut self) -> Option<E> {
        loop {
            let message = self.messages.next().await?;
            match serde_json::from_slice(&message.payload) {
                Ok(event) => return Some(event),
                Err(error) => tracing::debug!(subject = %message.subject, %error, "not an event of this kind"),
            }
        }
    }
}
