//! The gateway on a real server with the real permissions. Policy, the model, the runner and the channel are played by the test: on a
//! bus a fake is one more subscriber.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{Bus, Call, Deliveries, Replies};
use gateway::Config;
use jiff::Timestamp;
use proto::canonical::{digest, digest_of_json};
use proto::channel::{Delta, Inbound, Origin, Outbound, Progress, ReplyKind, deltas_of};
use proto::keys::SigningKey;
use proto::llm::{ChatMessage, FinishReason, ModelChunk, ModelRequest, ToolUse, Usage};
use proto::permit::PermitClaims;
use proto::policy::{Action, Decision, Permissible, PermissibleTools, Question};
use proto::tool::{Catalog, CatalogRequest, Effects, Manifest, Taint, ToolCall, ToolOutcome, ToolOutput};
use proto::{Component, Family, Name, Refusal, RefusalCode};
use serde_json::{Value, json};
use system_tests::Server;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Longest wait for anything here: a crashed gateway's messages come again after ten seconds.
const PATIENCE: Duration = Duration::from_secs(40);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// What the played components do; each test changes what it is about.
#[derive(Clone)]
struct Script {
    policy: fn(&Question) -> Result<Decision, Refusal>,
    model: fn(&ModelRequest) -> Vec<ModelChunk>,
    model_takes: Duration,
    tool_takes: Duration,
}

impl Default for Script {
    fn default() -> Self {
        Self { policy: permissive, model: echo, model_takes: Duration::ZERO, tool_takes: Duration::ZERO }
    }
}

/// What the played components saw.
#[derive(Default)]
struct Seen {
    questions: Mutex<Vec<Question>>,
    requests: Mutex<Vec<ModelRequest>>,
    runs: Mutex<Vec<String>>,
    traces: Mutex<BTreeSet<String>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    busy: Mutex<BTreeMap<String, usize>>,
}

impl Seen {
    fn enter(&self, session: &str) {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        let mut busy = self.busy.lock().unwrap();
        let here = busy.entry(session.to_owned()).or_default();
        *here += 1;
        assert_eq!(*here, 1, "two turns of one session at once");
    }

    fn leave(&self, session: &str) {
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        *self.busy.lock().unwrap().get_mut(session).unwrap() -= 1;
    }
}

fn permissive(question: &Question) -> Result<Decision, Refusal> {
    Ok(match &question.action {
        Action::CallTool { call, tool, arguments } => permit(question, call, tool, arguments),
        _ => Decision::Allow { id: Uuid::now_v7(), policies: vec![], call: None },
    })
}

fn permit(question: &Question, call: &str, tool: &Name, arguments: &Value) -> Decision {
    let claims = PermitClaims {
        jti: Uuid::now_v7(),
        iss: String::new(),
        aud: tool.clone(),
        sub: "cli/ann".into(),
        family: Family::Wasm,
        session: question.session.clone(),
        turn: question.turn,
        call: call.to_owned(),
        args: digest_of_json(arguments).unwrap(),
        salt: proto::content::Salt::random(),
        decision: Uuid::now_v7(),
        policy_set: "sha256:0".into(),
        iat: 0,
        exp: 0,
    };
    let permit = claims.issued(Timestamp::now()).sign(&SigningKey::from_seed([1; 32])).unwrap();
    Decision::allow_tool(Uuid::now_v7(), vec![], permit, tool.clone(), Family::Wasm, arguments.clone())
}

fn deny(reason: &str) -> Decision {
    Decision::Deny { id: Uuid::now_v7(), reason: reason.into(), policies: vec![] }
}

fn finished(reason: FinishReason) -> ModelChunk {
    ModelChunk::Finished { reason, usage: Usage { input: 10, output: 5, cached: 0 } }
}

fn says(text: &str) -> Vec<ModelChunk> {
    let (first, rest) = text.split_at(text.floor_char_boundary(text.len() / 2));
    let piece = |text: &str| ModelChunk::Text { text: text.to_owned() };
    vec![started(), piece(first), piece(rest), finished(FinishReason::Stop)]
}

fn started() -> ModelChunk {
    ModelChunk::Started { model: name("demo"), provider: "test".into() }
}

fn calls(tool: &str, arguments: Value) -> Vec<ModelChunk> {
    let call = ToolUse { id: "call-1".into(), name: tool.into(), arguments };
    vec![started(), ModelChunk::ToolUse(call), finished(FinishReason::ToolCalls)]
}

/// What the person wrote last.
fn question(request: &ModelRequest) -> &str {
    let text = request.messages.iter().rev().find_map(|message| match message {
        ChatMessage::User { text } => Some(text.as_str()),
        _ => None,
    });
    text.unwrap()
}

/// What the last tool call gave, if the model was told since the person wrote.
fn tool_result(request: &ModelRequest) -> Option<&str> {
    match request.messages.last().unwrap() {
        ChatMessage::Tool { text, .. } => Some(text),
        _ => None,
    }
}

fn echo(request: &ModelRequest) -> Vec<ModelChunk> {
    says(&format!("you said {}", question(request)))
}

fn uses_clock(request: &ModelRequest) -> Vec<ModelChunk> {
    tool_result(request)
        .map_or_else(|| calls("clock", json!({"zone": "UTC"})), |result| says(&format!("it gave: {result}")))
}

fn uses_mail(request: &ModelRequest) -> Vec<ModelChunk> {
    tool_result(request)
        .map_or_else(|| calls("mail", json!({"to": "bob"})), |result| says(&format!("it gave: {result}")))
}

fn manifest(tool: &str, idempotent: bool) -> Manifest {
    Manifest {
        v: 1,
        name: name(tool),
        family: Family::Wasm,
        description: "a tool".into(),
        parameters: json!({"type": "object"}),
        effects: Effects { idempotent, ..Effects::default() },
        limits: Default::default(),
    }
}

/// A gateway among played components.
struct World {
    server: Server,
    gateway: Bus,
    cli: Bus,
    outbound: Deliveries<Outbound>,
    seen: Arc<Seen>,
    disk: TempDir,
}

impl World {
    async fn new(script: Script) -> Self {
        let server = Server::start().await;
        let seen = Arc::new(Seen::default());
        play_policy(&server, &script, &seen).await;
        play_model(&server.connect(Component::LlmProxy).await, &script, &seen).await;
        play_runner(&server, &script, &seen).await;
        Self::among(server, seen).await
    }

    async fn among(server: Server, seen: Arc<Seen>) -> Self {
        let disk = tempfile::tempdir().unwrap();
        let gateway = start_gateway(&server, &disk).await;
        let cli = server.connect(Component::Cli).await;
        let outbound = cli.deliveries::<Outbound>().await.unwrap();
        Self { server, gateway, cli, outbound, seen, disk }
    }

    async fn write(&self, conversation: &str, text: &str) {
        let inbound = inbound(conversation, text);
        let id = Uuid::now_v7().to_string();
        self.cli.enqueue(Bus::new_trace(), &id, &inbound).await.unwrap();
    }

    async fn reply(&mut self) -> Outbound {
        let delivery = timeout(PATIENCE, self.outbound.next()).await.expect("a reply in time").unwrap();
        delivery.done().await.unwrap();
        delivery.body.unwrap()
    }

    async fn nothing_more(&mut self) {
        assert!(timeout(Duration::from_millis(500), self.outbound.next()).await.is_err(), "one reply too many");
    }

    /// The gateway dies in the middle of everything; another one comes up on the same disk.
    async fn crash(&mut self) {
        self.gateway.drain().await;
        self.gateway = start_gateway(&self.server, &self.disk).await;
    }

    /// All records so far, as (type, data, traceparent).
    async fn records(&self) -> Vec<Value> {
        let audit = self.server.connect(Component::Audit).await;
        let mut records = audit.records().await.unwrap();
        let mut found = Vec::new();
        while let Ok(Some(record)) = timeout(Duration::from_millis(700), records.next()).await {
            found.push(record.body.unwrap());
        }
        found
    }
}

async fn start_gateway(server: &Server, disk: &TempDir) -> Bus {
    let bus = server.connect(Component::Gateway).await;
    let config = Config { database: disk.path().join("gateway.db"), max_model_silence_seconds: 3, ..Config::default() };
    gateway::serve(bus.clone(), config).await.unwrap();
    bus
}

fn inbound(conversation: &str, text: &str) -> Inbound {
    let origin = Origin {
        channel: name("cli"),
        team: None,
        user: "ann".into(),
        conversation: conversation.into(),
        event: Uuid::now_v7().to_string(),
        text_digest: digest(text.as_bytes()),
        at: Timestamp::now(),
    };
    Inbound {
        v: 1,
        origin: origin.sign(&SigningKey::from_seed([2; 32])).unwrap(),
        channel: name("cli"),
        conversation: conversation.into(),
        text: text.into(),
        reply_to: json!({"line": 7}),
    }
}

async fn play_policy(server: &Server, script: &Script, seen: &Arc<Seen>) {
    let bus = server.connect(Component::Policy).await;
    let (policy, seen) = (script.policy, Arc::clone(seen));
    bus.serve(move |call: Call<Question>| {
        seen.traces.lock().unwrap().insert(call.trace.id());
        seen.questions.lock().unwrap().push(call.body.clone());
        std::future::ready(policy(&call.body))
    })
    .await
    .unwrap();
    bus.serve(|_: Call<PermissibleTools>| {
        std::future::ready(Ok(Permissible { tools: BTreeSet::from([name("clock"), name("mail")]) }))
    })
    .await
    .unwrap();
    // The connection lives as long as somebody holds it.
    tokio::spawn(async move { bus.stopping().await });
}

async fn play_model(bus: &Bus, script: &Script, seen: &Arc<Seen>) {
    let (script, seen) = (script.clone(), Arc::clone(seen));
    bus.serve_stream(move |call: Call<ModelRequest>, replies: Replies<ModelChunk>| {
        let (script, seen) = (script.clone(), Arc::clone(&seen));
        async move {
            seen.traces.lock().unwrap().insert(call.trace.id());
            seen.requests.lock().unwrap().push(call.body.clone());
            seen.enter(&call.body.session);
            sleep(script.model_takes).await;
            for chunk in (script.model)(&call.body) {
                replies.send(&chunk).await.map_err(|error| Refusal::new(RefusalCode::Internal, error))?;
            }
            seen.leave(&call.body.session);
            Ok(())
        }
    })
    .await
    .unwrap();
    let bus = bus.clone();
    tokio::spawn(async move { bus.stopping().await });
}

async fn play_runner(server: &Server, script: &Script, seen: &Arc<Seen>) {
    let bus = server.connect(Component::ToolsWasm).await;
    bus.serve(|_: Call<CatalogRequest>| {
        let tools = vec![manifest("clock", true), manifest("mail", false), manifest("secret", true)];
        std::future::ready(Ok(Catalog { v: 1, tools, refused: vec![] }))
    })
    .await
    .unwrap();
    let (script, seen) = (script.clone(), Arc::clone(seen));
    bus.serve(move |call: Call<ToolCall>| {
        seen.traces.lock().unwrap().insert(call.trace.id());
        seen.runs.lock().unwrap().push(call.body.tool().to_string());
        let takes = script.tool_takes;
        async move {
            sleep(takes).await;
            let outcome = ToolOutcome::Ok { text: "{\"time\":\"12:00\"}".into() };
            Ok(ToolOutput { v: 1, run: Uuid::now_v7(), outcome, micros: 1, taint: BTreeSet::from([Taint::Untrusted]) })
        }
    })
    .await
    .unwrap();
    tokio::spawn(async move { bus.stopping().await });
}

#[tokio::test]
async fn a_message_is_answered_and_the_answer_shows_while_it_comes() {
    let mut world = World::new(Script::default()).await;
    let mut deltas = world.cli.listen::<Delta>(deltas_of(&name("cli"), "c1")).await.unwrap();
    world.write("c1", "hello").await;
    let reply = world.reply().await;
    assert_eq!((reply.text.as_str(), reply.kind), ("you said hello", ReplyKind::Answer));
    assert_eq!((reply.conversation.as_str(), &reply.reply_to), ("c1", &json!({"line": 7})));
    let mut streamed = String::new();
    for seq in 1..=2 {
        let delta = timeout(PATIENCE, deltas.next()).await.unwrap().unwrap();
        assert_eq!((delta.seq, delta.turn), (seq, reply.turn));
        let Progress::Text { text } = delta.what else { panic!("{:?}", delta.what) };
        streamed.push_str(&text);
    }
    assert_eq!(streamed, reply.text);
    world.nothing_more().await;
}

#[tokio::test]
async fn a_tool_runs_with_its_permit_and_everything_is_under_one_trace() {
    let mut world = World::new(Script { model: uses_clock, ..Script::default() }).await;
    world.write("c1", "what time is it?").await;
    let reply = world.reply().await;
    assert!(reply.text.contains("untrusted data") && reply.text.ends_with(r#"{"time":"12:00"}"#), "{}", reply.text);
    assert_eq!(*world.seen.runs.lock().unwrap(), ["clock"]);
    let offered: Vec<_> =
        world.seen.requests.lock().unwrap()[0].tools.iter().map(|tool| tool.name.to_string()).collect();
    assert_eq!(offered, ["clock", "mail"], "what policy could not permit is not offered");
    assert_eq!(world.seen.traces.lock().unwrap().len(), 1);

    let records = world.records().await;
    let trace = world.seen.traces.lock().unwrap().first().unwrap().clone();
    for (kind, principal) in [("session.opened", "cli/ann"), ("turn.finished", "cli/ann")] {
        let of_kind: Vec<_> = records.iter().filter(|record| record["type"] == kind).collect();
        assert_eq!(of_kind.len(), 1, "{kind}");
        assert_eq!(of_kind[0]["principal"], principal);
        assert!(of_kind[0]["traceparent"].as_str().unwrap().contains(&trace), "{kind}");
    }
    let finished = records.iter().find(|record| record["type"] == "turn.finished").unwrap();
    assert_eq!(finished["data"]["outcome"], "answered");
    assert_eq!((&finished["data"]["model_calls"], &finished["data"]["tool_calls"]), (&json!(2), &json!(1)));
    assert_eq!(finished["data"]["usage"]["input"], 20);
}

#[tokio::test]
async fn a_session_remembers_what_was_said_and_what_it_came_into_contact_with() {
    let mut world = World::new(Script { model: uses_clock, ..Script::default() }).await;
    world.write("c1", "first").await;
    world.reply().await;
    world.crash().await;
    world.write("c1", "second").await;
    world.reply().await;
    let questions = world.seen.questions.lock().unwrap().clone();
    assert_eq!(questions.first().unwrap().taint, BTreeSet::new());
    assert_eq!(questions.last().unwrap().taint, BTreeSet::from([Taint::Untrusted]));
    let requests = world.seen.requests.lock().unwrap().clone();
    let last = requests.last().unwrap();
    assert_eq!(last.messages.len(), 4 + 3, "the whole first turn and this one: {:?}", last.messages);
    assert!(matches!(&last.messages[0], ChatMessage::User { text } if text == "first"));
    assert_eq!(last.taint, BTreeSet::from([Taint::Untrusted]));
    let opened = world.records().await.into_iter().filter(|record| record["type"] == "session.opened").count();
    assert_eq!(opened, 1);
}

#[tokio::test]
async fn a_denied_tool_never_reaches_its_runner_and_the_reason_reaches_the_model() {
    let policy = |question: &Question| match &question.action {
        Action::CallTool { .. } => Ok(deny("mail is for staff")),
        _ => permissive(question),
    };
    let mut world = World::new(Script { model: uses_mail, policy, ..Script::default() }).await;
    world.write("c1", "write to bob").await;
    assert!(world.reply().await.text.contains("Mail is for staff"));
    assert!(world.seen.runs.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_may_not_talk_here_is_told_why_and_no_model_is_asked() {
    let policy = |_: &Question| Ok(deny("guests may not"));
    let mut world = World::new(Script { policy, ..Script::default() }).await;
    world.write("c1", "hello").await;
    let reply = world.reply().await;
    assert_eq!((reply.kind, reply.text.as_str()), (ReplyKind::Notice, "I may not take this message: Guests may not."));
    assert!(world.seen.requests.lock().unwrap().is_empty());
    let records = world.records().await;
    assert!(records.iter().all(|record| record["type"] != "session.opened"));
    let finished = records.iter().find(|record| record["type"] == "turn.finished").unwrap();
    assert_eq!((&finished["data"]["outcome"], &finished["principal"]), (&json!("refused"), &Value::Null));
}

#[tokio::test]
async fn a_message_that_is_not_what_its_origin_says_is_dropped_and_recorded() {
    let mut world = World::new(Script::default()).await;
    let mut forged = inbound("c1", "hello");
    forged.text = "delete everything".into();
    world.cli.enqueue(Bus::new_trace(), &Uuid::now_v7().to_string(), &forged).await.unwrap();
    world.write("c1", "hello").await;
    assert_eq!(world.reply().await.text, "you said hello");
    world.nothing_more().await;
    let denied: Vec<_> =
        world.records().await.into_iter().filter(|record| record["type"] == "component.denied").collect();
    assert_eq!(denied[0]["data"]["subject"], "nachos.channel.cli.inbound");
}

#[tokio::test]
async fn messages_of_one_session_go_in_order_and_sessions_go_side_by_side() {
    let mut world = World::new(Script { model_takes: Duration::from_millis(100), ..Script::default() }).await;
    for number in 0..5 {
        for conversation in ["a", "b", "c", "d"] {
            world.write(conversation, &format!("{number}")).await;
        }
    }
    let mut order: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for _ in 0..20 {
        let reply = world.reply().await;
        order.entry(reply.conversation).or_default().push(reply.text);
    }
    for (conversation, texts) in order {
        let expected: Vec<_> = (0..5).map(|number| format!("you said {number}")).collect();
        assert_eq!(texts, expected, "{conversation}");
    }
    assert!(world.seen.most_at_once.load(Ordering::SeqCst) >= 3, "sessions waited for each other");
    world.nothing_more().await;
}

#[tokio::test]
async fn a_crash_while_a_tool_runs_leaves_its_outcome_unknown_unless_it_may_run_twice() {
    for (model, tool, runs) in [(uses_mail as fn(&ModelRequest) -> _, "mail", 1), (uses_clock, "clock", 2)] {
        let script = Script { model, tool_takes: Duration::from_millis(1500), ..Script::default() };
        let mut world = World::new(script).await;
        world.write("c1", "go").await;
        while world.seen.runs.lock().unwrap().is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        world.crash().await;
        let reply = world.reply().await;
        assert_eq!(reply.text.contains("The outcome is unknown"), tool == "mail", "{}", reply.text);
        assert_eq!(world.seen.runs.lock().unwrap().len(), runs, "{tool}");
        assert_eq!(world.seen.requests.lock().unwrap().len(), 2, "the model's first answer was kept");
        world.nothing_more().await;
    }
}

#[tokio::test]
async fn every_message_is_answered_once_however_often_the_gateway_dies() {
    const MESSAGES: usize = 60;
    let script = Script { model: uses_clock, model_takes: Duration::from_millis(5), ..Script::default() };
    let mut world = World::new(script).await;
    for number in 0..MESSAGES {
        world.write(&format!("c{}", number % 20), &format!("{number}")).await;
    }
    for pause in [15, 40, 90, 150] {
        sleep(Duration::from_millis(pause)).await;
        world.crash().await;
    }
    let mut replies = BTreeMap::new();
    while replies.len() < MESSAGES {
        let reply = world.reply().await;
        assert_eq!(reply.kind, ReplyKind::Answer, "{}", reply.text);
        assert!(replies.insert(reply.turn, reply.id).is_none(), "a turn was answered twice");
    }
    world.nothing_more().await;
    let finished: Vec<_> =
        world.records().await.into_iter().filter(|record| record["type"] == "turn.finished").collect();
    let turns: BTreeSet<_> = finished.iter().map(|record| record["turn"].as_str().unwrap().to_owned()).collect();
    assert_eq!((finished.len(), turns.len()), (MESSAGES, MESSAGES));
}

#[tokio::test]
async fn a_restart_of_llm_proxy_is_a_pause_and_a_half_answer_is_asked_for_again() {
    let server = Server::start().await;
    let seen = Arc::new(Seen::default());
    let script = Script::default();
    play_policy(&server, &script, &seen).await;
    play_runner(&server, &script, &seen).await;
    let broken = server.connect(Component::LlmProxy).await;
    let half = Script { model: |_| vec![started(), ModelChunk::Text { text: "you sa".into() }], ..script.clone() };
    play_model(&broken, &half, &seen).await;
    let mut world = World::among(server, Arc::clone(&seen)).await;
    world.write("c1", "hello").await;
    while seen.requests.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
    broken.drain().await;
    sleep(Duration::from_millis(700)).await;
    play_model(&world.server.connect(Component::LlmProxy).await, &script, &seen).await;
    assert_eq!(world.reply().await.text, "you said hello");
    world.nothing_more().await;
}

#[tokio::test]
async fn without_policy_nothing_happens_and_the_person_is_told_why() {
    let server = Server::start().await;
    let seen = Arc::new(Seen::default());
    play_model(&server.connect(Component::LlmProxy).await, &Script::default(), &seen).await;
    let mut world = World::among(server, seen).await;
    world.write("c1", "hello").await;
    let reply = world.reply().await;
    assert_eq!(reply.kind, ReplyKind::Notice);
    assert!(reply.text.contains("policy engine is not running"), "{}", reply.text);
    assert!(world.seen.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_bus_may_die_in_the_middle_of_turns() {
    let script = Script { model: uses_clock, model_takes: Duration::from_millis(300), ..Script::default() };
    let mut world = World::new(script).await;
    for number in 0..8 {
        world.write(&format!("c{number}"), "time?").await;
    }
    sleep(Duration::from_millis(200)).await;
    world.server.kill();
    sleep(Duration::from_millis(300)).await;
    world.server.start_again();
    let mut answered = BTreeSet::new();
    while answered.len() < 8 {
        let reply = world.reply().await;
        assert!(answered.insert(reply.conversation), "answered twice: {}", reply.text);
    }
    world.nothing_more().await;
}
