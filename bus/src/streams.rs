//! Making streams and their durable consumers: for `provision` alone, the only identity with the right to.
//!
//! There is no update, delete or purge here, and the server grants none to anybody: an update of a stream that is
//! guarded against deletion can still empty it.

use std::time::Duration;

use bytes::Bytes;
use proto::subject::Subject;
use proto::{Component, audit, channel, links, object};
use serde_json::{Value, json};

use crate::connection::Bus;
use crate::error::CallError;
use crate::request::first;

/// How long the server may take to make a stream or to tell of one.
const PATIENCE: Duration = Duration::from_secs(10);

/// JetStream's error codes for what is not there: stream and consumer.
const NOT_FOUND: [u64; 2] = [10059, 10014];

/// How large the streams may grow, in bytes. They refuse what is more: nothing old is thrown away for it.
#[derive(Debug, Clone, Copy)]
pub struct StreamSizes {
    /// Messages between channels and gateway that wait for their reader.
    pub channels: u64,
    /// The record: half a million records of 4 KiB. When it is full, nothing runs any more and every component says so.
    pub audit: u64,
    /// Texts and salts on their way beside the record; what the audit service has taken is gone from here.
    pub contents: u64,
    /// Signed checkpoints, 300 bytes each: at one every ten seconds, a month.
    pub checkpoints: u64,
    /// Large tool outputs, forgotten after a week.
    pub objects: u64,
}

impl Default for StreamSizes {
    fn default() -> Self {
        Self { channels: 256 << 20, audit: 2 << 30, contents: 512 << 20, checkpoints: 128 << 20, objects: 256 << 20 }
    }
}

/// How long `CHANNELS` remembers message ids: a message that Slack delivers again comes within six minutes.
const CHANNELS_DUPLICATES: Duration = Duration::from_secs(600);

/// Deliveries that one reader may hold at a time.
const MAX_ACK_PENDING: u64 = 1000;

impl Bus {
    /// The settings of a stream, if it is there.
    ///
    /// # Errors
    /// [`CallError`], also when the server says anything else than that there is none.
    pub async fn stream_settings(&self, stream: &str) -> Result<Option<Value>, CallError> {
        let answer = self.ask_jetstream(&format!("STREAM.INFO.{stream}"), &json!({})).await?;
        Ok(answer.map(|info| info.get("config").cloned().unwrap_or_default()))
    }

    /// Makes a stream that is not there.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn create_stream(&self, stream: &str, sizes: &StreamSizes) -> Result<(), CallError> {
        let settings = settings(stream, sizes);
        self.ask_jetstream(&format!("STREAM.CREATE.{stream}"), &settings).await.map(|_| ())
    }

    /// Makes the durable consumers of a stream's readers where they are missing.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn create_consumers(&self, stream: &str) -> Result<(), CallError> {
        for (_, consumer, filter) in links::consumers().into_iter().filter(|(of, _, _)| *of == stream) {
            if self.ask_jetstream(&format!("CONSUMER.INFO.{stream}.{consumer}"), &json!({})).await?.is_none() {
                let request = consumer_request(stream, consumer, &filter);
                self.ask_jetstream(&format!("CONSUMER.CREATE.{stream}.{consumer}.{filter}"), &request).await?;
            }
        }
        Ok(())
    }

    /// Drops the old end of a stream, everything before `first`. Only the component `provision` has the right, and only for the streams
    /// of the proof.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn drop_before(&self, stream: &str, first: u64) -> Result<(), CallError> {
        self.ask_jetstream(&format!("STREAM.PURGE.{stream}"), &json!({"seq": first})).await.map(|_| ())
    }

    /// The last number of a stream that a reader's consumer has acknowledged with everything before it, and whether it ever read.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn acknowledged(&self, stream: &str, reader: Component) -> Result<(u64, bool), CallError> {
        let info =
            self.ask_jetstream(&format!("CONSUMER.INFO.{stream}.{reader}"), &json!({})).await?.unwrap_or_default();
        let number = |pointer| info.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        Ok((number("/ack_floor/stream_seq"), number("/delivered/consumer_seq") > 0))
    }

    /// One question to the JetStream API; `None` when it says that there is no such thing.
    pub(crate) async fn ask_jetstream(&self, verb: &str, body: &Value) -> Result<Option<Value>, CallError> {
        self.check_sendable(0)?;
        let subject = Subject::jetstream_api(verb);
        let mut waiting = self.inner.inbox.expect(subject.as_str(), 1);
        let sent = self
            .inner
            .client
            .publish_with_reply(subject.as_str().to_owned(), waiting.reply.clone(), Bytes::from(body.to_string()))
            .await;
        sent.map_err(|error| CallError::Broken(error.to_string()))?;
        let answer = first(&subject, PATIENCE, &mut waiting).await?;
        let answer: Value =
            serde_json::from_slice(&answer.payload).map_err(|error| CallError::Broken(error.to_string()))?;
        match answer.get("error") {
            None => Ok(Some(answer)),
            Some(error)
                if error.get("err_code").and_then(Value::as_u64).is_some_and(|code| NOT_FOUND.contains(&code)) =>
            {
                Ok(None)
            }
            Some(error) => Err(CallError::Broken(format!("{subject}: {error}"))),
        }
    }
}

/// The whole of a stream's settings. Everything that would let a publisher erase (roll-up, per-message life) is off.
fn settings(stream: &str, sizes: &StreamSizes) -> Value {
    let mut settings = json!({
        "name": stream,
        "subjects": links::subjects_of(stream),
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "num_replicas": 1,
        "max_msgs": -1,
        "max_age": 0,
        "max_consumers": -1,
        "max_msg_size": 1 << 20,
        "duplicate_window": nanos(audit::DUPLICATE_WINDOW),
        "allow_rollup_hdrs": false,
        "allow_msg_ttl": false,
        "allow_direct": false,
        "deny_delete": false,
        "deny_purge": false,
    });
    let own = match stream {
        channel::STREAM => json!({
            "retention": "workqueue", "max_bytes": sizes.channels, "duplicate_window": nanos(CHANNELS_DUPLICATES),
        }),
        object::STREAM => json!({
            "max_bytes": sizes.objects, "allow_direct": true, "discard": "old",
            "max_age": nanos(Duration::from_secs(object::OBJECT_LIFETIME_HOURS * 3600)),
        }),
        // Texts are a convenience and not the evidence: they need not be on disk before the record is. The server writes them at its
        // own pace, so that recording costs one flush and not two.
        audit::CONTENTS => json!({
            "retention": "workqueue", "max_bytes": sizes.contents, "persist_mode": "async",
        }),
        // The old end may be purged by the one identity that has the right to: `provision`, after it verified the archive.
        audit::CHECKPOINTS => json!({
            "max_bytes": sizes.checkpoints, "max_msg_size": audit::MAX_RECORD, "deny_delete": true,
        }),
        _ => json!({
            "max_bytes": sizes.audit, "max_msg_size": audit::MAX_RECORD, "deny_delete": true, "allow_atomic": true,
        }),
    };
    if let (Some(all), Some(own)) = (settings.as_object_mut(), own.as_object()) {
        all.extend(own.clone());
    }
    settings
}

fn consumer_request(stream: &str, consumer: Component, filter: &str) -> Value {
    json!({
        "stream_name": stream,
        "action": "create",
        "config": {
            "name": consumer,
            "durable_name": consumer,
            "filter_subject": filter,
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_policy": "explicit",
            "ack_wait": nanos(crate::ACK_WAIT),
            "max_deliver": -1,
            "max_ack_pending": MAX_ACK_PENDING,
        },
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
