//! From a verdict to what is said and what is recorded; pure, so that ids and times come in as arguments.

use jiff::Timestamp;
use proto::audit::{Fact, Scope};
use proto::canonical::digest_of_json;
use proto::content::{Content, ContentMode, Salt};
use proto::keys::SigningKey;
use proto::permit::{Permit, PermitClaims};
use proto::policy::{Action, Decision, Outcome, Question};
use proto::tool::Taint;
use proto::{Component, Family, Name};
use serde_json::Value;
use uuid::Uuid;

use crate::decide::Verdict;
use crate::principal::Principal;
use crate::ruleset::RuleSet;
use crate::vocabulary::ActionKind;

/// Who acts in the record of a question whose origin is not genuine. It is no principal: those contain a `/`.
const UNVERIFIED: &str = "unverified";

/// Longest reason in characters. A denial may quote what a model wrote, and a record is bounded.
const MAX_REASON: usize = 2000;

/// A question that a verdict was found for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) question: Question,
    /// Who asks.
    pub(crate) caller: Component,
    /// On whose behalf, if the origin is genuine.
    pub(crate) principal: Option<Principal>,
    /// How much of the arguments goes into the record.
    pub(crate) content: ContentMode,
    /// When.
    pub(crate) now: Timestamp,
}

/// Ids that must exist before the answer does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    /// Of the record, and so of the decision.
    pub(crate) decision: Uuid,
    /// Of the permit, if there will be one.
    pub(crate) permit: Uuid,
    /// Under which the record describes the arguments.
    pub(crate) salt: Salt,
}

/// What to record, and what to say once that is done.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) scope: Scope,
    pub(crate) fact: Fact,
    pub(crate) decision: Decision,
}

/// Carries a verdict out: makes the permit of an allowed tool call, the record and the decision.
pub(crate) fn answer(
    rules: &RuleSet,
    key: &SigningKey,
    asked: Asked,
    mut verdict: Verdict,
    ids: Ids,
    micros: u64,
) -> Answer {
    if let Some((end, _)) = verdict.reason.char_indices().nth(MAX_REASON) {
        verdict.reason.truncate(end);
    }
    let permit = match permit(rules, key, &asked, &verdict, ids) {
        Ok(permit) => permit,
        Err(reason) => return refuse(rules, asked, reason, ids, micros),
    };
    let scope = scope(&asked);
    let fact = fact(rules, &asked, &verdict, (ids, permit.is_some()), micros);
    Answer { scope, fact, decision: decision(asked.question.action, verdict, ids.decision, permit) }
}

/// A call that was allowed but cannot be permitted is denied, and recorded as that.
fn refuse(rules: &RuleSet, asked: Asked, reason: String, ids: Ids, micros: u64) -> Answer {
    tracing::error!(reason, "an allowed call could not be permitted");
    let verdict = Verdict::deny(reason);
    let (scope, fact) = (scope(&asked), fact(rules, &asked, &verdict, (ids, false), micros));
    Answer { scope, fact, decision: decision(asked.question.action, verdict, ids.decision, None) }
}

/// The permit of an allowed tool call; nothing else has one.
fn permit(
    rules: &RuleSet,
    key: &SigningKey,
    asked: &Asked,
    verdict: &Verdict,
    ids: Ids,
) -> Result<Option<(Permit, Family)>, String> {
    let (Outcome::Allow, Action::CallTool { call, tool, arguments }) = (verdict.outcome, &asked.question.action) else {
        return Ok(None);
    };
    let family = rules.family_of(tool).ok_or_else(|| format!("there is no tool `{tool}`"))?;
    let sub = asked.principal.as_ref().map(ToString::to_string).ok_or("there is no principal to permit it to")?;
    let claims = PermitClaims {
        jti: ids.permit,
        iss: String::new(),
        aud: tool.clone(),
        sub,
        family,
        session: asked.question.session.clone(),
        turn: asked.question.turn,
        call: call.clone(),
        args: digest_of_json(arguments).map_err(|error| error.to_string())?,
        salt: ids.salt,
        decision: ids.decision,
        policy_set: rules.digest().to_owned(),
        iat: 0,
        exp: 0,
    };
    let permit = claims.issued(asked.now).sign(key).map_err(|error| error.to_string())?;
    Ok(Some((permit, family)))
}

fn scope(asked: &Asked) -> Scope {
    let principal = asked.principal.as_ref();
    Scope {
        session: Some(asked.question.session.clone()),
        turn: Some(asked.question.turn),
        principal: Some(principal.map_or_else(|| UNVERIFIED.to_owned(), ToString::to_string)),
        channel: principal.map(|principal| principal.channel().to_string()),
    }
}

fn fact(rules: &RuleSet, asked: &Asked, verdict: &Verdict, (ids, permitted): (Ids, bool), micros: u64) -> Fact {
    let action = &asked.question.action;
    let tool = tool_call(action);
    Fact::PolicyDecided {
        action: ActionKind::of(action).as_str().to_owned(),
        resource: resource(asked),
        outcome: verdict.outcome,
        policies: verdict.policies.clone(),
        reason: verdict.reason.clone(),
        caller: asked.caller,
        policy_set: rules.digest().to_owned(),
        permit: permitted.then_some(ids.permit),
        call: tool.map(|(call, _)| call.to_owned()),
        arguments: tool.map(|(_, arguments)| Content::of_json_salted(arguments, asked.content, ids.salt)),
        taint: asked.question.taint.iter().map(|taint: &Taint| taint.as_str().to_owned()).collect(),
        micros,
    }
}

fn tool_call(action: &Action) -> Option<(&str, &Value)> {
    match action {
        Action::CallTool { call, arguments, .. } => Some((call, arguments)),
        Action::ReceiveMessage | Action::CallModel { .. } => None,
    }
}

fn resource(asked: &Asked) -> String {
    match &asked.question.action {
        Action::ReceiveMessage => {
            let channel = asked.principal.as_ref().map(Principal::channel);
            channel.map_or_else(|| UNVERIFIED.to_owned(), Name::to_string)
        }
        Action::CallModel { model } => model.to_string(),
        Action::CallTool { tool, .. } => tool.to_string(),
    }
}

fn decision(action: Action, verdict: Verdict, id: Uuid, permit: Option<(Permit, Family)>) -> Decision {
    let Verdict { outcome, reason, policies } = verdict;
    match (outcome, action, permit) {
        (Outcome::Allow, Action::CallTool { tool, arguments, .. }, Some((permit, family))) => {
            Decision::allow_tool(id, policies, permit, tool, family, arguments)
        }
        (Outcome::Allow, Action::ReceiveMessage | Action::CallModel { .. }, None) => {
            Decision::Allow { id, policies, call: None }
        }
        (Outcome::Ask, _, _) => Decision::Ask { id, prompt: reason, policies },
        (Outcome::Deny | Outcome::Allow, _, _) => Decision::Deny { id, reason, policies },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;
    use crate::source::{Sources, ToolSource};

    const NOW: &str = "2026-11-20T10:00:00Z";

    fn rules() -> RuleSet {
        let manifest = json!({"name": "clock", "family": "wasm", "description": "d",
            "parameters": {"properties": {"zone": {"type": "string"}}}});
        let tool = ToolSource { folder: "clock".into(), path: "clock".into(), text: Ok(manifest.to_string()) };
        let policy = "@id(\"all\") permit(principal, action, resource);".to_owned();
        let sources = Sources { policies: [("a.cedar".to_owned(), policy)].into(), tools: vec![tool] };
        RuleSet::build(&sources, &Config::default()).unwrap()
    }

    fn asked(action: Action, principal: Option<Principal>) -> Asked {
        let origin = serde_json::from_value(json!("not.a.token")).unwrap();
        let question = Question {
            v: 1,
            origin,
            session: "s1".into(),
            turn: Uuid::from_u128(9),
            taint: [Taint::Untrusted].into(),
            action,
        };
        let content = ContentMode::Redacted;
        Asked { question, caller: Component::Gateway, principal, content, now: NOW.parse().unwrap() }
    }

    fn call() -> Action {
        Action::CallTool { call: "c1".into(), tool: "clock".parse().unwrap(), arguments: json!({"zone": "UTC"}) }
    }

    fn ann() -> Option<Principal> {
        Principal::new("cli".parse().unwrap(), None, "ann".into()).ok()
    }

    fn verdict(outcome: Outcome) -> Verdict {
        Verdict { outcome, reason: "because".into(), policies: vec!["all".into()] }
    }

    fn carried_out(asked: Asked, verdict: Verdict) -> Answer {
        let ids = Ids { decision: Uuid::from_u128(1), permit: Uuid::from_u128(2), salt: Salt::random() };
        answer(&rules(), &SigningKey::from_seed([1; 32]), asked, verdict, ids, 7)
    }

    #[test]
    fn an_allowed_tool_call_carries_a_permit_for_exactly_what_was_judged() {
        let answer = carried_out(asked(call(), ann()), verdict(Outcome::Allow));
        let Decision::Allow { call: Some(call), .. } = answer.decision else { panic!("{:?}", answer.decision) };
        let key = SigningKey::from_seed([1; 32]).public();
        let now = NOW.parse().unwrap();
        let claims = call.permit().verify(&key, call.family(), call.tool(), call.arguments(), now).unwrap();
        assert_eq!((claims.sub.as_str(), claims.session.as_str(), claims.call.as_str()), ("cli/ann", "s1", "c1"));
        assert_eq!((claims.jti, claims.decision), (Uuid::from_u128(2), Uuid::from_u128(1)));
        assert_eq!(claims.policy_set, rules().digest());
        let Fact::PolicyDecided { permit, arguments, taint, .. } = answer.fact else { panic!("another fact") };
        // The record describes them under the permit's salt, so that the run does under the same digest.
        let described = claims.salt.digest(&proto::canonical::canonical(call.arguments()).unwrap());
        assert_eq!((permit, arguments.unwrap().digest), (Some(claims.jti), described));
        assert_eq!(taint, ["untrusted"]);
    }

    #[test]
    fn whatever_is_not_allowed_has_no_permit() {
        for outcome in [Outcome::Deny, Outcome::Ask] {
            let answer = carried_out(asked(call(), ann()), verdict(outcome));
            assert!(!serde_json::to_string(&answer.decision).unwrap().contains("permit\""));
            assert!(matches!(answer.fact, Fact::PolicyDecided { permit: None, .. }));
        }
        let answer = carried_out(asked(Action::ReceiveMessage, ann()), verdict(Outcome::Allow));
        assert!(matches!(answer.decision, Decision::Allow { call: None, .. }));
    }

    #[test]
    fn an_allowed_call_without_a_principal_or_a_known_tool_is_denied_after_all() {
        let unknown = Action::CallTool { call: "c".into(), tool: "x".parse().unwrap(), arguments: json!({}) };
        for asked in [asked(call(), None), asked(unknown, ann())] {
            let answer = carried_out(asked, verdict(Outcome::Allow));
            assert!(matches!(answer.decision, Decision::Deny { .. }), "{:?}", answer.decision);
            assert!(matches!(answer.fact, Fact::PolicyDecided { outcome: Outcome::Deny, permit: None, .. }));
        }
    }

    #[test]
    fn a_reason_that_quotes_the_model_stays_short() {
        let answer = carried_out(asked(call(), ann()), Verdict::deny("ä".repeat(100_000)));
        let Decision::Deny { reason, .. } = answer.decision else { panic!("{:?}", answer.decision) };
        assert_eq!(reason.chars().count(), MAX_REASON);
    }

    #[test]
    fn a_question_without_a_genuine_origin_is_recorded_as_unverified() {
        let answer = carried_out(asked(Action::ReceiveMessage, None), Verdict::deny("forged"));
        assert_eq!(answer.scope.principal.as_deref(), Some("unverified"));
        assert_eq!(answer.scope.channel, None);
        let Fact::PolicyDecided { reason, resource, .. } = answer.fact else { panic!("another fact") };
        assert_eq!((reason.as_str(), resource.as_str()), ("forged", "unverified"));
    }
}
