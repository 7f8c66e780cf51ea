//! Carries out what [`crate::link`] decides: fetches URLs, dials, reads frames, answers envelopes, pings, closes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use crate::frame::{self, Envelope, Frame};
use crate::link::{Action, Conn, Event, Link, Pace, Status};
use crate::web::{Web, WebError, chain};

/// Largest frame. Slack's events are some KiB, one with many blocks some hundred.
const MAX_FRAME: usize = 4 * 1024 * 1024;

/// Envelopes that are worked on at once. Beyond it they are not acknowledged, and Slack sends them again.
const MAX_IN_FLIGHT: usize = 512;

/// Commands that wait for a connection: acknowledgements and pings.
const COMMANDS: usize = MAX_IN_FLIGHT + 16;

/// News that wait for the driver.
const NEWS: usize = 256;

/// How long sleeping may take when nothing is due: never, as good as.
const LONG: Duration = Duration::from_secs(3600);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How to reach Slack.
pub(crate) struct Dialer {
    pub(crate) web: Arc<Web>,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// Whether a `ws://` address is taken: only where the Web API itself is plain, which is in tests.
    pub(crate) plain: bool,
    /// For each of fetching the URL and dialling it.
    pub(crate) patience: Duration,
}

/// What a connection is told.
enum Command {
    Say(Message),
    Close,
}

/// What every connection needs.
struct Shared<H> {
    dialer: Dialer,
    handle: H,
    room: Arc<Semaphore>,
    news: mpsc::Sender<Event>,
    /// Connections of the app as Slack counted them at the last hello, other programs' included.
    counted: AtomicU64,
}

struct Handle {
    commands: mpsc::Sender<Command>,
    task: AbortHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps `wanted` connections until `stop` resolves. `handle` is called for every envelope, in order; the envelope is acknowledged when
/// its future says true. `report` is told how things are, and
/// how many connections of the app are not ours.
pub(crate) async fn run<H, F>(
    dialer: Dialer,
    (wanted, pace): (usize, Pace),
    handle: H,
    report: impl Fn(&Status, u64),
    stop: impl Future<Output = ()>,
) where
    H: Fn(Envelope) -> F + Send + Sync + 'static,
    F: Future<Output = bool> + Send + 'static,
{
    let (news, mut heard) = mpsc::channel(NEWS);
    let room = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let shared = Arc::new(Shared { dialer, handle, room, news, counted: AtomicU64::new(0) });
    let (mut link, mut handles, start) = (Link::new(wanted, pace), HashMap::new(), Instant::now());
    tokio::pin!(stop);
    let (mut event, mut stopped) = (Event::Tick, false);
    while !link.is_over() {
        for action in link.on(event, start.elapsed(), rand::random()) {
            carry_out(action, &shared, &mut handles);
        }
        report(&link.status(start.elapsed()), strangers(&shared, &handles));
        let wake = link.deadline().map_or_else(|| Instant::now() + LONG, |time| start + time);
        event = tokio::select! {
            heard = heard.recv() => heard.unwrap_or(Event::Tick),
            () = sleep_until(wake) => Event::Tick,
            () = &mut stop, if !stopped => { stopped = true; Event::Shutdown }
        };
        if let Event::Closed(conn) | Event::Failed(conn, _) | Event::Refused(conn, _) = &event {
            handles.remove(conn);
        }
    }
}

/// Slack deals events out to all connections of an app: another program with the same token takes some of them.
fn strangers<H>(shared: &Shared<H>, handles: &HashMap<Conn, Handle>) -> u64 {
    shared.counted.load(Ordering::Relaxed).saturating_sub(handles.len() as u64)
}

fn carry_out<H, F>(action: Action, shared: &Arc<Shared<H>>, handles: &mut HashMap<Conn, Handle>)
where
    H: Fn(Envelope) -> F + Send + Sync + 'static,
    F: Future<Output = bool> + Send + 'static,
{
    let tell = |handles: &HashMap<Conn, Handle>, conn: Conn, command: Command| {
        if let Some(handle) = handles.get(&conn) {
            // A connection that takes no command any more is noticed by its missing pongs.
            let _full = handle.commands.try_send(command);
        }
    };
    match action {
        Action::Open(conn) => {
            let (commands, told) = mpsc::channel(COMMANDS);
            let task = tokio::spawn(connection(conn, shared.clone(), commands.clone(), told)).abort_handle();
            handles.insert(conn, Handle { commands, task });
        }
        Action::Ping(conn) => tell(handles, conn, Command::Say(Message::Ping(Default::default()))),
        Action::Close(conn) => tell(handles, conn, Command::Close),
        Action::Drop(conn) => drop(handles.remove(&conn)),
    }
}

/// One connection from its URL to its end.
async fn connection<H, F>(
    conn: Conn,
    shared: Arc<Shared<H>>,
    commands: mpsc::Sender<Command>,
    told: mpsc::Receiver<Command>,
) where
    H: Fn(Envelope) -> F + Send + Sync + 'static,
    F: Future<Output = bool> + Send + 'static,
{
    let end = match shared.dialer.dial().await {
        Ok(socket) => {
            Conversation { conn, shared: &shared, commands: commands.downgrade(), socket }.hold(told).await;
            Event::Closed(conn)
        }
        Err(failure) => {
            tracing::warn!(connection = conn, why = failure.why, "no Socket Mode connection");
            failure.event(conn)
        }
    };
    // The driver is gone only when everything ends.
    let _ended = shared.news.send(end).await;
}

/// Why there is no connection.
struct Failure {
    why: String,
    cause: Option<WebError>,
}

impl Failure {
    fn event(&self, conn: Conn) -> Event {
        match self.cause.as_ref().and_then(WebError::trouble) {
            Some(trouble) => Event::Refused(conn, trouble),
            None => Event::Failed(conn, self.cause.as_ref().and_then(WebError::retry_after)),
        }
    }
}

impl Dialer {
    /// A connection that is ready to be read. The URL is good for one dial, so each attempt fetches its own; it holds a ticket and
    /// is not logged.
    async fn dial(&self) -> Result<Socket, Failure> {
        let failure = |why: &str| Failure { why: why.to_owned(), cause: None };
        let url = timeout(self.patience, self.web.open_connection()).await;
        let url = url.map_err(|_| failure("apps.connections.open took too long"))?;
        let url = url.map_err(|error| Failure { why: error.to_string(), cause: Some(error) })?;
        if !(url.starts_with("wss://") || (self.plain && url.starts_with("ws://"))) {
            return Err(failure("Slack named an address that is not encrypted"));
        }
        let config = WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
        let connector = Connector::Rustls(self.tls.clone());
        let dialled = connect_async_tls_with_config(url, Some(config), true, Some(connector));
        match timeout(self.patience, dialled).await {
            Err(_) => Err(failure("dialling took too long")),
            Ok(Err(error)) => Err(failure(&chain(&error))),
            Ok(Ok((socket, _))) => Ok(socket),
        }
    }
}

/// An open connection.
struct Conversation<'a, H> {
    conn: Conn,
    shared: &'a Shared<H>,
    /// Weak: what still works on an envelope must not keep a connection's commands open.
    commands: mpsc::WeakSender<Command>,
    socket: Socket,
}

impl<H, F> Conversation<'_, H>
where
    H: Fn(Envelope) -> F + Send + Sync + 'static,
    F: Future<Output = bool> + Send + 'static,
{
    /// Reads and answers until either side is gone.
    async fn hold(mut self, mut told: mpsc::Receiver<Command>) {
        loop {
            let went_on = tokio::select! {
                message = self.socket.next() => match message {
                    Some(Ok(message)) => self.hear(message).await,
                    Some(Err(error)) => { tracing::info!(connection = self.conn, why = chain(&error), "connection lost"); false }
                    None => false,
                },
                command = told.recv() => match command {
                    Some(Command::Say(message)) => self.socket.send(message).await.is_ok(),
                    Some(Command::Close) => self.socket.close(None).await.is_ok(),
                    None => false,
                },
            };
            if !went_on {
                return;
            }
        }
    }

    async fn hear(&self, message: Message) -> bool {
        let event = match message {
            Message::Text(text) => match Frame::read(&text) {
                Frame::Hello { connections } => {
                    self.shared.counted.store(connections.unwrap_or_default(), Ordering::Relaxed);
                    tracing::info!(connection = self.conn, of_the_app = connections, "connected to Slack");
                    Event::Hello(self.conn)
                }
                Frame::Disconnect(reason) => {
                    tracing::info!(connection = self.conn, ?reason, "Slack ends a connection");
                    Event::Disconnect(self.conn, reason)
                }
                Frame::Envelope(envelope) => return self.take(envelope),
                Frame::Unknown => return true,
            },
            Message::Pong(_) => Event::Pong(self.conn),
            _ => return true,
        };
        self.shared.news.send(event).await.is_ok()
    }

    /// Starts the work on an envelope; its acknowledgement follows when the work is done.
    fn take(&self, envelope: Envelope) -> bool {
        let Ok(place) = self.shared.room.clone().try_acquire_owned() else {
            tracing::warn!("too much in flight: an envelope is left for Slack to send again");
            return true;
        };
        let (id, commands) = (envelope.id.clone(), self.commands.clone());
        let work = (self.shared.handle)(envelope);
        tokio::spawn(async move {
            if work.await
                && let Some(commands) = commands.upgrade()
            {
                // A connection that is gone cannot be told; Slack sends the envelope again and it is known by then.
                let _told = commands.send(Command::Say(Message::text(frame::ack(&id)))).await;
            }
            drop(place);
        });
        true
    }
}
