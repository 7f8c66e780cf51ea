//! Questions to the policy engine and its answers.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::channel::SignedOrigin;
use crate::name::{Component, Name};
use crate::permit::Permit;
use crate::subject::{Request, Subject};
use crate::tool::{Taint, ToolCall};
use crate::version;

/// How long a caller waits for a decision before it takes the answer for a no. Policy decides in well under a millisecond and waits
/// for one durable write; two seconds is a sick disk, and a caller must not hang on it.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// May this happen? Subject `nachos.policy.check.<caller>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// On whose behalf: the origin that the channel signed. The principal comes from here.
    pub origin: SignedOrigin,
    /// The session, as the caller names it.
    pub session: String,
    /// The turn.
    pub turn: Uuid,
    /// What the session has come into contact with.
    #[serde(default)]
    pub taint: BTreeSet<Taint>,
    /// What is to happen.
    pub action: Action,
}

/// What is to happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Action {
    /// The agent takes a message of this person.
    ReceiveMessage,
    /// A model is asked on this person's behalf.
    CallModel {
        /// The model's configured name.
        model: Name,
    },
    /// A tool runs on this person's behalf.
    CallTool {
        /// The model's id of the call.
        call: String,
        /// The tool.
        tool: Name,
        /// Its arguments, a JSON object.
        arguments: Value,
    },
}

/// What policy says. Every answer was recorded before it was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    /// Yes.
    Allow {
        /// Id of the record of this decision.
        id: Uuid,
        /// The policies that allowed it.
        policies: Vec<String>,
        /// For a tool: the call that may now be made, with the very arguments that were judged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<Box<ToolCall>>,
    },
    /// No. Final for this turn.
    Deny {
        /// Id of the record of this decision.
        id: Uuid,
        /// Why, for a person and for the model.
        reason: String,
        /// The policies that forbade it; empty when nothing allowed it.
        policies: Vec<String>,
    },
    /// A human has to say.
    Ask {
        /// Id of the record of this decision.
        id: Uuid,
        /// The question to the human.
        prompt: String,
        /// The policies that ask.
        policies: Vec<String>,
    },
}

impl Request for Question {
    type Reply = Decision;
    const ENDPOINT: &'static str = "check";
    const PATIENCE: Duration = PATIENCE;

    fn subject(&self, caller: Component) -> Subject {
        Subject::new(format!("nachos.policy.check.{caller}"))
    }

    fn served_by(_: Component) -> Subject {
        Subject::new("nachos.policy.check.*")
    }
}

/// Which tools could this person be permitted at all, whatever the arguments? Only those are offered to the model. Decides nothing and
/// is not recorded. Subject `nachos.policy.permissible.<caller>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PermissibleTools {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// On whose behalf.
    pub origin: SignedOrigin,
    /// The session.
    pub session: String,
    /// What the session has come into contact with.
    #[serde(default)]
    pub taint: BTreeSet<Taint>,
}

/// The tools that are not denied under every circumstance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Permissible {
    /// Their names.
    pub tools: BTreeSet<Name>,
}

impl Request for PermissibleTools {
    type Reply = Permissible;
    const ENDPOINT: &'static str = "permissible";
    const PATIENCE: Duration = PATIENCE;

    fn subject(&self, caller: Component) -> Subject {
        Subject::new(format!("nachos.policy.permissible.{caller}"))
    }

    fn served_by(_: Component) -> Subject {
        Subject::new("nachos.policy.permissible.*")
    }
}

/// What would policy say to this person doing that? A dry run for an administrator: it takes the principal at its word, makes no permit
/// and is not recorded. Subject `nachos.policy.explain.<caller>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explain {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// The channel.
    pub channel: Name,
    /// The team, where the channel has one.
    #[serde(default)]
    pub team: Option<String>,
    /// The user's id in the channel.
    pub user: String,
    /// What the session has come into contact with.
    #[serde(default)]
    pub taint: BTreeSet<Taint>,
    /// What is to happen.
    pub action: Action,
}

/// The answer to [`Explain`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// `allow`, `deny` or `ask`.
    pub outcome: Outcome,
    /// Why, for a person.
    pub reason: String,
    /// The deciding policies, each with its id, file and text.
    pub policies: Vec<PolicyText>,
    /// Hash of the policy set.
    pub policy_set: String,
}

/// The kinds of decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// A human has to say.
    Ask,
}

/// One policy, to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// Its `@id`.
    pub id: String,
    /// The file it stands in.
    pub file: String,
    /// Its text.
    pub text: String,
}

impl Request for Explain {
    type Reply = Explanation;
    const ENDPOINT: &'static str = "explain";
    const PATIENCE: Duration = PATIENCE;

    fn subject(&self, caller: Component) -> Subject {
        Subject::new(format!("nachos.policy.explain.{caller}"))
    }

    fn served_by(_: Component) -> Subject {
        Subject::new("nachos.policy.explain.*")
    }
}

impl Decision {
    /// The id of the record of this decision.
    pub fn id(&self) -> Uuid {
        match self {
            Self::Allow { id, .. } | Self::Deny { id, .. } | Self::Ask { id, .. } => *id,
        }
    }

    /// An allowed tool call. The only way to a [`ToolCall`] outside of tests.
    pub fn allow_tool(
        id: Uuid,
        policies: Vec<String>,
        permit: Permit,
        tool: Name,
        family: crate::Family,
        arguments: Value,
    ) -> Self {
        Self::Allow { id, policies, call: Some(Box::new(ToolCall::permitted(permit, tool, family, arguments))) }
    }
}
