//! What the channel is told: where Slack is, where its tokens are, and how patient to be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use proto::keys::SigningKey;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use crate::link::Pace;

/// Slack refuses more connections than this for one app.
const MAX_CONNECTIONS: usize = 10;

/// Settings of `channel-slack`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The Web API, with the slash at the end.
    pub api_url: String,
    /// File with the app-level token (`xapp-…`, scope `connections:write`).
    pub app_token: PathBuf,
    /// File with the bot token (`xoxb-…`).
    pub bot_token: PathBuf,
    /// File with the key that signs who wrote what.
    pub origin_key: PathBuf,
    /// PEM file with further certificate authorities, for a company's own proxy.
    pub extra_ca: Option<PathBuf>,
    /// Socket Mode connections, 1 to 10. Two, so that messages come in while one is replaced.
    pub connections: usize,
    /// How patient to be.
    pub timing: Timing,
}

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// One call of the Web API.
    pub call_ms: u64,
    /// Making a Socket Mode connection: each of fetching its URL and dialling.
    pub open_ms: u64,
    /// Between two pings.
    pub ping_ms: u64,
    /// Without an answer to pings for so long, a connection is dead.
    pub dead_ms: u64,
    /// How long a connection that Slack is about to close is still read.
    pub drain_ms: u64,
    /// From our close frame to dropping the connection.
    pub close_ms: u64,
    /// First wait after a failure; doubles with each one.
    pub backoff_ms: u64,
    /// Longest wait after a failure.
    pub backoff_max_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_url: "https://slack.com/api/".to_owned(),
            app_token: "/run/secrets/app-token".into(),
            bot_token: "/run/secrets/bot-token".into(),
            origin_key: "/keys/origin.key".into(),
            extra_ca: None,
            connections: 2,
            timing: Timing::default(),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            call_ms: 10_000,
            open_ms: 10_000,
            ping_ms: 5_000,
            dead_ms: 15_000,
            drain_ms: 30_000,
            close_ms: 2_000,
            backoff_ms: 1_000,
            backoff_max_ms: 30_000,
        }
    }
}

impl Timing {
    /// One call of the Web API.
    pub(crate) fn call(&self) -> Duration {
        Duration::from_millis(self.call_ms)
    }

    /// Fetching a URL, or dialling it.
    pub(crate) fn open(&self) -> Duration {
        Duration::from_millis(self.open_ms)
    }

    /// The times of the connections' state machine.
    pub(crate) fn pace(&self) -> Pace {
        Pace {
            // Fetch the URL, dial, hello.
            open: self.open() * 3,
            ping: Duration::from_millis(self.ping_ms),
            dead: Duration::from_millis(self.dead_ms),
            drain: Duration::from_millis(self.drain_ms),
            close: Duration::from_millis(self.close_ms),
            backoff: Duration::from_millis(self.backoff_ms),
            backoff_max: Duration::from_millis(self.backoff_max_ms),
        }
    }
}

/// What the configuration leads to, read and checked.
pub(crate) struct Setup {
    pub(crate) api_url: Url,
    pub(crate) app_token: SecretString,
    pub(crate) bot_token: SecretString,
    pub(crate) origin_key: SigningKey,
}

impl Setup {
    /// Reads everything and tells everything that is wrong at once.
    pub(crate) fn read(config: &Config) -> anyhow::Result<Self> {
        let api_url = check(config);
        let app_token = token(&config.app_token, "xapp-", "the app-level token (Basic Information, App-Level Tokens)");
        let bot_token = token(&config.bot_token, "xoxb-", "the bot token (Install App)");
        let origin_key = origin_key(&config.origin_key);
        match (api_url, app_token, bot_token, origin_key) {
            (Ok(api_url), Ok(app_token), Ok(bot_token), Ok(origin_key)) => {
                Ok(Self { api_url, app_token, bot_token, origin_key })
            }
            (a, b, c, d) => {
                let wrong = [a.err(), b.err(), c.err(), d.err()];
                let wrong: Vec<String> = wrong.into_iter().flatten().map(|error| format!("{error:#}")).collect();
                bail!("{}", wrong.join("; "))
            }
        }
    }
}

fn check(config: &Config) -> anyhow::Result<Url> {
    let api_url: Url = config.api_url.parse().context("api_url is no URL")?;
    if !api_url.path().ends_with('/') {
        bail!("api_url must end with a slash");
    }
    if !matches!(api_url.scheme(), "https" | "http") {
        bail!("api_url must be https (or http, for tests)");
    }
    if !(1..=MAX_CONNECTIONS).contains(&config.connections) {
        bail!("connections must be 1 to {MAX_CONNECTIONS}");
    }
    Ok(api_url)
}

/// The two tokens are often put into each other's place: their beginnings tell.
fn token(path: &Path, start: &str, what: &str) -> anyhow::Result<SecretString> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let token = SecretString::from(text.trim());
    if token.expose_secret().starts_with(start) {
        Ok(token)
    } else {
        bail!("{} must hold {what}, which starts with {start}", path.display())
    }
}

fn origin_key(path: &Path) -> anyhow::Result<SigningKey> {
    let pem = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    SigningKey::from_pem(&pem).with_context(|| format!("{} is not usable", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_no_secret_with_it() {
        let dir = std::env::temp_dir().join(format!("nachos-slack-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&dir).unwrap();
        let swapped = dir.join("app-token");
        std::fs::write(&swapped, "xoxb-secret").unwrap();
        let config = Config {
            connections: 11,
            app_token: swapped,
            bot_token: dir.join("none"),
            origin_key: dir.join("none"),
            ..Config::default()
        };
        let error = format!("{:#}", Setup::read(&config).err().unwrap());
        for word in ["connections", "xapp-", "none"] {
            assert!(error.contains(word), "{error}");
        }
        assert!(!error.contains("secret"), "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
