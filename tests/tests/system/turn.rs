//! The main job: a message goes through the real services and comes back, and every step left its record.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::Component;
use proto::audit::{Filter, Query};
use proto::channel::ReplyKind;
use system_tests::Platform;

#[tokio::test]
async fn a_question_is_answered_through_a_tool_and_every_step_is_recorded() {
    let platform = Platform::start().await;
    let mut person = platform.person("ann").await;
    let reply = person.ask("c", "what time is it in Tokyo?").await;
    assert_eq!(reply.kind, ReplyKind::Answer);
    assert!(reply.text.contains("Tokyo"), "{}", reply.text);

    // The record of the turn's end is written after the reply.
    let cli = platform.server.connect(Component::Cli).await;
    let mut kinds = Vec::new();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let query = Query {
            v: 1,
            filter: Filter { turn: Some(reply.turn), ..Filter::default() },
            after: None,
            limit: 100,
            newest: false,
        };
        let page = cli.request(bus::Bus::new_trace(), &query).await.unwrap();
        kinds =
            page.records.iter().map(|r| (r.component.clone(), r.record["type"].as_str().unwrap().to_owned())).collect();
        let traces: BTreeSet<String> =
            page.records.iter().map(|r| r.record["traceparent"].as_str().unwrap()[3..35].to_owned()).collect();
        assert!(traces.len() <= 1, "one turn, one trace: {traces:?}");
        if kinds.iter().any(|(_, kind)| kind == "turn.finished") {
            break;
        }
    }
    let kinds: Vec<_> = kinds.iter().map(|(component, kind)| format!("{component} {kind}")).collect();
    println!("{}", kinds.join("\n"));
    let order = [
        "policy policy.decided",
        "policy policy.decided",
        "llm-proxy model.requested",
        "llm-proxy model.answered",
        "policy policy.decided",
        "tools-wasm tool.started",
        "tools-wasm tool.finished",
        "policy policy.decided",
        "llm-proxy model.requested",
        "llm-proxy model.answered",
        "gateway turn.finished",
    ];
    let mut rest = kinds.iter();
    for step in order {
        assert!(rest.any(|kind| kind == step), "{step} is missing or out of order in {kinds:#?}");
    }
}

#[tokio::test]
async fn a_session_remembers_and_sessions_go_on_side_by_side() {
    let platform = Platform::start().await;
    let mut person = platform.person("ann").await;
    for n in 0..8 {
        person.write(&format!("c{n}"), "what is 12.5% of 840?").await;
    }
    let mut answered = BTreeSet::new();
    for _ in 0..8 {
        let reply = person.reply().await;
        assert!(reply.text.contains("105"), "{}", reply.text);
        answered.insert(reply.conversation);
    }
    assert_eq!(answered.len(), 8);
}
