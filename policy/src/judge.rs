//! Everything between a question and its answer that needs no bus: whose origin is genuine, what is decided, what is signed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use proto::channel::SignedOrigin;
use proto::content::ContentMode;
use proto::keys::{PublicKey, SigningKey};
use proto::policy::{Action, Explain, Explanation, Permissible, PermissibleTools, Question};
use proto::{Component, Name};

use crate::answer::{Answer, Asked, Ids, answer};
use crate::decide::{Case, Verdict, decide, permissible};
use crate::principal::{AmbiguousId, Principal};
use crate::ruleset::RuleSet;
use crate::vocabulary::Circumstances;

/// What stands in a dry run's context for the session.
const DRY_RUN: &str = "dry-run";

/// The policy set in force and the keys.
#[derive(Debug)]
pub(crate) struct Judge {
    /// What is in force; [`crate::watch`] replaces it.
    pub(crate) rules: ArcSwap<RuleSet>,
    /// The key that signs permits.
    pub(crate) permits: SigningKey,
    /// The keys that sign origins, by channel.
    pub(crate) channels: BTreeMap<Name, PublicKey>,
}

/// When and for whom a question is heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hearing {
    pub(crate) caller: Component,
    /// How much of arguments goes into the record.
    pub(crate) content: ContentMode,
    pub(crate) now: Timestamp,
    /// For the record's figure of how long it took.
    pub(crate) started: Instant,
    pub(crate) ids: Ids,
}

impl Judge {
    /// What to record and what to answer.
    pub(crate) fn check(&self, question: Question, hearing: &Hearing) -> Answer {
        let rules = self.rules.load();
        let (verdict, principal) = self.verdict(&rules, &question, hearing);
        let asked = Asked { question, caller: hearing.caller, principal, content: hearing.content, now: hearing.now };
        let micros = u64::try_from(hearing.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        answer(&rules, &self.permits, asked, verdict, hearing.ids, micros)
    }

    /// The verdict, and the principal if there is a verified one.
    fn verdict(&self, rules: &Arc<RuleSet>, question: &Question, hearing: &Hearing) -> (Verdict, Option<Principal>) {
        let caller = hearing.caller;
        let principal = match self.principal(&question.origin, hearing.now) {
            Ok(principal) => principal,
            Err(reason) => {
                tracing::warn!(%caller, reason, session = question.session, "a question without a genuine origin");
                return (Verdict::deny(reason), None);
            }
        };
        if let Some(reason) = out_of_place(caller, &question.action) {
            tracing::warn!(%caller, reason, "a question that its caller has no use for");
            return (Verdict::deny(reason), Some(principal));
        }
        let circumstances = Circumstances { session: &question.session, taint: &question.taint, now: hearing.now };
        let verdict = decide(rules, &Case { principal: &principal, action: &question.action, circumstances });
        (verdict, Some(principal))
    }

    /// The author of a genuine origin, or why it is none.
    fn principal(&self, origin: &SignedOrigin, now: Timestamp) -> Result<Principal, String> {
        let origin = origin.verify(&self.channels, now).map_err(|error| error.to_string())?;
        Principal::of_origin(&origin).map_err(|error| error.to_string())
    }

    /// Which tools could this person be permitted?
    pub(crate) fn permissible(&self, asked: &PermissibleTools, now: Timestamp) -> Result<Permissible, String> {
        let principal = self.principal(&asked.origin, now)?;
        let circumstances = Circumstances { session: &asked.session, taint: &asked.taint, now };
        Ok(Permissible { tools: permissible(&self.rules.load(), &principal, &circumstances) })
    }

    /// What would be decided? It takes the person at the caller's word.
    pub(crate) fn explain(&self, asked: Explain, now: Timestamp) -> Result<Explanation, AmbiguousId> {
        let rules = self.rules.load();
        let principal = Principal::new(asked.channel, asked.team, asked.user)?;
        let circumstances = Circumstances { session: DRY_RUN, taint: &asked.taint, now };
        let verdict = decide(&rules, &Case { principal: &principal, action: &asked.action, circumstances });
        Ok(Explanation {
            outcome: verdict.outcome,
            reason: format!("{} ({principal} has {})", verdict.reason, roles(&rules, &principal)),
            policies: rules.texts(&verdict.policies),
            policy_set: rules.digest().to_owned(),
        })
    }
}

fn roles(rules: &RuleSet, principal: &Principal) -> String {
    let roles: Vec<_> = principal.roles(&rules.users).iter().map(|role| format!("`{role}`")).collect();
    match roles.len() {
        0 => "no role".to_owned(),
        1 => format!("the role {}", roles.concat()),
        _ => format!("the roles {}", roles.join(", ")),
    }
}

/// Only the gateway runs tools: a permit in anybody else's hands is of no good use.
fn out_of_place(caller: Component, action: &Action) -> Option<String> {
    let tool = matches!(action, Action::CallTool { .. });
    (tool && caller != Component::Gateway).then(|| format!("{caller} has no business with tools"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use jiff::SignedDuration;
    use proto::channel::Origin;
    use proto::policy::{Decision, Outcome};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::config::Config;
    use crate::source::Sources;

    const NOW: &str = "2026-11-20T10:00:00Z";

    fn key(channel: &str) -> SigningKey {
        SigningKey::from_seed([channel.len() as u8; 32])
    }

    /// The shipped policies and tools; the channels `cli` and `slack`.
    fn judge() -> Judge {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let config =
            Config { policies: root.join("policies"), tools: vec![root.join("../tools/guests")], ..Config::default() };
        let rules = RuleSet::build(&Sources::read(&config).unwrap(), &config).unwrap();
        let channels = ["cli", "slack"].map(|channel| (channel.parse().unwrap(), key(channel).public()));
        Judge {
            rules: ArcSwap::from_pointee(rules),
            permits: SigningKey::from_seed([9; 32]),
            channels: channels.into(),
        }
    }

    fn origin(channel: &str, user: &str) -> Origin {
        Origin {
            channel: channel.parse().unwrap(),
            team: (channel == "slack").then(|| "T1".to_owned()),
            user: user.to_owned(),
            conversation: "c".into(),
            event: "e".into(),
            text_digest: "sha256:0".into(),
            at: NOW.parse().unwrap(),
        }
    }

    fn clock() -> Action {
        Action::CallTool { call: "c1".into(), tool: "clock".parse().unwrap(), arguments: json!({"zone": "UTC"}) }
    }

    fn ask(origin: SignedOrigin, caller: Component, later: SignedDuration) -> (String, Decision) {
        let question = Question {
            v: 1,
            origin,
            session: "s".into(),
            turn: Uuid::from_u128(1),
            taint: BTreeSet::new(),
            action: clock(),
        };
        let now = NOW.parse::<Timestamp>().unwrap() + later;
        let ids =
            Ids { decision: Uuid::from_u128(2), permit: Uuid::from_u128(3), salt: proto::content::Salt::random() };
        let content = ContentMode::Digest;
        let hearing = Hearing { caller, content, now, started: Instant::now(), ids };
        let answer = judge().check(question, &hearing);
        (answer.scope.principal.unwrap(), answer.decision)
    }

    /// Another user in a token that somebody else's signature stands under.
    fn altered(genuine: &SignedOrigin, with: &Origin) -> SignedOrigin {
        let payload = |origin: &SignedOrigin| {
            let text = serde_json::to_value(origin).unwrap();
            text.as_str().unwrap().split('.').map(str::to_owned).collect::<Vec<_>>()
        };
        let mut parts = payload(genuine);
        parts[1] = payload(&with.sign(&key("cli")).unwrap())[1].clone();
        serde_json::from_value(json!(parts.join("."))).unwrap()
    }

    #[test]
    fn a_genuine_origin_opens_and_no_other_does() {
        let genuine = origin("cli", "ann").sign(&key("cli")).unwrap();
        let (principal, decision) = ask(genuine.clone(), Component::Gateway, SignedDuration::ZERO);
        assert_eq!(principal, "cli/ann");
        assert!(matches!(decision, Decision::Allow { call: Some(_), .. }));

        let not_signed = "not signed by its channel";
        let unknown = "does not know";
        let zero = SignedDuration::ZERO;
        let forged = origin("cli", "ann").sign(&SigningKey::from_seed([77; 32])).unwrap();
        let of_other_channel = origin("cli", "ann").sign(&key("slack")).unwrap();
        let foreign = origin("irc", "ann").sign(&key("cli")).unwrap();
        let garbage = serde_json::from_value(json!("x.y")).unwrap();
        let ambiguous = origin("cli", "T1/U1").sign(&key("cli")).unwrap();
        for (what, origin, later, words) in [
            ("forged", forged, zero, not_signed),
            ("signed by another channel", of_other_channel, zero, not_signed),
            ("altered", altered(&genuine, &origin("cli", "bob")), zero, not_signed),
            ("foreign", foreign, zero, unknown),
            ("garbage", garbage, zero, unknown),
            ("expired", genuine.clone(), SignedDuration::from_mins(61), "too old"),
            ("from the future", genuine.clone(), SignedDuration::from_mins(-2), "from the future"),
            ("ambiguous", ambiguous, zero, "user id"),
        ] {
            let (principal, decision) = ask(origin, Component::Gateway, later);
            assert_eq!(principal, "unverified", "{what}");
            let Decision::Deny { reason, policies, .. } = decision else { panic!("{what}: {decision:?}") };
            assert!(reason.contains(words) && policies.is_empty(), "{what}: {reason}");
        }
    }

    #[test]
    fn only_the_gateway_gets_permits() {
        let genuine = origin("cli", "ann").sign(&key("cli")).unwrap();
        let (principal, decision) = ask(genuine, Component::LlmProxy, SignedDuration::ZERO);
        assert_eq!(principal, "cli/ann");
        let Decision::Deny { reason, .. } = decision else { panic!("{decision:?}") };
        assert_eq!(reason, "llm-proxy has no business with tools");
    }

    #[test]
    fn tools_are_offered_to_genuine_origins_only() {
        let now = NOW.parse().unwrap();
        let asked =
            |origin: SignedOrigin| PermissibleTools { v: 1, origin, session: "s".into(), taint: BTreeSet::new() };
        let genuine = asked(origin("slack", "U1").sign(&key("slack")).unwrap());
        assert!(judge().permissible(&genuine, now).unwrap().tools.contains(&"clock".parse().unwrap()));
        let forged = asked(origin("slack", "U1").sign(&key("cli")).unwrap());
        assert!(judge().permissible(&forged, now).is_err());
    }

    #[test]
    fn a_dry_run_shows_the_deciding_policies_and_the_roles() {
        let explain = |channel: &str, user: &str| Explain {
            v: 1,
            channel: channel.parse().unwrap(),
            team: None,
            user: user.into(),
            taint: BTreeSet::new(),
            action: clock(),
        };
        let allowed = judge().explain(explain("cli", "ann"), NOW.parse().unwrap()).unwrap();
        assert_eq!(allowed.outcome, Outcome::Allow);
        assert!(allowed.reason.ends_with("(cli/ann has the role `owner`)"), "{}", allowed.reason);
        let [policy] = allowed.policies.as_slice() else { panic!("{:?}", allowed.policies) };
        assert_eq!((policy.id.as_str(), policy.file.as_str()), ("owners-use-tools", "20-tools.cedar"));
        assert!(policy.text.starts_with("@id(\"owners-use-tools\")") && policy.text.ends_with(';'));
        let denied = judge().explain(explain("irc", "ann"), NOW.parse().unwrap()).unwrap();
        assert_eq!((denied.outcome, denied.policies.len()), (Outcome::Deny, 0));
        assert!(denied.reason.ends_with("(irc/ann has no role)"), "{}", denied.reason);
        assert!(judge().explain(explain("cli", "a/b"), NOW.parse().unwrap()).is_err());
    }
}
