//! One answer of a provider, chunk by chunk: bytes become events, events become chunks, silence becomes a failure.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use proto::llm::ModelChunk;
use tokio::time::timeout;

use crate::error::{Class, Failure};
use crate::sse::Events;
use crate::wire::Decoder;

/// How long the connection is given to end after the answer did, so that it can be used again.
const GRACE: Duration = Duration::from_millis(100);

/// An answer that is being received.
pub struct Reply {
    events: Events,
    decoder: Decoder,
    ready: VecDeque<ModelChunk>,
    idle: Duration,
}

impl Reply {
    /// Reads `bytes` with `decoder`; a silence longer than `idle` is a failure.
    pub fn new<S, E>(bytes: S, decoder: Decoder, idle: Duration) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        Self { events: Events::new(bytes), decoder, ready: VecDeque::new(), idle }
    }

    /// Waits until the first chunk is there, without taking it.
    ///
    /// # Errors
    /// [`Failure`], and then nothing of this answer was seen by anybody.
    pub async fn first(&mut self) -> Result<(), Failure> {
        while self.ready.is_empty() && !self.decoder.done() {
            self.read().await?;
        }
        Ok(())
    }

    /// The next chunk; `None` after [`ModelChunk::Finished`].
    ///
    /// # Errors
    /// [`Failure`], also when the stream ends before the answer does.
    pub async fn next(&mut self) -> Result<Option<ModelChunk>, Failure> {
        self.first().await?;
        Ok(self.ready.pop_front())
    }

    /// Lets the connection end by itself after the last chunk.
    pub async fn close(mut self) {
        let _ = timeout(GRACE, self.events.next()).await;
    }

    async fn read(&mut self) -> Result<(), Failure> {
        let silent = |_| Failure::new(Class::Silent, format!("nothing for {} s", self.idle.as_secs_f32()));
        let event = timeout(self.idle, self.events.next()).await.map_err(silent)?;
        let mut chunks = Vec::new();
        // What came before an error in the same event is of no use without the rest.
        match event.transpose()? {
            Some(data) => self.decoder.event(&data, &mut chunks)?,
            None => self.decoder.end(&mut chunks)?,
        }
        self.ready.extend(chunks);
        Ok(())
    }
}
