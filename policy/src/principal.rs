//! Who acts: the person of a verified origin, and the roles that the settings give to them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use proto::Name;
use proto::channel::Origin;
use serde::Deserialize;

use crate::config::UserRoles;

/// Longest team or user id in characters. Slack's have eleven; without a limit one id could fill an audit record.
const MAX_ID: usize = 256;

/// A person in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    channel: Name,
    team: Option<String>,
    user: String,
}

/// A team or user id that could be mistaken for somebody else's: parts of a principal are joined by `/`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the channel gave a {0} id that is empty, too long or contains `/` or control characters")]
pub struct AmbiguousId(&'static str);

impl Principal {
    /// A person, if their ids can stand in a principal.
    ///
    /// # Errors
    /// [`AmbiguousId`].
    pub fn new(channel: Name, team: Option<String>, user: String) -> Result<Self, AmbiguousId> {
        if !team.as_deref().is_none_or(is_plain) {
            return Err(AmbiguousId("team"));
        }
        if !is_plain(&user) {
            return Err(AmbiguousId("user"));
        }
        Ok(Self { channel, team, user })
    }

    /// The author of a message whose origin was verified.
    ///
    /// # Errors
    /// [`AmbiguousId`].
    pub fn of_origin(origin: &Origin) -> Result<Self, AmbiguousId> {
        Self::new(origin.channel.clone(), origin.team.clone(), origin.user.clone())
    }

    /// The channel.
    pub fn channel(&self) -> &Name {
        &self.channel
    }

    /// The workspace or tenant, where the channel has one.
    pub fn team(&self) -> Option<&str> {
        self.team.as_deref()
    }

    /// The id in the channel.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The roles that `users` give to this person.
    pub fn roles(&self, users: &[UserRoles]) -> BTreeSet<Name> {
        let fitting = users.iter().filter(|entry| entry.who.fits(self));
        fitting.flat_map(|entry| entry.roles.iter().cloned()).collect()
    }
}

fn is_plain(id: &str) -> bool {
    !id.is_empty() && id.chars().count() <= MAX_ID && !id.contains(|c: char| c == '/' || c.is_control())
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.team {
            Some(team) => write!(f, "{}/{team}/{}", self.channel, self.user),
            None => write!(f, "{}/{}", self.channel, self.user),
        }
    }
}

/// Which people: `cli/*`, `slack/T0123/*`, `slack/T0123/U0456`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern {
    channel: Part,
    team: Option<Part>,
    user: Part,
}

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    Is(String),
}

/// The text is no [`Pattern`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` names nobody: write channel/user, or channel/team/user where the channel has teams; `*` stands for any one part"
)]
pub struct BadPattern(String);

impl Pattern {
    /// Everybody in a channel without teams.
    pub fn any_user(channel: &str) -> Self {
        Self { channel: Part::Is(channel.to_owned()), team: None, user: Part::Any }
    }

    /// Everybody in every team of a channel.
    pub fn any_team_user(channel: &str) -> Self {
        Self { team: Some(Part::Any), ..Self::any_user(channel) }
    }

    /// A pattern without a team fits nobody who has one, and the other way round.
    fn fits(&self, principal: &Principal) -> bool {
        let team = match (&self.team, principal.team()) {
            (None, None) => true,
            (Some(part), Some(team)) => part.fits(team),
            _ => false,
        };
        team && self.channel.fits(principal.channel().as_str()) && self.user.fits(principal.user())
    }
}

impl Part {
    fn new(text: &str) -> Self {
        if text == "*" { Self::Any } else { Self::Is(text.to_owned()) }
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Is(word) => word == text,
        }
    }
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let parts: Vec<&str> = text.split('/').collect();
        let clean = parts.iter().all(|part| is_plain(part) && (*part == "*" || !part.contains('*')));
        match parts.as_slice() {
            [channel, user] if clean => Ok(Self { channel: Part::new(channel), team: None, user: Part::new(user) }),
            [channel, team, user] if clean => {
                Ok(Self { channel: Part::new(channel), team: Some(Part::new(team)), user: Part::new(user) })
            }
            _ => Err(BadPattern(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = BadPattern;

    fn try_from(text: String) -> Result<Self, BadPattern> {
        text.parse()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Is(word) => f.write_str(word),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.team {
            Some(team) => write!(f, "{}/{team}/{}", self.channel, self.user),
            None => write!(f, "{}/{}", self.channel, self.user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(text: &str) -> Principal {
        let parts: Vec<&str> = text.split('/').collect();
        let (team, user) = if parts.len() == 3 { (Some(parts[1].into()), parts[2]) } else { (None, parts[1]) };
        Principal::new(parts[0].parse().unwrap(), team, user.into()).unwrap()
    }

    #[test]
    fn a_pattern_fits_part_by_part() {
        for (pattern, who, fits) in [
            ("cli/*", "cli/ann", true),
            ("cli/*", "slack/T1/ann", false),
            ("cli/ann", "cli/anna", false),
            ("slack/*/*", "slack/T1/U1", true),
            ("slack/T1/*", "slack/T2/U1", false),
            ("slack/*", "slack/T1/U1", false),
            ("*/*", "slack/T1/U1", false),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().fits(&person(who)), fits, "{pattern} and {who}");
        }
        for bad in ["", "cli", "cli/", "/x", "a/b/c/d", "cli/an*"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn roles_of_all_fitting_entries_add_up() {
        let users = [("cli/*", "member"), ("cli/ann", "owner"), ("cli/bob", "guest")]
            .map(|(who, role)| UserRoles { who: who.parse().unwrap(), roles: [role.parse().unwrap()].into() });
        let roles: Vec<String> = person("cli/ann").roles(&users).iter().map(ToString::to_string).collect();
        assert_eq!(roles, ["member", "owner"]);
        assert!(person("slack/T1/U1").roles(&users).is_empty());
    }

    #[test]
    fn an_id_that_could_be_read_as_somebody_else_is_refused() {
        let cli: Name = "cli".parse().unwrap();
        assert_eq!(Principal::new(cli.clone(), None, "T1/U1".into()), Err(AmbiguousId("user")));
        assert_eq!(Principal::new(cli.clone(), Some(String::new()), "u".into()), Err(AmbiguousId("team")));
        assert!(Principal::new(cli.clone(), None, "a\nb".into()).is_err());
        assert!(Principal::new(cli, None, "x".repeat(MAX_ID + 1)).is_err());
    }
}
