//! Looking into the streams of the proof: any stored message by its number, as the server itself holds it.
//!
//! It needs no consumer and leaves no trace, so a verifier takes nobody's word for what is in the stream.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use proto::seal::{Body, RawRecord, checkpoint_subject};
use proto::subject::Subject;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::connection::Bus;
use crate::error::{CallError, PublishError};
use crate::publish::{Envelope, Stored};
use crate::request::first;

/// How long the server may take to hand out one message.
const PATIENCE: Duration = Duration::from_secs(10);

/// Messages asked for at the same time: enough that the server never waits for the network, few enough that it does not queue.
const IN_FLIGHT: usize = 128;

/// JetStream's error codes for a message that is not there: not found, and no such number.
const NO_MESSAGE: [u64; 2] = [10037, 10043];

/// What a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct StreamState {
    /// Messages.
    pub messages: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Number of the oldest message that is there; one more than `last_seq` if there is none.
    pub first_seq: u64,
    /// Number of the newest message that ever was there.
    pub last_seq: u64,
    /// Messages missing between them.
    #[serde(default)]
    pub num_deleted: u64,
    /// Bytes that it takes at most.
    #[serde(skip)]
    pub max_bytes: u64,
}

#[derive(Deserialize)]
struct StoredMessage {
    seq: u64,
    subject: String,
    time: Timestamp,
    #[serde(default)]
    data: String,
}

impl Bus {
    /// What a stream of the proof holds now.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn stream_state(&self, stream: &str) -> Result<StreamState, CallError> {
        let broken = |error: serde_json::Error| CallError::Broken(error.to_string());
        let answer = self.ask_jetstream(&format!("STREAM.INFO.{stream}"), &json!({})).await?;
        let answer = answer.ok_or_else(|| CallError::Broken(format!("there is no stream {stream}")))?;
        let state = answer.get("state").cloned().unwrap_or_default();
        let mut state: StreamState = serde_json::from_value(state).map_err(broken)?;
        state.max_bytes = answer.pointer("/config/max_bytes").and_then(Value::as_u64).unwrap_or(u64::MAX);
        Ok(state)
    }

    /// The message with this number, unless there is none any more.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn look_up(&self, stream: &str, seq: u64) -> Result<Option<RawRecord>, CallError> {
        self.get_message(stream, &json!({"seq": seq})).await
    }

    /// The newest checkpoint in the stream.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn last_checkpoint(&self) -> Result<Option<RawRecord>, CallError> {
        let newest = json!({"last_by_subj": checkpoint_subject().as_str()});
        self.get_message(proto::audit::CHECKPOINTS, &newest).await
    }

    /// The messages with these numbers, in order; `None` for one that is not there.
    pub fn look_up_all(
        &self,
        stream: &'static str,
        numbers: std::ops::RangeInclusive<u64>,
    ) -> impl Stream<Item = Result<(u64, Option<RawRecord>), CallError>> + Send + use<> {
        let bus = self.clone();
        let one = move |seq| {
            let bus = bus.clone();
            async move { bus.look_up(stream, seq).await.map(|found| (seq, found)) }
        };
        stream::iter(numbers).map(one).buffered(IN_FLIGHT)
    }

    /// Publishes a signed checkpoint and waits until it is stored.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_checkpoint(&self, note: String) -> Result<Stored, PublishError> {
        let envelope = Envelope {
            subject: checkpoint_subject(),
            stream: proto::audit::CHECKPOINTS,
            id: Uuid::now_v7().to_string(),
            trace: None,
            body: Bytes::from(note),
        };
        self.store_patiently(&envelope).await
    }

    async fn get_message(&self, stream: &str, wanted: &Value) -> Result<Option<RawRecord>, CallError> {
        self.check_sendable(0)?;
        let subject = Subject::jetstream_api(&format!("STREAM.MSG.GET.{stream}"));
        let mut waiting = self.inner.inbox.expect(subject.as_str(), 1);
        let (client, body) = (&self.inner.client, Bytes::from(wanted.to_string()));
        let sent = client.publish_with_reply(subject.as_str().to_owned(), waiting.reply.clone(), body).await;
        sent.map_err(|error| CallError::Broken(error.to_string()))?;
        read_message(&first(&subject, PATIENCE, &mut waiting).await?.payload)
    }
}

fn read_message(answer: &[u8]) -> Result<Option<RawRecord>, CallError> {
    #[derive(Deserialize)]
    struct Answer {
        message: Option<StoredMessage>,
        error: Option<Value>,
    }
    let broken = |error: &dyn std::fmt::Display| CallError::Broken(format!("the server's answer: {error}"));
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| broken(&error))?;
    match (answer.message, answer.error) {
        (Some(message), _) => {
            let time_ns = i64::try_from(message.time.as_nanosecond()).map_err(|error| broken(&error))?;
            let body = STANDARD.decode(message.data).map_err(|error| broken(&error))?;
            Ok(Some(RawRecord { seq: message.seq, time_ns, subject: message.subject, body: Body::new(body) }))
        }
        (None, Some(error)) => {
            let code = error.get("err_code").and_then(Value::as_u64);
            if code.is_some_and(|code| NO_MESSAGE.contains(&code)) { Ok(None) } else { Err(broken(&error)) }
        }
        (None, None) => Err(broken(&"neither a message nor an error")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_is_stored() {
        let answer = br#"{"message":{"subject":"nachos.audit.log.cli","seq":7,"hdrs":"x","data":"e30=","time":"2026-11-21T01:10:13.632717001Z"}}"#;
        let found = read_message(answer).unwrap().unwrap();
        assert_eq!((found.seq, found.body.as_bytes(), found.time_ns % 1000), (7, &b"{}"[..], 1));
        let gone = br#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#;
        assert!(read_message(gone).unwrap().is_none());
        assert!(read_message(br#"{"error":{"code":503,"err_code":10008}}"#).is_err());
    }
}
