//! The shipped tools, as components, give what their makers promise.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tools_wasm::{Code, Outcome};

use crate::{Bench, built};

fn shipped() -> Bench {
    let bench = Bench::new(&[built(false)]);
    assert_eq!(bench.catalogue.refused(), []);
    bench
}

async fn answer(bench: &Bench, tool: &str, arguments: Value) -> Value {
    match bench.call(tool, &arguments.to_string()).await {
        Outcome::Ok(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{tool} {arguments}: {other:?}"),
    }
}

#[tokio::test]
async fn the_shipped_tools_are_ready_and_answer() {
    let bench = shipped();
    let names: Vec<_> = bench.catalogue.tools().map(|tool| tool.manifest().name.to_string()).collect();
    assert_eq!(names, ["calc", "clock", "text"]);

    let calc = answer(&bench, "calc", json!({"expression": "12.5% of 840"})).await;
    assert_eq!((&calc["result"], &calc["exact"]), (&json!("105"), &json!(true)));

    let hash = answer(&bench, "text", json!({"operation": "hash", "text": "abc"})).await;
    assert_eq!(hash["hex"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");

    let clock = answer(&bench, "clock", json!({"zone": "Tokyo"})).await;
    assert_eq!((&clock["zone"], &clock["utc_offset"]), (&json!("Asia/Tokyo"), &json!("+09:00")));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(clock["unix_seconds"].as_u64().unwrap()) <= 60, "{clock}");
}

#[tokio::test]
async fn an_operation_with_a_large_text_stays_within_the_limits() {
    let bench = shipped();
    let (old, new) = ("line of text\n".repeat(10_000), "line of text\n".repeat(10_001));
    let diff = answer(&bench, "text", json!({"operation": "diff", "text": old, "other": new})).await;
    assert_eq!(diff["added"], 1);
    let find = json!({"operation": "find", "text": "a".repeat(100_000), "pattern": "(a*)*b"});
    assert_eq!(answer(&bench, "text", find).await["total"], 0);
}

#[tokio::test]
async fn a_wrong_question_is_the_callers_fault_and_says_what_to_change() {
    let bench = shipped();
    for (tool, arguments, part) in [
        ("calc", r#"{"expression": "1/0"}"#, "division by zero"),
        ("calc", r#"{"expresion": "1"}"#, "expresion"),
        ("calc", "", "do not fit"),
        ("calc", r#"{"expression": 7}"#, "string"),
        ("clock", r#"{"zone": "Asia/Tokio"}"#, "Asia/Tokyo"),
        ("text", r#"{"operation": "find", "text": "", "pattern": "("}"#, "unclosed"),
    ] {
        match bench.call(tool, arguments).await {
            Outcome::Failed { code: Code::InvalidArguments, message } => assert!(message.contains(part), "{message}"),
            other => panic!("{tool} {arguments}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn many_calls_at_once_all_get_their_own_answer() {
    let bench = Arc::new(shipped());
    let mut calls = JoinSet::new();
    for number in 0..200 {
        let bench = Arc::clone(&bench);
        let arguments = json!({"expression": format!("{number} + 1")});
        calls.spawn(async move { (number + 1, answer(&bench, "calc", arguments).await) });
    }
    for (expected, answer) in calls.join_all().await {
        assert_eq!(answer["result"], expected.to_string());
    }
}
