//! The few methods of Slack's Web API that the channel needs. Every call has a deadline and a bounded answer; a method that Slack
//! limits is left alone for as long as it asks.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use crate::event::Identity;
use crate::trouble::{Class, Trouble, classify};

/// Largest answer that is read. A page of 200 thread messages with blocks has some hundred KiB.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Wait after a 429 that does not say how long.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(10);

/// Longest wait that is taken from Slack: a wrong header must not silence the channel for a day.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Messages of a thread that are read at once, and how many pages, to learn whether the agent takes part in it.
const REPLIES_PAGE: u32 = 200;
const REPLIES_PAGES: u32 = 5;

/// Longest name that stands for a user.
const MAX_NAME: usize = 80;

/// The bot scopes that the channel uses; those of the manifest.
pub(crate) const SCOPES: [&str; 7] = [
    "app_mentions:read",
    "channels:history",
    "chat:write",
    "groups:history",
    "im:history",
    "mpim:history",
    "users:read",
];

/// A call brought no `ok: true`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    /// Slack wants fewer calls of this method.
    #[error("Slack limits {method}, to be tried again in {} s", after.as_secs())]
    Limited {
        /// The method.
        method: &'static str,
        /// How long to leave it alone.
        after: Duration,
    },
    /// Slack answered `ok: false`.
    #[error("Slack answers {code} to {method}")]
    Refused {
        /// The method.
        method: &'static str,
        /// Slack's error code.
        code: String,
        /// The scope that is missing, with `missing_scope`.
        needed: Option<String>,
    },
    /// No usable answer. The call may have been carried out.
    #[error("no usable answer to {method}: {why}")]
    Unreachable {
        /// The method.
        method: &'static str,
        /// Why, without the URL.
        why: String,
    },
}

impl WebError {
    /// What the error asks of us.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Limited { .. } | Self::Unreachable { .. } => Class::Retry,
            Self::Refused { code, .. } => classify(code),
        }
    }

    /// How long Slack wants to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited { after, .. } => Some(*after),
            _ => None,
        }
    }

    /// What a person has to mend, if it is that.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Refused { code, needed, .. } if classify(code) == Class::Fatal => {
                Some(Trouble::of_code(code, needed.as_deref()))
            }
            _ => None,
        }
    }
}

/// Who the bot token belongs to, and which of [`SCOPES`] it lacks.
#[derive(Debug)]
pub(crate) struct Introduction {
    pub(crate) me: Identity,
    pub(crate) team: String,
    pub(crate) missing: Vec<&'static str>,
}

/// The Web API of one workspace.
pub(crate) struct Web {
    http: reqwest::Client,
    base: Url,
    app_token: SecretString,
    bot_token: SecretString,
    /// Until when a method is to be left alone.
    gates: Mutex<HashMap<&'static str, Instant>>,
}

struct Answer {
    body: Value,
    headers: HeaderMap,
}

impl Web {
    /// A client. Nothing is taken from the environment, and no redirect is followed: the token is for Slack alone.
    pub(crate) fn new(
        base: Url,
        tls: rustls::ClientConfig,
        timeout: Duration,
        (app_token, bot_token): (SecretString, SecretString),
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout)
            .timeout(timeout)
            .user_agent(concat!("nachos/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, base, app_token, bot_token, gates: Mutex::default() })
    }

    /// `apps.connections.open`: a URL for one Socket Mode connection, good for one dial within seconds.
    pub(crate) async fn open_connection(&self) -> Result<String, WebError> {
        const METHOD: &str = "apps.connections.open";
        let request = self.post(METHOD).await?.bearer_auth(self.app_token.expose_secret());
        let answer = self.send(METHOD, request).await?;
        text(&answer.body, "/url").ok_or_else(|| unreachable(METHOD, "it names no url"))
    }

    /// `auth.test`: who we are.
    pub(crate) async fn introduce(&self) -> Result<Introduction, WebError> {
        const METHOD: &str = "auth.test";
        let request = self.bot_post(METHOD).await?;
        let answer = self.send(METHOD, request).await?;
        let user = text(&answer.body, "/user_id").ok_or_else(|| unreachable(METHOD, "it names no user_id"))?;
        Ok(Introduction {
            me: Identity { user, bot: text(&answer.body, "/bot_id") },
            team: text(&answer.body, "/team").unwrap_or_default(),
            missing: missing_scopes(&answer.headers),
        })
    }

    /// `chat.postMessage`; the time stamp of the message. The body's `client_msg_id` makes repeating it harmless.
    pub(crate) async fn post_message(&self, body: &Value) -> Result<Option<String>, WebError> {
        const METHOD: &str = "chat.postMessage";
        let request = self.bot_post(METHOD).await?.json(body);
        let answer = self.send(METHOD, request).await?;
        Ok(text(&answer.body, "/ts"))
    }

    /// `users.info`: what to call a user.
    pub(crate) async fn user_name(&self, user: &str) -> Result<Option<String>, WebError> {
        const METHOD: &str = "users.info";
        let request = self.bot_post(METHOD).await?.form(&[("user", user)]);
        let answer = self.send(METHOD, request).await?;
        let places = ["/user/profile/display_name", "/user/profile/real_name", "/user/real_name", "/user/name"];
        let name =
            places.into_iter().filter_map(|place| text(&answer.body, place)).find(|name| !name.trim().is_empty());
        Ok(name.map(|name| name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect()))
    }

    /// `conversations.replies`: whether `found` holds for the messages of a thread, looked at page by page.
    pub(crate) async fn thread_has(
        &self,
        channel: &str,
        root: &str,
        found: impl Fn(&[Value]) -> bool,
    ) -> Result<bool, WebError> {
        const METHOD: &str = "conversations.replies";
        let mut cursor = String::new();
        for _ in 0..REPLIES_PAGES {
            let limit = REPLIES_PAGE.to_string();
            let form = [("channel", channel), ("ts", root), ("limit", &limit), ("cursor", &cursor)];
            let request = self.bot_post(METHOD).await?.form(&form);
            let answer = self.send(METHOD, request).await?;
            let messages = answer.body.get("messages").and_then(Value::as_array);
            if messages.is_some_and(|messages| found(messages)) {
                return Ok(true);
            }
            match text(&answer.body, "/response_metadata/next_cursor") {
                Some(next) if !next.is_empty() => cursor = next,
                _ => break,
            }
        }
        Ok(false)
    }

    async fn bot_post(&self, method: &'static str) -> Result<RequestBuilder, WebError> {
        Ok(self.post(method).await?.bearer_auth(self.bot_token.expose_secret()))
    }

    /// A request, unless Slack asked to be left alone.
    async fn post(&self, method: &'static str) -> Result<RequestBuilder, WebError> {
        let gate = self.gates.lock().unwrap_or_else(PoisonError::into_inner).get(method).copied();
        let after = gate.unwrap_or_else(Instant::now).saturating_duration_since(Instant::now());
        if !after.is_zero() {
            return Err(WebError::Limited { method, after });
        }
        let url = self.base.join(method).map_err(|_| unreachable(method, "the URL cannot be made"))?;
        Ok(self.http.post(url))
    }

    async fn send(&self, method: &'static str, request: RequestBuilder) -> Result<Answer, WebError> {
        let failed = |error: reqwest::Error| unreachable(method, &chain(&error.without_url()));
        let mut response = request.send().await.map_err(failed)?;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            return Err(self.limited(method, response.headers()));
        }
        if !response.status().is_success() {
            return Err(unreachable(method, &format!("status {}", response.status())));
        }
        let headers = response.headers().clone();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(unreachable(method, "it is too long"));
            }
            bytes.extend_from_slice(&chunk);
        }
        let body = serde_json::from_slice(&bytes).map_err(|_| unreachable(method, "it is no JSON"))?;
        self.judge(method, body, headers)
    }

    fn judge(&self, method: &'static str, body: Value, headers: HeaderMap) -> Result<Answer, WebError> {
        if body.get("ok").and_then(Value::as_bool) == Some(true) {
            return Ok(Answer { body, headers });
        }
        let code = text(&body, "/error").unwrap_or_else(|| "no error code".to_owned());
        if matches!(code.as_str(), "ratelimited" | "rate_limited") {
            return Err(self.limited(method, &headers));
        }
        Err(WebError::Refused { method, code, needed: text(&body, "/needed") })
    }

    fn limited(&self, method: &'static str, headers: &HeaderMap) -> WebError {
        let seconds = headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let after = seconds.map_or(DEFAULT_RETRY_AFTER, Duration::from_secs).min(MAX_RETRY_AFTER);
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.insert(method, Instant::now() + after);
        WebError::Limited { method, after }
    }
}

/// The body of a reply in a thread: `blocks` as Markdown, or plain text alone.
pub(crate) fn message_body(
    channel: &str,
    thread: &str,
    client_msg_id: &str,
    (text, markdown): (&str, Option<&str>),
) -> Value {
    let mut body = json!({
        "channel": channel,
        "thread_ts": thread,
        "text": text,
        "client_msg_id": client_msg_id,
        // Nothing is fetched because a model wrote its address, and no word becomes a mention.
        "unfurl_links": false,
        "unfurl_media": false,
        "parse": "none",
        "link_names": false,
    });
    if let (Some(markdown), Some(fields)) = (markdown, body.as_object_mut()) {
        fields.insert("blocks".to_owned(), json!([{ "type": "markdown", "text": markdown }]));
    }
    body
}

/// Scopes that the header of `auth.test` does not list. Without the header nothing is known to be missing.
fn missing_scopes(headers: &HeaderMap) -> Vec<&'static str> {
    let Some(granted) = headers.get("x-oauth-scopes").and_then(|value| value.to_str().ok()) else {
        return Vec::new();
    };
    let granted: Vec<&str> = granted.split(',').map(str::trim).collect();
    SCOPES.into_iter().filter(|scope| !granted.contains(scope)).collect()
}

fn unreachable(method: &'static str, why: &str) -> WebError {
    WebError::Unreachable { method, why: why.to_owned() }
}

fn text(value: &Value, place: &str) -> Option<String> {
    value.pointer(place).and_then(Value::as_str).map(str::to_owned)
}

/// The error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_scopes_are_named() {
        let mut headers = HeaderMap::new();
        assert!(missing_scopes(&headers).is_empty());
        headers.insert("x-oauth-scopes", "chat:write, users:read,im:history".parse().unwrap());
        assert_eq!(
            missing_scopes(&headers),
            ["app_mentions:read", "channels:history", "groups:history", "mpim:history"]
        );
    }

    #[test]
    fn the_manifest_asks_for_the_scopes_that_are_used_and_no_others() {
        let manifest = crate::manifest();
        assert_eq!(manifest.pointer("/oauth_config/scopes/bot"), Some(&json!(SCOPES)));
        assert_eq!(manifest.pointer("/settings/socket_mode_enabled"), Some(&json!(true)));
    }
}
