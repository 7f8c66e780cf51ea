//! An HTTP collector: batches as JSON, signed if there is a secret; taken when it answers 2xx.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use sha2::Sha256;
use url::Url;

use crate::config::{Config, Format, Webhook};
use crate::send::{Item, Refused};
use crate::tls;

/// How long connecting may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a whole request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// Most records of one request, whatever the settings say: of 64 KiB each they are some megabytes.
const MAX_BATCH: usize = 500;

/// When the request was signed, in seconds since 1970: the receiver refuses what is too old, so that nobody plays it again.
const TIMESTAMP: &str = "X-Nachos-Timestamp";

/// `v1=<hex>`: HMAC-SHA256 of `<timestamp>.<body>`.
const SIGNATURE: &str = "X-Nachos-Signature";

/// A collector.
#[derive(Clone)]
pub(crate) struct Hook {
    client: Client,
    url: Url,
    batch: usize,
    format: Format,
    secret: Option<SecretString>,
}

impl Hook {
    pub(crate) fn new(settings: &Webhook, config: &Config) -> anyhow::Result<Self> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls::client(config.ca_bundle.as_deref())?)
            .no_proxy()
            // A redirected POST would carry the record to an address that nobody configured.
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .tcp_nodelay(true)
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .user_agent(concat!("nachos/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot make the HTTP client")?;
        let secret = secret(&settings.secret)?;
        let batch = settings.batch.clamp(1, MAX_BATCH);
        Ok(Self { client, url: settings.url.clone(), batch, format: config.format, secret })
    }

    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Host and port; the path may hold a token.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.url.host_str().unwrap_or_default(), self.url.port_or_known_default().unwrap_or_default())
    }

    pub(crate) async fn send(&self, items: &[Item]) -> Result<(), Refused> {
        let body = match items {
            [Item::Checkpoint { note, .. }] => json!({"checkpoint": note}),
            _ => json!({"records": items.iter().map(|item| item.to_json(self.format)).collect::<Vec<_>>()}),
        };
        let body = body.to_string();
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        if let Some(secret) = &self.secret {
            let now = Timestamp::now().as_second();
            request = request.header(TIMESTAMP, now).header(SIGNATURE, sign(secret, now, &body));
        }
        match request.body(body).send().await {
            Ok(response) => judge(&response),
            // Without its address, which may hold a token.
            Err(error) => Err(Refused::Later(error.without_url().to_string(), None)),
        }
    }
}

fn secret(file: &Path) -> anyhow::Result<Option<SecretString>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(SecretString::from(text.trim().to_owned()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn sign(secret: &SecretString, now: i64, body: &str) -> String {
    let key = secret.expose_secret().as_bytes();
    let mut mac = <Hmac<Sha256>>::new_from_slice(key).unwrap_or_else(|_| unreachable!("any length is a key"));
    mac.update(format!("{now}.{body}").as_bytes());
    format!("v1={}", hex::encode(mac.finalize().into_bytes()))
}

fn judge(response: &Response) -> Result<(), Refused> {
    let status = response.status();
    let said = format!("it answers {status}");
    if status.is_success() {
        return Ok(());
    }
    let busy = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    if status.is_server_error() || busy {
        let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok());
        return Err(Refused::Later(said, after.and_then(|after| retry_after(after, Timestamp::now()))));
    }
    Err(Refused::Settings(said))
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_over_time_and_body() {
        let secret = SecretString::from("key".to_owned());
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac key
        let found = sign(&secret, 1_700_000_000, "{}");
        assert_eq!(found, "v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae");
        assert_ne!(found, sign(&secret, 1_700_000_001, "{}"));
        assert_ne!(found, sign(&secret, 1_700_000_000, "{} "));
    }

    #[test]
    fn both_forms_of_retry_after_are_understood() {
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Fri, 20 Nov 2026 10:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Fri, 20 Nov 2026 09:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }
}
