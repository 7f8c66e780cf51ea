//! The audit service on a real stream: it files everything, believes the subject and not the body, and a tail skips nothing.

use std::time::{Duration, Instant};

use bus::{Bus, StreamSizes};
use proto::Component;
use proto::audit::{Fact, Filter, Page, Query, Scope, StoredRecord, Tail, TailChunk};
use system_tests::{Platform, Server};
use tokio::time::{sleep, timeout};

/// How long the index may take to catch up on a busy machine.
const CATCH_UP: Duration = Duration::from_secs(30);

async fn platform() -> Platform {
    Platform::start_only(&[Component::Audit], &StreamSizes::default()).await
}

fn fact(version: usize) -> Fact {
    Fact::ComponentStarted { version: version.to_string() }
}

async fn record(bus: &Bus, version: usize) {
    bus.record(Some(Bus::new_trace()), Scope::default(), fact(version)).await.unwrap();
}

fn all() -> Query {
    Query { v: 1, filter: Filter::default(), after: None, limit: 500, newest: false }
}

async fn ask(cli: &Bus, query: &Query) -> Page {
    cli.request(Bus::new_trace(), query).await.unwrap()
}

/// Asks until the index has seen `seq`.
async fn indexed(cli: &Bus, seq: u64) -> Page {
    let until = Instant::now() + CATCH_UP;
    loop {
        let page = ask(cli, &all()).await;
        if page.indexed >= seq {
            return page;
        }
        assert!(Instant::now() < until, "indexed {} of {seq}", page.indexed);
        sleep(Duration::from_millis(20)).await;
    }
}

/// Publishes as a component, past the types.
async fn publish_raw(server: &Server, component: Component, payload: &'static str) {
    let seed = std::fs::read_to_string(server.keys(component).join("bus.nk")).unwrap();
    let options = async_nats::ConnectOptions::with_nkey(seed.trim().to_owned());
    let options = options.custom_inbox_prefix(format!("_INBOX.{component}"));
    let client = options.connect(server.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client);
    let subject = proto::audit::log_subject(component).as_str().to_owned();
    stream.publish(subject, payload.into()).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn who_published_is_what_the_server_says_and_nothing_is_dropped() {
    let platform = platform().await;
    let (server, cli) = (&platform.server, platform.server.connect(Component::Cli).await);
    record(&server.connect(Component::Policy).await, 1).await;
    publish_raw(
        server,
        Component::Gateway,
        r#"{"type":"policy.decided","source":"/nachos/policy","data":{"outcome":"allow"}}"#,
    )
    .await;
    publish_raw(server, Component::Gateway, "not json").await;
    let page = indexed(&cli, 3).await;
    let components: Vec<&str> = page.records.iter().map(|record| record.component.as_str()).collect();
    assert_eq!(components, ["policy", "gateway", "gateway"]);
    assert_eq!(page.records[2].record, "not json");

    let by = |component: &str, kind: &str| Query {
        filter: Filter { component: Some(component.into()), types: vec![kind.into()], ..Filter::default() },
        ..all()
    };
    assert_eq!(ask(&cli, &by("policy", "policy.decided")).await.records, []);
    assert_eq!(ask(&cli, &by("gateway", "policy.*")).await.records.len(), 1);
    assert_eq!(ask(&cli, &by("gateway", "unreadable")).await.records.len(), 1);
}

#[tokio::test]
async fn pages_from_either_end_say_whether_there_is_more() {
    let platform = platform().await;
    let cli = platform.server.connect(Component::Cli).await;
    for version in 1..=5 {
        record(&cli, version).await;
    }
    indexed(&cli, 5).await;
    let seqs = |page: &Page| page.records.iter().map(|record| record.seq).collect::<Vec<_>>();
    let newest = ask(&cli, &Query { limit: 2, newest: true, ..all() }).await;
    assert_eq!((seqs(&newest), newest.more), (vec![4, 5], true));
    let oldest = ask(&cli, &Query { limit: 2, after: Some(3), ..all() }).await;
    assert_eq!((seqs(&oldest), oldest.more), (vec![4, 5], false));
    let none = ask(&cli, &Query { limit: 0, newest: true, ..all() }).await;
    assert_eq!(seqs(&none), [5], "a limit of nothing is one");
}

#[tokio::test]
async fn a_tail_shows_every_record_once_in_order_while_they_are_written() {
    const RECORDS: usize = 600;
    let platform = platform().await;
    let (gateway, cli) =
        (platform.server.connect(Component::Gateway).await, platform.server.connect(Component::Cli).await);
    record(&cli, 0).await;
    let tail = Tail { v: 1, filter: Filter { component: Some("gateway".into()), ..Filter::default() }, after: 0 };
    let mut chunks = cli.open(Bus::new_trace(), &tail).await.unwrap();
    let writing = tokio::spawn(async move {
        futures_util::future::join_all((0..RECORDS).map(|version| record(&gateway, version))).await;
    });
    let mut seen = Vec::new();
    while seen.len() < RECORDS {
        match timeout(CATCH_UP, chunks.next()).await.unwrap().unwrap().unwrap() {
            TailChunk::Record(StoredRecord { seq, .. }) => seen.push(seq),
            TailChunk::Idle { .. } | TailChunk::Unknown => {}
        }
    }
    writing.await.unwrap();
    let first = seen[0];
    assert_eq!(seen, (first..first + RECORDS as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_quiet_tail_says_how_far_it_looked() {
    let platform = platform().await;
    let cli = platform.server.connect(Component::Cli).await;
    record(&cli, 1).await;
    indexed(&cli, 1).await;
    let nobody = Filter { component: Some("nobody".into()), ..Filter::default() };
    let mut chunks = cli.open(Bus::new_trace(), &Tail { v: 1, filter: nobody, after: 0 }).await.unwrap();
    let chunk = timeout(CATCH_UP, chunks.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(chunk, TailChunk::Idle { seen: 1 });
}

#[tokio::test]
async fn what_was_recorded_while_the_service_was_away_is_indexed_when_it_is_back() {
    let mut platform = platform().await;
    let cli = platform.server.connect(Component::Cli).await;
    record(&cli, 1).await;
    indexed(&cli, 1).await;
    platform.stop(Component::Audit).await;
    for version in 2..=40 {
        record(&cli, version).await;
    }
    platform.run(Component::Audit, "").await;
    let page = indexed(&cli, 40).await;
    let seqs: Vec<u64> = page.records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
}
