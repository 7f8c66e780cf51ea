//! The forwarder against collectors that misbehave: nothing is lost, the order is kept, and a restart goes on where it stopped.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bus::StreamSizes;
use proto::Component;
use proto::audit::{Fact, Scope};
use serde_json::Value;
use system_tests::Platform;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

/// How long everything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// What a collector took.
#[derive(Default)]
struct Taken {
    requests: usize,
    seqs: Vec<u64>,
    signed: usize,
}

type Shared = Arc<Mutex<Taken>>;

/// Refuses every third request in another way each time, before or after it has read it.
async fn collect(taken: Shared, headers: HeaderMap, body: Bytes) -> Response {
    let number = {
        let mut taken = taken.lock().unwrap();
        taken.requests += 1;
        taken.requests
    };
    match number % 6 {
        1 => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        3 => return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
        5 => sleep(Duration::from_millis(300)).await,
        _ => {}
    }
    let mut taken = taken.lock().unwrap();
    taken.signed += usize::from(genuine(&headers, &body));
    let body: Value = serde_json::from_slice(&body).unwrap();
    for record in body["records"].as_array().into_iter().flatten() {
        taken.seqs.push(record["metadata"]["sequence"].as_u64().unwrap());
    }
    StatusCode::NO_CONTENT.into_response()
}

/// As docs/siem.md tells a receiver to check it, by another program.
fn genuine(headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let program =
        "import hmac,hashlib,sys; print(hmac.new(b'secret', sys.stdin.buffer.read(), hashlib.sha256).hexdigest())";
    let mut child = std::process::Command::new("python3")
        .args(["-c", program])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let signed = [header("x-nachos-timestamp").as_bytes(), b".", body].concat();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &signed).unwrap();
    let expected = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    header("x-nachos-signature") == format!("v1={}", expected.trim())
}

async fn webhook(taken: Shared) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handler = move |headers: HeaderMap, body: Bytes| collect(taken.clone(), headers, body);
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/in", post(handler))).await });
    format!("http://{address}/in")
}

async fn write(platform: &Platform, records: usize) {
    let gateway = platform.server.connect(Component::Gateway).await;
    for version in 0..records {
        let fact = Fact::ComponentStarted { version: version.to_string() };
        gateway.record(None, Scope::default(), fact).await.unwrap();
    }
    gateway.drain().await;
}

/// Waits until every number up to `last` came.
async fn all_came(taken: &Shared, last: u64) {
    let until = Instant::now() + PATIENCE;
    loop {
        let came: BTreeSet<u64> = taken.lock().unwrap().seqs.iter().copied().collect();
        if (1..=last).all(|seq| came.contains(&seq)) {
            return;
        }
        assert!(Instant::now() < until, "{} of {last} came", came.len());
        sleep(Duration::from_millis(50)).await;
    }
}

/// First arrivals are in the order of the stream; only repetitions may come later.
fn in_order(seqs: &[u64]) -> bool {
    let mut seen = BTreeSet::new();
    let first: Vec<u64> = seqs.iter().copied().filter(|seq| seen.insert(*seq)).collect();
    first.is_sorted()
}

#[tokio::test]
async fn a_collector_that_refuses_now_and_then_gets_everything_in_order_over_a_restart() {
    let mut platform = Platform::start_only(&[], &StreamSizes::default()).await;
    let taken = Shared::default();
    let secret = platform.server.dir().join("webhook-secret");
    std::fs::write(&secret, "secret\n").unwrap();
    let url = webhook(taken.clone()).await;
    let settings = format!("[webhook]\nurl = '{url}'\nbatch = 7\nsecret = '{}'\n", secret.display());
    write(&platform, 20).await;
    platform.run(Component::Forwarder, &settings).await;
    all_came(&taken, 20).await;
    platform.stop(Component::Forwarder).await;
    write(&platform, 20).await;
    let before = taken.lock().unwrap().seqs.len();
    platform.run(Component::Forwarder, &settings).await;
    all_came(&taken, 40).await;
    let taken = taken.lock().unwrap();
    assert!(in_order(&taken.seqs), "{:?}", taken.seqs);
    let again = taken.seqs[before..].iter().filter(|seq| **seq <= 14).count();
    assert_eq!(again, 0, "it began anew: {:?}", taken.seqs);
    assert!(taken.signed > 0 && taken.requests > taken.signed, "{} of {} signed", taken.signed, taken.requests);
    println!("{} requests for 40 records, {} arrivals", taken.requests, taken.seqs.len());
}

#[tokio::test]
async fn a_syslog_collector_that_goes_away_gets_everything() {
    let mut platform = Platform::start_only(&[], &StreamSizes::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let taken = Shared::default();
    let into = taken.clone();
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            if connection == 0 {
                // Closed before anything was read: what was written is gone.
                continue;
            }
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                bytes.extend_from_slice(&buffer[..read]);
                while let Some((seq, used)) = frame(&bytes) {
                    into.lock().unwrap().seqs.push(seq);
                    bytes.drain(..used);
                }
            }
        }
    });
    write(&platform, 15).await;
    let settings = format!("format = 'cloudevents'\n[syslog]\naddress = '{address}'\ntls = false\n");
    platform.run(Component::Forwarder, &settings).await;
    all_came(&taken, 15).await;
    assert!(in_order(&taken.lock().unwrap().seqs));
}

/// The number of the first whole message, and its length with the count before it.
fn frame(bytes: &[u8]) -> Option<(u64, usize)> {
    let blank = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..blank]).unwrap().parse().unwrap();
    let message = bytes.get(blank + 1..blank + 1 + length)?;
    let text = std::str::from_utf8(message).unwrap();
    assert!(text.starts_with("<110>1 "), "{text}");
    let (_, rest) = text.split_once("seq=\"").unwrap();
    Some((rest.split('"').next().unwrap().parse().unwrap(), blank + 1 + length))
}

#[tokio::test]
async fn a_collector_whose_certificate_nobody_vouches_for_gets_nothing() {
    let mut platform = Platform::start_only(&[], &StreamSizes::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    write(&platform, 1).await;
    platform.run(Component::Forwarder, &format!("[syslog]\naddress = '{address}'\n")).await;
    let (mut stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut hello = [0; 3];
    stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(hello, [0x16, 0x03, 0x01], "the first bytes are a TLS ClientHello and no record");
}
