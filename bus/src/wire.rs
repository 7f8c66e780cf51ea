//! Header names and small parsing of what the server and peers send.

use async_nats::HeaderMap;
use jiff::Timestamp;
use proto::trace::{TRACEPARENT, Trace};
use proto::{Refusal, RefusalCode};
use tokio::time::{Duration, Instant};

pub(crate) const DEADLINE: &str = "Nachos-Deadline";
pub(crate) const SEQ: &str = "Nachos-Seq";
/// On an empty message within a stream: its server is still at it.
pub(crate) const ALIVE: &str = "Nachos-Alive";
pub(crate) const MSG_ID: &str = "Nats-Msg-Id";
pub(crate) const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
pub(crate) const ERROR: &str = "Nats-Service-Error";
pub(crate) const ERROR_CODE: &str = "Nats-Service-Error-Code";

/// Longest time a call may ask for: a forged or mistaken deadline must not pin a worker.
pub(crate) const MAX_DEADLINE: Duration = Duration::from_secs(3600);

/// What a caller without a deadline gets.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// Headers of a call: its trace and, as milliseconds since 1970, when the caller stops waiting.
pub(crate) fn call_headers(trace: Trace, patience: Duration) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TRACEPARENT, trace.to_string());
    let deadline =
        Timestamp::now().as_millisecond().saturating_add(i64::try_from(patience.as_millis()).unwrap_or(i64::MAX));
    headers.insert(DEADLINE, deadline.to_string());
    headers
}

/// When the caller stops waiting; `None` if that has passed.
pub(crate) fn deadline(headers: Option<&HeaderMap>) -> Option<Instant> {
    let asked = headers.and_then(|h| h.get(DEADLINE)).and_then(|v| v.as_str().parse::<i64>().ok());
    let left = match asked {
        None => DEFAULT_DEADLINE,
        Some(at) => {
            Duration::from_millis(u64::try_from(at - Timestamp::now().as_millisecond()).ok().filter(|ms| *ms > 0)?)
        }
    };
    Some(Instant::now() + left.min(MAX_DEADLINE))
}

/// The trace that came along, if a valid one did.
pub(crate) fn trace(headers: Option<&HeaderMap>) -> Option<Trace> {
    headers?.get(TRACEPARENT)?.as_str().parse().ok()
}

/// The refusal in the headers, if it is one (NATS ADR-32).
pub(crate) fn refusal(headers: Option<&HeaderMap>) -> Option<Refusal> {
    let headers = headers?;
    let code = headers.get(ERROR_CODE)?.as_str().parse::<u16>().unwrap_or(500);
    let reason = headers.get(ERROR).map(|v| v.as_str().to_owned()).unwrap_or_default();
    Some(Refusal { code: RefusalCode::from(code), reason })
}

pub(crate) fn refusal_headers(refusal: &Refusal) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ERROR_CODE, refusal.code.to_string());
    headers.insert(ERROR, refusal.reason.as_str());
    headers
}

/// What a permission error of the server is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) operation: &'static str,
    pub(crate) subject: String,
}

/// Reads `Permissions Violation for Publish to "x"` and `… for Subscription to "x" using queue "q"`.
pub(crate) fn violation(text: &str) -> Option<Violation> {
    let lower = text.to_ascii_lowercase();
    let rest = lower.strip_prefix("permissions violation for ").map(|rest| text.get(text.len() - rest.len()..))??;
    let operation = if rest.to_ascii_lowercase().starts_with("publish") { "publish" } else { "subscribe" };
    let subject = rest.split('"').nth(1)?.to_owned();
    Some(Violation { operation, subject })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_tells_operation_and_subject() {
        let publish = violation(r#"Permissions Violation for Publish to "nachos.x""#).unwrap();
        assert_eq!((publish.operation, publish.subject.as_str()), ("publish", "nachos.x"));
        let subscribe = violation(r#"Permissions Violation for Subscription to "a.b" using queue "q""#).unwrap();
        assert_eq!((subscribe.operation, subscribe.subject.as_str()), ("subscribe", "a.b"));
        assert_eq!(violation("Stale Connection"), None);
    }

    #[test]
    fn a_deadline_that_passed_is_none() {
        let mut headers = HeaderMap::new();
        headers.insert(DEADLINE, "1000");
        assert!(deadline(Some(&headers)).is_none());
        headers.insert(DEADLINE, i64::MAX.to_string());
        assert!(deadline(Some(&headers)).unwrap() <= Instant::now() + MAX_DEADLINE);
        assert!(deadline(None).is_some());
    }
}
