//! An attacker who owns the server: may delete, copy and remake streams, and knows JetStream well enough to keep numbers and times.

use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One with every right.
pub struct Owner {
    client: Client,
}

/// A copy of a stream, numbers and times included.
pub struct Copy {
    about: Value,
    pieces: Vec<Bytes>,
}

/// A stored message.
#[derive(Debug, Clone)]
pub struct Message {
    /// What it was published on.
    pub subject: String,
    /// What it says.
    pub body: Bytes,
}

impl Owner {
    pub(crate) async fn new(url: &str) -> Self {
        let until = Instant::now() + PATIENCE;
        loop {
            match ConnectOptions::with_user_and_password("owner".into(), "owner".into()).connect(url).await {
                Ok(client) => return Self { client },
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks the JetStream API, whatever it answers.
    pub async fn ask(&self, verb: &str, body: Value) -> Value {
        let answer = self.client.request(format!("$JS.API.{verb}"), body.to_string().into());
        let answer = timeout(PATIENCE, answer).await.expect("an answer in time").expect("an answer");
        serde_json::from_slice(&answer.payload).expect("JSON")
    }

    async fn must(&self, verb: &str, body: Value) -> Value {
        let answer = self.ask(verb, body).await;
        assert_eq!(answer.get("error"), None, "{verb}");
        answer
    }

    /// The last number of a stream.
    pub async fn last(&self, stream: &str) -> u64 {
        self.must(&format!("STREAM.INFO.{stream}"), json!({})).await["state"]["last_seq"].as_u64().expect("a number")
    }

    /// Copies a stream.
    pub async fn copy(&self, stream: &str) -> Copy {
        let inbox = self.client.new_inbox();
        let mut chunks = self.client.subscribe(inbox.clone()).await.expect("a subscription");
        self.client.flush().await.expect("a flush");
        let about = self
            .must(&format!("STREAM.SNAPSHOT.{stream}"), json!({"deliver_subject": inbox, "no_consumers": true}))
            .await;
        let mut pieces = Vec::new();
        while let Some(chunk) = timeout(PATIENCE, chunks.next()).await.expect("a chunk in time") {
            if chunk.payload.is_empty() {
                break;
            }
            pieces.push(chunk.payload);
            if let Some(reply) = chunk.reply {
                self.client.publish(reply, Bytes::new()).await.expect("acknowledged");
            }
        }
        Copy { about, pieces }
    }

    /// Deletes a stream and puts a copy in its place.
    pub async fn put_back(&self, stream: &str, copy: &Copy) {
        self.must(&format!("STREAM.DELETE.{stream}"), json!({})).await;
        let wanted = json!({"config": copy.about["config"], "state": copy.about["state"]});
        let answer = self.must(&format!("STREAM.RESTORE.{stream}"), wanted).await;
        let place = answer["deliver_subject"].as_str().expect("a place").to_owned();
        for piece in copy.pieces.iter().cloned().chain([Bytes::new()]) {
            let taken = self.client.request(place.clone(), piece);
            let taken = timeout(PATIENCE, taken).await.expect("taken in time").expect("taken");
            let answer: Value = serde_json::from_slice(&taken.payload).unwrap_or_default();
            assert_eq!(answer.get("error"), None);
        }
    }

    /// Deletes messages although the stream denies it: a mirror keeps numbers and times and denies nothing.
    pub async fn delete(&self, stream: &str, numbers: &[u64]) {
        let last = self.last(stream).await;
        self.mirror(stream, "TAMPERED", last).await;
        for seq in numbers {
            self.must("STREAM.MSG.DELETE.TAMPERED", json!({"seq": seq, "no_erase": true})).await;
        }
        self.must(&format!("STREAM.DELETE.{stream}"), json!({})).await;
        // A stream of its own now: the server allows no circle of mirrors.
        let config = json!({"name": "TAMPERED", "storage": "file", "num_replicas": 1, "subjects": ["tampered"]});
        self.must("STREAM.UPDATE.TAMPERED", config).await;
        self.mirror("TAMPERED", stream, last).await;
        self.must("STREAM.DELETE.TAMPERED", json!({})).await;
    }

    async fn mirror(&self, of: &str, name: &str, last: u64) {
        let config = json!({"name": name, "storage": "file", "num_replicas": 1, "mirror": {"name": of}});
        self.must(&format!("STREAM.CREATE.{name}"), config).await;
        let until = Instant::now() + PATIENCE;
        while self.last(name).await < last {
            assert!(Instant::now() < until, "the mirror does not catch up");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Every message of a stream, oldest first.
    pub async fn messages(&self, stream: &str) -> Vec<Message> {
        let context = async_nats::jetstream::new(self.client.clone());
        let found = context.get_stream(stream).await.expect("the stream");
        let mut messages = Vec::new();
        for seq in 1..=self.last(stream).await {
            let message = found.get_raw_message(seq).await.expect("a message");
            messages.push(Message { subject: message.subject.to_string(), body: message.payload });
        }
        messages
    }

    /// Deletes a stream and publishes these messages into a new one of its settings.
    pub async fn remake(&self, stream: &str, messages: &[Message]) {
        let info = self.must(&format!("STREAM.INFO.{stream}"), json!({})).await;
        self.must(&format!("STREAM.DELETE.{stream}"), json!({})).await;
        self.must(&format!("STREAM.CREATE.{stream}"), info["config"].clone()).await;
        let context = async_nats::jetstream::new(self.client.clone());
        for Message { subject, body } in messages {
            context.publish(subject.clone(), body.clone()).await.expect("sent").await.expect("stored");
        }
    }

    /// Makes a stream and publishes `count` messages of `bytes` into it, so many under way at a time.
    pub async fn publish_many(&self, stream: &str, count: usize, under_way: usize, bytes: usize) {
        let subject = format!("{}.x", stream.to_lowercase());
        let config = json!({"name": stream, "subjects": [subject], "storage": "file", "num_replicas": 1});
        self.must(&format!("STREAM.CREATE.{stream}"), config).await;
        let context = async_nats::jetstream::new(self.client.clone());
        let body = Bytes::from(vec![b'x'; bytes]);
        let publish = |_| {
            let (context, subject, body) = (context.clone(), subject.clone(), body.clone());
            async move { context.publish(subject, body).await.expect("sent").await.expect("stored") }
        };
        futures_util::stream::iter(0..count).map(publish).buffer_unordered(under_way).for_each(|_| async {}).await;
    }
}
