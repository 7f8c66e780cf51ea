//! `kill -9` of the audit service, the bus and both while four components write 20,000 records: afterwards every record that was
//! acknowledged is in the tree exactly once, and every checkpoint that was ever made is consistent with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bus::Bus;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, pin_mut};
use ledger::verify::Verifier;
use proto::Component;
use proto::audit::{CHECKPOINTS, Fact, STREAM, Scope};
use proto::keys::PublicKey;
use proto::seal::{Prove, SealRequest, Which};
use system_tests::Server;
use system_tests::processes::Stack;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Who writes.
const WRITERS: [Component; 4] = [Component::Gateway, Component::Policy, Component::LlmProxy, Component::ToolsWasm];

/// Records of each writer.
const EACH: usize = 5000;

/// Records that one writer has under way at a time.
const UNDER_WAY: usize = 50;

/// How far the writing is when something is killed: who, in turn.
const KILLS: [usize; 6] = [2000, 5000, 8000, 11_000, 14_000, 17_000];

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Writes until each is acknowledged; a record that is not gets another try under its own id, as a component would.
async fn write(bus: Bus, acknowledged: Arc<AtomicUsize>) -> Vec<Uuid> {
    let mut ids = Vec::with_capacity(EACH);
    for part in 0..EACH / UNDER_WAY {
        let some = (0..UNDER_WAY).map(|n| {
            let (bus, acknowledged) = (bus.clone(), acknowledged.clone());
            async move {
                let id = Uuid::now_v7();
                let until = Instant::now() + PATIENCE;
                let fact = Fact::ComponentStarted { version: format!("{part}.{n}") };
                while let Err(error) = bus.record_as(id, None, Scope::default(), fact.clone()).await {
                    assert!(Instant::now() < until, "{error}");
                    sleep(Duration::from_millis(100)).await;
                }
                acknowledged.fetch_add(1, Ordering::Relaxed);
                id
            }
        });
        ids.extend(join_all(some).await);
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_record_is_sealed_once_whoever_dies() {
    let mut server = Server::start().await;
    let mut stack = Stack::new(&server);
    stack.start(Component::Audit, "");
    stack.ready(Component::Audit).await;
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let writers = join_all(WRITERS.map(|component| server.connect(component))).await;
    let writing: Vec<_> = writers.into_iter().map(|bus| tokio::spawn(write(bus, acknowledged.clone()))).collect();
    for (turn, at) in KILLS.into_iter().enumerate() {
        while acknowledged.load(Ordering::Relaxed) < at {
            sleep(Duration::from_millis(5)).await;
        }
        if turn % 3 != 1 {
            stack.kill(Component::Audit);
        }
        if turn % 3 != 0 {
            server.kill();
            server.start_again();
        }
        if turn % 3 != 1 {
            stack.start_again(Component::Audit);
        }
    }
    let ids: Vec<Uuid> = join_all(writing).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(ids.len(), EACH * WRITERS.len());

    let cli = server.connect(Component::Cli).await;
    let sealed = seal_all(&cli).await;
    let key = std::fs::read_to_string(server.keys(Component::Cli).join("checkpoint.pub")).unwrap();
    let key = PublicKey::try_from(key).unwrap();
    let mut verifier = Verifier::new(vec![key], Vec::new());
    let checkpoints = checkpoints(&cli, &mut verifier).await;
    let mut found: BTreeMap<Uuid, u64> = BTreeMap::new();
    let records = cli.look_up_all(STREAM, 1..=sealed);
    pin_mut!(records);
    while let Some(record) = records.next().await {
        let record = record.unwrap().1.expect("no record is missing");
        let json: serde_json::Value = serde_json::from_slice(record.body.as_bytes()).unwrap();
        *found.entry(json["id"].as_str().unwrap().parse().unwrap()).or_default() += 1;
        verifier.record(&record);
    }
    let report = verifier.finish();
    assert!(report.ok(), "{:?}", report.problems);
    assert_eq!(report.sealed_upto, sealed);
    let once = ids.iter().filter(|id| found.get(id) == Some(&1)).count();
    println!(
        "{} acknowledged, {once} in the tree exactly once, {sealed} leaves, {checkpoints} checkpoints consistent",
        ids.len()
    );
    assert_eq!(once, ids.len());
    for id in [ids[0], ids[ids.len() / 2], ids[ids.len() - 1]] {
        let bundle = cli.request(Bus::new_trace(), &Prove { v: 1, which: Which::Id(id) }).await.unwrap();
        ledger::bundle::verify(&bundle, &[key]).unwrap();
    }
}

/// Asks until everything that is stored is sealed.
async fn seal_all(cli: &Bus) -> u64 {
    let until = Instant::now() + PATIENCE;
    loop {
        let stored = cli.stream_state(STREAM).await.unwrap().last_seq;
        match cli.request(Bus::new_trace(), &SealRequest { v: 1, now: true }).await {
            Ok(seal) if seal.size >= stored => return seal.size,
            Ok(seal) => assert!(Instant::now() < until, "sealed {} of {stored}", seal.size),
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn checkpoints(cli: &Bus, verifier: &mut Verifier) -> u64 {
    let state = cli.stream_state(CHECKPOINTS).await.unwrap();
    let notes = cli.look_up_all(CHECKPOINTS, state.first_seq..=state.last_seq);
    pin_mut!(notes);
    while let Some(note) = notes.next().await {
        let (seq, note) = note.unwrap();
        let note = String::from_utf8(note.unwrap().body.as_bytes().to_vec()).unwrap();
        verifier.checkpoint(&note, format!("checkpoint {seq} of the stream"));
    }
    state.messages
}
