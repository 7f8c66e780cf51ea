//! Asking a provider over HTTP: send, look at the status, wait for the first piece of the answer, and before that piece try once more
//! where it can help. After the first piece nothing is repeated: the person has seen it.

use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use crate::error::{Class, Failure};
use crate::models::Endpoint;
use crate::reply::Reply;

/// Tries in all. Providers repeat nothing for us, and a third try helps whoever overloads them more than it helps the person.
const TRIES: u32 = 2;

/// Longest wait that a provider may ask for before the second try; beyond it the person hears how long it is.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(20);

/// Wait before the second try when the provider names none.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Largest error body that is read, in bytes.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// Longest wait for an error's body once its status is there: the status alone says enough.
const ERROR_BODY: Duration = Duration::from_secs(5);

/// What bounds one request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// When the first piece of the answer must be there, whatever was tried until then.
    pub first_output: Instant,
    /// Longest silence in the middle of an answer.
    pub idle: Duration,
}

/// Asks, and returns when the first piece of the answer is there.
///
/// # Errors
/// [`Failure`] of the last try.
pub async fn ask(http: &reqwest::Client, endpoint: &Endpoint, body: Vec<u8>, limits: Limits) -> Result<Reply, Failure> {
    let body = bytes::Bytes::from(body);
    let mut tries = 1;
    loop {
        let failure = match timeout_at(limits.first_output, attempt(http, endpoint, body.clone(), limits.idle)).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(failure)) => failure,
            Err(_) => return Err(Failure::new(Class::Silent, "nothing came")),
        };
        let wait = failure.retry_after.unwrap_or_else(backoff);
        let in_time = wait <= MAX_RETRY_AFTER && Instant::now() + wait < limits.first_output;
        if tries >= TRIES || !in_time || !failure.may_retry() {
            return Err(failure);
        }
        tracing::info!(%failure, wait_ms = wait.as_millis(), "trying once more");
        sleep(wait).await;
        tries += 1;
    }
}

/// Spread over the second half, so that requests that failed together do not come back together.
fn backoff() -> Duration {
    let random = Uuid::now_v7().as_bytes().last().copied().unwrap_or_default();
    RETRY_AFTER.mul_f64(0.5 + f64::from(random) / 512.0)
}

async fn attempt(
    http: &reqwest::Client,
    endpoint: &Endpoint,
    body: bytes::Bytes,
    idle: Duration,
) -> Result<Reply, Failure> {
    let headers = endpoint.wire.headers(endpoint.key.as_ref())?;
    let request = http.post(endpoint.url.clone()).headers(headers).header(CONTENT_TYPE, "application/json");
    let response = request.body(body).send().await.map_err(unreachable)?;
    if !response.status().is_success() || is_json(response.headers()) {
        return Err(refused(endpoint, response).await);
    }
    let decoder = endpoint.wire.decoder(format!("call-{}", Uuid::now_v7().simple()));
    let mut reply = Reply::new(response.bytes_stream(), decoder, idle);
    reply.first().await?;
    Ok(reply)
}

fn unreachable(error: reqwest::Error) -> Failure {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        said = format!("{said}: {inner}");
        source = inner.source();
    }
    Failure::new(Class::Unreachable, said)
}

/// JSON where a stream was asked for: some servers answer errors with status 200.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("application/json"))
}

async fn refused(endpoint: &Endpoint, response: reqwest::Response) -> Failure {
    let status = response.status();
    let headers = response.headers().clone();
    let body = timeout(ERROR_BODY, head(response)).await.unwrap_or_default();
    let mut failure = match status.as_u16() {
        200..300 if !body.contains("\"error\"") => {
            return Failure::new(Class::Malformed, "a whole JSON answer where a stream was asked for");
        }
        200..300 => endpoint.wire.failure(500, &body),
        300..400 => {
            return Failure::new(Class::UnknownModel, format!("status {status}: redirects are not followed"));
        }
        status => endpoint.wire.failure(status, &body),
    };
    failure.retry_after = retry_after(&headers, Timestamp::now());
    failure.retry = should_retry(&headers);
    tracing::warn!(%status, request_id = request_id(&headers), %failure, "the provider refused");
    failure
}

async fn head(response: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(Ok(read)) = stream.next().await {
        bytes.extend_from_slice(&read);
        if bytes.len() >= MAX_ERROR_BODY {
            break;
        }
    }
    bytes.truncate(MAX_ERROR_BODY);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What a provider's support asks for first.
fn request_id(headers: &HeaderMap) -> &str {
    text(headers, "x-request-id").or_else(|| text(headers, "request-id")).unwrap_or_default()
}

fn should_retry(headers: &HeaderMap) -> Option<bool> {
    text(headers, "x-should-retry").and_then(|word| word.parse().ok())
}

/// `retry-after-ms`, then `retry-after` in seconds or as a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let number = |name| text(headers, name).and_then(|value| value.trim().parse::<f64>().ok());
    if let Some(ms) = number("retry-after-ms") {
        return Duration::try_from_secs_f64(ms / 1000.0).ok();
    }
    if let Some(seconds) = number("retry-after") {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::parse(text(headers, "retry-after")?).ok()?;
    let wait = date.timestamp().duration_since(now);
    Some(Duration::try_from(wait).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(name: &'static str, value: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        retry_after(&headers, "2026-11-20T08:00:00Z".parse().unwrap())
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        assert_eq!(wait("retry-after", "3"), Some(Duration::from_secs(3)));
        assert_eq!(wait("retry-after", "0.25"), Some(Duration::from_millis(250)));
        assert_eq!(wait("retry-after-ms", "40"), Some(Duration::from_millis(40)));
        assert_eq!(wait("retry-after", "Fri, 20 Nov 2026 08:00:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(wait("retry-after", "Fri, 20 Nov 2026 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("retry-after", "soon"), None);
        assert_eq!(wait("retry-after", "-1"), None);
        assert_eq!(wait("retry-after", "NaN"), None);
        assert_eq!(wait("x-other", "1"), None);
    }

    #[test]
    fn the_wait_without_a_wish_is_short_and_spread() {
        let waits: Vec<_> = (0..50).map(|_| backoff()).collect();
        assert!(waits.iter().all(|wait| (RETRY_AFTER / 2..=RETRY_AFTER).contains(wait)));
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
