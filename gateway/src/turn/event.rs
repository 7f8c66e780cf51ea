//! What a turn is told, what it says, and what of it is stored.

use proto::channel::ReplyKind;
use proto::llm::{ChatMessage, FinishReason, ToolSpec, ToolUse, Usage};
use proto::policy::Decision;
use proto::tool::{Manifest, ToolCall, ToolOutput};
use proto::{Name, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What happened and is stored, in order: the turn's memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Entry {
    /// Policy let the message in.
    Admitted {
        /// What the person wrote.
        text: String,
    },
    /// The model answered, whole.
    ModelAnswered(Answer),
    /// A runner is about to be asked; stored before it is, so that a run without an outcome is known as such.
    ToolRequested {
        /// The model's id of the call.
        call: String,
    },
    /// A tool call came to its end.
    ToolSettled {
        /// The model's id of the call.
        call: String,
        /// How.
        how: How,
        /// What the model is told.
        text: String,
    },
}

/// A model's whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What it said.
    pub text: String,
    /// The tools it asked for.
    pub tool_calls: Vec<ToolUse>,
    /// What the provider wants back unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Value>,
    /// Why it stopped.
    pub finish: FinishReason,
    /// What it cost.
    pub usage: Usage,
}

/// How a tool call came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// The tool gave a result.
    Ran,
    /// The tool ran and gave none.
    Failed,
    /// It certainly did not run.
    NotRun,
    /// Policy said no, or that a human has to say: final for this turn.
    Denied,
    /// Nobody knows whether it ran.
    Unknown,
}

/// What the machine is told.
#[derive(Debug)]
pub enum Event {
    /// This was stored.
    Happened(Entry),
    /// Policy's answer to the question just asked.
    Decided(Decision),
    /// Policy gave no answer, or refused the question itself. Fail closed.
    Undecided(Refusal),
    /// The tools that this person could be permitted.
    ToolsFound(Vec<Manifest>),
    /// The runner's answer.
    ToolFinished(ToolOutput),
    /// The runner certainly did not run it.
    ToolNotRun {
        /// Why.
        reason: String,
        /// Whether it may be otherwise in a moment, with a fresh permit.
        may_pass: bool,
    },
    /// The runner was asked, and what became of it is unknown.
    OutcomeUnknown,
    /// No model could be brought to answer.
    ModelFailed(Refusal),
    /// The stored entries are all told: go on from here.
    Resumed,
    /// The turn's wall time is over.
    TimeIsUp,
    /// The turn cannot go on, for a reason that a person can be told.
    Abandoned(String),
}

/// What the machine wants done next.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Ask policy whether this person may talk here.
    CheckMessage,
    /// Find the tools to offer.
    FindTools,
    /// Ask the model.
    AskModel {
        /// This turn's part of the conversation.
        messages: Vec<ChatMessage>,
        /// The tools on offer.
        tools: Vec<ToolSpec>,
    },
    /// Ask policy about a tool call.
    CheckTool {
        /// The model's id of the call.
        call: String,
        /// The tool.
        tool: Name,
        /// Its arguments.
        arguments: Value,
    },
    /// Run it. The call comes out of an allowing decision and from nowhere else, and that it is made was noted before.
    RunTool(Box<ToolCall>),
    /// Store this and tell it back; nothing else is to be done.
    Note(Entry),
    /// Tell the person; the turn is over.
    Reply(Reply),
}

/// The end of a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// What the person is told.
    pub text: String,
    /// Who says it: the model or the platform.
    pub kind: ReplyKind,
    /// How the turn ended.
    pub outcome: Outcome,
    /// Why, where it was not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The model answered.
    Answered,
    /// Policy or the model said no.
    Refused,
    /// Something broke.
    Failed,
    /// A limit ended it.
    Limit,
}

impl Outcome {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Limit => "limit",
        }
    }
}

impl Reply {
    /// The model's answer.
    pub(super) fn answer(text: String) -> Self {
        Self { text, kind: ReplyKind::Answer, outcome: Outcome::Answered, reason: None }
    }

    /// The platform speaks.
    pub(super) fn notice(outcome: Outcome, text: String) -> Self {
        Self { reason: Some(text.clone()), text, kind: ReplyKind::Notice, outcome }
    }
}
