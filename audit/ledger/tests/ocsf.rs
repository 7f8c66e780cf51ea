//! Every kind of record, converted and held against the public schema.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use jiff::Timestamp;
use ledger::ocsf;
use proto::audit::{FACTS, Fact, Record, Scope};
use proto::content::{Content, ContentMode};
use proto::policy::Outcome;
use proto::seal::{Body, RawRecord};
use proto::trace::Trace;
use proto::{Component, Name};
use serde_json::{Value, json};
use uuid::Uuid;

fn schema() -> Value {
    serde_json::from_str(include_str!("ocsf/schema.json")).unwrap()
}

/// What is wrong with an event by the schema.
fn wrong(event: &Value) -> Vec<String> {
    let schema = schema();
    let class = event["class_uid"].as_u64().unwrap();
    let rules = &schema["classes"][class.to_string()];
    let mut found = Vec::new();
    if rules.is_null() {
        return vec![format!("there is no class {class}")];
    }
    if event["category_uid"] != rules["category"] {
        found.push(format!("category {} of class {class}", event["category_uid"]));
    }
    if event["type_uid"].as_u64() != event["activity_id"].as_u64().map(|activity| class * 100 + activity) {
        found.push(format!("type_uid {}", event["type_uid"]));
    }
    attributes(&schema, event, rules, "", &mut found);
    found
}

fn attributes(schema: &Value, value: &Value, rules: &Value, path: &str, found: &mut Vec<String>) {
    let Some(fields) = value.as_object() else { return found.push(format!("{path} is no object")) };
    let allowed = rules["attributes"].as_object().unwrap();
    for (name, rule) in allowed.iter().filter(|(_, rule)| rule["required"] == true) {
        if !fields.contains_key(name) {
            found.push(format!("{path}{name} is required: {rule}"));
        }
    }
    let one = rules["at_least_one"].as_array().cloned().unwrap_or_default();
    if !one.is_empty() && !one.iter().any(|name| fields.contains_key(name.as_str().unwrap())) {
        found.push(format!("{path} needs one of {one:?}"));
    }
    for (name, value) in fields {
        match allowed.get(name) {
            None => found.push(format!("{path}{name} is not in the schema")),
            Some(rule) if rule["array"] == true => match value.as_array() {
                None => found.push(format!("{path}{name} is no array")),
                Some(items) => {
                    items.iter().for_each(|item| one_value(schema, item, rule, &format!("{path}{name}"), found))
                }
            },
            Some(rule) => one_value(schema, value, rule, &format!("{path}{name}"), found),
        }
    }
}

fn one_value(schema: &Value, value: &Value, rule: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(object) = rule["object"].as_str() {
        match object {
            "object" if value.is_object() => {}
            _ if schema["objects"][object].is_null() => {
                found.push(format!("{path}: {object} is not in our extract of the schema"))
            }
            _ => attributes(schema, value, &schema["objects"][object], &format!("{path}."), found),
        }
        return;
    }
    let right = match rule["type"].as_str().unwrap() {
        "string_t" => value.is_string(),
        "integer_t" | "long_t" | "timestamp_t" => value.is_i64() || value.is_u64(),
        "boolean_t" => value.is_boolean(),
        "json_t" => true,
        other => return found.push(format!("{path}: {other} is a type that this test does not know")),
    };
    if !right {
        found.push(format!("{path} is {value}, not {}", rule["type"]));
    }
    if let Some(numbers) = rule["enum"].as_array()
        && !numbers.contains(value)
    {
        found.push(format!("{path} is {value}, not one of {numbers:?}"));
    }
}

/// One of each kind.
fn facts() -> Vec<Fact> {
    let text = || Content::of_text("hello", ContentMode::Digest);
    let name = |name: &str| name.parse::<Name>().unwrap();
    let (id, words) = (Uuid::from_u128(7), |word: &str| word.to_owned());
    let usage = serde_json::from_value::<proto::llm::Usage>(json!({})).unwrap_or_default();
    let decided = |outcome| Fact::PolicyDecided {
        action: words("call_tool"),
        resource: words("clock"),
        outcome,
        policies: vec![words("a"), words("b")],
        reason: words("because"),
        caller: Component::Gateway,
        policy_set: words("sha256:1"),
        permit: Some(id),
        call: Some(words("c")),
        arguments: Some(text()),
        taint: vec![],
        micros: 1234,
    };
    vec![
        Fact::MessageReceived { event: words("e"), conversation: words("c"), text: text() },
        Fact::MessageSent { message: id, conversation: words("c"), posted: None, text: text() },
        Fact::MessageUndeliverable { message: id, conversation: words("c"), reason: words("gone") },
        decided(Outcome::Allow),
        decided(Outcome::Deny),
        decided(Outcome::Ask),
        Fact::ToolStarted { run: id, tool: name("clock"), call: words("c"), decision: id, arguments: text() },
        Fact::ToolFinished { run: id, tool: name("clock"), outcome: words("ok"), result: text(), micros: 99 },
        Fact::ToolRefused { tool: words("clock"), reason: words("no permit") },
        Fact::ModelRequested {
            request: id,
            model: name("demo"),
            provider: words("offline"),
            messages: 1,
            tools: vec![name("clock")],
            content: text(),
        },
        Fact::ModelAnswered {
            request: id,
            model: name("demo"),
            provider: words("offline"),
            finish: None,
            error: Some(words("gone")),
            usage,
            tool_calls: vec![],
            text: text(),
            micros: 5,
        },
        Fact::SessionOpened { conversation: words("c") },
        Fact::TurnFinished { outcome: words("answered"), reason: None, model_calls: 1, tool_calls: 1, usage },
        Fact::ComponentStarted { version: words("0.1.0") },
        Fact::ComponentDenied { subject: words("x"), operation: words("publish") },
        Fact::ConfigChanged { what: words("policy set"), digest: words("sha256:1"), refused: Some(words("bad")) },
        Fact::ContentErased { what: words("principal p"), records: 3, reason: words("asked") },
        Fact::LogArchived { file: words("f"), first: 1, last: 2, digest: words("sha256:1") },
        Fact::LogPruned { first: 3, files: vec![words("f")] },
        Fact::WebLogin { user: words("local"), outcome: words("ok") },
    ]
}

fn record(fact: &Fact) -> RawRecord {
    let scope = Scope {
        session: Some("s".into()),
        turn: Some(Uuid::from_u128(1)),
        principal: Some("slack/T1/U1".into()),
        channel: Some("slack".into()),
    };
    let at: Timestamp = "2026-11-20T10:00:00.123456Z".parse().unwrap();
    let record = Record::new(Component::Policy, Uuid::from_u128(5), at, Some(Trace::new(1, 2)), scope, fact.clone());
    let body = Body::new(serde_json::to_vec(&record).unwrap());
    RawRecord { seq: 3, time_ns: 1_795_000_000_123_456_789, subject: "nachos.audit.log.policy".into(), body }
}

#[test]
fn every_kind_of_record_is_an_event_of_the_schema() {
    let mut kinds = BTreeSet::new();
    for fact in facts() {
        let event = ocsf::event(&record(&fact));
        assert_eq!(wrong(&event), Vec::<String>::new(), "{event:#}");
        kinds.insert(event["metadata"]["event_code"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds, FACTS.map(str::to_owned).into(), "a kind of record is not tried here");
    for strange in [&b"not json"[..], br#"{"type":"egress.opened","data":{"host":"x"}}"#] {
        let body = Body::new(strange.to_vec());
        let event = ocsf::event(&RawRecord { seq: 1, time_ns: 1, subject: "x".into(), body });
        assert_eq!((wrong(&event), event["class_uid"].as_u64()), (vec![], Some(0)), "{event:#}");
    }
}

#[test]
fn a_denial_says_so_with_its_rules() {
    let denied =
        facts().into_iter().find(|fact| matches!(fact, Fact::PolicyDecided { outcome: Outcome::Deny, .. })).unwrap();
    let event = ocsf::event(&record(&denied));
    assert_eq!((&event["action_id"], &event["disposition_id"], &event["status_id"]), (&json!(2), &json!(2), &json!(2)));
    assert_eq!(event["authorizations"][1]["policy"]["uid"], "b");
    assert_eq!((&event["status_detail"], &event["actor"]["user"]["uid"]), (&json!("because"), &json!("slack/T1/U1")));
    assert_eq!((&event["time"], &event["metadata"]["sequence"]), (&json!(1_795_168_800_123_i64), &json!(3)));
}

#[test]
fn an_event_that_is_not_of_the_schema_is_refused() {
    let good = ocsf::event(&record(&facts()[3]));
    let broken = |edit: &dyn Fn(&mut Value)| {
        let mut event = good.clone();
        edit(&mut event);
        wrong(&event)
    };
    assert_eq!(broken(&|_| {}), Vec::<String>::new());
    assert!(!broken(&|event| event["invented"] = 1.into()).is_empty());
    assert!(!broken(&|event| event["actor"] = json!({})).is_empty());
    assert!(!broken(&|event| event["action_id"] = 42.into()).is_empty());
    assert!(!broken(&|event| event["time"] = "now".into()).is_empty());
    assert!(!broken(&|event| event["activity_id"] = 3.into()).is_empty());
    assert!(!broken(&|event| drop(event.as_object_mut().unwrap().remove("api"))).is_empty());
}
