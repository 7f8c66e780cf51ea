//! Tools: what a runner offers, what it is asked and what it answers.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::name::{Component, Family, Name};
use crate::object::ObjectRef;
use crate::permit::Permit;
use crate::subject::{Request, Subject};
use crate::version;

/// Largest output that travels inline, in bytes; a larger one goes through the object stream by reference.
pub const MAX_INLINE_OUTPUT: usize = 64 * 1024;

/// Longest time a tool may take: what a person in a chat waits for.
pub const MAX_TOOL_TIME: Duration = Duration::from_secs(120);

/// What a tool is, as its maker wrote it beside the component and as policy reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Manifest version.
    #[serde(default = "version")]
    pub v: u32,
    /// The tool's name; the folder has the same.
    pub name: Name,
    /// The kind of runner.
    pub family: Family,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of the arguments, an object schema.
    pub parameters: Value,
    /// What it touches.
    #[serde(default)]
    pub effects: Effects,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
}

/// What a tool touches: what policies and the recovery after a crash go by. The default is the worst of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effects {
    /// Its output may contain text written by strangers.
    pub reads_untrusted: bool,
    /// Its output may contain private data.
    pub reads_private: bool,
    /// It can send something outside.
    pub sends_outside: bool,
    /// It changes nothing.
    pub read_only: bool,
    /// Running it twice is as good as once.
    pub idempotent: bool,
}

impl Default for Effects {
    fn default() -> Self {
        Self { reads_untrusted: true, reads_private: true, sends_outside: true, read_only: false, idempotent: false }
    }
}

impl Effects {
    /// What the output of such a tool adds to the session's taint.
    pub fn taint(&self) -> BTreeSet<Taint> {
        let mut taint = BTreeSet::new();
        if self.reads_untrusted {
            taint.insert(Taint::Untrusted);
        }
        if self.reads_private {
            taint.insert(Taint::Private);
        }
        taint
    }

    /// Whether it may run again when nobody knows whether it ran.
    pub fn may_repeat(&self) -> bool {
        self.read_only || self.idempotent
    }
}

/// What a session has come into contact with; it only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Taint {
    /// Text written by strangers.
    Untrusted,
    /// Private data.
    Private,
}

impl Taint {
    /// The word in policies and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Private => "private",
        }
    }
}

/// What a tool may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Longest run in milliseconds.
    pub timeout_ms: u64,
    /// Most memory in bytes.
    pub memory_bytes: u64,
    /// Largest output in bytes.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout_ms: 5_000, memory_bytes: 32 << 20, output_bytes: MAX_INLINE_OUTPUT as u64 }
    }
}

/// Which tools does this family's runner offer? Subject `nachos.tool.<family>.catalog`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogRequest {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// The family asked.
    pub family: Family,
}

/// A runner's tools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Those that work.
    pub tools: Vec<Manifest>,
    /// Those that were refused at loading.
    #[serde(default)]
    pub refused: Vec<RefusedTool>,
}

/// A tool that a runner did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedTool {
    /// Folder or name.
    pub name: String,
    /// Why, and what to do.
    pub reason: String,
}

impl Request for CatalogRequest {
    type Reply = Catalog;
    const ENDPOINT: &'static str = "catalog";
    const PATIENCE: Duration = Duration::from_secs(2);

    fn subject(&self, _: Component) -> Subject {
        Subject::new(format!("nachos.tool.{}.catalog", self.family))
    }

    fn served_by(server: Component) -> Subject {
        Subject::new(format!("nachos.tool.{}.catalog", family_token(server)))
    }
}

/// Run this. Subject `nachos.tool.<family>.request`. Outside of tests it is made by policy alone, inside an allowing decision: it
/// carries the permit and the very arguments that were judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    #[serde(default = "version")]
    v: u32,
    family: Family,
    tool: Name,
    arguments: Value,
    permit: Permit,
}

impl ToolCall {
    pub(crate) fn permitted(permit: Permit, tool: Name, family: Family, arguments: Value) -> Self {
        Self { v: crate::VERSION, family, tool, arguments, permit }
    }

    /// The tool.
    pub fn tool(&self) -> &Name {
        &self.tool
    }

    /// The family whose runner owns it.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The arguments that were judged.
    pub fn arguments(&self) -> &Value {
        &self.arguments
    }

    /// The permit.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }
}

impl Request for ToolCall {
    type Reply = ToolOutput;
    const ENDPOINT: &'static str = "request";
    const PATIENCE: Duration = Duration::from_secs(MAX_TOOL_TIME.as_secs() + 10);

    fn subject(&self, _: Component) -> Subject {
        Subject::new(format!("nachos.tool.{}.request", self.family))
    }

    fn served_by(server: Component) -> Subject {
        Subject::new(format!("nachos.tool.{}.request", family_token(server)))
    }
}

/// `server`'s family, or a token that no caller uses where it has none.
fn family_token(server: Component) -> &'static str {
    server.family().map_or("none", Family::as_str)
}

/// How a run ended. A refusal to run at all travels as [`crate::Refusal`] instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolOutput {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// The permit's id: the run that this is the outcome of.
    pub run: Uuid,
    /// Result or failure.
    pub outcome: ToolOutcome,
    /// How long it ran, in microseconds.
    pub micros: u64,
    /// What the output adds to the session's taint.
    #[serde(default)]
    pub taint: BTreeSet<Taint>,
}

/// Result or failure of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ToolOutcome {
    /// It gave a result.
    Ok {
        /// The result: JSON text, untrusted.
        text: String,
    },
    /// It gave a result too large to travel inline.
    Stored {
        /// Where it is.
        object: ObjectRef,
        /// Its beginning.
        head: String,
    },
    /// The tool itself said that it cannot.
    Failed {
        /// What it said, for the model.
        message: String,
    },
    /// A limit ended it.
    Limit {
        /// Which: `time`, `memory`, `stack` or `output`.
        limit: String,
        /// In words.
        message: String,
    },
    /// It broke.
    Crashed {
        /// In words.
        message: String,
    },
}

impl ToolOutcome {
    /// The word in records: `ok`, `failed`, `limit` or `crashed`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok { .. } | Self::Stored { .. } => "ok",
            Self::Failed { .. } => "failed",
            Self::Limit { .. } => "limit",
            Self::Crashed { .. } => "crashed",
        }
    }
}
