//! What a record says, read from its JSON into the few columns that people filter, sort and export by.

use proto::trace::Trace;
use serde_json::Value;

/// The type under which a record is filed whose bytes are no CloudEvent. It is never dropped: somebody published it.
pub const UNREADABLE: &str = "unreadable";

/// The columns that come from the body, and so are worth what its publisher is worth.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// CloudEvents `type`.
    pub kind: String,
    /// CloudEvents `id`.
    pub id: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The turn.
    pub turn: Option<String>,
    /// The trace id, 32 hex digits.
    pub trace: Option<String>,
    /// On whose behalf.
    pub principal: Option<String>,
    /// The channel.
    pub channel: Option<String>,
    /// The tool that it is about.
    pub tool: Option<String>,
    /// How it came out, in one word.
    pub outcome: Option<String>,
    /// The policies that decided.
    pub policies: Vec<String>,
}

impl Facts {
    /// Of a record whose bytes are no CloudEvent.
    pub fn of_type(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }

    /// The columns of these bytes.
    pub fn read(body: &[u8]) -> Self {
        let read = serde_json::from_slice(body).ok().and_then(|body| Self::of(&body));
        read.unwrap_or_else(|| Self::of_type(UNREADABLE))
    }

    /// The columns of a CloudEvent of any type, known to this release or not; `None` if it has no type.
    pub fn of(body: &Value) -> Option<Self> {
        let kind = text(body, "type")?;
        let data = body.get("data").unwrap_or(&Value::Null);
        Some(Self {
            id: text(body, "id"),
            session: text(body, "session"),
            turn: text(body, "turn"),
            trace: text(body, "traceparent").and_then(|parent| parent.parse::<Trace>().ok()).map(Trace::id),
            principal: text(body, "principal"),
            channel: text(body, "channel"),
            tool: tool(data),
            outcome: outcome(&kind, data),
            policies: policies(data),
            kind,
        })
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// A decision names the tool as its resource.
fn tool(data: &Value) -> Option<String> {
    text(data, "tool").or_else(|| {
        let about_tool = data.get("action").and_then(Value::as_str) == Some("call_tool");
        about_tool.then(|| text(data, "resource")).flatten()
    })
}

/// The outcome that the record names, or the one that its type amounts to, so that one filter finds all that went wrong.
fn outcome(kind: &str, data: &Value) -> Option<String> {
    let failed = |key: &str| !data.get(key).unwrap_or(&Value::Null).is_null();
    text(data, "outcome").or_else(|| {
        let word = match kind {
            "tool.refused" => "refused",
            "component.denied" => "denied",
            "message.undeliverable" => "failed",
            "config.changed" if failed("refused") => "refused",
            "config.changed" => "ok",
            "model.answered" if failed("error") => "failed",
            "model.answered" => "ok",
            _ => return None,
        };
        Some(word.to_owned())
    })
}

fn policies(data: &Value) -> Vec<String> {
    let listed = data.get("policies").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
