//! Storing: a message counts as said when JetStream acknowledged that it holds it.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use proto::subject::{Queued, Subject};
use proto::trace::{TRACEPARENT, Trace};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::connection::Bus;
use crate::error::{CallError, PublishError};
use crate::request::first;
use crate::wire::{EXPECTED_STREAM, MSG_ID};

/// How long one attempt waits for its acknowledgement. A durable write takes under a millisecond, on a sick disk some.
const ACK: Duration = Duration::from_secs(2);

/// How long storing is tried altogether: as long as a bus takes to restart.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// The acknowledgement of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Number of the message in the stream.
    pub seq: u64,
    /// True if the stream already held a message with this id.
    pub duplicate: bool,
}

/// What JetStream answers to a publish.
#[derive(Debug, Deserialize)]
struct Ack {
    #[serde(default)]
    error: Option<AckError>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

#[derive(Debug, Deserialize)]
struct AckError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// One message for a stream.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) subject: Subject,
    pub(crate) stream: &'static str,
    pub(crate) id: String,
    pub(crate) trace: Option<Trace>,
    pub(crate) body: Bytes,
}

impl Envelope {
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(MSG_ID, self.id.as_str());
        headers.insert(EXPECTED_STREAM, self.stream);
        if let Some(trace) = self.trace {
            headers.insert(TRACEPARENT, trace.to_string());
        }
        headers
    }
}

impl Bus {
    /// Stores a message for its reader. `id` makes it idempotent: the stream takes one message of an id within its
    /// duplicate window. It must not be guessable by others, or they could use it up.
    ///
    /// # Errors
    /// [`PublishError`] after trying again for as long as a bus takes to restart.
    pub async fn enqueue<M: Queued>(&self, trace: Trace, id: &str, message: &M) -> Result<Stored, PublishError> {
        let body = serde_json::to_vec(message).map_err(|error| PublishError::Unserializable(error.to_string()))?;
        let envelope = Envelope {
            subject: message.subject(),
            stream: M::STREAM,
            id: id.to_owned(),
            trace: Some(trace),
            body: body.into(),
        };
        self.store_patiently(&envelope).await
    }

    /// Tries until stored, refused or out of patience; the id makes trying again safe.
    pub(crate) async fn store_patiently(&self, envelope: &Envelope) -> Result<Stored, PublishError> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let error = match self.store_once(envelope).await {
                Err(PublishError::Unconfirmed(error)) => error,
                settled => return settled,
            };
            let hopeless = matches!(error, CallError::Denied { .. } | CallError::TooLarge(_));
            if hopeless || Instant::now() + PAUSE >= give_up {
                return Err(PublishError::Unconfirmed(error));
            }
            sleep(PAUSE).await;
        }
    }

    /// One attempt.
    pub(crate) async fn store_once(&self, envelope: &Envelope) -> Result<Stored, PublishError> {
        self.publish_acked(&envelope.subject, envelope.headers(), envelope.body.clone()).await
    }

    /// Publishes with a reply and reads the stream's answer.
    pub(crate) async fn publish_acked(
        &self,
        subject: &Subject,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Stored, PublishError> {
        self.check_sendable(body.len()).map_err(PublishError::Unconfirmed)?;
        let mut waiting = self.inner.inbox.expect(subject.as_str(), 1);
        self.inner
            .client
            .publish_with_reply_and_headers(subject.as_str().to_owned(), waiting.reply.clone(), headers, body)
            .await
            .map_err(|error| PublishError::Unconfirmed(CallError::Broken(error.to_string())))?;
        let answer = first(subject, ACK, &mut waiting).await.map_err(PublishError::Unconfirmed)?;
        read_ack(&answer.payload)
    }
}

fn read_ack(payload: &[u8]) -> Result<Stored, PublishError> {
    let ack: Ack = serde_json::from_slice(payload)
        .map_err(|error| PublishError::Unconfirmed(CallError::Broken(error.to_string())))?;
    match ack.error {
        Some(error) => Err(PublishError::Rejected(format!("{} ({})", error.description, error.err_code))),
        None => Ok(Stored { seq: ack.seq, duplicate: ack.duplicate }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_stream_is_a_rejection() {
        let full = br#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"AUDIT","seq":0}"#;
        assert!(matches!(read_ack(full), Err(PublishError::Rejected(why)) if why.contains("maximum bytes")));
        let taken = br#"{"stream":"AUDIT","seq":7,"duplicate":true}"#;
        assert_eq!(read_ack(taken).unwrap(), Stored { seq: 7, duplicate: true });
        assert!(matches!(read_ack(b"?"), Err(PublishError::Unconfirmed(_))));
    }
}
