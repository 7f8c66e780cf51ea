//! Records as events of the Open Cybersecurity Schema Framework (OCSF, ocsf.io), for SIEMs.
//!
//! | records | class |
//! | --- | --- |
//! | `component.started` | Application Lifecycle (6002), Start |
//! | `web.login` | Authentication (3002), Logon |
//! | bytes that are no record, types of a later release | Base Event (0) |
//! | everything else | API Activity (6003) with the profile `security_control` |
//!
//! What the schema has no place for stays in `unmapped.data` as it was recorded.

use jiff::Timestamp;
use proto::audit::FACTS;
use proto::seal::RawRecord;
use serde_json::{Map, Value, json};

use crate::facts::Facts;

/// The schema's version.
pub const VERSION: &str = "1.9.0";

/// Activities of API Activity.
const CREATE: u64 = 1;
const READ: u64 = 2;
const UPDATE: u64 = 3;
const DELETE: u64 = 4;
const OTHER: u64 = 99;

/// Severities.
const INFORMATIONAL: u64 = 1;
const LOW: u64 = 2;
const MEDIUM: u64 = 3;

/// The event of a record.
pub fn event(record: &RawRecord) -> Value {
    let body: Value = serde_json::from_slice(record.body.as_bytes()).unwrap_or_default();
    let facts = Facts::read(record.body.as_bytes());
    let event = match &*facts.kind {
        "component.started" => lifecycle(record, &body),
        "web.login" => login(&body, &facts),
        kind if FACTS.contains(&kind) => api(record, &body, &facts),
        _ => classified(0, 0, OTHER),
    };
    with_common(event, record, &body, &facts)
}

/// `type_uid` is the class and the activity in one number.
fn classified(category: u64, class: u64, activity: u64) -> Map<String, Value> {
    let mut event = Map::new();
    event.insert("category_uid".into(), category.into());
    event.insert("class_uid".into(), class.into());
    event.insert("activity_id".into(), activity.into());
    event.insert("type_uid".into(), (class * 100 + activity).into());
    event
}

fn component(record: &RawRecord) -> &str {
    record.subject.rsplit('.').next().unwrap_or_default()
}

fn lifecycle(record: &RawRecord, body: &Value) -> Map<String, Value> {
    let mut event = classified(6, 6002, 3);
    let version = body.pointer("/data/version").cloned().unwrap_or_default();
    event.insert("app".into(), json!({"name": component(record), "vendor_name": "Nachos", "version": text(&version)}));
    event
}

fn login(body: &Value, facts: &Facts) -> Map<String, Value> {
    let mut event = classified(3, 3002, 1);
    let name = body.pointer("/data/user").map(text).unwrap_or_default();
    event.insert("user".into(), json!({"name": name}));
    let ok = facts.outcome.as_deref() == Some("ok");
    event.insert("status_id".into(), if ok { 1 } else { 2 }.into());
    event
}

fn api(record: &RawRecord, body: &Value, facts: &Facts) -> Map<String, Value> {
    let data = body.get("data").unwrap_or(&Value::Null);
    let mut event = classified(6, 6003, activity(&facts.kind));
    let component = component(record);
    let operation = data.get("action").map_or_else(|| facts.kind.clone(), text);
    let mut api = json!({"operation": operation, "service": {"name": component}});
    if let (Some(call), Some(api)) = (request_id(data), api.as_object_mut()) {
        api.insert("request".into(), json!({"uid": call}));
    }
    event.insert("api".into(), api);
    event.insert(
        "src_endpoint".into(),
        json!({"svc_name": data.get("caller").map_or_else(|| component.to_owned(), text)}),
    );
    let mut actor = json!({"app_name": component});
    if let Some(actor) = actor.as_object_mut() {
        actor.extend(facts.principal.as_ref().map(|principal| ("user".to_owned(), json!({"uid": principal}))));
        actor.extend(facts.session.as_ref().map(|session| ("session".to_owned(), json!({"uid": session}))));
    }
    event.insert("actor".into(), actor);
    if let Some(resource) = resource(data, facts) {
        event.insert("resources".into(), json!([resource]));
    }
    outcome(&mut event, facts);
    if facts.kind == "policy.decided" {
        decision(&mut event, data, facts);
    }
    event
}

fn activity(kind: &str) -> u64 {
    match kind {
        "message.received" | "message.sent" | "session.opened" | "log.archived" => CREATE,
        "model.answered" | "tool.finished" => READ,
        "config.changed" => UPDATE,
        "content.erased" | "log.pruned" => DELETE,
        _ => OTHER,
    }
}

/// What ties the parts of one operation together.
fn request_id(data: &Value) -> Option<String> {
    ["call", "run", "request", "message", "event"].into_iter().find_map(|key| Some(text(data.get(key)?)))
}

fn resource(data: &Value, facts: &Facts) -> Option<Value> {
    let named = |key: &str, kind: &str| Some(json!({"name": text(data.get(key)?), "type": kind}));
    facts.tool.as_ref().map(|tool| json!({"name": tool, "type": "tool"})).or_else(|| {
        named("model", "model")
            .or_else(|| named("resource", "resource"))
            .or_else(|| named("conversation", "conversation"))
            .or_else(|| named("subject", "subject"))
            .or_else(|| named("what", "setting"))
            .or_else(|| named("file", "file"))
    })
}

/// Whether it went well. A denial is a success of the platform and a failure of what was asked for: the latter is what a SIEM counts.
fn outcome(event: &mut Map<String, Value>, facts: &Facts) {
    let (status, severity) = match facts.outcome.as_deref() {
        None => return,
        Some("allow" | "ok" | "answered") => (1, INFORMATIONAL),
        Some("deny" | "refused" | "denied") => (2, MEDIUM),
        Some("ask") => (OTHER, LOW),
        Some(_) => (2, LOW),
    };
    event.insert("status_id".into(), status.into());
    event.insert("severity_id".into(), severity.into());
}

fn decision(event: &mut Map<String, Value>, data: &Value, facts: &Facts) {
    let (action, disposition) = match facts.outcome.as_deref() {
        Some("allow") => (1, 1),
        Some("deny") => (2, 2),
        // Asked of a human: neither yet.
        _ => (OTHER, OTHER),
    };
    event.insert("action_id".into(), action.into());
    event.insert("disposition_id".into(), disposition.into());
    let word = facts.outcome.clone().unwrap_or_default();
    let version = data.get("policy_set").map(text).unwrap_or_default();
    let policies = facts.policies.iter();
    let authorizations: Vec<Value> = policies
        .map(|policy| json!({"decision": word, "policy": {"uid": policy, "version": version, "is_applied": true}}))
        .collect();
    if !authorizations.is_empty() {
        event.insert("authorizations".into(), authorizations.into());
    }
}

fn with_common(mut event: Map<String, Value>, record: &RawRecord, body: &Value, facts: &Facts) -> Value {
    let data = body.get("data").unwrap_or(&Value::Null);
    let profiles: &[&str] = if event.contains_key("action_id") { &["security_control"] } else { &[] };
    let mut metadata = json!({
        "version": VERSION,
        "product": {"name": "Nachos", "vendor_name": "Nachos"},
        "log_name": proto::audit::STREAM,
        "log_provider": component(record),
        "event_code": facts.kind,
        "sequence": record.seq,
        "logged_time": record.time_ns.div_euclid(1_000_000),
        "profiles": profiles,
    });
    if let Some(metadata) = metadata.as_object_mut() {
        let id = facts.id.as_ref().map(|id| ("uid".to_owned(), id.clone().into()));
        let trace = facts.trace.as_ref().map(|trace| ("correlation_uid".to_owned(), trace.clone().into()));
        let time = body.get("time").map(|time| ("original_time".to_owned(), text(time).into()));
        metadata.extend([id, trace, time].into_iter().flatten());
    }
    event.insert("metadata".into(), metadata);
    event.insert("time".into(), time(record, body).into());
    event.entry("severity_id").or_insert_with(|| INFORMATIONAL.into());
    if let Some(detail) =
        ["reason", "error", "refused"].into_iter().find_map(|key| data.get(key)).filter(|why| why.is_string())
    {
        event.insert("status_detail".into(), detail.clone());
    }
    if let Some(micros) = data.get("micros").and_then(Value::as_u64) {
        event.insert("duration".into(), (micros / 1000).into());
    }
    let mut rest = Map::new();
    rest.extend(facts.turn.as_ref().map(|turn| ("turn".to_owned(), turn.clone().into())));
    rest.extend(facts.channel.as_ref().map(|channel| ("channel".to_owned(), channel.clone().into())));
    if data.is_null() {
        rest.insert("record".into(), String::from_utf8_lossy(record.body.as_bytes()).into());
    } else {
        rest.insert("data".into(), data.clone());
    }
    event.insert("unmapped".into(), rest.into());
    event.into()
}

/// When it happened by its writer's clock, else when the stream stored it; milliseconds since 1970.
fn time(record: &RawRecord, body: &Value) -> i64 {
    let written = body.get("time").and_then(Value::as_str).and_then(|time| time.parse::<Timestamp>().ok());
    written.map_or_else(|| record.time_ns.div_euclid(1_000_000), Timestamp::as_millisecond)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
