//! Attacks on the two guards of a tool call, each beside a control that shows that the attack would work where the guard is off:
//! the permit that only policy can sign, and the origin that only a channel can sign.

use std::collections::BTreeSet;
use std::time::Duration;

use bus::{Bus, Call, CallError, StreamSizes};
use jiff::{SignedDuration, Timestamp};
use proto::audit::{Fact, Scope};
use proto::canonical::digest_of_json;
use proto::channel::{Origin, ReplyKind, SignedOrigin};
use proto::keys::SigningKey;
use proto::permit::{Permit, PermitClaims};
use proto::policy::{Action, Decision, PermissibleTools, Question};
use proto::tool::{ToolCall, ToolOutcome, ToolOutput};
use proto::{Component, Family, Name, Refusal, RefusalCode};
use serde_json::{Value, json};
use system_tests::platform::signing_key;
use system_tests::{Person, Platform};
use uuid::Uuid;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn tokyo() -> Value {
    json!({"zone": "Asia/Tokyo"})
}

/// A call as only policy makes it, or as an attacker writes it.
fn call(permit: &Permit, tool: &str, arguments: &Value) -> ToolCall {
    serde_json::from_value(json!({"v": 1, "family": "wasm", "tool": tool, "arguments": arguments, "permit": permit}))
        .unwrap()
}

fn permit(key: &SigningKey, tool: &str, arguments: &Value, at: Timestamp) -> Permit {
    let claims = PermitClaims {
        jti: Uuid::new_v4(),
        iss: String::new(),
        aud: name(tool),
        sub: "cli/eve".into(),
        family: Family::Wasm,
        session: "s".into(),
        turn: Uuid::new_v4(),
        call: "c".into(),
        args: digest_of_json(arguments).unwrap(),
        salt: proto::content::Salt::random(),
        decision: Uuid::new_v4(),
        policy_set: "sha256:0".into(),
        iat: 0,
        exp: 0,
    };
    claims.issued(at).sign(key).unwrap()
}

async fn run(bus: &Bus, call: &ToolCall) -> Result<ToolOutput, CallError> {
    bus.request(Bus::new_trace(), call).await
}

fn refused(answer: Result<ToolOutput, CallError>, code: RefusalCode) -> String {
    match answer {
        Err(CallError::Refused(refusal)) if refusal.code == code => refusal.reason,
        other => panic!("expected a refusal {code}: {other:?}"),
    }
}

fn question(origin: SignedOrigin, action: Action) -> Question {
    Question { v: 1, origin, session: "s".into(), turn: Uuid::new_v4(), taint: BTreeSet::new(), action }
}

fn call_clock() -> Action {
    Action::CallTool { call: "c".into(), tool: name("clock"), arguments: tokyo() }
}

async fn decide(bus: &Bus, origin: SignedOrigin, action: Action) -> Decision {
    bus.request(Bus::new_trace(), &question(origin, action)).await.unwrap()
}

fn permitted(decision: Decision) -> ToolCall {
    match decision {
        Decision::Allow { call: Some(call), .. } => *call,
        other => panic!("not allowed: {other:?}"),
    }
}

/// Tools and policy, and the gateway's place taken by the attacker.
async fn compromised_gateway() -> (Platform, Bus, Person) {
    let platform = Platform::start_only(&[Component::Policy, Component::ToolsWasm], &StreamSizes::default()).await;
    let gateway = platform.server.connect(Component::Gateway).await;
    let person = platform.person("ann").await;
    (platform, gateway, person)
}

#[tokio::test]
async fn a_tool_runs_with_a_permit_for_exactly_this_call_and_not_otherwise() {
    let (platform, gateway, person) = compromised_gateway().await;
    let good = permitted(decide(&gateway, person.signed("c", "hi"), call_clock()).await);
    let forged = permit(&SigningKey::from_seed([9; 32]), "clock", &tokyo(), Timestamp::now());
    let policy = signing_key(&platform.server.keys(Component::Policy).join("permit.key"));
    let nothing: Permit = serde_json::from_value("".into()).unwrap();

    for (attack, tool, arguments, permit) in [
        ("without a permit", "clock", tokyo(), nothing),
        ("other arguments", "clock", json!({"zone": "UTC"}), good.permit().clone()),
        ("another tool", "calc", tokyo(), good.permit().clone()),
        ("another key", "clock", tokyo(), forged),
        (
            "expired",
            "clock",
            tokyo(),
            permit(&policy, "clock", &tokyo(), Timestamp::now() - SignedDuration::from_secs(31)),
        ),
    ] {
        let reason = refused(run(&gateway, &call(&permit, tool, &arguments)).await, RefusalCode::Unauthorized);
        println!("{attack}: {reason}");
    }
    // The controls: policy's own key opens (so it was the key that mattered), and the permit works as it was given.
    let by_policys_key = permit(&policy, "clock", &tokyo(), Timestamp::now());
    assert!(run(&gateway, &call(&by_policys_key, "clock", &tokyo())).await.is_ok());
    let output = run(&gateway, &good).await.unwrap();
    assert!(matches!(output.outcome, ToolOutcome::Ok { .. }), "{output:?}");

    tokio::time::sleep(Duration::from_millis(300)).await;
    let records = platform.records().await;
    let count = |kind: &str| records.iter().filter(|record| record["type"] == kind).count();
    assert_eq!((count("tool.started"), count("tool.finished"), count("tool.refused")), (2, 2, 5));
}

#[tokio::test]
async fn a_permit_works_once_on_whichever_replica() {
    let (mut platform, gateway, person) = compromised_gateway().await;
    platform.run(Component::ToolsWasm, "").await;
    let once = permitted(decide(&gateway, person.signed("c", "hi"), call_clock()).await);
    let tries: Vec<_> = (0..20)
        .map(|_| {
            let (gateway, once) = (gateway.clone(), once.clone());
            tokio::spawn(async move { run(&gateway, &once).await })
        })
        .collect();
    let mut ran = 0;
    for one in tries {
        match one.await.unwrap() {
            Ok(_) => ran += 1,
            answer => {
                let reason = refused(answer, RefusalCode::Conflict);
                assert!(reason.contains("used before"), "{reason}");
            }
        }
    }
    assert_eq!(ran, 1);
    let again = permitted(decide(&gateway, person.signed("c", "hi"), call_clock()).await);
    assert!(run(&gateway, &again).await.is_ok(), "the control: a new permit works");
}

#[tokio::test]
async fn nobody_is_acted_for_who_did_not_write() {
    let (platform, gateway, person) = compromised_gateway().await;
    let cli = signing_key(&platform.server.keys(Component::Cli).join("origin.key"));
    let mallory = SigningKey::from_seed([9; 32]);
    let origin = || person.origin("c", "hi");
    let altered = |origin: &Origin| {
        let good = serde_json::to_value(origin.sign(&cli).unwrap()).unwrap();
        let mut parts: Vec<String> = good.as_str().unwrap().split('.').map(str::to_owned).collect();
        let admin = Origin { user: "admin".into(), ..origin.clone() }.sign(&mallory).unwrap();
        let admin = serde_json::to_value(admin).unwrap();
        parts[1] = admin.as_str().unwrap().split('.').nth(1).unwrap().to_owned();
        serde_json::from_value::<SignedOrigin>(parts.join(".").into()).unwrap()
    };
    let old = Origin { at: Timestamp::now() - SignedDuration::from_mins(61), ..origin() };
    let slack = Origin { channel: name("slack"), team: Some("T1".into()), ..origin() };
    let unknown = Origin { channel: name("irc"), ..origin() };
    for (attack, origin) in [
        ("forged", origin().sign(&mallory).unwrap()),
        ("altered", altered(&origin())),
        ("expired", old.sign(&cli).unwrap()),
        ("foreign: one channel signs for another", slack.sign(&cli).unwrap()),
        ("foreign: a channel nobody knows", unknown.sign(&cli).unwrap()),
        ("nothing", serde_json::from_value("".into()).unwrap()),
    ] {
        match decide(&gateway, origin, call_clock()).await {
            Decision::Deny { reason, .. } => println!("{attack}: {reason}"),
            other => panic!("{attack}: {other:?}"),
        }
    }
    let control = decide(&gateway, person.signed("c", "hi"), call_clock()).await;
    assert!(matches!(control, Decision::Allow { .. }), "the control: {control:?}");

    let records = platform.records().await;
    let denials = records.iter().filter(|r| r["type"] == "policy.decided" && r["data"]["outcome"] == "deny").count();
    assert_eq!(denials, 6, "every denial is recorded");
}

#[tokio::test]
async fn nothing_runs_while_the_record_is_full() {
    let sizes = StreamSizes { audit: 128 << 10, ..StreamSizes::default() };
    let platform = Platform::start_only(&[Component::Policy, Component::ToolsWasm], &sizes).await;
    let gateway = platform.server.connect(Component::Gateway).await;
    let person = platform.person("ann").await;
    let control = permitted(decide(&gateway, person.signed("c", "hi"), call_clock()).await);
    assert!(run(&gateway, &control).await.is_ok(), "the control: with room it runs");

    let early = permitted(decide(&gateway, person.signed("c", "hi"), call_clock()).await);
    let fill = || Fact::ConfigChanged { what: "x".repeat(1000), digest: String::new(), refused: None };
    while gateway.record(None, Scope::default(), fill()).await.is_ok() {}
    // A last small record may still fit; fill that too.
    while gateway.record(None, Scope::default(), Fact::ComponentStarted { version: String::new() }).await.is_ok() {}

    let reason = refused(run(&gateway, &early).await, RefusalCode::Unavailable);
    assert!(reason.contains("nothing ran"), "{reason}");
    let decision = gateway.request(Bus::new_trace(), &question(person.signed("c", "hi"), call_clock())).await;
    assert!(
        matches!(&decision, Err(CallError::Refused(refusal)) if refusal.code == RefusalCode::Unavailable),
        "a decision that cannot be recorded is not given: {decision:?}"
    );
}

#[tokio::test]
async fn a_turn_without_policy_runs_nothing_and_says_why() {
    let mut platform = Platform::start().await;
    let mut person = platform.person("ann").await;
    let control = person.ask("c1", "what time is it in Tokyo?").await;
    assert_eq!(control.kind, ReplyKind::Answer, "the control: {control:?}");

    platform.stop(Component::Policy).await;
    let reply = person.ask("c2", "what time is it in Tokyo?").await;
    assert_eq!(reply.kind, ReplyKind::Notice, "{reply:?}");
    assert!(reply.text.to_lowercase().contains("polic"), "{}", reply.text);
}

#[tokio::test]
async fn an_answer_of_policy_that_comes_late_counts_as_no() {
    let others = [Component::ToolsWasm, Component::LlmProxy, Component::Gateway];
    let platform = Platform::start_only(&others, &StreamSizes::default()).await;
    let policy = platform.server.connect(Component::Policy).await;
    let key = signing_key(&platform.server.keys(Component::Policy).join("permit.key"));
    // Policy is played: in time about messages and models, three seconds late about tools, with a perfectly good permit.
    policy
        .serve(move |call: Call<Question>| {
            let key = key.clone();
            async move {
                let id = Uuid::new_v4();
                match call.body.action {
                    Action::CallTool { tool, arguments, .. } => {
                        tokio::time::sleep(Duration::from_secs(3)).await;
                        let permit = permit(&key, tool.as_str(), &arguments, Timestamp::now());
                        Ok(Decision::allow_tool(id, vec![], permit, tool, Family::Wasm, arguments))
                    }
                    _ => Ok(Decision::Allow { id, policies: vec![], call: None }),
                }
            }
        })
        .await
        .unwrap();
    policy
        .serve(|_: Call<PermissibleTools>| async {
            Ok::<_, Refusal>(proto::policy::Permissible { tools: BTreeSet::from([name("clock")]) })
        })
        .await
        .unwrap();
    let mut person = platform.person("ann").await;
    let reply = person.ask("c", "what time is it in Tokyo?").await;
    println!("{:?}: {}", reply.kind, reply.text);
    let records = platform.records().await;
    assert!(!records.iter().any(|record| record["type"] == "tool.started"), "nothing ran");
}
