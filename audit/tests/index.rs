//! The index on a real file: what is stored once, found, and kept over a restart.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::Path;

use audit::index::Index;
use audit::progress::Progress;
use audit::row::Row;
use audit::select::Span;
use proto::audit::Filter;
use proto::seal::{Body, RawRecord};
use serde_json::{Value, json};
use uuid::Uuid;

const ALL: Span = Span { after: 0, upto: u64::MAX, limit: 500, newest: false };

/// A day in microseconds is far enough from everything else.
const START: i64 = 1_800_000_000_000_000;

fn record(seq: u64, kind: &str, data: Value) -> Row {
    let body = json!({
        "type": kind, "id": format!("id-{seq}"), "session": "s1", "turn": Uuid::from_u128(7), "principal": "slack/T1/U1",
        "channel": "slack", "traceparent": format!("00-{:032x}-0000000000000001-01", 0xabc0_u64 + seq / 4), "data": data,
    });
    let stored = START + i64::try_from(seq).unwrap() * 1_000_000;
    row(seq, stored, "policy", body.to_string().as_bytes())
}

fn row(seq: u64, stored: i64, component: &str, body: &[u8]) -> Row {
    let subject = format!("nachos.audit.log.{component}");
    Row::new(&RawRecord { seq, time_ns: stored * 1000, subject, body: Body::new(body.to_vec()) })
}

fn turn() -> Vec<Row> {
    vec![
        record(1, "message.received", json!({})),
        record(
            2,
            "policy.decided",
            json!({"action": "call_tool", "resource": "clock", "outcome": "allow", "policies": ["demo", "ops"]}),
        ),
        record(3, "tool.finished", json!({"tool": "clock", "outcome": "ok"})),
        record(
            4,
            "policy.decided",
            json!({"action": "call_tool", "resource": "rm", "outcome": "deny", "policies": []}),
        ),
        row(5, START, "gateway", b"not json"),
        record(6, "tool_x", json!({"tool": "clock"})),
    ]
}

async fn filled(dir: &Path) -> Index {
    let index = Index::open(&dir.join("index.db")).await.unwrap();
    index.insert(&turn(), &Progress::default()).await.unwrap();
    index
}

async fn found(index: &Index, filter: Filter) -> Vec<u64> {
    index.select(&filter, ALL).await.unwrap().iter().map(|record| record.seq).collect()
}

#[tokio::test]
async fn every_filter_finds_its_records_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let index = filled(dir.path()).await;
    let text = |text: &str| Some(text.to_owned());
    let at = |seconds: i64| Some(jiff::Timestamp::from_microsecond(START + seconds * 1_000_000).unwrap());
    for (filter, seqs) in [
        (Filter::default(), vec![1, 2, 3, 4, 5, 6]),
        (Filter { types: vec!["tool.*".into()], ..Filter::default() }, vec![3]),
        (Filter { types: vec!["tool.*".into(), "message.received".into()], ..Filter::default() }, vec![1, 3]),
        (Filter { types: vec!["*".into()], ..Filter::default() }, vec![1, 2, 3, 4, 5, 6]),
        (Filter { types: vec!["unreadable".into()], ..Filter::default() }, vec![5]),
        (Filter { tool: text("clock"), ..Filter::default() }, vec![2, 3, 6]),
        (Filter { outcome: text("deny"), ..Filter::default() }, vec![4]),
        (Filter { policy: text("ops"), ..Filter::default() }, vec![2]),
        (Filter { principal: text("slack/T1/*"), channel: text("slack"), ..Filter::default() }, vec![1, 2, 3, 4, 6]),
        (Filter { principal: text("slack/T1"), ..Filter::default() }, vec![]),
        (Filter { trace: text("00000000000000000000000000000abc0"[1..].into()), ..Filter::default() }, vec![1, 2, 3]),
        (Filter { trace: text("0000000000000000000000000000abC1"), ..Filter::default() }, vec![4, 6]),
        (Filter { trace: text("0000"), ..Filter::default() }, vec![1, 2, 3, 4, 6]),
        (Filter { component: text("gateway"), ..Filter::default() }, vec![5]),
        (Filter { session: text("s1"), turn: Some(Uuid::from_u128(7)), ..Filter::default() }, vec![1, 2, 3, 4, 6]),
        (Filter { turn: Some(Uuid::from_u128(8)), ..Filter::default() }, vec![]),
        (Filter { since: at(2), until: at(4), ..Filter::default() }, vec![2, 3]),
        (Filter { before: Some(3), ..Filter::default() }, vec![1, 2]),
        (Filter { outcome: text("' OR 1=1 --"), ..Filter::default() }, vec![]),
    ] {
        assert_eq!(found(&index, filter.clone()).await, seqs, "{filter:?}");
    }
}

#[tokio::test]
async fn a_page_is_in_stream_order_from_whichever_end() {
    let dir = tempfile::tempdir().unwrap();
    let index = filled(dir.path()).await;
    let page = async |span| -> Vec<u64> {
        index.select(&Filter::default(), span).await.unwrap().iter().map(|record| record.seq).collect()
    };
    assert_eq!(page(Span { limit: 2, ..ALL }).await, [1, 2]);
    assert_eq!(page(Span { limit: 2, newest: true, ..ALL }).await, [5, 6]);
    assert_eq!(page(Span { after: 2, upto: 4, ..ALL }).await, [3, 4]);
}

#[tokio::test]
async fn a_record_that_comes_twice_is_one_row_and_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let index = filled(dir.path()).await;
    let before = index.progress().await.unwrap();
    let mut again = turn();
    again.push(record(7, "session.opened", json!({})));
    again[0].raw = "altered".into();
    let after = index.insert(&again, &before).await.unwrap();
    assert_eq!((after.upto(), after.held()), (7, 7));
    let first = index.select(&Filter::default(), Span { limit: 1, ..ALL }).await.unwrap();
    assert_eq!(first[0].record["type"], "message.received");
}

#[tokio::test]
async fn the_index_goes_on_after_a_restart_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let index = filled(dir.path()).await;
    let progress = index.progress().await.unwrap();
    index.insert(&[record(9, "session.opened", json!({}))], &progress).await.unwrap();
    index.close().await;
    let index = Index::open(&dir.path().join("index.db")).await.unwrap();
    let progress = index.progress().await.unwrap();
    assert_eq!((progress.upto(), progress.held()), (6, 7));
    let rest = [record(7, "session.opened", json!({})), record(8, "session.opened", json!({}))];
    assert_eq!(index.insert(&rest, &progress).await.unwrap().upto(), 9);
}

#[tokio::test]
async fn what_is_unreadable_is_answered_as_its_text() {
    let dir = tempfile::tempdir().unwrap();
    let index = filled(dir.path()).await;
    let unreadable = Filter { types: vec![audit::row::UNREADABLE.into()], ..Filter::default() };
    let found = index.select(&unreadable, ALL).await.unwrap();
    assert_eq!((found[0].component.as_str(), &found[0].record), ("gateway", &json!("not json")));
}
