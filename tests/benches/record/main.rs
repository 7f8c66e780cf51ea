//! What the record costs, and how it grows: `cargo bench --profile release -p system-tests --bench record`, with `-- --records N` up to
//! another size than a million. Nothing here fails because of a time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark fails by panicking and reports by printing"
)]

use std::process::Command;
use std::time::{Duration, Instant};

use bus::{Bus, StreamSizes};
use futures_util::future::join_all;
use proto::audit::{Fact, Filter, Query, STREAM, Scope};
use proto::seal::{Prove, SealRequest, Which};
use proto::{Component, Name};
use system_tests::Server;
use system_tests::owner::Owner;
use system_tests::processes::{Stack, binaries};
use tokio::time::sleep;
use uuid::Uuid;

/// Records where nobody says how many.
const RECORDS: usize = 1_000_000;

/// Records of the comparison with raw JetStream.
const COMPARED: usize = 20_000;

/// Who writes.
const WRITERS: [Component; 4] = [Component::Gateway, Component::Policy, Component::LlmProxy, Component::ToolsWasm];

/// Records that a writer has under way.
const UNDER_WAY: usize = 100;

/// Questions of each kind.
const QUESTIONS: usize = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let asked =
        arguments.iter().position(|argument| argument == "--records").map(|at| arguments[at + 1].parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure(asked.unwrap_or(RECORDS)));
}

async fn measure(records: usize) {
    let sizes = StreamSizes { audit: 3 << 30, contents: 128 << 20, ..StreamSizes::default() };
    let mut server = Server::start_with(&sizes).await;
    let owner = server.taken_over().await;
    let writers = join_all(WRITERS.map(|component| server.connect(component))).await;
    let mut stack = Stack::new(&server);

    let floor = rate(COMPARED, raw(&owner, COMPARED)).await;
    line("raw JetStream, flushed for every message, 400 under way", &format!("{floor:.0} records/s"));
    let alone = rate(COMPARED, write(&writers, COMPARED)).await;
    line("recorded by four components, nobody reads", &format!("{alone:.0} records/s, {:.2} of raw", alone / floor));
    stack.start(Component::Audit, "");
    stack.ready(Component::Audit).await;
    let both = rate(COMPARED, write(&writers, COMPARED)).await;
    line("the same while audit seals and indexes", &format!("{both:.0} records/s, {:.2} of raw", both / floor));

    let cli = server.connect(Component::Cli).await;
    let mut there = 2 * COMPARED;
    for part in [records / 10, records / 2, records] {
        let begun = Instant::now();
        write(&writers, part.saturating_sub(there)).await;
        there = there.max(part);
        let written = begun.elapsed();
        let sealed = sealed(&cli).await;
        let memory = stack.usage(Component::Audit).resident >> 20;
        line(
            &format!("audit at {sealed} records"),
            &format!(
                "{memory} MiB resident; sealed {:.1} s after the last was written ({:.0} s for these)",
                (begun.elapsed() - written).as_secs_f64(),
                written.as_secs_f64()
            ),
        );
    }
    prove(&cli, there as u64).await;
    for (what, filter) in filters(&cli).await {
        query(&cli, what, &filter).await;
    }
    verify(&server, there);
    line("audit after all of this", &format!("{} MiB resident", stack.usage(Component::Audit).resident >> 20));
}

fn line(what: &str, figure: &str) {
    println!("{what:<62} {figure}");
}

async fn rate(count: usize, work: impl Future<Output = ()>) -> f64 {
    let begun = Instant::now();
    work.await;
    count as f64 / begun.elapsed().as_secs_f64()
}

/// As large as a record of a decision.
async fn raw(owner: &Owner, count: usize) {
    owner.publish_many("FLOOR", count, WRITERS.len() * UNDER_WAY, 600).await;
}

async fn write(writers: &[Bus], count: usize) {
    join_all(writers.iter().map(|bus| write_one(bus, count / writers.len()))).await;
}

async fn write_one(bus: &Bus, count: usize) {
    for part in 0..count.div_ceil(UNDER_WAY) {
        let some = UNDER_WAY.min(count - part * UNDER_WAY);
        join_all((0..some).map(|n| async move {
            let (scope, fact) = record(bus, part * UNDER_WAY + n);
            bus.record(Some(Bus::new_trace()), scope, fact).await.expect("recorded");
        }))
        .await;
    }
}

/// One of a thousand people, one of fifty sessions each, a tool in four: without texts, which have a path of their own.
fn record(bus: &Bus, n: usize) -> (Scope, Fact) {
    let scope = Scope {
        session: Some(format!("s-{}", n % 50_000)),
        turn: Some(Uuid::from_u128(n as u128 / 14)),
        principal: Some(format!("slack/T1/U{}", n % 1000)),
        channel: Some("slack".to_owned()),
    };
    let tool: Name = ["clock", "text", "calc", "json"][n % 4].parse().expect("a name");
    let fact = if bus.component() == Component::ToolsWasm {
        Fact::ToolRefused { tool: tool.to_string(), reason: "the permit has expired".to_owned() }
    } else {
        Fact::ConfigChanged { what: format!("setting {tool}"), digest: format!("sha256:{n:064x}"), refused: None }
    };
    (scope, fact)
}

async fn sealed(cli: &Bus) -> u64 {
    loop {
        let last = cli.stream_state(STREAM).await.expect("the stream").last_seq;
        if let Ok(seal) = cli.request(Bus::new_trace(), &SealRequest { v: 1, now: true }).await
            && seal.size >= last
        {
            return seal.size;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn prove(cli: &Bus, records: u64) {
    let (mut times, mut bytes) = (Vec::new(), 0);
    for n in 0..QUESTIONS as u64 {
        let seq = 1 + n * (records - 1) / QUESTIONS as u64;
        let begun = Instant::now();
        let bundle = cli.request(Bus::new_trace(), &Prove { v: 1, which: Which::Seq(seq) }).await.expect("a proof");
        times.push(begun.elapsed());
        bytes = bundle.proof.len() * 32;
    }
    line(&format!("a proof among {records}"), &format!("{bytes} bytes of hashes; {}", percentiles(times)));
}

async fn filters(cli: &Bus) -> Vec<(&'static str, Filter)> {
    let all = Query { v: 1, filter: Filter::default(), after: Some(1000), limit: 1, newest: false };
    let some = cli.request(Bus::new_trace(), &all).await.expect("an answer").records;
    let since = some.first().map(|record| record.stored);
    let of = |filter: Filter| filter;
    vec![
        ("newest 100", Filter::default()),
        ("newest 100 of a person", of(Filter { principal: Some("slack/T1/U7".into()), ..Filter::default() })),
        ("newest 100 of a session", of(Filter { session: Some("s-77".into()), ..Filter::default() })),
        (
            "newest 100 refused of a tool",
            of(Filter { tool: Some("clock".into()), outcome: Some("refused".into()), ..Filter::default() }),
        ),
        (
            "newest 100 since a time, of two types",
            of(Filter { since, types: vec!["tool.*".into(), "config.changed".into()], ..Filter::default() }),
        ),
    ]
}

async fn query(cli: &Bus, what: &str, filter: &Filter) {
    let mut times = Vec::new();
    for _ in 0..QUESTIONS {
        let query = Query { v: 1, filter: filter.clone(), after: None, limit: 100, newest: true };
        let begun = Instant::now();
        cli.request(Bus::new_trace(), &query).await.expect("an answer");
        times.push(begun.elapsed());
    }
    line(what, &percentiles(times));
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1000.0;
    format!("p50 {:.2} ms, p95 {:.2} ms", at(50), at(95))
}

/// The whole log, as a user verifies it: read from the bus, hashed, checked against every checkpoint and every rule.
fn verify(server: &Server, records: usize) {
    let keys = server.keys(Component::Cli);
    let config = server.dir().join("cli.toml");
    let text = format!("[bus]\nurl = '{}'\nseed = '{}/bus.nk'\n", server.url(), keys.display());
    std::fs::write(&config, text).expect("the settings");
    let begun = Instant::now();
    let output = Command::new(binaries().join("nachos"))
        .arg("--config")
        .arg(&config)
        .args(["audit", "verify", "--no-index", "--checkpoints", "none", "--key"])
        .arg(keys.join("checkpoint.pub"))
        .output()
        .expect("nachos runs");
    let took = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stdout);
    let verdict = said.lines().last().unwrap_or_default();
    line("nachos audit verify, live", &format!("{:.0} records/s ({verdict})", records as f64 / took));
}
