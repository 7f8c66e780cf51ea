//! The words of the schema: entities and context values in Cedar's form, made from ours.

use std::collections::{BTreeSet, HashSet};

use cedar_policy::{Context, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use jiff::Timestamp;
use proto::Name;
use proto::policy::Action;
use proto::tool::Taint;

use crate::principal::Principal;

/// The three things that policies decide about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionKind {
    /// The agent takes a message.
    ReceiveMessage,
    /// A model is asked.
    CallModel,
    /// A tool runs.
    CallTool,
}

impl ActionKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ReceiveMessage, Self::CallModel, Self::CallTool];

    /// The word in policies and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReceiveMessage => "receive_message",
            Self::CallModel => "call_model",
            Self::CallTool => "call_tool",
        }
    }

    /// The kind of an action.
    pub fn of(action: &Action) -> Self {
        match action {
            Action::ReceiveMessage => Self::ReceiveMessage,
            Action::CallModel { .. } => Self::CallModel,
            Action::CallTool { .. } => Self::CallTool,
        }
    }
}

/// Cedar's names of our entity types, parsed once.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    user: EntityTypeName,
    role: EntityTypeName,
    channel: EntityTypeName,
    model: EntityTypeName,
    tool: EntityTypeName,
    action: EntityTypeName,
}

impl Vocabulary {
    /// Fails only if a literal here is no type name; a test builds it.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            user: "Nachos::User".parse()?,
            role: "Nachos::Role".parse()?,
            channel: "Nachos::Channel".parse()?,
            model: "Nachos::Model".parse()?,
            tool: "Nachos::Tool".parse()?,
            action: "Nachos::Action".parse()?,
        })
    }

    pub(crate) fn action(&self, kind: ActionKind) -> EntityUid {
        uid(&self.action, kind.as_str())
    }

    pub(crate) fn tool(&self, tool: &Name) -> EntityUid {
        uid(&self.tool, tool.as_str())
    }

    /// What the action is about.
    pub(crate) fn resource(&self, principal: &Principal, action: &Action) -> EntityUid {
        match action {
            Action::ReceiveMessage => uid(&self.channel, principal.channel().as_str()),
            Action::CallModel { model } => uid(&self.model, model.as_str()),
            Action::CallTool { tool, .. } => self.tool(tool),
        }
    }

    /// The name of a tool, if the entity is one.
    pub(crate) fn tool_named<'a>(&self, entity: &'a EntityUid) -> Option<&'a str> {
        (*entity.type_name() == self.tool).then(|| entity.id().unescaped())
    }

    /// The person as policies see them.
    pub(crate) fn user(&self, principal: &Principal, roles: &BTreeSet<Name>) -> anyhow::Result<Entity> {
        let mut attributes = vec![("channel", principal.channel().as_str()), ("id", principal.user())];
        attributes.extend(principal.team().map(|team| ("team", team)));
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect();
        let parents: HashSet<_> = roles.iter().map(|role| uid(&self.role, role.as_str())).collect();
        Ok(Entity::new(uid(&self.user, &principal.to_string()), attributes, parents)?)
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// The circumstances of a question.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The session, as the caller names it.
    pub session: &'a str,
    /// What the session has come into contact with.
    pub taint: &'a BTreeSet<Taint>,
    /// The time, by this service's clock.
    pub now: Timestamp,
}

impl Circumstances<'_> {
    /// The context of a request; `arguments` only for tools.
    pub(crate) fn context(&self, arguments: Option<RestrictedExpression>) -> anyhow::Result<Context> {
        let now = self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.fields(arguments, RestrictedExpression::new_datetime(now))
    }

    /// The context of a tool call before its arguments are known. The time is unknown as well: the call comes later, and Cedar sees
    /// through a record that holds unknowns only while everything else in it is plain data, which its datetime is not.
    pub(crate) fn open_context(&self) -> anyhow::Result<Context> {
        let arguments = RestrictedExpression::new_unknown("arguments");
        self.fields(Some(arguments), RestrictedExpression::new_unknown("now"))
    }

    fn fields(&self, arguments: Option<RestrictedExpression>, now: RestrictedExpression) -> anyhow::Result<Context> {
        let session = RestrictedExpression::new_string(self.session.to_owned());
        let fields = [("taint", self.taint()?), ("session", session), ("now", now)];
        let arguments = arguments.map(|arguments| ("arguments", arguments));
        let fields = fields.into_iter().chain(arguments).map(|(name, value)| (name.to_owned(), value));
        Ok(Context::from_pairs(fields)?)
    }

    fn taint(&self) -> anyhow::Result<RestrictedExpression> {
        let marks = [Taint::Untrusted, Taint::Private]
            .map(|taint| (attribute(taint).to_owned(), RestrictedExpression::new_bool(self.taint.contains(&taint))));
        Ok(RestrictedExpression::new_record(marks)?)
    }
}

/// The attribute of the schema's `Taint`. A new taint does not compile until it has one here, above and in the schema.
fn attribute(taint: Taint) -> &'static str {
    match taint {
        Taint::Untrusted => "untrusted",
        Taint::Private => "private",
    }
}
