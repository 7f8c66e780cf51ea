//! Reading what was stored: a delivery stays the stream's until its reader says that it is done.

use std::time::Duration;

use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{self, Message};
use bytes::Bytes;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use proto::Component;
use proto::subject::Queued;
use proto::trace::Trace;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::connection::{Bus, chain};
use crate::error::{BusError, CallError};
use crate::inbox::Arrival;
use crate::wire;

/// Deliveries asked for at once.
const BATCH: usize = 64;

/// How long one pull waits at the server.
const EXPIRES: Duration = Duration::from_secs(10);

/// How often the server says during a pull that it is still there; without it twice, the pull is made anew.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Pause before a broken pull is made anew.
const PAUSE: Duration = Duration::from_millis(250);

/// How long to wait for the confirmation of an acknowledgement.
const CONFIRM: Duration = Duration::from_secs(2);

/// How often an unconfirmed acknowledgement is repeated; it does no harm twice.
const CONFIRM_TRIES: u32 = 3;

/// How long opening a consumer may take; the bus may be starting.
const OPEN: Duration = Duration::from_secs(15);

/// The component's deliveries of one kind.
pub struct Deliveries<M> {
    bus: Bus,
    consumer: PullConsumer,
    messages: Option<pull::Stream>,
    kind: std::marker::PhantomData<fn() -> M>,
}

/// One stored message, handed to this reader.
pub struct Delivery<M> {
    /// What it says; an error, in words, if it cannot be understood.
    pub body: Result<M, String>,
    /// The stored bytes.
    pub payload: Bytes,
    /// What it was published on: the server lets nobody publish who may not.
    pub subject: String,
    /// The component that published it, where the subject's last token names one: the server lets nobody else.
    pub component: Option<Component>,
    /// The trace that it belongs to.
    pub trace: Trace,
    /// Its number in the stream.
    pub seq: u64,
    /// When the stream stored it.
    pub stored: Timestamp,
    /// 1 at the first delivery.
    pub attempt: u64,
    bus: Bus,
    ack: String,
}

impl Bus {
    /// What waits for this component on `M`'s stream, by the durable consumer that has the component's name.
    ///
    /// # Errors
    /// [`BusError`] when the consumer is not there or not permitted.
    pub async fn deliveries<M: Queued>(&self) -> Result<Deliveries<M>, BusError> {
        self.deliveries_on(M::STREAM).await
    }

    /// The audit records, as they are stored.
    ///
    /// # Errors
    /// As [`Bus::deliveries`].
    pub async fn records(&self) -> Result<Deliveries<Value>, BusError> {
        self.deliveries_on(proto::audit::STREAM).await
    }

    /// Signed checkpoints over the records, as they are stored.
    ///
    /// # Errors
    /// As [`Bus::deliveries`].
    pub async fn checkpoints(&self) -> Result<Deliveries<Value>, BusError> {
        self.deliveries_on(proto::audit::CHECKPOINTS).await
    }

    async fn deliveries_on<M>(&self, stream: &'static str) -> Result<Deliveries<M>, BusError> {
        let consumer = timeout(OPEN, self.find_consumer(stream)).await;
        let consumer =
            consumer.map_err(|_| BusError::Broken(format!("the consumer on {stream} did not come up")))??;
        Ok(Deliveries { bus: self.clone(), consumer, messages: None, kind: std::marker::PhantomData })
    }

    async fn find_consumer(&self, stream: &'static str) -> Result<PullConsumer, BusError> {
        let context = jetstream::new(self.inner.client.clone());
        loop {
            let name = self.component().as_str();
            match context.get_consumer_from_stream(name, stream).await {
                Ok(consumer) => return Ok(consumer),
                Err(error) => tracing::debug!(error = chain(&error), stream, "the consumer is not there yet"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Says something about a delivery and waits until the server has taken it.
    async fn confirm(&self, ack: &str, word: &'static str) -> Result<(), CallError> {
        self.check_sendable(0)?;
        let mut waiting = self.inner.inbox.expect(ack, 1);
        let client = &self.inner.client;
        let sent = client.publish_with_reply(ack.to_owned(), waiting.reply.clone(), word.into()).await;
        sent.map_err(|error| CallError::Broken(error.to_string()))?;
        match timeout(CONFIRM, waiting.next()).await {
            Ok(Some(Arrival::Message(_))) => Ok(()),
            Ok(Some(Arrival::Denied(v))) => {
                Err(CallError::Denied { subject: v.subject, operation: v.operation.to_owned() })
            }
            Ok(None) | Err(_) => Err(CallError::TimedOut(ack.to_owned())),
        }
    }

    async fn say(&self, ack: &str, word: String) -> Result<(), CallError> {
        self.check_sendable(0)?;
        let sent = self.inner.client.publish(ack.to_owned(), word.into()).await;
        sent.map_err(|error| CallError::Broken(error.to_string()))
    }
}

impl<M: DeserializeOwned> Deliveries<M> {
    /// The next delivery; waits as long as it takes, over restarts of the bus. `None` when the bus drains.
    pub async fn next(&mut self) -> Option<Delivery<M>> {
        let stopping = self.bus.inner.stopping.clone();
        tokio::select! {
            biased;
            () = stopping.cancelled() => None,
            delivery = self.pull() => Some(delivery),
        }
    }

    async fn pull(&mut self) -> Delivery<M> {
        loop {
            if self.messages.is_none() {
                self.messages = self.start_pulling().await;
            }
            let next = match self.messages.as_mut() {
                Some(messages) => messages.next().await,
                None => None,
            };
            match next {
                Some(Ok(message)) => match self.delivery(message) {
                    Some(delivery) => return delivery,
                    None => tracing::warn!("a delivery without a number was passed over"),
                },
                Some(Err(error)) => {
                    tracing::debug!(error = chain(&error), "the pull broke, starting anew");
                    self.messages = None;
                }
                None => self.messages = None,
            }
            if self.messages.is_none() {
                sleep(PAUSE).await;
            }
        }
    }

    async fn start_pulling(&self) -> Option<pull::Stream> {
        let pull = self.consumer.stream().max_messages_per_batch(BATCH).expires(EXPIRES).heartbeat(HEARTBEAT);
        match pull.messages().await {
            Ok(messages) => Some(messages),
            Err(error) => {
                tracing::debug!(error = chain(&error), "the pull could not be started");
                None
            }
        }
    }

    fn delivery(&self, message: Message) -> Option<Delivery<M>> {
        let info = message.info().ok()?;
        let (seq, attempt) = (info.stream_sequence, u64::try_from(info.delivered).unwrap_or(1));
        let stored = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos()).unwrap_or_default();
        Some(Delivery {
            body: serde_json::from_slice(&message.payload).map_err(|error| error.to_string()),
            payload: message.payload.clone(),
            subject: message.subject.to_string(),
            component: message.subject.as_str().rsplit('.').next().and_then(|token| token.parse().ok()),
            trace: wire::trace(message.headers.as_ref()).unwrap_or_else(Bus::new_trace),
            seq,
            stored,
            attempt,
            bus: self.bus.clone(),
            ack: message.reply.as_ref()?.to_string(),
        })
    }
}

impl<M> Delivery<M> {
    /// The message is dealt with: the stream may forget it. Waits for the server's confirmation.
    ///
    /// # Errors
    /// [`CallError`]; the message will then come again.
    pub async fn done(&self) -> Result<(), CallError> {
        self.insist("+ACK").await
    }

    /// The message cannot ever be dealt with: it shall not come again.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn give_up(&self) -> Result<(), CallError> {
        self.insist("+TERM").await
    }

    /// Still at it: asks for another [`crate::ACK_WAIT`].
    ///
    /// # Errors
    /// [`CallError`] when it could not be said.
    pub async fn working(&self) -> Result<(), CallError> {
        self.bus.say(&self.ack, "+WPI".to_owned()).await
    }

    /// Not now: it shall come again after `delay`.
    ///
    /// # Errors
    /// [`CallError`] when it could not be said; it then comes again after [`crate::ACK_WAIT`].
    pub async fn retry_in(&self, delay: Duration) -> Result<(), CallError> {
        self.bus.say(&self.ack, format!("-NAK {{\"delay\": {}}}", delay.as_nanos())).await
    }

    async fn insist(&self, word: &'static str) -> Result<(), CallError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.bus.confirm(&self.ack, word).await {
                Err(error) if tries >= CONFIRM_TRIES || matches!(error, CallError::Denied { .. }) => return Err(error),
                Err(_) => sleep(PAUSE).await,
                Ok(()) => return Ok(()),
            }
        }
    }
}
