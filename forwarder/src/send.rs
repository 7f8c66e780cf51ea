//! What is sent, where to, and what a refusal means.

use std::fmt;
use std::time::Duration;

use anyhow::bail;
use jiff::Timestamp;
use ledger::ocsf;
use proto::seal::RawRecord;
use serde_json::{Value, json};

use crate::config::{Config, Format};
use crate::syslog::Collector;
use crate::webhook::Hook;

/// Most records of a batch for syslog, which are written one after the other.
const SYSLOG_BATCH: usize = 100;

/// One thing to send.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// A record.
    Record(RawRecord),
    /// A signed checkpoint.
    Checkpoint {
        /// The note.
        note: String,
        /// When the stream stored it.
        at: Timestamp,
    },
}

impl Item {
    /// A record as JSON, or a checkpoint.
    pub(crate) fn to_json(&self, format: Format) -> Value {
        match (self, format) {
            (Self::Checkpoint { note, .. }, _) => json!({"checkpoint": note}),
            (Self::Record(record), Format::Ocsf) => ocsf::event(record),
            (Self::Record(record), Format::CloudEvents) => {
                let body: Value = serde_json::from_slice(record.body.as_bytes())
                    .unwrap_or_else(|_| String::from_utf8_lossy(record.body.as_bytes()).into());
                json!({"seq": record.seq, "time_ns": record.time_ns, "subject": record.subject, "record": body})
            }
        }
    }
}

/// Why the destination did not take something.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It is away, overloaded or broken: later.
    Later(String, Option<Duration>),
    /// It will not take it as things are: somebody has to change a setting.
    Settings(String),
}

impl Refused {
    /// How long it wants to be left alone.
    pub(crate) fn after(&self) -> Option<Duration> {
        match self {
            Self::Later(_, after) => *after,
            Self::Settings(_) => None,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Later(..) => "records wait in the stream and go out when it takes them again",
            Self::Settings(_) => {
                "look at deploy/config/forwarder.toml, the secret and the collector; records wait in the stream"
            }
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Later(why, _) | Self::Settings(why) => f.write_str(why),
        }
    }
}

/// The one place that is sent to.
#[derive(Clone)]
pub(crate) enum Destination {
    /// Syslog.
    Syslog(Box<Collector>),
    /// HTTP.
    Webhook(Hook),
}

impl Destination {
    /// What the settings say; `None` if nothing is set.
    pub(crate) fn of(config: &Config) -> anyhow::Result<Option<Self>> {
        match (&config.syslog, &config.webhook) {
            (None, None) => Ok(None),
            (Some(syslog), None) => Ok(Some(Self::Syslog(Box::new(Collector::new(syslog, config)?)))),
            (None, Some(webhook)) => Ok(Some(Self::Webhook(Hook::new(webhook, config)?))),
            (Some(_), Some(_)) => bail!("both [syslog] and [webhook] are set: one forwarder sends to one destination"),
        }
    }

    /// Most records at once.
    pub(crate) fn batch(&self) -> usize {
        match self {
            Self::Syslog(_) => SYSLOG_BATCH,
            Self::Webhook(hook) => hook.batch(),
        }
    }

    /// Sends all of them.
    pub(crate) async fn send(&mut self, items: &[Item]) -> Result<(), Refused> {
        match self {
            Self::Syslog(collector) => collector.send(items).await,
            Self::Webhook(hook) => hook.send(items).await,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syslog(collector) => write!(f, "syslog {}", collector.address()),
            Self::Webhook(hook) => write!(f, "webhook {}", hook.place()),
        }
    }
}
