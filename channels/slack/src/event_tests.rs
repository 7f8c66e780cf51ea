//! Who is heard: payloads as Slack sends them, and the verdict.

use serde_json::json;

use super::*;

fn me() -> Identity {
    Identity { user: "U0BOT".into(), bot: Some("B0BOT".into()) }
}

/// A verdict in a word, for an event with these fields over those of a plain message in a channel.
fn verdict(fields: Value) -> &'static str {
    let mut event =
        json!({"type": "message", "user": "U1", "channel": "C1", "channel_type": "channel", "ts": "2.1", "text": "hi"});
    for (key, value) in fields.as_object().unwrap() {
        event[key] = value.clone();
    }
    match judge(&json!({"team_id": "T1", "type": "event_callback", "event": event}), &me()) {
        Verdict::Take(_) => "take",
        Verdict::IfInThread(_) => "if in thread",
        Verdict::Own(..) => "own",
        Verdict::Ignore(_) => "ignore",
    }
}

#[test]
fn mentions_direct_messages_and_own_threads_are_heard() {
    let table = [
        ("take", json!({"text": "<@U0BOT> hi"})),
        ("take", json!({"text": "hi <@U0BOT|nachos>"})),
        ("take", json!({"type": "app_mention", "channel_type": null})),
        ("take", json!({"channel": "D1", "channel_type": "im"})),
        ("take", json!({"channel": "D1", "channel_type": null})),
        ("take", json!({"thread_ts": "1.1", "parent_user_id": "U0BOT"})),
        ("take", json!({"text": "<@U0BOT>", "subtype": "file_share", "files": [{"name": "a.pdf"}]})),
        ("take", json!({"channel_type": "im", "channel": "D1", "subtype": "me_message"})),
        ("if in thread", json!({"thread_ts": "1.1"})),
        ("if in thread", json!({"thread_ts": "1.1", "subtype": "thread_broadcast"})),
        ("if in thread", json!({"thread_ts": "1.1", "channel_type": "mpim"})),
        ("ignore", json!({})),
        ("ignore", json!({"channel_type": "mpim", "channel": "G1"})),
        ("ignore", json!({"text": "<@U0BOTTOM> hi"})),
        ("ignore", json!({"type": "reaction_added"})),
    ];
    for (expected, fields) in table {
        assert_eq!(verdict(fields.clone()), expected, "{fields}");
    }
}

#[test]
fn no_bot_is_answered_and_nothing_that_nobody_wrote() {
    let table = [
        ("own", json!({"user": "U0BOT", "bot_id": "B0BOT", "text": "<@U0BOT>"})),
        ("own", json!({"user": "U7", "bot_id": "B0BOT"})),
        ("ignore", json!({"bot_id": "B9", "text": "<@U0BOT> hi"})),
        ("ignore", json!({"subtype": "bot_message", "text": "<@U0BOT> hi", "user": null})),
        ("ignore", json!({"channel_type": "im", "channel": "D1", "user": "USLACK"})),
        ("ignore", json!({"channel_type": "im", "channel": "D1", "user": "USLACKBOT"})),
        ("ignore", json!({"subtype": "message_changed", "hidden": true, "channel_type": "im"})),
        ("ignore", json!({"subtype": "message_deleted", "channel_type": "im"})),
        ("ignore", json!({"subtype": "channel_join", "text": "<@U0BOT> has joined"})),
        ("ignore", json!({"hidden": true, "channel_type": "im"})),
        ("ignore", json!({"user": null, "channel_type": "im"})),
        ("ignore", json!({"ts": null, "channel_type": "im"})),
        ("ignore", json!({"channel": "C1:9", "text": "<@U0BOT>"})),
    ];
    for (expected, fields) in table {
        assert_eq!(verdict(fields.clone()), expected, "{fields}");
    }
}

#[test]
fn both_events_of_a_mention_and_its_thread_are_one_conversation() {
    let payload = |event: Value| json!({"team_id": "T1", "event": event});
    let base = json!({"user": "U1", "channel": "C1", "ts": "2.1", "text": "<@U0BOT> hi", "team": "T9"});
    let mut conversations = Vec::new();
    for (kind, thread) in [("message", None), ("app_mention", None), ("message", Some("2.1"))] {
        let mut event = base.clone();
        event["type"] = json!(kind);
        event["thread_ts"] = json!(thread);
        let Verdict::Take(message) = judge(&payload(event), &me()) else { panic!("not taken") };
        conversations.push(message.conversation());
    }
    assert_eq!(conversations, ["T1:C1:2.1"; 3]);
}

#[test]
fn a_thread_is_ours_when_we_wrote_in_it_or_are_mentioned() {
    let other = json!({"user": "U1", "text": "hello"});
    let ours = json!({"user": "U0BOT", "bot_id": "B0BOT", "text": "hello"});
    let mention = json!({"user": "U1", "text": "ask <@U0BOT>"});
    assert!(!takes_part(std::slice::from_ref(&other), &me()));
    assert!(takes_part(&[other.clone(), ours], &me()));
    assert!(takes_part(&[other, mention], &me()));
    let nobody = Identity { user: "U0BOT".into(), bot: None };
    assert!(!takes_part(&[json!({"user": "U1"})], &nobody), "an absent bot id is not ours");
}
