//! Names that may stand in a subject, and the fixed set of components.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name: what DNS labels and the Synadia Agent Protocol allow for one token.
pub const MAX_NAME: usize = 63;

/// One subject token: `[a-z0-9_-]{1,63}`. Text of users, models or files becomes part of a subject only through this type, so a
/// channel called `*` cannot address everybody (NATS ADR-6).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is no [`Name`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a name: use 1 to 63 of a-z, 0-9, `_` and `-`")]
pub struct BadName(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = (1..=MAX_NAME).contains(&text.len());
        let clean = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        if fits && clean { Ok(Self(text.to_owned())) } else { Err(BadName(text.chars().take(MAX_NAME + 1).collect())) }
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// An identity that the server knows by its own nkey. The set is closed: a new one is a line here and its lines in
/// [`crate::links`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// Sessions and the agent loop.
    Gateway,
    /// The Slack channel.
    ChannelSlack,
    /// The user's tool; it is also the channel `cli`.
    Cli,
    /// The one holder of provider keys.
    LlmProxy,
    /// Decides, and signs permits.
    Policy,
    /// Runs WebAssembly tools.
    ToolsWasm,
    /// Seals, indexes, archives and answers for the audit stream.
    Audit,
    /// Sends the audit stream on to a SIEM.
    Forwarder,
    /// The web pages: the timeline of the record.
    ChannelWeb,
    /// Makes keys and streams once, then exits.
    Provision,
}

impl Component {
    /// Every identity.
    pub const ALL: [Self; 10] = [
        Self::Gateway,
        Self::ChannelSlack,
        Self::Cli,
        Self::LlmProxy,
        Self::Policy,
        Self::ToolsWasm,
        Self::Audit,
        Self::Forwarder,
        Self::ChannelWeb,
        Self::Provision,
    ];

    /// Those that run all the time and answer for their health.
    pub const SERVICES: [Self; 8] = [
        Self::Gateway,
        Self::ChannelSlack,
        Self::LlmProxy,
        Self::Policy,
        Self::ToolsWasm,
        Self::Audit,
        Self::Forwarder,
        Self::ChannelWeb,
    ];

    /// The name in subjects, compose services, crates and images.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::ChannelSlack => "channel-slack",
            Self::Cli => "cli",
            Self::LlmProxy => "llm-proxy",
            Self::Policy => "policy",
            Self::ToolsWasm => "tools-wasm",
            Self::Audit => "audit",
            Self::Forwarder => "forwarder",
            Self::ChannelWeb => "channel-web",
            Self::Provision => "provision",
        }
    }

    /// The channel this component speaks for.
    pub fn channel(self) -> Option<&'static str> {
        match self {
            Self::ChannelSlack => Some("slack"),
            Self::Cli => Some("cli"),
            _ => None,
        }
    }

    /// The component that speaks for `channel`.
    pub fn of_channel(channel: &Name) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.channel() == Some(channel.as_str()))
    }

    /// The tool family this component runs.
    pub fn family(self) -> Option<Family> {
        (self == Self::ToolsWasm).then_some(Family::Wasm)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Component {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::ALL.into_iter().find(|component| component.as_str() == text).ok_or_else(|| BadName(text.to_owned()))
    }
}

/// A kind of tool runner. Families are fixed at provisioning, so that the server enforces who runs them; a tool's own name is in
/// the body and in the permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// WebAssembly components in `tools-wasm`.
    Wasm,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 1] = [Self::Wasm];

    /// The token in subjects.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_clean_token() {
        assert!("channel-slack_2".parse::<Name>().is_ok());
        for bad in ["", "*", ">", "a.b", "a b", "Ä", "UPPER", &"x".repeat(64), "a\n"] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn every_component_has_a_name_that_fits_a_subject() {
        for component in Component::ALL {
            assert!(component.as_str().parse::<Name>().is_ok());
            assert_eq!(component.as_str().parse::<Component>(), Ok(component));
            assert_eq!(serde_json::to_value(component).unwrap(), component.as_str());
        }
    }
}
