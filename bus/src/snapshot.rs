//! Copies of whole streams in the server's own form, numbers and times included: for `provision` alone, which has the right to.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use proto::subject::Subject;
use serde_json::{Value, json};

use crate::connection::Bus;
use crate::error::CallError;
use crate::inbox::Arrival;
use crate::request::first;

/// Largest chunk: well under the largest message.
const CHUNK: usize = 128 * 1024;

/// How long the server may be silent: before the first chunk it checks every message of the stream.
const SILENCE: Duration = Duration::from_secs(120);

impl Bus {
    /// Reads a copy of a stream into `sink`, piece by piece; returns the stream's settings and state.
    ///
    /// # Errors
    /// [`CallError`], also when the sink takes no more.
    pub async fn back_up(
        &self,
        stream: &str,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Value, CallError> {
        let subject = format!("STREAM.SNAPSHOT.{stream}");
        let mut chunks = self.inner.inbox.expect_stream(&subject);
        let wanted = json!({"deliver_subject": chunks.reply, "no_consumers": true, "jsck": true, "chunk_size": CHUNK});
        let about = self.ask_jetstream(&subject, &wanted).await?;
        let about = about.ok_or_else(|| CallError::Broken(format!("there is no stream {stream}")))?;
        loop {
            let message = match tokio::time::timeout(SILENCE, chunks.next()).await {
                Err(_) => return Err(CallError::TimedOut(subject)),
                Ok(Some(Arrival::Message(message))) => message,
                Ok(Some(Arrival::Denied(v))) => {
                    return Err(CallError::Denied { subject: v.subject, operation: v.operation.to_owned() });
                }
                Ok(None) => return Err(CallError::Broken("the copy was cut off".to_owned())),
            };
            if message.payload.is_empty() {
                return end_of_copy(&message).map(|()| about);
            }
            sink(&message.payload)
                .map_err(|error| CallError::Broken(format!("the copy cannot be written: {error}")))?;
            if let Some(reply) = message.reply {
                let sent = self.inner.client.publish(reply, Bytes::new()).await;
                sent.map_err(|error| CallError::Broken(error.to_string()))?;
            }
        }
    }

    /// Makes a stream from a copy: `about` is what [`Bus::back_up`] returned. The stream must not be there.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn restore(&self, stream: &str, about: &Value, copy: &mut dyn io::Read) -> Result<(), CallError> {
        let broken = |error: &dyn std::fmt::Display| CallError::Broken(error.to_string());
        let wanted = json!({"config": about.get("config"), "state": about.get("state")});
        let answer = self.ask_jetstream(&format!("STREAM.RESTORE.{stream}"), &wanted).await?.unwrap_or_default();
        let place = answer.get("deliver_subject").and_then(Value::as_str).map(str::to_owned);
        let place = place.ok_or_else(|| broken(&"the server takes no copy"))?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = fill(copy, &mut chunk).map_err(|error| broken(&format!("the copy cannot be read: {error}")))?;
            let piece = Bytes::copy_from_slice(chunk.get(..read).unwrap_or_default());
            let answer = self.hand_over(&place, piece).await?;
            if read == 0 {
                return restored(&answer);
            }
        }
    }

    async fn hand_over(&self, place: &str, piece: Bytes) -> Result<Bytes, CallError> {
        let subject = Subject::jetstream_restore(place);
        let mut waiting = self.inner.inbox.expect(place, 1);
        let sent = self.inner.client.publish_with_reply(place.to_owned(), waiting.reply.clone(), piece).await;
        sent.map_err(|error| CallError::Broken(error.to_string()))?;
        Ok(first(&subject, SILENCE, &mut waiting).await?.payload)
    }
}

/// The last message is empty; it carries an error where the copy is not whole.
fn end_of_copy(message: &async_nats::Message) -> Result<(), CallError> {
    let failed = message.status.is_some_and(|status| status.as_u16() >= 400);
    if failed {
        let why = message.description.as_deref().unwrap_or("no reason given");
        return Err(CallError::Broken(format!("the server could not copy the stream: {why}")));
    }
    Ok(())
}

fn restored(answer: &[u8]) -> Result<(), CallError> {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    match answer.get("error") {
        None => Ok(()),
        Some(error) => Err(CallError::Broken(format!("the server did not take the copy: {error}"))),
    }
}

/// Reads until the buffer is full or nothing is left.
fn fill(from: &mut dyn io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
