//! Where to send to.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

/// Settings of the forwarder.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How records are written.
    pub format: Format,
    /// A PEM file with certificates of authorities that are trusted besides the public ones.
    pub ca_bundle: Option<PathBuf>,
    /// A syslog collector.
    pub syslog: Option<Syslog>,
    /// An HTTP collector.
    pub webhook: Option<Webhook>,
}

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// An event of the Open Cybersecurity Schema Framework.
    #[default]
    Ocsf,
    /// As it is stored, with the stream's number and time beside it.
    CloudEvents,
}

/// A syslog collector (RFC 5424), over TLS (RFC 5425) unless told otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Syslog {
    /// Host and port; 6514 is the usual one.
    pub address: String,
    /// Whether the connection is TLS. Without it anybody on the way reads and changes records.
    #[serde(default = "yes")]
    pub tls: bool,
    /// HOSTNAME of the messages.
    #[serde(default = "hostname")]
    pub hostname: String,
}

/// An HTTP collector.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where batches are posted to.
    pub url: Url,
    /// Most records of one request.
    #[serde(default = "batch")]
    pub batch: usize,
    /// The file with the secret that signs requests; without it they are not signed.
    #[serde(default = "secret")]
    pub secret: PathBuf,
}

fn yes() -> bool {
    true
}

fn hostname() -> String {
    "nachos".to_owned()
}

fn batch() -> usize {
    100
}

fn secret() -> PathBuf {
    "/run/secrets/webhook-secret".into()
}
