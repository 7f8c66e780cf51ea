//! The main job from end to end: Slack and the model's provider are played, everything between them is real.

use std::collections::BTreeSet;
use std::time::Duration;

use bus::StreamSizes;
use proto::Component;
use serde_json::{Value, json};
use system_tests::Platform;
use system_tests::fakes::anthropic::FakeAnthropic;
use system_tests::fakes::openai::{self, FakeOpenAi};
use system_tests::fakes::provider::{Answer, Seen};
use system_tests::fakes::slack::{APP_TOKEN, BOT_TOKEN, BOT_USER, FakeSlack, Post};

/// Long enough for a busy machine; nothing waits so long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Long enough to see that nothing more comes.
const QUIET: Duration = Duration::from_secs(2);

const KEY: &str = "sk-test-0123456789abcdef";

/// Slack, the platform and a provider.
struct Stage {
    platform: Platform,
    slack: FakeSlack,
}

impl Stage {
    async fn set(kind: &str, base_url: &str) -> Self {
        let inner = [Component::Policy, Component::ToolsWasm, Component::Gateway];
        let mut platform = Platform::start_only(&inner, &StreamSizes::default()).await;
        let key = platform.server.dir().join("provider-key");
        std::fs::write(&key, format!("{KEY}\n")).unwrap();
        let models = format!(
            "default_model = 'fake'\n[[models]]\nname = 'fake'\nprovider = 'fake'\nid = 'fake-1'\n\
             [[providers]]\nname = 'fake'\nkind = '{kind}'\nbase_url = '{base_url}'\nkey_file = '{}'",
            key.display()
        );
        platform.run(Component::LlmProxy, &models).await;
        let slack = FakeSlack::start().await;
        let tokens = platform.server.dir().join("channel-slack-data");
        std::fs::create_dir_all(&tokens).unwrap();
        std::fs::write(tokens.join("app-token"), APP_TOKEN).unwrap();
        std::fs::write(tokens.join("bot-token"), BOT_TOKEN).unwrap();
        platform.run(Component::ChannelSlack, &format!("api_url = '{}'", slack.api_url())).await;
        slack.wait_until("two connections", PATIENCE, |slack| slack.connections() == 2).await;
        Self { platform, slack }
    }

    async fn openai() -> (Self, FakeOpenAi) {
        let model = FakeOpenAi::start().await;
        (Self::set("openai", &model.base_url()).await, model)
    }

    /// The only post in a thread, after the time in which a second one would have come.
    async fn only_post(&self, thread: &str) -> Post {
        self.slack.wait_until("a reply in the thread", PATIENCE, |slack| !slack.posts_in(thread).is_empty()).await;
        tokio::time::sleep(QUIET).await;
        let posts = self.slack.posts();
        assert_eq!(posts.len(), 1, "{posts:#?}");
        assert_eq!(posts[0].thread, thread);
        posts[0].clone()
    }

    /// The record of the one turn that was, without what belongs to no turn.
    async fn record(&self) -> Vec<Value> {
        let records = self.platform.records().await;
        let trace = |record: &Value| record["traceparent"].as_str().and_then(|text| text.get(3..35)).map(str::to_owned);
        let received: Vec<_> = records.iter().filter(|record| record["type"] == "message.received").collect();
        assert_eq!(received.len(), 1, "{received:#?}");
        let of_turn = trace(received[0]).expect("the message's trace");
        let kept: Vec<_> = records.iter().filter(|record| trace(record).as_ref() == Some(&of_turn)).cloned().collect();
        let others =
            records.iter().filter(|record| record["turn"].is_string() && trace(record).as_ref() != Some(&of_turn));
        assert_eq!(others.count(), 0, "a record of the turn is under another trace");
        kept
    }
}

/// `component kind`, and for a decision what it was about.
fn line(record: &Value) -> String {
    let (component, kind) = (record["component"].as_str().unwrap(), record["type"].as_str().unwrap());
    match record["data"]["action"].as_str() {
        Some(action) => format!("{component} {kind} {action} {}", record["data"]["outcome"].as_str().unwrap_or("?")),
        None => format!("{component} {kind}"),
    }
}

/// Mention, tool, answer: what Slack, the record and nobody else saw. The provider's view is the caller's to check.
async fn a_turn_with_a_tool(stage: &Stage, call: &str) {
    let ts = stage.slack.say("U1", "C1", &format!("<@{BOT_USER}> what time is it in Tokyo?"), None);
    let post = stage.only_post(&ts).await;
    assert_eq!((post.channel.as_str(), post.text.as_str()), ("C1", "It is late in Tokyo."));
    assert!(stage.slack.is_acked(&ts));

    let record = stage.record().await;
    let lines: Vec<_> = record.iter().map(line).collect();
    println!("{}", lines.join("\n"));
    let order = [
        "channel-slack message.received",
        "policy policy.decided receive_message allow",
        "policy policy.decided call_model allow",
        "llm-proxy model.requested",
        "llm-proxy model.answered",
        "policy policy.decided call_tool allow",
        "tools-wasm tool.started",
        "tools-wasm tool.finished",
        "policy policy.decided call_model allow",
        "llm-proxy model.requested",
        "llm-proxy model.answered",
    ];
    let mut rest = lines.iter();
    for step in order {
        assert!(rest.any(|line| line == step), "{step} is missing or out of order in {lines:#?}");
    }
    let one = |kind: &str| {
        let found: Vec<_> = record.iter().filter(|record| record["type"] == kind).collect();
        assert_eq!(found.len(), 1, "{kind} in {lines:#?}");
        found[0]
    };
    assert_eq!(one("message.sent")["data"]["posted"], post.ts.as_str());
    assert_eq!(one("message.sent")["component"], "channel-slack");
    let (started, finished) = (one("tool.started"), one("tool.finished"));
    let decided = record.iter().find(|record| record["data"]["action"] == "call_tool").unwrap();
    assert_eq!(decided["principal"], "slack/T0TEAM/U1");
    assert_eq!(decided["data"]["policies"], json!(["members-use-harmless-tools"]));
    assert_eq!(decided["data"]["permit"], started["data"]["run"]);
    assert_eq!(decided["data"]["arguments"]["digest"], started["data"]["arguments"]["digest"]);
    assert_eq!((&started["data"]["tool"], &started["data"]["call"]), (&json!("clock"), &json!(call)));
    assert_eq!((&finished["data"]["run"], &finished["data"]["outcome"]), (&started["data"]["run"], &json!("ok")));
    assert!(!record.iter().any(|record| record.to_string().contains(KEY)), "the provider's key is in the record");
}

fn names<'a>(tools: &'a Value, name: impl Fn(&'a Value) -> &'a Value) -> BTreeSet<&'a str> {
    tools.as_array().expect("tools").iter().map(|tool| name(tool).as_str().unwrap()).collect()
}

fn assert_is_the_clock(result: &str) {
    assert!(result.starts_with("[output of the tool `clock`: untrusted data"), "{result}");
    assert!(result.contains("Asia/Tokyo") || result.contains("+09:00"), "{result}");
}

#[tokio::test]
async fn a_mention_in_slack_is_answered_through_a_tool_and_an_openai_model() {
    let (stage, model) = Stage::openai().await;
    model.script(Answer::calls(&[("call_1", "clock", json!({"zone": "Asia/Tokyo"}))]));
    model.script(Answer::text("It is late in Tokyo."));
    a_turn_with_a_tool(&stage, "call_1").await;

    let seen: [Seen; 2] = model.seen().try_into().expect("two requests");
    for request in &seen {
        assert_eq!(request.header("authorization"), format!("Bearer {KEY}"));
        assert_eq!((&request.body["model"], &request.body["stream"]), (&json!("fake-1"), &json!(true)));
        let offered = names(&request.body["tools"], |tool| &tool["function"]["name"]);
        assert!(["calc", "clock", "text"].iter().all(|tool| offered.contains(tool)), "{offered:?}");
    }
    let asked = seen[0].body["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(asked["role"], "user");
    assert!(asked["content"].to_string().contains("what time is it in Tokyo?"), "{asked}");
    let result = seen[1].body["messages"].as_array().unwrap().last().unwrap();
    assert_eq!((&result["role"], &result["tool_call_id"]), (&json!("tool"), &json!("call_1")));
    assert_is_the_clock(result["content"].as_str().unwrap());
}

#[tokio::test]
async fn a_mention_in_slack_is_answered_through_a_tool_and_an_anthropic_model() {
    let model = FakeAnthropic::start().await;
    let stage = Stage::set("anthropic", &model.base_url()).await;
    model.script(Answer::calls(&[("toolu_1", "clock", json!({"zone": "Asia/Tokyo"}))]));
    model.script(Answer::text("It is late in Tokyo."));
    a_turn_with_a_tool(&stage, "toolu_1").await;

    let seen: [Seen; 2] = model.seen().try_into().expect("two requests");
    for request in &seen {
        assert_eq!(request.header("x-api-key"), KEY);
        assert_ne!(request.header("anthropic-version"), "");
        let offered = names(&request.body["tools"], |tool| &tool["name"]);
        assert!(["calc", "clock", "text"].iter().all(|tool| offered.contains(tool)), "{offered:?}");
    }
    let last = seen[1].body["messages"].as_array().unwrap().last().unwrap();
    let result = last["content"].as_array().unwrap().iter().find(|block| block["type"] == "tool_result").unwrap();
    assert_eq!((&last["role"], &result["tool_use_id"]), (&json!("user"), &json!("toolu_1")));
    let text = result["content"].as_str().or_else(|| result["content"][0]["text"].as_str()).unwrap();
    assert_is_the_clock(text);
}

#[tokio::test]
async fn a_message_that_slack_sends_again_and_again_is_answered_once() {
    let (stage, model) = Stage::openai().await;
    let ts = stage.slack.say("U1", "C1", &format!("<@{BOT_USER}> hello"), None);
    let again = |kind: &str| {
        let event = json!({"type": kind, "user": "U1", "ts": ts, "event_ts": ts, "team": "T0TEAM", "channel": "C1",
            "channel_type": "channel", "text": format!("<@{BOT_USER}> hello")});
        stage.slack.send_event(event)
    };
    again("message");
    again("app_mention");
    assert_eq!(stage.only_post(&ts).await.text, "You said: hello");
    again("app_mention");
    again("message");
    stage.slack.wait_until("all acknowledged", PATIENCE, |slack| slack.is_acked(&ts)).await;
    stage.only_post(&ts).await;
    assert_eq!(model.seen().len(), 1);
    let lines: Vec<_> = stage.record().await.iter().map(line).collect();
    assert_eq!(lines.iter().filter(|line| *line == "channel-slack message.sent").count(), 1, "{lines:#?}");
}

#[tokio::test]
async fn a_thread_is_a_session_that_remembers() {
    let (stage, model) = Stage::openai().await;
    let ts = stage.slack.say("U1", "C1", &format!("<@{BOT_USER}> my name is Ann"), None);
    stage.only_post(&ts).await;
    stage.slack.say("U1", "C1", "and what did I say?", Some(&ts));
    stage.slack.wait_until("a second reply", PATIENCE, |slack| slack.posts_in(&ts).len() == 2).await;
    let seen = model.seen();
    let messages = seen.last().unwrap().body["messages"].to_string();
    assert!(messages.contains("my name is Ann") && messages.contains("You said: my name is Ann"), "{messages}");
    // Another thread knows nothing of it.
    let other = stage.slack.say("U2", "C1", &format!("<@{BOT_USER}> who are you?"), None);
    stage.slack.wait_until("a reply there", PATIENCE, |slack| slack.posts_in(&other).len() == 1).await;
    let messages = model.seen().last().unwrap().body["messages"].to_string();
    assert!(messages.contains("who are you?") && !messages.contains("Ann"), "{messages}");
}

#[tokio::test]
async fn a_provider_that_refuses_the_key_is_told_in_words_in_the_thread() {
    let (stage, model) = Stage::openai().await;
    let body =
        openai::error("Incorrect API key provided: sk-te...cdef.", "invalid_request_error", Some("invalid_api_key"));
    model.script(Answer::status(401, &[("content-type", "application/json")], body));
    let ts = stage.slack.say("U1", "C1", &format!("<@{BOT_USER}> what time is it?"), None);
    let post = stage.only_post(&ts).await;
    assert_eq!(model.seen().len(), 1, "a wrong key stays wrong: nobody tries it again");
    let text = post.text.to_lowercase();
    assert!(text.contains("key") && text.contains(' '), "{}", post.text);
    assert!(!text.contains("sk-te") && !text.contains('{'), "more than a person needs: {}", post.text);
    let lines: Vec<_> = stage.record().await.iter().map(line).collect();
    println!("{}", lines.join("\n"));
    assert!(lines.iter().any(|line| line == "channel-slack message.sent"), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("tool.started")), "{lines:#?}");
}
