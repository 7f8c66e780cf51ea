//! Server-sent events out of a byte stream, with a cap on one event and on the whole answer: the parser buffers without bound, and a
//! provider, or whoever answers in its name, must not be able to fill our memory.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use sse_stream::{Sse, SseByteStream};

use crate::error::{Class, Failure};

/// Largest event in bytes. A delta has a few hundred; whole tool arguments in one event, as some servers send them, a few hundred
/// thousand. Counted per network read, so it is exact to the size of one read.
pub const MAX_EVENT: usize = 1 << 20;

/// Largest answer in bytes, framing included: 128 k tokens of text are about 0.5 MB, in OpenAI's framing about 30 MB.
pub const MAX_RESPONSE: usize = 64 << 20;

type Parsed = Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>;

/// The events of one answer.
pub struct Events {
    parsed: Parsed,
    meter: Arc<Meter>,
}

impl Events {
    /// Reads `bytes` as events.
    pub fn new<S, E>(bytes: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let meter = Arc::new(Meter::default());
        let counted = Arc::clone(&meter);
        let metered = bytes.map(move |read| match read {
            Ok(bytes) => counted.count(bytes),
            Err(error) => Err(ReadError::Broken(Box::new(error))),
        });
        Self { parsed: Box::pin(SseByteStream::new(metered)), meter }
    }

    /// The data of the next event that has any; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Result<String, Failure>> {
        loop {
            let event = self.parsed.next().await?;
            self.meter.event.store(0, Ordering::Relaxed);
            match event {
                Ok(Sse { data: Some(data), .. }) => return Some(Ok(data)),
                Ok(_) => {}
                Err(error) => return Some(Err(failure(&error))),
            }
        }
    }
}

/// What was read since the last event, and in all.
#[derive(Default)]
struct Meter {
    event: AtomicUsize,
    total: AtomicUsize,
}

impl Meter {
    fn count(&self, bytes: Bytes) -> Result<Bytes, ReadError> {
        let event = self.event.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        let total = self.total.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        // What one read held of earlier events counts too; twice the cap leaves room for that.
        if event > 2 * MAX_EVENT {
            Err(ReadError::Event)
        } else if total > MAX_RESPONSE {
            Err(ReadError::Response)
        } else {
            Ok(bytes)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("an event of more than {MAX_EVENT} bytes")]
    Event,
    #[error("more than {MAX_RESPONSE} bytes in all")]
    Response,
    #[error("the connection broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn failure(error: &sse_stream::Error) -> Failure {
    let sse_stream::Error::Body(body) = error else {
        return Failure::new(Class::Malformed, error);
    };
    match body.downcast_ref::<ReadError>() {
        Some(cap @ (ReadError::Event | ReadError::Response)) => Failure::new(Class::TooLarge, cap),
        Some(broken) => Failure::new(Class::Truncated, chain(broken)),
        None => Failure::new(Class::Truncated, body),
    }
}

/// An error with everything under it: reqwest's own text stops at "error decoding response body".
fn chain(error: &ReadError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::stream;

    use super::*;

    fn events(reads: Vec<io::Result<Bytes>>) -> Events {
        Events::new(stream::iter(reads))
    }

    #[tokio::test]
    async fn comments_ids_and_names_are_no_data() {
        let text = ": ping\n\nid: 4\n\nevent: x\ndata: a\ndata: b\n\ndata:c\r\n\r\n";
        let mut events = events(vec![Ok(Bytes::from_static(text.as_bytes()))]);
        assert_eq!(events.next().await, Some(Ok("a\nb".to_owned())));
        assert_eq!(events.next().await, Some(Ok("c".to_owned())));
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn an_endless_event_ends_at_its_cap() {
        let piece = Bytes::from(vec![b'x'; 64 * 1024]);
        let reads = std::iter::once(Bytes::from_static(b"data: ")).chain(std::iter::repeat_n(piece, 1000));
        let mut events = events(reads.map(Ok).collect());
        assert_eq!(events.next().await.unwrap().unwrap_err().class, Class::TooLarge);
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn an_endless_answer_ends_at_its_cap() {
        let event = Bytes::from(format!("data: {}\n\n", "x".repeat(MAX_EVENT)));
        let mut events = events(std::iter::repeat_n(event, 100).map(Ok).collect());
        let mut seen = 0;
        let error = loop {
            match events.next().await.unwrap() {
                Ok(_) => seen += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((error.class, seen), (Class::TooLarge, 63));
    }

    #[tokio::test]
    async fn a_broken_connection_is_a_truncated_answer() {
        let mut events = events(vec![Ok(Bytes::from_static(b"data: a\n\nda")), Err(io::Error::other("reset by peer"))]);
        assert!(events.next().await.unwrap().is_ok());
        let error = events.next().await.unwrap().unwrap_err();
        assert_eq!(error.class, Class::Truncated);
        assert!(error.detail.contains("reset by peer"), "{error}");
    }
}
