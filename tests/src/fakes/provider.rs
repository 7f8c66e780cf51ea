//! What the fakes of model providers share: an HTTP server that answers from a script, misbehaves where told, and remembers what it was
//! asked. Without a script it plays a tiny model, so that whole turns can be driven under load.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response, StatusCode, Uri};
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What a model says: text, then calls.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub text: String,
    /// Id, name and arguments of each call.
    pub calls: Vec<(String, String, Value)>,
}

/// What the tiny model goes by.
#[derive(Debug, Default)]
pub struct Heard {
    /// The last message, if it is a person's.
    pub question: Option<String>,
    /// Results of tools after that.
    pub results: Vec<String>,
    /// Names of the offered tools.
    pub tools: Vec<String>,
    /// Messages in all, which makes ids unique within a conversation.
    pub messages: usize,
}

/// A provider's own way of saying and hearing.
#[derive(Clone, Copy)]
pub struct Dialect {
    /// The path that is posted to.
    pub path: &'static str,
    /// An answer as a whole stream of events.
    pub stream: fn(&Said) -> String,
    /// A request's body, understood.
    pub hear: fn(&Value) -> Heard,
}

/// One scripted answer.
#[derive(Debug, Clone)]
pub struct Answer {
    what: What,
    delay: Duration,
    /// Sent in pieces of so many bytes with a pause between.
    dribble: Option<(usize, Duration)>,
    /// After so many bytes: cut the connection, or fall silent.
    ends: Option<(usize, End)>,
}

#[derive(Debug, Clone)]
enum What {
    Said(Said),
    Raw(String),
    Status(u16, Vec<(String, String)>, String),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Cut,
    Silence,
}

impl Answer {
    fn new(what: What) -> Self {
        Self { what, delay: Duration::ZERO, dribble: None, ends: None }
    }

    /// The model says this.
    pub fn text(text: &str) -> Self {
        Self::new(What::Said(Said { text: text.to_owned(), calls: Vec::new() }))
    }

    /// The model asks for tools: id, name, arguments.
    pub fn calls(calls: &[(&str, &str, Value)]) -> Self {
        let calls = calls.iter().map(|(id, name, arguments)| ((*id).to_owned(), (*name).to_owned(), arguments.clone()));
        Self::new(What::Said(Said { text: String::new(), calls: calls.collect() }))
    }

    /// These very bytes as the stream.
    pub fn raw(stream: impl Into<String>) -> Self {
        Self::new(What::Raw(stream.into()))
    }

    /// This status with headers and body.
    pub fn status(status: u16, headers: &[(&str, &str)], body: impl Into<String>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::new(What::Status(status, headers, body.into()))
    }

    /// Nothing at all: the request is taken and never answered.
    pub fn hang() -> Self {
        Self::text("").after(Duration::from_secs(3600))
    }

    /// The same, but only after this time.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The same, in pieces of `bytes` with a pause between them.
    pub fn dribble(self, bytes: usize, pause: Duration) -> Self {
        Self { dribble: Some((bytes, pause)), ..self }
    }

    /// The connection breaks after so many bytes of the body.
    pub fn cut_after(self, bytes: usize) -> Self {
        Self { ends: Some((bytes, End::Cut)), ..self }
    }

    /// Silence after so many bytes of the body, with the connection open.
    pub fn silent_after(self, bytes: usize) -> Self {
        Self { ends: Some((bytes, End::Silence)), ..self }
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Seen {
    /// A header as text, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A provider on loopback; it ends with this value.
pub struct Provider {
    shared: Arc<Shared>,
    address: String,
    server: JoinHandle<()>,
}

struct Shared {
    dialect: Dialect,
    script: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Seen>>,
    think: Mutex<Duration>,
    running: AtomicUsize,
    most: AtomicUsize,
    connections: AtomicUsize,
}

impl Provider {
    /// Starts on a free port.
    pub async fn start(dialect: Dialect) -> Self {
        let shared = Arc::new(Shared {
            dialect,
            script: Mutex::default(),
            seen: Mutex::default(),
            think: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("its address"));
        let counted = Arc::clone(&shared);
        let listener = listener.tap_io(move |connection| {
            counted.connections.fetch_add(1, Ordering::Relaxed);
            connection.set_nodelay(true).expect("TCP_NODELAY");
        });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("the fake provider serves") });
        Self { shared, address, server }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The next request without an answer yet gets this one.
    pub fn script(&self, answer: Answer) {
        self.shared.script.lock().expect("script").push_back(answer);
    }

    /// How long the tiny model thinks before it answers.
    pub fn think_for(&self, time: Duration) {
        *self.shared.think.lock().expect("think") = time;
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("seen").clone()
    }

    /// How many requests were in the making at once, at most.
    pub fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::Relaxed)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    shared.seen.lock().expect("seen").push(Seen { path: path(&parts.uri), headers: parts.headers, body: body.clone() });
    if parts.uri.path() != shared.dialect.path {
        return Ok(respond(404, &[], Body::from("404 page not found")));
    }
    let running = shared.running.fetch_add(1, Ordering::Relaxed) + 1;
    shared.most.fetch_max(running, Ordering::Relaxed);
    let scripted = shared.script.lock().expect("script").pop_front();
    let answer = scripted.unwrap_or_else(|| tiny_model(&shared, &body));
    sleep(answer.delay).await;
    let response = play(shared.dialect, answer);
    shared.running.fetch_sub(1, Ordering::Relaxed);
    Ok(response)
}

fn path(uri: &Uri) -> String {
    uri.path_and_query().map(ToString::to_string).unwrap_or_default()
}

fn play(dialect: Dialect, answer: Answer) -> Response<Body> {
    let events = [("content-type".to_owned(), "text/event-stream; charset=utf-8".to_owned())];
    match &answer.what {
        What::Status(status, headers, body) => respond(*status, headers, Body::from(body.clone())),
        What::Raw(stream) => respond(200, &events, paced(stream.clone(), &answer)),
        What::Said(said) => respond(200, &events, paced((dialect.stream)(said), &answer)),
    }
}

fn respond(status: u16, headers: &[(String, String)], body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        let name = axum::http::HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        response.headers_mut().insert(name, value.parse().expect("a header value"));
    }
    response
}

/// The stream at the answer's pace, up to where it ends badly.
fn paced(stream: String, answer: &Answer) -> Body {
    let (size, pause) = answer.dribble.unwrap_or((usize::MAX, Duration::ZERO));
    let bytes = stream.into_bytes();
    let kept = answer.ends.map_or(bytes.len(), |(at, _)| at.min(bytes.len()));
    let pieces: VecDeque<Bytes> = bytes[..kept].chunks(size.min(kept.max(1))).map(Bytes::copy_from_slice).collect();
    let end = answer.ends.map(|(_, end)| end);
    Body::from_stream(futures_util::stream::unfold((pieces, end), move |(mut pieces, end)| async move {
        match (pieces.pop_front(), end) {
            (Some(piece), _) => {
                sleep(pause).await;
                Some((Ok(piece), (pieces, end)))
            }
            (None, None) => None,
            (None, Some(End::Silence)) => {
                sleep(Duration::from_secs(3600)).await;
                None
            }
            (None, Some(End::Cut)) => {
                // What was sent before goes out first.
                sleep(Duration::from_millis(50)).await;
                Some((Err(io::Error::other("cut by the script")), (pieces, None)))
            }
        }
    }))
}

fn tiny_model(shared: &Shared, body: &Value) -> Answer {
    let heard = (shared.dialect.hear)(body);
    let delay = *shared.think.lock().expect("think");
    Answer::new(What::Said(think(&heard))).after(delay)
}

/// A question about time calls the clock, if there is one; a result is told; anything else is echoed.
fn think(heard: &Heard) -> Said {
    let question = heard.question.clone().unwrap_or_default();
    if !heard.results.is_empty() {
        return Said { text: format!("The tool says: {}", heard.results.join(" / ")), calls: Vec::new() };
    }
    if question.contains("time") && heard.tools.iter().any(|tool| tool == "clock") {
        let id = format!("call_{}", heard.messages);
        let call = (id, "clock".to_owned(), json!({"zone": "Asia/Tokyo"}));
        return Said { text: String::new(), calls: vec![call] };
    }
    Said { text: format!("You said: {question}"), calls: Vec::new() }
}
