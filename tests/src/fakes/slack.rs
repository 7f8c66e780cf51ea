//! Slack, played: the Web API over HTTP and Socket Mode over WebSocket, with the habits of the real one that hurt: redelivery, two events
//! for one mention, refreshes, half-open connections, rate limits, answers that get lost.

mod api;
mod link;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::{any, post};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The workspace that installed the app.
pub const TEAM: &str = "T0TEAM";
/// The bot's user id.
pub const BOT_USER: &str = "U0BOT";
/// The bot's bot id.
pub const BOT_ID: &str = "B0BOT";
/// The app-level token.
pub const APP_TOKEN: &str = "xapp-1-fake";
/// The bot token.
pub const BOT_TOKEN: &str = "xoxb-fake";
/// The scopes that the bot token has by default.
pub const SCOPES: &str =
    "app_mentions:read,channels:history,chat:write,groups:history,im:history,mpim:history,users:read";

/// How the fake keeps time. The real one: acknowledgement within 3 s, sent again at once, after a minute and after five.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Within what time an envelope must be acknowledged.
    pub ack_within: Duration,
    /// Pauses before the repetitions; there are as many as pauses.
    pub retries: Vec<Duration>,
    /// From the warning to the end of a connection.
    pub warning: Duration,
    /// Before each answer of the Web API.
    pub latency: Duration,
}

impl Default for Pace {
    /// The real deadline; repetitions sooner than the real ones and more of them, so that tests with restarts are short.
    fn default() -> Self {
        Self {
            ack_within: Duration::from_secs(3),
            retries: [0, 1, 2, 4, 8, 8, 8, 8].map(Duration::from_secs).to_vec(),
            warning: Duration::from_millis(500),
            latency: Duration::ZERO,
        }
    }
}

/// What a call of a method meets instead of being served.
#[derive(Debug, Clone)]
pub enum Fault {
    /// 429 with `Retry-After` in seconds.
    Limited(u64),
    /// This status, without doing anything.
    Status(u16),
    /// `ok: false` with this code.
    Error(&'static str),
    /// `missing_scope`, naming the scope.
    MissingScope(&'static str),
    /// Done at once, but the answer takes so long.
    Slow(Duration),
    /// Done, but the answer gets lost: a 500.
    LostAnswer,
}

/// A message that the bot posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    pub channel: String,
    pub thread: String,
    /// The Markdown, or the plain text where there are no blocks.
    pub text: String,
    /// Whether it came without blocks.
    pub plain: bool,
    pub client_msg_id: Option<String>,
    pub ts: String,
}

/// An envelope's life.
#[derive(Debug, Clone)]
pub struct Track {
    /// The message that it is about.
    pub ts: String,
    /// How often it was sent.
    pub sent: u32,
    /// When it was sent last.
    pub last_sent: Option<Instant>,
    /// When it was acknowledged.
    pub acked: Option<Timestamp>,
    /// From the sending that was answered to the answer.
    pub ack_latency: Option<Duration>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) pace: Pace,
    pub(crate) scopes: String,
    pub(crate) max_connections: usize,
    pub(crate) mute_hello: bool,
    pub(crate) users: HashMap<String, String>,
    pub(crate) next: u64,
    pub(crate) tickets: Vec<u64>,
    pub(crate) conns: BTreeMap<u64, link::Conn>,
    pub(crate) opened: u64,
    pub(crate) envelopes: HashMap<String, Track>,
    /// Messages by channel and thread.
    pub(crate) threads: HashMap<(String, String), Vec<Value>>,
    pub(crate) posts: Vec<Post>,
    pub(crate) calls: HashMap<String, u64>,
    pub(crate) faults: HashMap<String, VecDeque<Fault>>,
    pub(crate) standing: HashMap<String, Fault>,
}

pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    pub(crate) changed: Notify,
    pub(crate) base: String,
}

/// A Slack workspace with one app. It ends with this value.
pub struct FakeSlack {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for FakeSlack {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeSlack {
    /// Starts one on loopback.
    pub async fn start() -> Self {
        Self::start_with(Pace::default()).await
    }

    /// As [`FakeSlack::start`], with its own pace.
    pub async fn start_with(pace: Pace) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = listener.local_addr().expect("its address").to_string();
        let state = State { pace, scopes: SCOPES.to_owned(), max_connections: 10, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), base });
        let app = Router::new()
            .route("/api/{method}", post(api::call))
            .route("/link", any(link::upgrade))
            .with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("the fake serves") });
        Self { shared, server }
    }

    /// What `api_url` of the channel is set to.
    pub fn api_url(&self) -> String {
        format!("http://{}/api/", self.shared.base)
    }

    /// The scopes that `auth.test` names in its header.
    pub fn set_scopes(&self, scopes: &str) {
        self.shared.lock().scopes = scopes.to_owned();
    }

    /// Gives a user a display name.
    pub fn name_user(&self, user: &str, name: &str) {
        self.shared.lock().users.insert(user.to_owned(), name.to_owned());
    }

    /// How many connections Slack allows.
    pub fn set_max_connections(&self, limit: usize) {
        self.shared.lock().max_connections = limit;
    }

    /// Whether new connections are left without a hello.
    pub fn set_mute_hello(&self, mute: bool) {
        self.shared.lock().mute_hello = mute;
    }

    /// The next call of the method meets this fault; several queue up.
    pub fn fail_next(&self, method: &str, fault: Fault) {
        self.shared.lock().faults.entry(method.to_owned()).or_default().push_back(fault);
    }

    /// Every call of the method meets this fault, until told `None`.
    pub fn fail_always(&self, method: &str, fault: Option<Fault>) {
        let mut state = self.shared.lock();
        match fault {
            Some(fault) => state.standing.insert(method.to_owned(), fault),
            None => state.standing.remove(method),
        };
    }

    /// A person writes. A channel whose id starts with `D` is a direct message; a mention in another channel gives two events.
    /// Returns the message's time stamp.
    pub fn say(&self, user: &str, channel: &str, text: &str, thread: Option<&str>) -> String {
        let ts = self.shared.lock().next_ts();
        let direct = channel.starts_with('D');
        let mut event = json!({
            "type": "message", "user": user, "ts": ts, "text": text, "team": TEAM, "channel": channel, "event_ts": ts,
            "client_msg_id": uuid::Uuid::now_v7(), "channel_type": if direct { "im" } else { "channel" },
        });
        if let Some(thread) = thread {
            event["thread_ts"] = json!(thread);
        }
        self.shared.lock().remember(channel, thread.unwrap_or(&ts), &event);
        let mut events = vec![event.clone()];
        if !direct && text.contains(&format!("<@{BOT_USER}>")) {
            let mut mention = event;
            mention["type"] = json!("app_mention");
            mention.as_object_mut().expect("an object").remove("channel_type");
            events.push(mention);
            // The real one does not promise an order.
            if ts.ends_with(['0', '2', '4', '6', '8']) {
                events.reverse();
            }
        }
        for event in events {
            self.send_event(event);
        }
        ts
    }

    /// Sends any event, and again until it is acknowledged or given up. Returns the envelope's id.
    pub fn send_event(&self, event: Value) -> String {
        link::deliver(&self.shared, event)
    }

    /// Sends a text frame on every connection as it is.
    pub fn send_raw(&self, text: &str) {
        self.shared.lock().tell_all(&link::Told::Say(text.to_owned()));
    }

    /// Announces the end of every connection, with this reason, and ends them as the real one does.
    pub fn disconnect(&self, reason: &str) {
        link::disconnect(&self.shared, reason);
    }

    /// Every connection goes half-open: nothing is read, nothing is answered, TCP stays. Returns how many.
    pub fn freeze(&self) -> usize {
        self.shared.lock().tell_all(&link::Told::Freeze)
    }

    /// Cuts every connection without a word.
    pub fn cut(&self) -> usize {
        self.shared.lock().tell_all(&link::Told::Cut)
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.lock().conns.len()
    }

    /// Connections that were opened so far.
    pub fn opened(&self) -> u64 {
        self.shared.lock().opened
    }

    /// How often a method was called.
    pub fn calls(&self, method: &str) -> u64 {
        self.shared.lock().calls.get(method).copied().unwrap_or_default()
    }

    /// What the bot posted, each message once.
    pub fn posts(&self) -> Vec<Post> {
        self.shared.lock().posts.clone()
    }

    /// What the bot posted in a thread.
    pub fn posts_in(&self, thread: &str) -> Vec<Post> {
        self.posts().into_iter().filter(|post| post.thread == thread).collect()
    }

    /// Every envelope so far.
    pub fn envelopes(&self) -> Vec<Track> {
        self.shared.lock().envelopes.values().cloned().collect()
    }

    /// The envelopes about one message.
    pub fn envelopes_of(&self, ts: &str) -> Vec<Track> {
        self.envelopes().into_iter().filter(|track| track.ts == ts).collect()
    }

    /// Whether every envelope about a message was acknowledged.
    pub fn is_acked(&self, ts: &str) -> bool {
        let envelopes = self.envelopes_of(ts);
        !envelopes.is_empty() && envelopes.iter().all(|track| track.acked.is_some())
    }

    /// Waits until `met` holds; panics with `what` if it does not within `patience`.
    pub async fn wait_until(&self, what: &str, patience: Duration, met: impl Fn(&Self) -> bool) {
        let until = Instant::now() + patience;
        while !met(self) {
            assert!(Instant::now() < until, "waited {patience:?} in vain: {what}");
            let _news = tokio::time::timeout(Duration::from_millis(20), self.shared.changed.notified()).await;
        }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("the fake's state")
    }
}

impl State {
    /// A time stamp as Slack makes them, never the same twice.
    pub(crate) fn next_ts(&mut self) -> String {
        self.next += 1;
        format!("{}.{:06}", Timestamp::now().as_second(), self.next)
    }

    pub(crate) fn remember(&mut self, channel: &str, root: &str, message: &Value) {
        self.threads.entry((channel.to_owned(), root.to_owned())).or_default().push(message.clone());
    }

    fn tell_all(&self, told: &link::Told) -> usize {
        self.conns.values().filter(|conn| conn.tell(told.clone())).count()
    }
}
