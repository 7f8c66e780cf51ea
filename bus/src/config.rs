//! What every component is told about the bus.

use std::path::{Path, PathBuf};

use proto::content::ContentMode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The tables `[bus]`, `[log]`, `[audit]` and `[health]` that every component's file may have.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommonConfig {
    /// Where the bus is and who we are.
    pub bus: BusConfig,
    /// What is logged.
    pub log: LogConfig,
    /// What records hold.
    pub audit: AuditConfig,
    /// The health check.
    pub health: HealthConfig,
}

/// `[bus]`: where the server is and which key proves who we are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    /// The server's URL.
    pub url: String,
    /// File with the component's nkey seed.
    pub seed: PathBuf,
    /// How long to try for a first connection, in seconds.
    pub connect_seconds: u64,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self { url: "nats://bus:4222".to_owned(), seed: "/keys/bus.nk".into(), connect_seconds: 30 }
    }
}

/// `[log]`: what goes to standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// A filter as of `tracing_subscriber::EnvFilter`, for example `info` or `gateway=debug,info`.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), json: false }
    }
}

/// `[audit]`: how much of messages, arguments and results the component's records hold.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// `digest`, `redacted` (default) or `full`.
    pub content: ContentMode,
}

/// `[health]`: where the health check of the container looks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Heartbeat file, on a tmpfs. No file is written when the path is empty.
    pub file: PathBuf,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { file: "/tmp/health.json".into() }
    }
}

/// A configuration file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says something that it may not say.
    #[error("{path}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What, with the place.
        message: String,
    },
}

/// Reads a component's file: the common tables, and the rest as the component's own `C`. Unknown keys are refused.
///
/// # Errors
/// [`ConfigError`].
pub fn read<C: DeserializeOwned>(path: &Path) -> Result<(CommonConfig, C), ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(&text).map_err(|message| ConfigError::Invalid { path: path.to_owned(), message })
}

/// As [`read`], from text.
///
/// # Errors
/// What is wrong, in words.
pub fn parse<C: DeserializeOwned>(text: &str) -> Result<(CommonConfig, C), String> {
    let mut own: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut common = toml::Table::new();
    for table in ["bus", "log", "audit", "health"] {
        if let Some(value) = own.remove(table) {
            common.insert(table.to_owned(), value);
        }
    }
    let common = common.try_into::<CommonConfig>();
    let own = own.try_into::<C>();
    match (common, own) {
        (Ok(common), Ok(own)) => Ok((common, own)),
        (common, own) => {
            let both = [common.err().map(|e| e.to_string()), own.err().map(|e| e.to_string())];
            Err(both.into_iter().flatten().collect::<Vec<_>>().join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Own {
        steps: u32,
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let (common, own): (_, Own) = parse("").unwrap();
        assert_eq!((common.bus.url.as_str(), own.steps), ("nats://bus:4222", 0));
    }

    #[test]
    fn unknown_keys_are_refused_all_at_once() {
        let error = parse::<Own>("step = 1\n[bus]\nurll = 'x'\n").unwrap_err();
        assert!(error.contains("urll") && error.contains("step"), "{error}");
        let (common, own): (_, Own) = parse("steps = 3\n[audit]\ncontent = 'full'\n").unwrap();
        assert_eq!((common.audit.content, own.steps), (ContentMode::Full, 3));
    }
}
