//! The audit stream: one record type per fact, as CloudEvents 1.0 JSON, and the questions about it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::content::Content;
use crate::llm::{FinishReason, Usage};
use crate::name::{Component, Name};
use crate::policy::Outcome;
use crate::subject::{Request, StreamRequest, Subject};
use crate::trace::Trace;
use crate::version;

pub use crate::kept::{Kept, Part, attach, detach};

/// The stream of records.
pub const STREAM: &str = "AUDIT";

/// The stream of signed checkpoints over the record stream.
pub const CHECKPOINTS: &str = "CHECKPOINTS";

/// How long the audit stream remembers a `Nats-Msg-Id`. A permit must die sooner ([`crate::permit::PERMIT_LIFETIME`] plus skew).
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// The queue of what is kept beside records: texts and salts, on their way into the audit service's own store.
pub const CONTENTS: &str = "CONTENTS";

/// Largest record in bytes; the stream refuses more.
pub const MAX_RECORD: usize = 64 * 1024;

/// A record: a CloudEvent (CloudEvents 1.0 JSON format) with the `traceparent` extension. Who published it is what its subject says,
/// `nachos.audit.log.<component>`, because the server vouches for that; `source` repeats it for readers outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Always `1.0`.
    pub specversion: String,
    /// The record's id, also its `Nats-Msg-Id`.
    pub id: Uuid,
    /// `/nachos/<component>`.
    pub source: String,
    /// When, by the publisher's clock; the stream adds its own time.
    pub time: Timestamp,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// The trace of the turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Trace>,
    /// CloudEvents extensions: what the record belongs to.
    #[serde(flatten)]
    pub scope: Scope,
    /// The fact: `type` and `data`.
    #[serde(flatten)]
    pub fact: Fact,
}

/// What a record belongs to, as CloudEvents extension attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scope {
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Uuid>,
    /// On whose behalf: `channel/team/user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}

impl Record {
    /// A record of `fact` by `component`.
    pub fn new(
        component: Component,
        id: Uuid,
        time: Timestamp,
        traceparent: Option<Trace>,
        scope: Scope,
        fact: Fact,
    ) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            id,
            source: format!("/nachos/{component}"),
            time,
            datacontenttype: "application/json".to_owned(),
            traceparent,
            scope,
            fact,
        }
    }
}

/// `nachos.audit.log.<component>`.
pub fn log_subject(component: Component) -> Subject {
    Subject::new(format!("nachos.audit.log.{component}"))
}

/// One fact. `type` is the name in the attribute, `data` the fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Fact {
    /// A channel stored a message of a person.
    #[serde(rename = "message.received")]
    MessageReceived {
        /// The channel's id of the event.
        event: String,
        /// The conversation.
        conversation: String,
        /// What was written.
        text: Content,
    },
    /// A channel's API took a reply.
    #[serde(rename = "message.sent")]
    MessageSent {
        /// The outbound message's id.
        message: Uuid,
        /// The conversation.
        conversation: String,
        /// The channel's own id of what was posted, the last one where it took several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        posted: Option<String>,
        /// What was said.
        text: Content,
    },
    /// A channel could not deliver a reply for good.
    #[serde(rename = "message.undeliverable")]
    MessageUndeliverable {
        /// The outbound message's id.
        message: Uuid,
        /// The conversation.
        conversation: String,
        /// Why, in the words of the channel's API.
        reason: String,
    },
    /// Policy decided; written before the answer was given.
    #[serde(rename = "policy.decided")]
    PolicyDecided {
        /// `receive_message`, `call_model` or `call_tool`.
        action: String,
        /// What it was about: channel, model or tool.
        resource: String,
        /// Allow, deny or ask.
        outcome: Outcome,
        /// The deciding policies.
        policies: Vec<String>,
        /// Why.
        reason: String,
        /// Who asked.
        caller: Component,
        /// Hash of the policy set.
        policy_set: String,
        /// The permit that this decision made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permit: Option<Uuid>,
        /// The model's id of the call, for a tool.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<String>,
        /// The arguments, for a tool; the digest is the one in the permit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<Content>,
        /// What the session had come into contact with.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        taint: Vec<String>,
        /// How long the decision took, in microseconds, without the recording.
        micros: u64,
    },
    /// A runner is about to run a tool; written with the permit's id as `Nats-Msg-Id` before it runs.
    #[serde(rename = "tool.started")]
    ToolStarted {
        /// The permit's id: the run.
        run: Uuid,
        /// The tool.
        tool: Name,
        /// The model's id of the call.
        call: String,
        /// The decision that permitted it.
        decision: Uuid,
        /// The arguments.
        arguments: Content,
    },
    /// A tool ended.
    #[serde(rename = "tool.finished")]
    ToolFinished {
        /// The run.
        run: Uuid,
        /// The tool.
        tool: Name,
        /// `ok`, `failed`, `limit` or `crashed`.
        outcome: String,
        /// The result, or what was said instead.
        result: Content,
        /// How long it ran, in microseconds.
        micros: u64,
    },
    /// A runner refused a request.
    #[serde(rename = "tool.refused")]
    ToolRefused {
        /// The tool asked for.
        tool: String,
        /// Why.
        reason: String,
    },
    /// A model is about to be asked.
    #[serde(rename = "model.requested")]
    ModelRequested {
        /// The id that the answer refers to.
        request: Uuid,
        /// The configured model.
        model: Name,
        /// The provider.
        provider: String,
        /// Messages sent.
        messages: u64,
        /// Tools offered.
        tools: Vec<Name>,
        /// System prompt, messages and tools together.
        content: Content,
    },
    /// A model answered, or failed to.
    #[serde(rename = "model.answered")]
    ModelAnswered {
        /// The request.
        request: Uuid,
        /// The configured model.
        model: Name,
        /// The provider.
        provider: String,
        /// Why it stopped; absent if it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        finish: Option<FinishReason>,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Tokens.
        usage: Usage,
        /// The tools it asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<String>,
        /// The text of the answer.
        text: Content,
        /// How long it took, in microseconds.
        micros: u64,
    },
    /// The gateway opened a session.
    #[serde(rename = "session.opened")]
    SessionOpened {
        /// The conversation.
        conversation: String,
    },
    /// The gateway ended a turn.
    #[serde(rename = "turn.finished")]
    TurnFinished {
        /// `answered`, `refused`, `failed` or `limit`.
        outcome: String,
        /// Why, where it was not answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Model requests made.
        model_calls: u64,
        /// Tools asked for.
        tool_calls: u64,
        /// Tokens of all model requests.
        usage: Usage,
    },
    /// A component came up.
    #[serde(rename = "component.started")]
    ComponentStarted {
        /// Its release.
        version: String,
    },
    /// The server refused a component a subject that it has no right to, or a component refused a peer.
    #[serde(rename = "component.denied")]
    ComponentDenied {
        /// The subject.
        subject: String,
        /// What was tried: `publish`, `subscribe` or `reply`.
        operation: String,
    },
    /// Configuration or policy changed, or a change was refused.
    #[serde(rename = "config.changed")]
    ConfigChanged {
        /// What: `policy set`.
        what: String,
        /// Hash of what is in force now.
        digest: String,
        /// Why a new version was not taken; absent if it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    /// Texts and salts kept beside records were erased; the records stay.
    #[serde(rename = "content.erased")]
    ContentErased {
        /// What was asked for, in words: `principal slack/T1/U2`.
        what: String,
        /// Records whose texts are gone.
        records: u64,
        /// Why, as whoever asked for it said.
        reason: String,
    },
    /// Records were copied into a sealed archive file.
    #[serde(rename = "log.archived")]
    LogArchived {
        /// Name of the file.
        file: String,
        /// First stream number in it.
        first: u64,
        /// Last stream number in it.
        last: u64,
        /// `sha256:<hex>` of the file.
        digest: String,
    },
    /// The stream dropped records whose archive was verified before.
    #[serde(rename = "log.pruned")]
    LogPruned {
        /// The first stream number that is left.
        first: u64,
        /// The files that hold what was dropped.
        files: Vec<String>,
    },
    /// A link to the timeline was used.
    #[serde(rename = "web.login")]
    WebLogin {
        /// For whom the link was made.
        user: String,
        /// `ok`, or why not.
        outcome: String,
    },
}

/// Names of all facts, for help texts and filters.
pub const FACTS: [&str; 18] = [
    "message.received",
    "message.sent",
    "message.undeliverable",
    "policy.decided",
    "tool.started",
    "tool.finished",
    "tool.refused",
    "model.requested",
    "model.answered",
    "session.opened",
    "turn.finished",
    "component.started",
    "component.denied",
    "config.changed",
    "content.erased",
    "log.archived",
    "log.pruned",
    "web.login",
];

/// A record as the stream holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredRecord {
    /// Its number in the stream.
    pub seq: u64,
    /// When the stream stored it.
    pub stored: Timestamp,
    /// Who published it, as the server vouches.
    pub component: String,
    /// The record's JSON with the texts that are kept beside it; it may be of a type that this release does not know.
    pub record: Value,
}

/// Which records are wanted; all given conditions must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Filter {
    /// Only these types; a trailing `*` matches the rest (`tool.*`).
    #[serde(default)]
    pub types: Vec<String>,
    /// Only of this session.
    #[serde(default)]
    pub session: Option<String>,
    /// Only of this turn.
    #[serde(default)]
    pub turn: Option<Uuid>,
    /// Only of this trace id (32 hex digits).
    #[serde(default)]
    pub trace: Option<String>,
    /// Only on behalf of this principal; a trailing `*` matches the rest.
    #[serde(default)]
    pub principal: Option<String>,
    /// Only of this channel.
    #[serde(default)]
    pub channel: Option<String>,
    /// Only about this tool.
    #[serde(default)]
    pub tool: Option<String>,
    /// Only with this outcome (`allow`, `deny`, `ask`, `ok`, `failed`, …).
    #[serde(default)]
    pub outcome: Option<String>,
    /// Only by this component.
    #[serde(default)]
    pub component: Option<String>,
    /// Only where this policy decided.
    #[serde(default)]
    pub policy: Option<String>,
    /// Only stored at or after this time.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Only stored before this time.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Only below this stream number: the page before one that was seen.
    #[serde(default)]
    pub before: Option<u64>,
}

/// Most records in one answer.
pub const MAX_QUERY: u32 = 500;

/// Records that match, from the index. Subject `nachos.audit.query`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Which.
    pub filter: Filter,
    /// Only after this stream number.
    #[serde(default)]
    pub after: Option<u64>,
    /// At most so many, capped at [`MAX_QUERY`].
    pub limit: u32,
    /// The newest instead of the oldest; the answer is in stream order all the same.
    #[serde(default)]
    pub newest: bool,
}

/// The answer to [`Query`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// In stream order.
    pub records: Vec<StoredRecord>,
    /// The last stream number that the index has seen.
    pub indexed: u64,
    /// True if there are more that match.
    pub more: bool,
}

impl Request for Query {
    type Reply = Page;
    const ENDPOINT: &'static str = "query";
    const PATIENCE: Duration = Duration::from_secs(10);

    fn subject(&self, _: Component) -> Subject {
        Subject::new("nachos.audit.query")
    }

    fn served_by(_: Component) -> Subject {
        Subject::new("nachos.audit.query")
    }
}

/// Records as they come. Subject `nachos.audit.tail`. The stream of chunks goes on until the caller leaves, at most for an hour; the
/// caller asks again with the last number it saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Which.
    pub filter: Filter,
    /// Only after this stream number.
    pub after: u64,
}

/// A chunk of [`Tail`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TailChunk {
    /// A record that matches.
    Record(StoredRecord),
    /// Nothing new; everything up to this number was looked at.
    Idle {
        /// Stream number.
        seen: u64,
    },
    /// Something this release does not know.
    #[serde(other)]
    Unknown,
}

impl StreamRequest for Tail {
    type Chunk = TailChunk;
    const ENDPOINT: &'static str = "tail";
    /// The service says [`TailChunk::Idle`] every ten seconds.
    const IDLE: Duration = Duration::from_secs(30);

    fn subject(&self, _: Component) -> Subject {
        Subject::new("nachos.audit.tail")
    }

    fn served_by(_: Component) -> Subject {
        Subject::new("nachos.audit.tail")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_a_cloud_event() {
        let scope = Scope { session: Some("s1".into()), principal: Some("cli/ann".into()), ..Scope::default() };
        let fact = Fact::ConfigChanged { what: "policy set".into(), digest: "sha256:1".into(), refused: None };
        let time = "2026-11-20T10:00:00Z".parse().unwrap();
        let record = Record::new(Component::Policy, Uuid::from_u128(5), time, Some(Trace::new(1, 2)), scope, fact);
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(
            json,
            json!({
                "specversion": "1.0",
                "id": "00000000-0000-0000-0000-000000000005",
                "source": "/nachos/policy",
                "type": "config.changed",
                "time": "2026-11-20T10:00:00Z",
                "datacontenttype": "application/json",
                "traceparent": "00-00000000000000000000000000000001-0000000000000002-01",
                "session": "s1",
                "principal": "cli/ann",
                "data": {"what": "policy set", "digest": "sha256:1"},
            })
        );
        assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record);
    }
}
