//! The one wire for every model provider.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::channel::SignedOrigin;
use crate::name::{Component, Name};
use crate::subject::{StreamRequest, Subject};
use crate::tool::Taint;
use crate::version;

/// Ask a model. Subject `nachos.llm.request`; the answer is a stream of [`ModelChunk`] that ends with [`ModelChunk::Finished`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRequest {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// On whose behalf; `llm-proxy` asks policy with it.
    pub origin: SignedOrigin,
    /// The session.
    pub session: String,
    /// The turn.
    pub turn: Uuid,
    /// What the session has come into contact with.
    #[serde(default)]
    pub taint: BTreeSet<Taint>,
    /// A configured model; the proxy's default when absent.
    #[serde(default)]
    pub model: Option<Name>,
    /// The system prompt.
    pub system: String,
    /// The conversation so far, oldest first.
    pub messages: Vec<ChatMessage>,
    /// The tools that the model may ask for.
    #[serde(default)]
    pub tools: Vec<ToolSpec>,
    /// Most tokens of the answer.
    pub max_tokens: u32,
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "kebab-case")]
pub enum ChatMessage {
    /// A person.
    User {
        /// What they wrote.
        text: String,
    },
    /// The model.
    Assistant {
        /// What it said.
        #[serde(default)]
        text: String,
        /// What it asked for.
        #[serde(default)]
        tool_calls: Vec<ToolUse>,
        /// What the provider wants back unchanged (signed thinking blocks), opaque to everybody else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_state: Option<Value>,
    },
    /// The outcome of a tool call.
    Tool {
        /// The id of the call.
        call: String,
        /// The tool.
        tool: String,
        /// What came out, or why nothing did.
        text: String,
        /// True if nothing came out.
        #[serde(default)]
        is_error: bool,
    },
}

/// A tool as the model sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Its name.
    pub name: Name,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// The model asks for a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolUse {
    /// The model's id of the call.
    pub id: String,
    /// The tool's name as the model wrote it; it may not exist.
    pub name: String,
    /// The arguments. A text that is no JSON object is kept as a JSON string, to be refused where tools are called.
    pub arguments: Value,
}

/// A piece of the model's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ModelChunk {
    /// The provider accepted; always first.
    Started {
        /// The configured model that answers.
        model: Name,
        /// The provider's name.
        provider: String,
    },
    /// More text.
    Text {
        /// The new text.
        text: String,
    },
    /// A whole tool call.
    ToolUse(ToolUse),
    /// What the provider wants back unchanged in the next request of this turn.
    ProviderState {
        /// Opaque.
        state: Value,
    },
    /// The end; without it the answer is not whole.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// What it cost.
        usage: Usage,
    },
    /// Something this release does not know.
    #[serde(other)]
    Unknown,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinishReason {
    /// It was done.
    Stop,
    /// It waits for tools.
    ToolCalls,
    /// It reached `max_tokens` or the context's end.
    Length,
    /// The provider's filter, or the model itself, refused.
    Refused,
}

/// Tokens. `input` includes cached ones (OpenTelemetry GenAI semantics).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read, cached ones included.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
    /// Of the input: read from the provider's cache.
    #[serde(default)]
    pub cached: u64,
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cached: self.cached.saturating_add(other.cached),
        }
    }
}

impl StreamRequest for ModelRequest {
    type Chunk = ModelChunk;
    const ENDPOINT: &'static str = "request";
    /// Reasoning models are silent for a minute or two before their first word.
    const IDLE: Duration = Duration::from_secs(150);

    fn subject(&self, _: Component) -> Subject {
        Subject::new("nachos.llm.request")
    }

    fn served_by(_: Component) -> Subject {
        Subject::new("nachos.llm.request")
    }
}
