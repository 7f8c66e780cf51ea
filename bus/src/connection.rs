//! The connection: who we are, and what must hold before anything is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerError};
use futures_util::StreamExt as _;
use proto::Component;
use proto::audit::{Fact, Scope};
use proto::content::ContentMode;
use proto::trace::Trace;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::audit::Recorder;
use crate::config::{AuditConfig, BusConfig};
use crate::discovery::Endpoints;
use crate::error::{CallError, ConnectError};
use crate::health::Board;
use crate::inbox::{Arrival, Inbox};
use crate::wire::{self, Violation};

/// One attempt to connect; a server that does not answer in this time is treated as down.
const DIAL: Duration = Duration::from_secs(3);

/// Longest pause between two attempts, also after a lost connection: a restarted bus must be found soon.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// A message over the own inbox takes microseconds; this long means that the server is not there.
const ROUND_TRIP: Duration = Duration::from_secs(3);

/// How long calls in progress may take to end at a drain; compose kills after ten seconds.
const DRAIN: Duration = Duration::from_secs(7);

/// Violations that wait to be recorded; more in one burst are counted in the log only.
const VIOLATIONS: usize = 64;

/// A component's connection to the bus. Cloning is cheap.
#[derive(Clone)]
pub struct Bus {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) component: Component,
    pub(crate) client: Client,
    pub(crate) inbox: Inbox,
    pub(crate) recorder: Recorder,
    pub(crate) board: Board,
    pub(crate) endpoints: Endpoints,
    pub(crate) content: ContentMode,
    pub(crate) stopping: CancellationToken,
    /// Calls that are being answered: a drain waits for them.
    pub(crate) calls: TaskTracker,
    /// Background tasks: a drain ends them.
    pub(crate) tasks: TaskTracker,
    denied: AtomicU64,
}

impl Bus {
    /// Connects as `component` and makes sure that messages over the own inbox come back.
    ///
    /// # Errors
    /// [`ConnectError`] when the seed is unreadable, or the server unreachable or unwilling for
    /// [`BusConfig::connect_seconds`].
    pub async fn connect(component: Component, config: &BusConfig, audit: AuditConfig) -> Result<Self, ConnectError> {
        let seed = std::fs::read_to_string(&config.seed)
            .map_err(|source| ConnectError::Seed { path: config.seed.clone(), source })?;
        let seed = SecretString::from(seed.trim().to_owned());
        let inbox = Inbox::new(component);
        let (violations, refused) = mpsc::channel(VIOLATIONS);
        let client = dial(component, config, &seed, &inbox, violations).await?;
        let bus = Self {
            inner: Arc::new(Inner {
                component,
                recorder: Recorder::new(),
                board: Board::default(),
                endpoints: Endpoints::default(),
                content: audit.content,
                stopping: CancellationToken::new(),
                calls: TaskTracker::new(),
                tasks: TaskTracker::new(),
                denied: AtomicU64::new(0),
                inbox,
                client,
            }),
        };
        bus.read_inbox().await.map_err(ConnectError::Inbox)?;
        bus.start_recorder();
        bus.spawn_detached(bus.clone().record_violations(refused));
        Ok(bus)
    }

    /// Who we are.
    pub fn component(&self) -> Component {
        self.inner.component
    }

    /// How much of contents goes into records.
    pub fn content_mode(&self) -> ContentMode {
        self.inner.content
    }

    /// A new trace, from random bits.
    pub fn new_trace() -> Trace {
        let span = Uuid::new_v4().as_u64_pair().0;
        Trace::new(Uuid::new_v4().as_u128(), span)
    }

    /// Runs `task` in the background until it ends or the bus drains.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.inner.stopping.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// A task that goes on while the bus drains: it ends when its channel closes.
    pub(crate) fn spawn_detached(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    /// Resolves when the shutdown begins.
    pub async fn stopping(&self) {
        self.inner.stopping.cancelled().await;
    }

    /// Messages that the server refused us since the start.
    pub fn denied(&self) -> u64 {
        self.inner.denied.load(Ordering::Relaxed)
    }

    /// Calls that wait for an answer right now.
    pub fn waiting(&self) -> usize {
        self.inner.inbox.len()
    }

    /// Whether there is a connection right now.
    pub fn is_connected(&self) -> bool {
        self.inner.client.connection_state() == State::Connected
    }

    /// Stops taking work, lets calls in progress end, then closes the connection.
    pub async fn drain(&self) {
        self.inner.stopping.cancel();
        self.inner.tasks.close();
        self.inner.calls.close();
        let quiet = async {
            self.inner.tasks.wait().await;
            self.inner.calls.wait().await;
        };
        if timeout(DRAIN, quiet).await.is_err() {
            tracing::warn!("some calls did not end in time");
        }
        if let Err(error) = self.inner.client.drain().await {
            tracing::debug!(%error, "the connection was already closed");
        }
    }

    /// A message to ourselves and back: everything said before has reached the server.
    pub(crate) async fn round_trip(&self) -> Result<(), CallError> {
        let mut waiting = self.inner.inbox.expect("", 1);
        let client = &self.inner.client;
        let sent = client.publish(waiting.reply.clone(), "ping".into()).await;
        sent.map_err(|error| CallError::Broken(error.to_string()))?;
        match timeout(ROUND_TRIP, waiting.next()).await {
            Ok(Some(Arrival::Message(_))) => Ok(()),
            Ok(Some(Arrival::Denied(v))) => {
                Err(CallError::Denied { subject: v.subject, operation: v.operation.to_owned() })
            }
            Ok(None) | Err(_) => Err(CallError::TimedOut("the own inbox".to_owned())),
        }
    }

    async fn read_inbox(&self) -> Result<(), CallError> {
        let client = &self.inner.client;
        let mut messages =
            client.subscribe(self.inner.inbox.subject()).await.map_err(|error| CallError::Broken(error.to_string()))?;
        let inbox = self.inner.inbox.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                inbox.deliver(message);
            }
        });
        self.round_trip().await
    }

    /// Turns what the server refused us into records: nobody else learns of it, and it is a fault or an attack.
    async fn record_violations(self, mut refused: mpsc::Receiver<Violation>) {
        while let Some(violation) = refused.recv().await {
            self.inner.denied.fetch_add(1, Ordering::Relaxed);
            tracing::error!(subject = violation.subject, operation = violation.operation, "the bus refused us");
            if violation.subject == proto::audit::log_subject(self.component()).as_str() {
                continue;
            }
            let fact = Fact::ComponentDenied { subject: violation.subject, operation: violation.operation.to_owned() };
            if let Err(error) = self.record(None, Scope::default(), fact).await {
                tracing::error!(%error, "the refusal could not be recorded");
            }
        }
    }
}

async fn dial(
    component: Component,
    config: &BusConfig,
    seed: &SecretString,
    inbox: &Inbox,
    violations: mpsc::Sender<Violation>,
) -> Result<Client, ConnectError> {
    let give_up = Instant::now() + Duration::from_secs(config.connect_seconds);
    let mut pause = Duration::from_millis(20);
    loop {
        let error = match options(component, seed, inbox, violations.clone()).connect(config.url.as_str()).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        if Instant::now() + pause >= give_up {
            let reason = chain(&error);
            return Err(ConnectError::Server { url: config.url.clone(), component, reason });
        }
        tracing::debug!(%error, "the bus is not there yet");
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

fn options(
    component: Component,
    seed: &SecretString,
    inbox: &Inbox,
    violations: mpsc::Sender<Violation>,
) -> ConnectOptions {
    let inbox = inbox.clone();
    ConnectOptions::with_nkey(seed.expose_secret().to_owned())
        .custom_inbox_prefix(format!("_INBOX.{component}"))
        .name(component.as_str())
        .connection_timeout(DIAL)
        .ping_interval(Duration::from_secs(10))
        .ignore_discovered_servers()
        .reconnect_delay_callback(|attempt| Duration::from_millis(10 * (1 << attempt.min(6))).min(MAX_PAUSE))
        .event_callback(move |event| {
            on_event(&inbox, &violations, &event);
            std::future::ready(())
        })
}

fn on_event(inbox: &Inbox, violations: &mpsc::Sender<Violation>, event: &Event) {
    match event {
        Event::ServerError(ServerError::Other(text)) => {
            if let Some(violation) = wire::violation(text) {
                inbox.deny(&violation);
                if violations.try_send(violation).is_err() {
                    tracing::error!("more refusals than can be recorded");
                }
            } else {
                tracing::warn!(text, "the bus reports an error");
            }
        }
        Event::Connected => tracing::info!("connected to the bus"),
        Event::Disconnected => {
            tracing::warn!("lost the bus");
            inbox.cut();
        }
        other => tracing::warn!(event = %other, "bus"),
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
