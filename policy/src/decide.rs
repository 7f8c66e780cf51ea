//! The decision: a pure function of the policy set, the person, the action and the circumstances. No clock, no bus, no files.
//!
//! Whatever goes wrong on the way ends in a denial that says so: an unknown tool, an argument that does not fit, a policy that cannot be
//! evaluated (Cedar itself would skip that policy, and a skipped `forbid` protects nobody).

use std::collections::BTreeSet;

use cedar_policy::{Context, Decision, Effect, Entities, Entity, PolicySet, Request, Response, RestrictedExpression};
use proto::Name;
use proto::policy::{Action, Outcome};

use crate::principal::Principal;
use crate::ruleset::RuleSet;
use crate::vocabulary::{ActionKind, Circumstances};

/// What is to be decided.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// What.
    pub action: &'a Action,
    /// Where and when.
    pub circumstances: Circumstances<'a>,
}

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Allow, deny or ask.
    pub outcome: Outcome,
    /// Why, for a person; of [`Outcome::Ask`] the question.
    pub reason: String,
    /// The deciding policies; empty when nothing allowed it.
    pub policies: Vec<String>,
}

impl Verdict {
    /// A denial that no policy made.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::Deny, reason: reason.into(), policies: Vec::new() }
    }
}

/// May this happen?
pub fn decide(rules: &RuleSet, case: &Case<'_>) -> Verdict {
    match prepare(rules, case) {
        Ok(prepared) => prepared.judge(rules, case),
        Err(reason) => Verdict::deny(reason),
    }
}

/// The tools that are not denied to this person whatever the arguments and the time: those that Cedar, with both unknown, does not
/// rule out.
pub fn permissible(rules: &RuleSet, principal: &Principal, circumstances: &Circumstances<'_>) -> BTreeSet<Name> {
    let possible = |tool: &&Name| possible(rules, principal, circumstances, tool).unwrap_or(false);
    rules.tools.keys().filter(possible).cloned().collect()
}

/// A request in Cedar's form.
struct Prepared {
    kind: ActionKind,
    request: Request,
    entities: Entities,
}

fn prepare(rules: &RuleSet, case: &Case<'_>) -> Result<Prepared, String> {
    let arguments = arguments(rules, case.action)?;
    let context = case.circumstances.context(arguments).map_err(unfit)?;
    request(rules, case.principal, case.action, context, true).map_err(unfit)
}

fn unfit(error: anyhow::Error) -> String {
    format!("the question does not fit the policy schema: {error:#}")
}

/// The arguments of a tool call; other actions have none.
fn arguments(rules: &RuleSet, action: &Action) -> Result<Option<RestrictedExpression>, String> {
    match action {
        Action::CallTool { tool, arguments, .. } => rules.arguments.express(tool, arguments).map(Some),
        Action::ReceiveMessage | Action::CallModel { .. } => Ok(None),
    }
}

/// `typed` checks the request against the schema, which cannot be done while something in it is unknown.
fn request(
    rules: &RuleSet,
    principal: &Principal,
    action: &Action,
    context: Context,
    typed: bool,
) -> anyhow::Result<Prepared> {
    let kind = ActionKind::of(action);
    let user = rules.words.user(principal, &principal.roles(&rules.users))?;
    let resource = rules.words.resource(principal, action);
    let schema = typed.then_some(&rules.schema);
    let request = Request::new(user.uid(), rules.words.action(kind), resource.clone(), context, schema)?;
    let known = match action {
        Action::CallTool { tool, .. } => rules.tools.get(tool).map(|tool| tool.entity.clone()),
        Action::ReceiveMessage | Action::CallModel { .. } => None,
    };
    let resource = known.unwrap_or_else(|| Entity::new_no_attrs(resource, Default::default()));
    // Tools were checked against the schema when they were loaded, and a user is what `Vocabulary` makes: checking both again in every
    // call would be most of its cost.
    let entities = Entities::from_entities([user, resource], None)?;
    Ok(Prepared { kind, request, entities })
}

impl Prepared {
    fn judge(&self, rules: &RuleSet, case: &Case<'_>) -> Verdict {
        let Some(of_action) = rules.of_action(self.kind) else {
            return Verdict::deny("no policies are loaded for this action");
        };
        let response = self.ask_cedar(rules, &of_action.all);
        if let Some(denial) = broken(&response) {
            return denial;
        }
        let policies = determining(&response);
        if response.decision() == Decision::Allow {
            let reason = format!("allowed by {}", policies.join(", "));
            return Verdict { outcome: Outcome::Allow, reason, policies };
        }
        let (asking, forbidding): (Vec<String>, Vec<String>) =
            policies.into_iter().partition(|id| rules.rule(id).is_some_and(|rule| rule.ask().is_some()));
        if !forbidding.is_empty() {
            return forbidden(rules, forbidding);
        }
        // A human can lift what asks, but cannot allow what no policy allows.
        let lifted = !asking.is_empty() && self.ask_cedar(rules, &of_action.unasked).decision() == Decision::Allow;
        if lifted { asked(rules, asking) } else { Verdict::deny(nothing_allows(case)) }
    }

    fn ask_cedar(&self, rules: &RuleSet, set: &PolicySet) -> Response {
        rules.authorizer.is_authorized(&self.request, set, &self.entities)
    }
}

/// The deciding policies by name, in a fixed order.
fn determining(response: &Response) -> Vec<String> {
    let ids: BTreeSet<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    ids.into_iter().collect()
}

fn broken(response: &Response) -> Option<Verdict> {
    let errors: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
    (!errors.is_empty()).then(|| {
        Verdict::deny(format!("a policy could not be evaluated, so nothing is allowed: {}", errors.join("; ")))
    })
}

fn forbidden(rules: &RuleSet, policies: Vec<String>) -> Verdict {
    let reason = words(&policies, |id| {
        let own = rules.rule(id).and_then(|rule| rule.reason());
        own.map_or_else(|| format!("the policy `{id}` forbids it"), ToOwned::to_owned)
    });
    Verdict { outcome: Outcome::Deny, reason, policies }
}

fn asked(rules: &RuleSet, policies: Vec<String>) -> Verdict {
    let prompt = words(&policies, |id| rules.rule(id).and_then(|rule| rule.ask()).unwrap_or_default().to_owned());
    Verdict { outcome: Outcome::Ask, reason: prompt, policies }
}

/// The words of all policies, each said once.
fn words(policies: &[String], of: impl Fn(&String) -> String) -> String {
    let mut said: Vec<String> = Vec::new();
    for text in policies.iter().map(of) {
        if !said.contains(&text) {
            said.push(text);
        }
    }
    said.join(" ")
}

fn nothing_allows(case: &Case<'_>) -> String {
    let what = match case.action {
        Action::ReceiveMessage => "to talk to this agent".to_owned(),
        Action::CallModel { model } => format!("to use the model `{model}`"),
        Action::CallTool { tool, .. } => format!("to call the tool `{tool}`"),
    };
    format!(
        "no policy allows {} {what}: whoever runs this installation can permit it in policy/policies (docs/policy.md says how)",
        case.principal
    )
}

/// Whether some arguments could lead to allow or ask.
fn possible(
    rules: &RuleSet,
    principal: &Principal,
    circumstances: &Circumstances<'_>,
    tool: &Name,
) -> anyhow::Result<bool> {
    let action = Action::CallTool { call: String::new(), tool: tool.clone(), arguments: serde_json::Value::Null };
    let prepared = request(rules, principal, &action, circumstances.open_context()?, false)?;
    let Some(of_action) = rules.of_action(prepared.kind) else {
        return Ok(false);
    };
    let response = rules.authorizer.is_authorized_partial(&prepared.request, &of_action.all, &prepared.entities);
    let asks = |id: &str| rules.rule(id).is_some_and(|rule| rule.ask().is_some());
    let satisfied: Vec<_> = response.definitely_satisfied().collect();
    let forbidden = satisfied.iter().any(|p| p.effect() == Effect::Forbid && !asks(p.id().as_ref()));
    let broken = response.definitely_errored().next().is_some();
    let permits = |effect: Effect| effect == Effect::Permit;
    let permitted =
        satisfied.iter().any(|p| permits(p.effect())) || response.nontrivial_residuals().any(|p| permits(p.effect()));
    Ok(permitted && !forbidden && !broken)
}

#[cfg(test)]
mod tests;
