//! The settings of this service: where policies, tools and keys are, and which roles people have.

use std::collections::BTreeSet;
use std::path::PathBuf;

use proto::Name;
use serde::Deserialize;

use crate::principal::Pattern;

/// Settings of `policy`. An empty file means the defaults, which suit `compose.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the policies: every `*.cedar` file in it counts, and changes are taken within seconds.
    pub policies: PathBuf,
    /// Folders of tools, each with `<tool>/manifest.json`; where two hold a tool of one name, the first one counts.
    pub tools: Vec<PathBuf>,
    /// The private key that signs permits (PKCS#8 PEM).
    pub permit_key: PathBuf,
    /// The channels' public keys: a JSON object from channel to key.
    pub origins: PathBuf,
    /// Every role there is. A policy that names another one is refused, so that a misspelt role is found when the policy is loaded
    /// and not when it fails to protect.
    pub roles: BTreeSet<Name>,
    /// Who has which roles. Roles come from here and from nowhere else.
    pub users: Vec<UserRoles>,
}

/// One entry of `[[users]]`: everybody who fits `who` has `roles`. Several entries add up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRoles {
    /// `channel/user`, or `channel/team/user` where the channel has teams; `*` stands for any one part.
    pub who: Pattern,
    /// Some of `roles`.
    pub roles: BTreeSet<Name>,
}

/// What can be wrong with the settings beyond their form.
#[derive(Debug, thiserror::Error)]
#[error("[[users]] gives {who} the role `{role}`, which is not in `roles`: add it there or correct it")]
pub struct UndeclaredRole {
    who: Pattern,
    role: Name,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policies: "/etc/nachos/policies".into(),
            tools: vec!["/etc/nachos/tools/builtin".into(), "/etc/nachos/tools/user".into()],
            permit_key: "/keys/permit.key".into(),
            origins: "/keys/origins.json".into(),
            roles: names(&["owner", "member"]),
            users: vec![
                UserRoles { who: Pattern::any_user("cli"), roles: names(&["owner"]) },
                UserRoles { who: Pattern::any_team_user("slack"), roles: names(&["member"]) },
            ],
        }
    }
}

/// Names from words that are known to be names.
fn names(words: &[&str]) -> BTreeSet<Name> {
    words.iter().filter_map(|word| word.parse().ok()).collect()
}

impl Config {
    /// Checks that every role given to somebody is declared.
    ///
    /// # Errors
    /// [`UndeclaredRole`], the first one.
    pub fn check(&self) -> Result<(), UndeclaredRole> {
        let given = self.users.iter().flat_map(|user| user.roles.iter().map(move |role| (user, role)));
        match given.into_iter().find(|(_, role)| !self.roles.contains(*role)) {
            Some((user, role)) => Err(UndeclaredRole { who: user.who.clone(), role: role.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_nobody_declared_is_found_at_the_start() {
        let mut config = Config::default();
        assert!(config.check().is_ok());
        config.roles = names(&["owner"]);
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("slack/*/*") && error.contains("`member`"), "{error}");
    }
}
