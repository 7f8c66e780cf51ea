//! `llm-proxy` on a real bus with the real permissions, between a gateway and a policy played by the test and fakes of the providers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bus::{Bus, Call, CallError};
use llm_proxy::Config;
use proto::channel::{Origin, SignedOrigin};
use proto::keys::SigningKey;
use proto::llm::{ChatMessage, FinishReason, ModelChunk, ModelRequest, ToolSpec, ToolUse, Usage};
use proto::policy::{Action, Decision, Question};
use proto::{Component, Refusal, RefusalCode};
use serde_json::{Value, json};
use system_tests::Server;
use system_tests::fakes::anthropic::{self, FakeAnthropic};
use system_tests::fakes::openai::{self, FakeOpenAi};
use system_tests::fakes::provider::Answer;
use tempfile::TempDir;
use uuid::Uuid;

const KEY: &str = "sk-test-0123456789abcdef";

/// A bus with policy, proxy and gateway on it.
struct Stage {
    server: Server,
    gateway: Bus,
    _policy: Option<Bus>,
    _proxy: Bus,
    secrets: TempDir,
}

impl Stage {
    /// A proxy with these settings, under a policy that allows everything.
    async fn with(config: &str) -> Self {
        Self::under(config, Some(|_| allow())).await
    }

    async fn under(config: &str, policy: Option<fn(&Question) -> Decision>) -> Self {
        let server = Server::start().await;
        let secrets = TempDir::new().unwrap();
        std::fs::write(secrets.path().join("fake-key"), format!("{KEY}\n")).unwrap();
        let text = config.replace("SECRETS", secrets.path().to_str().unwrap());
        let (_, config): (_, Config) = bus::config::parse(&text).unwrap();
        let proxy = server.connect(Component::LlmProxy).await;
        llm_proxy::serve(proxy.clone(), config).await.unwrap();
        let policy = match policy {
            Some(decide) => Some(play_policy(&server, decide).await),
            None => None,
        };
        Self { gateway: server.connect(Component::Gateway).await, server, _policy: policy, _proxy: proxy, secrets }
    }

    async fn openai(fake: &FakeOpenAi) -> Self {
        Self::with(&config("openai", &fake.base_url())).await
    }

    async fn anthropic(fake: &FakeAnthropic) -> Self {
        Self::with(&config("anthropic", &fake.base_url())).await
    }

    async fn ask(&self, request: &ModelRequest) -> (Vec<ModelChunk>, Result<(), CallError>) {
        let mut chunks = self.gateway.open(Bus::new_trace(), request).await.unwrap();
        let mut all = Vec::new();
        loop {
            match chunks.next().await {
                Some(Ok(chunk)) => all.push(chunk),
                Some(Err(error)) => return (all, Err(error)),
                None => return (all, Ok(())),
            }
        }
    }

    async fn answered(&self, request: &ModelRequest) -> Vec<ModelChunk> {
        let (chunks, outcome) = self.ask(request).await;
        outcome.unwrap_or_else(|error| panic!("{error}; after {chunks:?}"));
        chunks
    }

    async fn refused(&self, request: &ModelRequest) -> (Vec<ModelChunk>, Refusal) {
        match self.ask(request).await {
            (chunks, Err(CallError::Refused(refusal))) => (chunks, refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Records of the proxy so far, up to the first `model.answered`.
    async fn records(&self) -> Vec<Value> {
        let audit = self.server.connect(Component::Audit).await;
        let mut deliveries = audit.records().await.unwrap();
        let mut records = Vec::new();
        while records.last().is_none_or(|record: &Value| record["type"] != "model.answered") {
            let delivery = tokio::time::timeout(Duration::from_secs(10), deliveries.next()).await.unwrap().unwrap();
            let record = delivery.body.unwrap();
            if record["source"] == "/nachos/llm-proxy" && record["type"].as_str().unwrap().starts_with("model.") {
                records.push(record);
            }
        }
        records
    }
}

async fn play_policy(server: &Server, decide: fn(&Question) -> Decision) -> Bus {
    let policy = server.connect(Component::Policy).await;
    policy.serve(move |call: Call<Question>| async move { Ok(decide(&call.body)) }).await.unwrap();
    policy
}

fn allow() -> Decision {
    Decision::Allow { id: Uuid::now_v7(), policies: vec!["all".into()], call: None }
}

/// A model `fake` of a provider `fake`, with short limits.
fn config(kind: &str, base_url: &str) -> String {
    format!(
        "default_model = 'fake'\nsecrets = 'SECRETS'\nfirst_output_ms = 4000\nidle_ms = 1000\n\
         [[models]]\nname = 'fake'\nprovider = 'fake'\nid = 'fake-1'\n\
         [[providers]]\nname = 'fake'\nkind = '{kind}'\nbase_url = '{base_url}'\nkey_file = 'SECRETS/fake-key'\n"
    )
}

fn origin() -> SignedOrigin {
    let origin = Origin {
        channel: "cli".parse().unwrap(),
        team: None,
        user: "ada".into(),
        conversation: "c1".into(),
        event: "e1".into(),
        text_digest: "sha256:0".into(),
        at: jiff::Timestamp::now(),
    };
    origin.sign(&SigningKey::from_seed([7; 32])).unwrap()
}

fn request(text: &str) -> ModelRequest {
    let clock = ToolSpec {
        name: "clock".parse().unwrap(),
        description: "Tells the time.".into(),
        parameters: json!({"type": "object", "properties": {"zone": {"type": "string"}}}),
    };
    ModelRequest {
        v: proto::VERSION,
        origin: origin(),
        session: "s1".into(),
        turn: Uuid::now_v7(),
        taint: Default::default(),
        model: None,
        system: "Be brief.".into(),
        messages: vec![ChatMessage::User { text: text.into() }],
        tools: vec![clock],
        max_tokens: 1000,
    }
}

fn text(chunks: &[ModelChunk]) -> String {
    let text = |chunk: &ModelChunk| match chunk {
        ModelChunk::Text { text } => Some(text.clone()),
        _ => None,
    };
    chunks.iter().filter_map(text).collect()
}

fn calls(chunks: &[ModelChunk]) -> Vec<ToolUse> {
    let call = |chunk: &ModelChunk| match chunk {
        ModelChunk::ToolUse(call) => Some(call.clone()),
        _ => None,
    };
    chunks.iter().filter_map(call).collect()
}

fn end(chunks: &[ModelChunk]) -> (FinishReason, Usage) {
    match chunks.last() {
        Some(ModelChunk::Finished { reason, usage }) => (*reason, *usage),
        other => panic!("{other:?}"),
    }
}

/// The tool's result, told to the model.
fn with_result(mut request: ModelRequest, chunks: &[ModelChunk], result: &str) -> ModelRequest {
    let calls = calls(chunks);
    let (call, tool) = (calls[0].id.clone(), calls[0].name.clone());
    request.messages.push(ChatMessage::Assistant { text: text(chunks), tool_calls: calls, provider_state: None });
    request.messages.push(ChatMessage::Tool { call, tool, text: result.into(), is_error: false });
    request
}

#[tokio::test]
async fn a_turn_with_a_tool_over_openais_wire() {
    let fake = FakeOpenAi::start().await;
    let stage = Stage::openai(&fake).await;
    let question = request("what time is it?");
    let asked = stage.answered(&question).await;
    let started = ModelChunk::Started { model: "fake".parse().unwrap(), provider: "fake".into() };
    assert_eq!(asked[0], started);
    assert_eq!((calls(&asked)[0].name.as_str(), end(&asked).0), ("clock", FinishReason::ToolCalls));
    assert_eq!(calls(&asked)[0].arguments, json!({"zone": "Asia/Tokyo"}));
    let told = stage.answered(&with_result(question, &asked, "08:30")).await;
    assert_eq!(text(&told), "The tool says: 08:30");
    assert_eq!(end(&told), (FinishReason::Stop, Usage { input: 57, output: 12, cached: 40 }));
    let seen = fake.seen();
    assert_eq!(seen[0].header("authorization"), format!("Bearer {KEY}"));
    assert_eq!(seen[1].body["messages"][3]["role"], "tool");
    assert_eq!((seen.len(), fake.connections()), (2, 1), "the connection is used again");
}

#[tokio::test]
async fn a_turn_with_a_tool_over_anthropics_wire() {
    let fake = FakeAnthropic::start().await;
    let stage = Stage::anthropic(&fake).await;
    let question = request("what time is it?");
    let asked = stage.answered(&question).await;
    assert_eq!((calls(&asked)[0].name.as_str(), end(&asked).0), ("clock", FinishReason::ToolCalls));
    let told = stage.answered(&with_result(question, &asked, "08:30")).await;
    assert_eq!(text(&told), "The tool says: 08:30");
    assert_eq!(end(&told), (FinishReason::Stop, Usage { input: 57, output: 12, cached: 40 }));
    let seen = fake.seen();
    assert_eq!((seen[0].header("x-api-key"), seen[0].header("anthropic-version")), (KEY, "2023-06-01"));
    assert_eq!(seen[0].header("authorization"), "");
}

#[tokio::test]
async fn signed_thinking_makes_the_round_trip() {
    let fake = FakeAnthropic::start().await;
    let golden = include_str!("../../../llm-proxy/golden/anthropic/thinking_with_signature.stream.txt");
    fake.script(Answer::raw(golden));
    let stage = Stage::anthropic(&fake).await;
    let question = request("what time is it?");
    let asked = stage.answered(&question).await;
    let state = asked.iter().find_map(|chunk| match chunk {
        ModelChunk::ProviderState { state } => Some(state.clone()),
        _ => None,
    });
    let mut next = with_result(question, &asked, "08:30");
    if let ChatMessage::Assistant { provider_state, .. } = &mut next.messages[1] {
        *provider_state = state;
    }
    stage.answered(&next).await;
    let sent = &fake.seen()[1].body["messages"][1]["content"];
    let thought =
        json!({"type": "thinking", "thinking": "The clock knows.", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"});
    assert_eq!(sent[0], thought);
    assert_eq!((&sent[1]["type"], &sent[2]["type"]), (&json!("redacted_thinking"), &json!("tool_use")));
}

#[tokio::test]
async fn both_records_stand_and_hold_no_key() {
    let fake = FakeOpenAi::start().await;
    let stage = Stage::openai(&fake).await;
    let question = request("what time is it?");
    stage.answered(&question).await;
    let records = stage.records().await;
    let [requested, answered] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((&requested["type"], &answered["type"]), (&json!("model.requested"), &json!("model.answered")));
    assert_eq!(requested["data"]["request"], answered["data"]["request"]);
    assert_eq!(requested["principal"], "cli/ada");
    assert_eq!(requested["turn"], json!(question.turn));
    assert_eq!(requested["traceparent"], answered["traceparent"]);
    assert_eq!(requested["data"]["tools"], json!(["clock"]));
    assert_eq!(answered["data"]["finish"], "tool-calls");
    assert_eq!(answered["data"]["tool_calls"], json!(["clock"]));
    assert_eq!(answered["data"]["usage"]["input"], 57);
    assert!(!format!("{records:?}").contains(KEY));
}

#[tokio::test]
async fn what_policy_denies_never_reaches_the_provider() {
    let fake = FakeOpenAi::start().await;
    let text = config("openai", &fake.base_url());
    let decide = |question: &Question| match &question.action {
        Action::CallModel { model } if model.as_str() == "fake" => {
            Decision::Deny { id: Uuid::now_v7(), reason: "not before breakfast".into(), policies: vec![] }
        }
        _ => allow(),
    };
    let stage = Stage::under(&text, Some(decide)).await;
    let (chunks, refusal) = stage.refused(&request("hi")).await;
    assert_eq!((chunks.len(), refusal.code), (0, RefusalCode::Forbidden));
    assert!(refusal.reason.contains("not before breakfast"), "{refusal}");
    assert!(fake.seen().is_empty());
    // The control: another model is allowed.
    let other = ModelRequest { model: Some("demo".parse().unwrap()), ..request("hi") };
    assert_eq!(end(&stage.answered(&other).await).0, FinishReason::Stop);
}

#[tokio::test]
async fn without_a_decision_nothing_is_asked() {
    let fake = FakeOpenAi::start().await;
    let stage = Stage::under(&config("openai", &fake.base_url()), None).await;
    let (_, refusal) = stage.refused(&request("hi")).await;
    assert_eq!(refusal.code, RefusalCode::Unavailable);
    let ask = |_: &Question| Decision::Ask { id: Uuid::now_v7(), prompt: "May it?".into(), policies: vec![] };
    let stage = Stage::under(&config("openai", &fake.base_url()), Some(ask)).await;
    assert_eq!(stage.refused(&request("hi")).await.1.code, RefusalCode::Forbidden);
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_rejected_key_says_what_to_do_and_is_not_tried_again() {
    let fake = FakeOpenAi::start().await;
    let said = format!("Incorrect API key provided: {KEY}.");
    fake.script(Answer::status(401, &[], openai::error(&said, "invalid_request_error", Some("invalid_api_key"))));
    let stage = Stage::openai(&fake).await;
    let (chunks, refusal) = stage.refused(&request("hi")).await;
    assert_eq!((chunks.len(), refusal.code), (0, RefusalCode::Upstream));
    assert!(refusal.reason.contains("key_file") && !refusal.reason.contains("0123456789"), "{refusal}");
    assert_eq!(fake.seen().len(), 1);
    let records = stage.records().await;
    assert!(records[1]["data"]["error"].as_str().unwrap().starts_with("key rejected"), "{records:?}");
    assert!(!format!("{records:?}").contains("0123456789"));
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_if_it_is_short() {
    let fake = FakeOpenAi::start().await;
    let limit = |wait| {
        let body = openai::error("slow down", "requests", Some("rate_limit_exceeded"));
        Answer::status(429, &[("retry-after", wait)], body)
    };
    let stage = Stage::openai(&fake).await;
    fake.script(limit("1"));
    let asked = Instant::now();
    assert_eq!(text(&stage.answered(&request("hi")).await), "You said: hi");
    assert!(asked.elapsed() >= Duration::from_secs(1) && fake.seen().len() == 2);
    fake.script(limit("300"));
    let (_, refusal) = stage.refused(&request("hi")).await;
    assert_eq!((refusal.code, fake.seen().len()), (RefusalCode::Busy, 3));
    assert!(refusal.reason.contains("300 s"), "{refusal}");
}

#[tokio::test]
async fn what_may_pass_is_tried_twice_and_what_may_not_once() {
    let fake = FakeAnthropic::start().await;
    let stage = Stage::anthropic(&fake).await;
    let overloaded =
        || Answer::status(529, &[("retry-after-ms", "1")], anthropic::error("overloaded_error", "Overloaded"));
    for _ in 0..2 {
        fake.script(overloaded());
    }
    assert_eq!(stage.refused(&request("hi")).await.1.code, RefusalCode::Busy);
    assert_eq!(fake.seen().len(), 2, "two tries, not three");
    fake.script(overloaded());
    stage.answered(&request("hi")).await;
    assert_eq!(fake.seen().len(), 4);
    fake.script(Answer::status(500, &[("x-should-retry", "false")], anthropic::error("api_error", "no")));
    assert_eq!(stage.refused(&request("hi")).await.1.code, RefusalCode::Upstream);
    assert_eq!(fake.seen().len(), 5, "the provider's word goes first");
    fake.script(Answer::status(400, &[], anthropic::error("invalid_request_error", "messages: no")));
    let (_, refusal) = stage.refused(&request("hi")).await;
    assert!(refusal.code == RefusalCode::Invalid && refusal.reason.contains("messages: no"), "{refusal}");
    assert_eq!(fake.seen().len(), 6);
}

#[tokio::test]
async fn an_error_in_the_stream_before_any_output_is_tried_again_and_later_is_not() {
    let fake = FakeAnthropic::start().await;
    let stage = Stage::anthropic(&fake).await;
    let error = include_str!("../../../llm-proxy/golden/anthropic/error_at_start.stream.txt");
    fake.script(Answer::raw(error));
    assert_eq!(text(&stage.answered(&request("hi")).await), "You said: hi");
    assert_eq!(fake.seen().len(), 2);
    fake.script(Answer::raw(include_str!("../../../llm-proxy/golden/anthropic/error_mid_stream.stream.txt")));
    let (chunks, refusal) = stage.refused(&request("hi")).await;
    assert_eq!((text(&chunks).as_str(), refusal.code), ("Once upon", RefusalCode::Busy));
    assert_eq!(fake.seen().len(), 3);
}

#[tokio::test]
async fn a_broken_connection_is_never_a_short_success() {
    let fake = FakeOpenAi::start().await;
    let stage = Stage::openai(&fake).await;
    let long = Answer::text(&"word ".repeat(50));
    fake.script(long.clone().cut_after(3000));
    let (chunks, refusal) = stage.refused(&request("hi")).await;
    assert_eq!(refusal.code, RefusalCode::Upstream);
    assert!(text(&chunks).starts_with("word") && refusal.reason.contains("broke off"), "{refusal}");
    assert!(!chunks.iter().any(|chunk| matches!(chunk, ModelChunk::Finished { .. })));
    // The same bytes with a proper end of the body are no answer either.
    fake.script(Answer::raw(include_str!("../../../llm-proxy/golden/openai/truncated.stream.txt")));
    assert_eq!(stage.refused(&request("hi")).await.1.code, RefusalCode::Upstream);
    assert_eq!(fake.seen().len(), 2);
    // The control.
    fake.script(long);
    assert_eq!(end(&stage.answered(&request("hi")).await).0, FinishReason::Stop);
}

#[tokio::test]
async fn silence_ends() {
    let fake = FakeOpenAi::start().await;
    let stage =
        Stage::with(&config("openai", &fake.base_url()).replace("first_output_ms = 4000", "first_output_ms = 500"))
            .await;
    fake.script(Answer::hang());
    let (chunks, refusal) = stage.refused(&request("hi")).await;
    assert_eq!((chunks.len(), refusal.code), (0, RefusalCode::Upstream));
    fake.script(Answer::text(&"word ".repeat(50)).silent_after(3000));
    let (chunks, refusal) = stage.refused(&request("hi")).await;
    assert!(text(&chunks).starts_with("word") && refusal.code == RefusalCode::Upstream, "{refusal}");
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn the_deadline_holds_for_a_provider_that_never_ends() {
    let fake = FakeOpenAi::start().await;
    let stage = Stage::with(&format!("deadline_ms = 1000\n{}", config("openai", &fake.base_url()))).await;
    fake.script(Answer::text(&"word ".repeat(500)).dribble(200, Duration::from_millis(50)));
    let (chunks, refusal) = stage.refused(&request("hi")).await;
    assert_eq!(refusal.code, RefusalCode::Deadline);
    assert!(text(&chunks).starts_with("word"));
    assert!(stage.records().await[1]["data"]["error"].as_str().unwrap().contains("deadline"));
}

#[tokio::test]
async fn letters_that_the_network_splits_arrive_whole() {
    let fake = FakeOpenAi::start().await;
    let stage = Stage::openai(&fake).await;
    let said = "東京は今、午前八時半です。🕗 안녕하세요";
    fake.script(Answer::text(said).dribble(7, Duration::ZERO));
    assert_eq!(text(&stage.answered(&request("hi")).await), said);
}

#[tokio::test]
async fn a_content_filter_is_an_answer_that_refuses() {
    let fake = FakeOpenAi::start().await;
    let stage = Stage::openai(&fake).await;
    fake.script(Answer::status(400, &[], openai::error("filtered", "", Some("content_filter"))));
    let chunks = stage.answered(&request("hi")).await;
    assert_eq!((chunks.len(), end(&chunks).0), (2, FinishReason::Refused));
}

#[tokio::test]
async fn odd_answers_are_told_apart() {
    let fake = FakeOpenAi::start().await;
    let stage = Stage::openai(&fake).await;
    let json = [("content-type", "application/json")];
    let answers: VecDeque<(Answer, RefusalCode)> = [
        (Answer::status(307, &[("location", "http://127.0.0.1:1/")], ""), RefusalCode::NotFound),
        (Answer::status(200, &json, r#"{"choices":[{"message":{"content":"hi"}}]}"#), RefusalCode::Upstream),
        (Answer::status(200, &json, openai::error("no", "", Some("invalid_api_key"))), RefusalCode::Upstream),
        (Answer::raw("data: <html>\n\n"), RefusalCode::Upstream),
        (Answer::raw(format!("data: {}\n\n", "x".repeat(4 << 20))), RefusalCode::TooLarge),
    ]
    .into();
    for (number, (answer, code)) in answers.into_iter().enumerate() {
        fake.script(answer);
        let (_, refusal) = stage.refused(&request("hi")).await;
        assert_eq!(refusal.code, code, "{refusal}");
        assert_eq!(fake.seen().len(), number + 1, "{refusal}");
    }
}

#[tokio::test]
async fn sixteen_requests_are_in_the_making_at_once() {
    let fake = FakeOpenAi::start().await;
    fake.think_for(Duration::from_millis(200));
    let stage = Stage::openai(&fake).await;
    let question = request("hi");
    let asked = Instant::now();
    let answers = futures_util::future::join_all((0..16).map(|_| stage.answered(&question))).await;
    println!("16 requests to a model that takes 200 ms took {:?}", asked.elapsed());
    assert!(answers.iter().all(|chunks| text(chunks) == "You said: hi"));
    assert_eq!(fake.most_at_once(), 16);
}

#[tokio::test]
async fn a_key_that_is_stored_later_is_found() {
    let fake = FakeOpenAi::start().await;
    let text = config("openai", &fake.base_url()).replace("SECRETS/fake-key", "SECRETS/later-key");
    let stage = Stage::with(&text).await;
    let (_, refusal) = stage.refused(&request("hi")).await;
    assert!(refusal.code == RefusalCode::Unavailable && refusal.reason.contains("later-key"), "{refusal}");
    std::fs::write(stage.secrets.path().join("later-key"), "sk-later").unwrap();
    let stored = Instant::now();
    while stage.ask(&request("hi")).await.1.is_err() {
        assert!(stored.elapsed() < Duration::from_secs(30), "the key was not found");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(fake.seen()[0].header("authorization"), "Bearer sk-later");
}

#[tokio::test]
async fn the_demo_model_answers_without_any_provider() {
    let stage = Stage::with("secrets = 'SECRETS'").await;
    let question = request("what time is it in Tokyo?");
    let asked = stage.answered(&question).await;
    assert_eq!(asked[0], ModelChunk::Started { model: "demo".parse().unwrap(), provider: "offline".into() });
    assert_eq!(calls(&asked)[0].arguments, json!({"zone": "Tokyo"}));
    let told =
        stage.answered(&with_result(question, &asked, r#"{"text":"Saturday, 08:30","zone":"Asia/Tokyo"}"#)).await;
    assert_eq!(text(&told), "In Tokyo it is Saturday, 08:30.");
}
