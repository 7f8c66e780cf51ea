//! The traits that tie a message to its address: what goes where is decided by the type, so a wrong pair does not compile.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::name::Component;

/// A subject to publish on. Only this crate makes them, from fixed words and validated names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject(String);

impl Subject {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The subject as NATS wants it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A question with one answer.
pub trait Request: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The answer.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// Name of the endpoint in the NATS Service API.
    const ENDPOINT: &'static str;
    /// How long the caller waits by default.
    const PATIENCE: Duration;
    /// Where `caller` asks it.
    fn subject(&self, caller: Component) -> Subject;
    /// What `server` subscribes to. A trailing `*` is the caller's token, which the server vouches for.
    fn served_by(server: Component) -> Subject;
}

/// A question answered by a numbered stream of chunks.
pub trait StreamRequest: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// One chunk.
    type Chunk: Serialize + DeserializeOwned + Send + 'static;
    /// Name of the endpoint in the NATS Service API.
    const ENDPOINT: &'static str;
    /// Longest silence between two chunks before the caller gives up.
    const IDLE: Duration;
    /// Where `caller` asks it.
    fn subject(&self, caller: Component) -> Subject;
    /// What `server` subscribes to.
    fn served_by(server: Component) -> Subject;
}

/// A core message that may get lost.
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Where it is published.
    fn subject(&self) -> Subject;
}

/// A message that JetStream stores until its reader acknowledged it.
pub trait Queued: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The stream that must take it.
    const STREAM: &'static str;
    /// Where it is published.
    fn subject(&self) -> Subject;
}

impl Subject {
    /// A subject of the JetStream API, for example `STREAM.INFO.AUDIT`.
    pub fn jetstream_api(verb: &str) -> Self {
        Self::new(format!("$JS.API.{verb}"))
    }

    /// Where the server takes the pieces of a copy of a stream; it made the subject up itself.
    pub fn jetstream_restore(place: &str) -> Self {
        Self::new(place)
    }

    /// The JetStream API subject that reads the last message stored on `subject` (NATS ADR-31).
    pub fn direct_get(stream: &str, subject: &Subject) -> Self {
        Self::new(format!("$JS.API.DIRECT.GET.{stream}.{subject}"))
    }
}
