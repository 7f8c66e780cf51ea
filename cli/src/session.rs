//! What every command needs: the settings, and a connection to the bus as the component `cli`.

use std::path::{Path, PathBuf};

use bus::Bus;
use bus::config::{self, CommonConfig, ConfigError};
use proto::Component;
use serde::Deserialize;

use crate::failure::Failure;

/// Where the settings are, if there are any.
const DEFAULT_CONFIG: &str = "/etc/nachos/cli.toml";

/// Longest wait for a first connection, in seconds: a person waits, and the bus either is there or needs them.
const CONNECT_SECONDS: u64 = 5;

/// Settings of the user's tool.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The key that signs what the user writes, PKCS#8 PEM.
    pub(crate) origin_key: PathBuf,
    /// The public key that checkpoints of the audit log must be signed with.
    pub(crate) checkpoint_key: PathBuf,
    /// The second store of checkpoints, outside the bus.
    pub(crate) checkpoints: PathBuf,
    /// The folder with the sealed archive files of the audit log.
    pub(crate) archive: PathBuf,
    /// Keys of witnesses who sign checkpoints too, as C2SP verifier keys.
    pub(crate) witnesses: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            origin_key: "/keys/origin.key".into(),
            checkpoint_key: "/keys/checkpoint.pub".into(),
            checkpoints: "/checkpoints/checkpoints.jsonl".into(),
            archive: "/archive".into(),
            witnesses: Vec::new(),
        }
    }
}

/// The settings, still to be read: commands that need none work without.
pub(crate) struct Session {
    config: Option<PathBuf>,
}

impl Session {
    /// With the file of the command line, if it names one.
    pub(crate) fn new(config: Option<PathBuf>) -> Self {
        Self { config }
    }

    /// Reads the settings.
    pub(crate) fn settings(&self) -> Result<(CommonConfig, Config), Failure> {
        let file = match &self.config {
            Some(named) => named.as_path(),
            None if !Path::new(DEFAULT_CONFIG).exists() => return Ok(Default::default()),
            None => Path::new(DEFAULT_CONFIG),
        };
        config::read(file).map_err(|error: ConfigError| Failure::from(anyhow::Error::new(error)))
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Bus, Failure> {
        let (common, _) = self.settings()?;
        connect(common).await
    }
}

/// Connects with these settings.
pub(crate) async fn connect(common: CommonConfig) -> Result<Bus, Failure> {
    let mut to = common.bus;
    to.connect_seconds = to.connect_seconds.min(CONNECT_SECONDS);
    Ok(Bus::connect(Component::Cli, &to, common.audit).await?)
}
