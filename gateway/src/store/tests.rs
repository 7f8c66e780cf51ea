//! What the store keeps, and that it keeps going when what it holds is broken.

use proto::channel::ReplyKind;
use proto::llm::Usage;

use super::*;
use crate::turn::{Entry, How, Outcome};

async fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("gateway.db")).await.unwrap()
}

fn arrival<'a>(channel: &'a Name, event: &'a str, position: u64) -> Arrival<'a> {
    Arrival { channel, conversation: "C1", event, position }
}

fn farewell(text: &str) -> Farewell {
    Farewell {
        message: Uuid::now_v7(),
        record: Uuid::now_v7(),
        reply: Reply { text: text.to_owned(), kind: ReplyKind::Answer, outcome: Outcome::Answered, reason: None },
        totals: Totals { model_calls: 1, tool_calls: 0, usage: Usage::default() },
        admitted: true,
    }
}

fn said(text: &str) -> Vec<proto::llm::ChatMessage> {
    vec![proto::llm::ChatMessage::User { text: text.to_owned() }]
}

#[tokio::test]
async fn a_message_delivered_again_is_the_same_turn_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let cli: Name = "cli".parse().unwrap();
    let first = store(&folder).await.arrive(&arrival(&cli, "e1", 1)).await.unwrap();
    let reopened = store(&folder).await;
    assert_eq!(reopened.arrive(&arrival(&cli, "e1", 1)).await.unwrap(), first);
    let second = reopened.arrive(&arrival(&cli, "e2", 2)).await.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(second.session, first.session);
}

#[tokio::test]
async fn steps_come_back_in_order_and_storing_them_twice_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let cli: Name = "cli".parse().unwrap();
    let mut turn = store.arrive(&arrival(&cli, "e1", 1)).await.unwrap();
    let entries = [
        Entry::Admitted { text: "hello".to_owned() },
        Entry::ToolRequested { call: "c".to_owned() },
        Entry::ToolSettled { call: "c".to_owned(), how: How::Ran, text: "1".to_owned() },
    ];
    store.append(&turn, 0, &entries[..2]).await.unwrap();
    turn.session.taint.insert(Taint::Untrusted);
    store.append(&turn, 1, &entries[1..]).await.unwrap();
    assert_eq!(store.entries(turn.id).await.unwrap(), entries);
    let again = store.arrive(&arrival(&cli, "e1", 1)).await.unwrap();
    assert_eq!(again.session.taint, BTreeSet::from([Taint::Untrusted]));
}

#[tokio::test]
async fn the_first_ending_of_a_turn_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let cli: Name = "cli".parse().unwrap();
    let turn = store.arrive(&arrival(&cli, "e1", 1)).await.unwrap();
    let first = farewell("one");
    store.reply(&turn, 0, &[], &first, &[]).await.unwrap();
    store.reply(&turn, 0, &[], &farewell("two"), &[]).await.unwrap();
    let stored = store.arrive(&arrival(&cli, "e1", 1)).await.unwrap();
    assert_eq!((stored.state, stored.farewell), (State::Replied, Some(first)));
}

#[tokio::test]
async fn history_is_whole_turns_newest_first_within_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let cli: Name = "cli".parse().unwrap();
    for (position, event) in ["e1", "e2", "e3"].into_iter().enumerate() {
        let turn = store.arrive(&arrival(&cli, event, position as u64)).await.unwrap();
        store.reply(&turn, 0, &[], &farewell("ok"), &said(event)).await.unwrap();
    }
    let session = store.arrive(&arrival(&cli, "e4", 4)).await.unwrap().session.id;
    let all = store.history(&session, 10_000).await.unwrap();
    assert_eq!(all, [said("e3"), said("e2"), said("e1")]);
    let one = serde_json::to_string(&said("e3")).unwrap().len();
    assert_eq!(store.history(&session, one * 2 + 1).await.unwrap(), [said("e3"), said("e2")]);
}

#[tokio::test]
async fn what_is_not_readable_is_an_error_or_passed_over_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let cli: Name = "cli".parse().unwrap();
    for (event, break_it) in [
        ("e1", "UPDATE steps SET entry = '{\"kind\":'"),
        ("e2", "UPDATE turns SET transcript = 'not json'"),
        ("e3", "UPDATE turns SET reply = '7' WHERE event = 'e3'"),
    ] {
        let turn = store.arrive(&arrival(&cli, event, 1)).await.unwrap();
        store.append(&turn, 0, &[Entry::ToolRequested { call: "c".to_owned() }]).await.unwrap();
        store.reply(&turn, 1, &[], &farewell("x"), &said("x")).await.unwrap();
        sqlx::query(break_it).execute(store.writer()).await.unwrap();
        match event {
            "e1" => assert!(matches!(store.entries(turn.id).await, Err(StoreError::Corrupt { what: "step", .. }))),
            "e2" => assert_eq!(store.history(&turn.session.id, 10_000).await.unwrap(), Vec::<Vec<_>>::new()),
            _ => assert!(matches!(
                store.arrive(&arrival(&cli, event, 1)).await,
                Err(StoreError::Corrupt { what: "reply", .. })
            )),
        }
    }
}
