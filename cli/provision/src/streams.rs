//! Streams: each is made once in the life of an installation. A mark outside the bus tells which were made, so that a store
//! that lost one is never silently given an empty one in its place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bus::config::AuditConfig;
use bus::{Bus, BusConfig, StreamSizes};
use clap::Args;
use proto::{Component, audit, links};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::files;

/// How long the server may take to find its whole store in order; a large one is read at start.
const HEALTHY_WITHIN: Duration = Duration::from_secs(120);

/// How often it is asked.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// One health question.
const ONE_QUESTION: Duration = Duration::from_secs(3);

/// Largest answer that is read.
const MAX_ANSWER: u64 = 64 * 1024;

/// Where the server is, where its health, and where the mark.
#[derive(Debug, Clone, Args)]
pub struct StreamPlan {
    /// The server.
    #[arg(long, default_value = "nats://127.0.0.1:4222")]
    pub bus: String,
    /// Host and port of the server's monitoring; its full `/healthz` must say ok.
    #[arg(long, default_value = "127.0.0.1:8222")]
    pub monitor: String,
    /// Folder with `bus.nk`, and with the mark of what was made.
    #[arg(long, default_value = "/keys")]
    pub keys: PathBuf,
    /// Folder with the sealed archive files of the record.
    #[arg(long, default_value = "/archive")]
    pub archive: PathBuf,
    /// How large the streams may grow.
    #[arg(skip)]
    pub sizes: StreamSizes,
}

/// Makes the streams and consumers that are missing; tells what was made.
///
/// # Errors
/// An unhealthy server, or a stream that was made once and is gone.
pub async fn make_streams(plan: &StreamPlan) -> anyhow::Result<String> {
    wait_until_healthy(&plan.monitor).await?;
    let bus = connect(plan).await?;
    let made = make_missing(&bus, &mark(plan), &plan.sizes).await;
    bus.drain().await;
    let made = made?;
    Ok(if made.is_empty() { "all streams are there already".to_owned() } else { format!("made {}", made.join(", ")) })
}

/// Connects as `provision`.
pub(super) async fn connect(plan: &StreamPlan) -> anyhow::Result<Bus> {
    let config = BusConfig { url: plan.bus.clone(), seed: plan.keys.join("bus.nk"), ..BusConfig::default() };
    Ok(Bus::connect(Component::Provision, &config, AuditConfig::default()).await?)
}

fn mark(plan: &StreamPlan) -> PathBuf {
    plan.keys.join("streams-made.json")
}

/// Marks streams as made.
pub(super) fn remember(plan: &StreamPlan, streams: &BTreeSet<String>) -> anyhow::Result<()> {
    let mark = mark(plan);
    let mut known = read_mark(&mark)?;
    known.extend(streams.iter().cloned());
    files::write(&mark, serde_json::to_string(&known)?.as_bytes())
}

async fn make_missing(bus: &Bus, mark: &Path, sizes: &StreamSizes) -> anyhow::Result<Vec<&'static str>> {
    let mut known = read_mark(mark)?;
    let mut made = Vec::new();
    for stream in links::STREAMS {
        match bus.stream_settings(stream).await.with_context(|| format!("cannot ask for the stream {stream}"))? {
            Some(settings) => check_guards(stream, &settings)?,
            None if known.contains(stream) => bail!(
                "the stream {stream} was made before and is gone from the bus's store. Nothing was made in its place. \
                 Restore the bus-data volume from a backup; to start over and lose all records: ./nachos down --volumes"
            ),
            None => {
                bus.create_stream(stream, sizes).await.with_context(|| format!("cannot make the stream {stream}"))?;
                made.push(stream);
            }
        }
        if known.insert(stream.to_owned()) {
            files::write(mark, serde_json::to_string(&known)?.as_bytes())?;
        }
        bus.create_consumers(stream).await.with_context(|| format!("cannot make the consumers of {stream}"))?;
    }
    Ok(made)
}

fn read_mark(mark: &Path) -> anyhow::Result<BTreeSet<String>> {
    match files::read(mark)? {
        None => Ok(BTreeSet::new()),
        Some(text) => serde_json::from_str(&text).with_context(|| format!("{} is not readable", mark.display())),
    }
}

/// The guards of the record must be what they were when it was made.
fn check_guards(stream: &str, settings: &Value) -> anyhow::Result<()> {
    let guarded = [audit::STREAM, audit::CHECKPOINTS].contains(&stream);
    let expected = json!({
        "storage": "file", "discard": "new", "deny_delete": true, "max_age": 0,
    });
    let expected = expected.as_object().filter(|_| guarded).into_iter().flatten();
    for (key, value) in expected {
        let found = settings.get(key).cloned().unwrap_or(json!(0));
        if found != *value {
            bail!(
                "the stream {stream} was changed: {key} is {found}, not {value}. Somebody with more rights than any component did this"
            );
        }
    }
    for key in ["allow_rollup_hdrs", "allow_msg_ttl"] {
        if settings.get(key).and_then(Value::as_bool) == Some(true) && guarded {
            bail!(
                "the stream {stream} was changed: {key} is on. Somebody with more rights than any component did this"
            );
        }
    }
    Ok(())
}

pub(super) async fn wait_until_healthy(monitor: &str) -> anyhow::Result<()> {
    let give_up = Instant::now() + HEALTHY_WITHIN;
    loop {
        let answer = timeout(ONE_QUESTION, ask_health(monitor)).await;
        let why = match answer {
            Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200") => return Ok(()),
            Ok(Ok(answer)) => answer.lines().last().unwrap_or_default().to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() >= give_up {
            bail!(
                "the bus does not get healthy: {why}. If its store cannot be recovered, was the storage key changed? \
                 Nothing was made; see `./nachos logs bus`"
            );
        }
        sleep(ASK_AGAIN).await;
    }
}

/// The full `/healthz`, every stream and consumer included.
async fn ask_health(monitor: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(monitor).await?;
    connection.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    connection.take(MAX_ANSWER).read_to_string(&mut answer).await?;
    Ok(answer)
}
