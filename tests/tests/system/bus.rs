//! The bus crate against a real server: what async-nats leaves to its users is really settled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bus::{Bus, Call, CallError, Once, PublishError, Replies, StreamSizes};
use proto::audit::{Fact, Page, Query, Scope, Tail, TailChunk};
use proto::channel::{Outbound, ReplyKind};
use proto::policy::{Permissible, PermissibleTools};
use proto::tool::CatalogRequest;
use proto::{Component, Family, Refusal, RefusalCode};
use system_tests::Server;
use uuid::Uuid;

fn query(limit: u32) -> Query {
    Query { v: 1, filter: Default::default(), after: None, limit, newest: false }
}

fn fact(n: usize) -> Fact {
    Fact::ComponentStarted { version: n.to_string() }
}

async fn answer(bus: &Bus) {
    bus.serve(|call: Call<Query>| async move {
        match call.body.limit {
            0 => Err(Refusal::new(RefusalCode::Invalid, "nothing asked for")),
            9 => {
                tokio::time::sleep(Duration::from_secs(5)).await;
                Err(Refusal::new(RefusalCode::Internal, "too late anyway"))
            }
            n => Ok(Page { records: vec![], indexed: n.into(), more: false }),
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_question_gets_its_answer_and_a_refusal_its_reason() {
    let server = Server::start().await;
    let (audit, cli) = (server.connect(Component::Audit).await, server.connect(Component::Cli).await);
    let trace = Bus::new_trace();
    assert!(matches!(cli.request(trace, &query(1)).await, Err(CallError::NoResponder(_))));
    answer(&audit).await;
    assert_eq!(cli.request(trace, &query(7)).await.unwrap().indexed, 7);
    let refused = cli.request(trace, &query(0)).await.unwrap_err();
    assert!(matches!(refused, CallError::Refused(refusal) if refusal.code == RefusalCode::Invalid));
}

#[tokio::test]
async fn a_call_that_times_out_leaves_nothing_behind() {
    let server = Server::start().await;
    let (audit, cli) = (server.connect(Component::Audit).await, server.connect(Component::Cli).await);
    answer(&audit).await;
    for _ in 0..100 {
        let late = cli.request_within(Bus::new_trace(), &query(9), Duration::from_millis(2)).await;
        assert!(matches!(late, Err(CallError::TimedOut(_) | CallError::Refused(_))), "{late:?}");
    }
    assert_eq!(cli.waiting(), 0);
}

#[tokio::test]
async fn what_the_server_denies_fails_at_once_and_is_recorded() {
    let server = Server::start().await;
    let gateway = server.connect(Component::Gateway).await;
    let begun = Instant::now();
    let denied = gateway.request(Bus::new_trace(), &query(1)).await;
    assert!(matches!(denied, Err(CallError::Denied { .. })), "{denied:?}");
    assert!(begun.elapsed() < Duration::from_millis(900), "a denial is not a time-out");
    let served =
        gateway.serve(|_: Call<Query>| async { Err(Refusal::new(RefusalCode::Internal, "never asked")) }).await;
    assert!(served.is_err());

    let mut records = server.connect(Component::Audit).await.records().await.unwrap();
    let mut found = BTreeSet::new();
    while found.len() < 2 {
        let record = tokio::time::timeout(Duration::from_secs(5), records.next()).await.unwrap().unwrap();
        let body = record.body.unwrap();
        assert_eq!(record.component, Some(Component::Gateway));
        if body["type"] == "component.denied" {
            found.insert(format!(
                "{} {}",
                body["data"]["operation"].as_str().unwrap(),
                body["data"]["subject"].as_str().unwrap()
            ));
        }
    }
    assert_eq!(
        found,
        BTreeSet::from(["publish nachos.audit.query".to_owned(), "subscribe nachos.audit.query".to_owned()])
    );
}

#[tokio::test]
async fn who_asks_is_what_the_server_vouches_for() {
    let server = Server::start().await;
    let (policy, gateway) = (server.connect(Component::Policy).await, server.connect(Component::Gateway).await);
    policy
        .serve(|call: Call<PermissibleTools>| async move {
            assert_eq!(call.caller, Some(Component::Gateway));
            Ok(Permissible { tools: BTreeSet::new() })
        })
        .await
        .unwrap();
    let origin: proto::channel::SignedOrigin = serde_json::from_value("x.y.z".into()).unwrap();
    let question = PermissibleTools { v: 1, origin, session: String::new(), taint: BTreeSet::new() };
    assert!(gateway.request(Bus::new_trace(), &question).await.is_ok());
}

#[tokio::test]
async fn a_stream_ends_properly_or_says_that_it_did_not() {
    let server = Server::start().await;
    let (audit, cli) = (server.connect(Component::Audit).await, server.connect(Component::Cli).await);
    audit
        .serve_stream(|call: Call<Tail>, replies: Replies<TailChunk>| async move {
            for seen in 1..=call.body.after {
                replies.send(&TailChunk::Idle { seen }).await.map_err(|e| Refusal::new(RefusalCode::Internal, e))?;
            }
            if call.body.after == 3 { Err(Refusal::new(RefusalCode::Upstream, "it broke off")) } else { Ok(()) }
        })
        .await
        .unwrap();
    let collect = async |after| {
        let mut chunks = cli.open(Bus::new_trace(), &Tail { v: 1, filter: Default::default(), after }).await.unwrap();
        let mut seen = Vec::new();
        while let Some(chunk) = chunks.next().await {
            seen.push(chunk);
        }
        seen
    };
    let whole = collect(2000).await;
    assert_eq!(whole.len(), 2000);
    assert!(whole.iter().all(Result::is_ok));
    let broken = collect(3).await;
    assert!(matches!(broken.last(), Some(Err(CallError::Refused(refusal))) if refusal.reason == "it broke off"));
    assert_eq!(cli.waiting(), 0);
}

#[tokio::test]
async fn ready_means_reachable() {
    let server = Server::start().await;
    let cli = server.connect(Component::Cli).await;
    for _ in 0..100 {
        let runner = server.connect(Component::ToolsWasm).await;
        runner
            .serve(|_: Call<CatalogRequest>| async { Err(Refusal::new(RefusalCode::NotFound, "empty")) })
            .await
            .unwrap();
        let answer = cli.request(Bus::new_trace(), &CatalogRequest { v: 1, family: Family::Wasm }).await;
        assert!(matches!(answer, Err(CallError::Refused(_))), "{answer:?}");
        runner.drain().await;
    }
}

#[tokio::test]
async fn concurrent_records_are_all_stored_once_and_in_batches() {
    let server = Server::start().await;
    let gateway = server.connect(Component::Gateway).await;
    let begun = Instant::now();
    let many: Vec<_> = (0..500)
        .map(|n| {
            let gateway = gateway.clone();
            tokio::spawn(async move { gateway.record(None, Scope::default(), fact(n)).await })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for one in many {
        ids.insert(one.await.unwrap().unwrap());
    }
    println!("500 concurrent records in {:?}", begun.elapsed());
    let mut records = server.connect(Component::Audit).await.records().await.unwrap();
    let mut stored = BTreeSet::new();
    for seq in 1..=500 {
        let record = tokio::time::timeout(Duration::from_secs(5), records.next()).await.unwrap().unwrap();
        assert_eq!(record.seq, seq);
        stored.insert(record.body.unwrap()["id"].as_str().unwrap().parse::<Uuid>().unwrap());
    }
    assert_eq!(stored, ids);
}

#[tokio::test]
async fn an_id_is_used_once_also_by_another_replica() {
    let server = Server::start().await;
    let (one, two) = (server.connect(Component::ToolsWasm).await, server.connect(Component::ToolsWasm).await);
    let permit = Uuid::new_v4();
    assert_eq!(one.record_once(permit, None, Scope::default(), fact(1)).await.unwrap(), Once::First);
    assert_eq!(one.record_once(permit, None, Scope::default(), fact(1)).await.unwrap(), Once::AlreadyUsed);
    assert_eq!(two.record_once(permit, None, Scope::default(), fact(2)).await.unwrap(), Once::AlreadyUsed);
    let racers: Vec<_> = (0..20)
        .map(|n| {
            let bus = if n % 2 == 0 { one.clone() } else { two.clone() };
            let id = Uuid::from_u128(permit.as_u128() ^ 1);
            tokio::spawn(async move { bus.record_once(id, None, Scope::default(), fact(n)).await.unwrap() })
        })
        .collect();
    let first = Arc::new(AtomicUsize::new(0));
    for racer in racers {
        if racer.await.unwrap() == Once::First {
            first.fetch_add(1, Ordering::Relaxed);
        }
    }
    assert_eq!(first.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_full_record_store_is_an_error_and_keeps_what_it_has() {
    let server = Server::start_with(&StreamSizes { audit: 64 << 10, ..StreamSizes::default() }).await;
    let gateway = server.connect(Component::Gateway).await;
    let mut stored = 0;
    let error = loop {
        match gateway.record(None, Scope::default(), fact(0)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000);
    };
    assert!(matches!(error, PublishError::Rejected(_)), "{error:?}");
    assert!(stored > 50, "{stored}");
}

fn outbound(n: u128) -> Outbound {
    Outbound {
        v: 1,
        id: Uuid::from_u128(n),
        channel: "cli".parse().unwrap(),
        conversation: "c".into(),
        session: "s".into(),
        turn: Uuid::nil(),
        text: n.to_string(),
        reply_to: serde_json::Value::Null,
        kind: ReplyKind::Answer,
    }
}

#[tokio::test]
async fn a_delivery_comes_again_until_it_is_done() {
    let server = Server::start().await;
    let (gateway, cli) = (server.connect(Component::Gateway).await, server.connect(Component::Cli).await);
    let trace = Bus::new_trace();
    assert!(!gateway.enqueue(trace, "a", &outbound(1)).await.unwrap().duplicate);
    assert!(gateway.enqueue(trace, "a", &outbound(1)).await.unwrap().duplicate);
    let mut deliveries = cli.deliveries::<Outbound>().await.unwrap();
    let first = deliveries.next().await.unwrap();
    assert_eq!((first.attempt, first.trace), (1, trace));
    first.retry_in(Duration::from_millis(50)).await.unwrap();
    let again = tokio::time::timeout(Duration::from_secs(5), deliveries.next()).await.unwrap().unwrap();
    assert_eq!((again.attempt, again.seq), (2, first.seq));
    again.done().await.unwrap();
    let more = tokio::time::timeout(Duration::from_millis(500), deliveries.next()).await;
    assert!(more.is_err());
}

#[tokio::test]
async fn a_killed_bus_loses_nothing_that_was_acknowledged() {
    let mut server = Server::start().await;
    let (gateway, cli) = (server.connect(Component::Gateway).await, server.connect(Component::Cli).await);
    let mut deliveries = cli.deliveries::<Outbound>().await.unwrap();
    let sender = tokio::spawn(async move {
        for n in 1..=300 {
            gateway.enqueue(Bus::new_trace(), &n.to_string(), &outbound(n)).await.unwrap();
        }
    });
    let mut seen = BTreeSet::new();
    while seen.len() < 300 {
        let delivery = tokio::time::timeout(Duration::from_secs(30), deliveries.next()).await.unwrap().unwrap();
        let text = delivery.body.as_ref().unwrap().text.clone();
        if delivery.done().await.is_ok() {
            seen.insert(text);
        }
        if seen.len() == 100 || seen.len() == 200 {
            server.kill();
            server.start_again();
        }
    }
    sender.await.unwrap();
}

#[tokio::test]
async fn objects_come_back_whole_or_not_at_all() {
    let server = Server::start().await;
    let (runner, gateway) = (server.connect(Component::ToolsWasm).await, server.connect(Component::Gateway).await);
    let body = bytes::Bytes::from(vec![7; 300_000]);
    let object = runner.put_object(body.clone()).await.unwrap();
    assert_eq!(gateway.get_object(&object).await.unwrap(), body);
    let altered = proto::object::ObjectRef { digest: "sha256:0".into(), ..object.clone() };
    assert!(gateway.get_object(&altered).await.is_err());
    let cli = server.connect(Component::Cli).await;
    assert!(matches!(cli.get_object(&object).await, Err(CallError::Denied { .. })));
    assert!(runner.put_object(vec![0; 2_000_000].into()).await.is_err());
}
