//! The conversation with the bus: verify who asks on whose behalf, decide, sign, record, and only then answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use bus::{Bus, Call};
use jiff::Timestamp;
use proto::keys::{PublicKey, SigningKey};
use proto::policy::{Action, Decision, Explain, Explanation, Permissible, PermissibleTools, Question};
use proto::{Component, Name, Refusal, RefusalCode};
use uuid::Uuid;

use crate::answer::{Asked, Ids, answer};
use crate::decide::{Case, Verdict, decide, permissible};
use crate::principal::Principal;
use crate::ruleset::RuleSet;
use crate::vocabulary::Circumstances;

/// Longest session or call id that is taken, in characters. Both stand in every record of the turn, and a record is bounded.
const MAX_ID: usize = 256;

/// What stands in a dry run's context for the session.
const DRY_RUN: &str = "dry-run";

/// What every call needs.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) bus: Bus,
    /// What is in force; [`crate::watch`] replaces it.
    pub(crate) rules: Arc<ArcSwap<RuleSet>>,
    /// The key that signs permits.
    pub(crate) permits: Arc<SigningKey>,
    /// The keys that sign origins, by channel.
    pub(crate) channels: Arc<BTreeMap<Name, PublicKey>>,
}

impl Service {
    /// May this happen?
    pub(crate) async fn check(self, call: Call<Question>) -> Result<Decision, Refusal> {
        let caller = vouched(call.caller)?;
        bounded(&call.body)?;
        let started = Instant::now();
        let now = Timestamp::now();
        let rules = self.rules.load_full();
        let (verdict, principal) = self.judge(&rules, &call.body, caller, now);
        let asked = Asked { question: call.body, caller, principal, content: self.bus.content_mode(), now };
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let ids = Ids { decision: Uuid::now_v7(), permit: Uuid::now_v7() };
        let answer = answer(&rules, &self.permits, asked, verdict, ids, micros);
        let recorded = self.bus.record_as(ids.decision, Some(call.trace), answer.scope, answer.fact).await;
        match recorded {
            Ok(()) => Ok(answer.decision),
            Err(error) => Err(unrecorded(&error)),
        }
    }

    /// The verdict, and the principal if there is a verified one.
    fn judge(
        &self,
        rules: &RuleSet,
        question: &Question,
        caller: Component,
        now: Timestamp,
    ) -> (Verdict, Option<Principal>) {
        let principal = match self.principal(&question.origin, now) {
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
        let circumstances = Circumstances { session: &question.session, taint: &question.taint, now };
        let verdict = decide(rules, &Case { principal: &principal, action: &question.action, circumstances });
        (verdict, Some(principal))
    }

    /// The author of a genuine origin, or why it is none.
    fn principal(&self, origin: &proto::channel::SignedOrigin, now: Timestamp) -> Result<Principal, String> {
        let origin = origin.verify(&self.channels, now).map_err(|error| error.to_string())?;
        Principal::of_origin(&origin).map_err(|error| error.to_string())
    }

    /// Which tools could this person be permitted?
    pub(crate) async fn permissible(self, call: Call<PermissibleTools>) -> Result<Permissible, Refusal> {
        let now = Timestamp::now();
        let body = call.body;
        let principal =
            self.principal(&body.origin, now).map_err(|reason| Refusal::new(RefusalCode::Unauthorized, reason))?;
        let circumstances = Circumstances { session: &body.session, taint: &body.taint, now };
        Ok(Permissible { tools: permissible(&self.rules.load(), &principal, &circumstances) })
    }

    /// What would be decided?
    pub(crate) async fn explain(self, call: Call<Explain>) -> Result<Explanation, Refusal> {
        let body = call.body;
        let rules = self.rules.load();
        let principal = Principal::new(body.channel, body.team, body.user)
            .map_err(|error| Refusal::new(RefusalCode::Invalid, error))?;
        let circumstances = Circumstances { session: DRY_RUN, taint: &body.taint, now: Timestamp::now() };
        let verdict = decide(&rules, &Case { principal: &principal, action: &body.action, circumstances });
        let roles: Vec<_> = principal.roles(&rules.users).iter().map(|role| format!("`{role}`")).collect();
        let roles = if roles.is_empty() { "no role".to_owned() } else { roles.join(", ") };
        Ok(Explanation {
            outcome: verdict.outcome,
            reason: format!("{} ({principal} has {roles})", verdict.reason),
            policies: rules.texts(&verdict.policies),
            policy_set: rules.digest().to_owned(),
        })
    }
}

/// The caller's name comes from the subject, where the server lets nobody put another one's.
fn vouched(caller: Option<Component>) -> Result<Component, Refusal> {
    caller.ok_or_else(|| Refusal::new(RefusalCode::Unauthorized, "the question does not say who asks"))
}

fn bounded(question: &Question) -> Result<(), Refusal> {
    let call = match &question.action {
        Action::CallTool { call, .. } => call.as_str(),
        Action::ReceiveMessage | Action::CallModel { .. } => "",
    };
    let fits = |id: &str| id.chars().count() <= MAX_ID;
    if fits(&question.session) && fits(call) {
        Ok(())
    } else {
        Err(Refusal::new(RefusalCode::Invalid, format!("session and call ids have at most {MAX_ID} characters")))
    }
}

/// Only the gateway runs tools: a permit in anybody else's hands is of no good use.
fn out_of_place(caller: Component, action: &Action) -> Option<String> {
    let tool = matches!(action, Action::CallTool { .. });
    (tool && caller != Component::Gateway).then(|| format!("{caller} has no business with tools"))
}

/// Fail closed: a decision that nobody can read afterwards was not made.
fn unrecorded(error: &bus::PublishError) -> Refusal {
    tracing::error!(error = error as &dyn std::error::Error, "a decision could not be recorded and was withheld");
    let reason = "the audit log cannot take records, and nothing is decided without one: run `nachos doctor`";
    Refusal::new(RefusalCode::Unavailable, reason)
}
