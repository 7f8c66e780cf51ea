//! A policy set that is ready to decide: parsed, checked against the schema of this installation, and indexed by action.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    ActionConstraint, Authorizer, Entities, Entity, EntityUid, PolicySet, Schema, ValidationMode, ValidationWarning,
    Validator,
};
use proto::Name;
use proto::canonical::digest_of_json;
use proto::policy::PolicyText;
use proto::tool::{Manifest, RefusedTool};
use serde_json::json;

use crate::argument::ArgumentTypes;
use crate::config::{Config, UserRoles};
use crate::problem::{Problem, Problems};
use crate::rule::{self, Rule};
use crate::schema::schema;
use crate::source::Sources;
use crate::tool::{self, Tools};
use crate::vocabulary::{ActionKind, Vocabulary};

/// Everything that a decision depends on, except the question and the time.
#[derive(Debug)]
pub struct RuleSet {
    pub(crate) words: Vocabulary,
    pub(crate) schema: Schema,
    pub(crate) authorizer: Authorizer,
    pub(crate) arguments: ArgumentTypes,
    pub(crate) tools: BTreeMap<Name, Tool>,
    pub(crate) users: Vec<UserRoles>,
    rules: BTreeMap<String, Rule>,
    by_action: BTreeMap<ActionKind, ActionRules>,
    digest: String,
    refused: Vec<RefusedTool>,
    warnings: Vec<Problem>,
}

/// A tool that may be decided about.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) manifest: Manifest,
    pub(crate) entity: Entity,
}

/// The policies that can matter to one action: Cedar looks at every policy of a set, so fewer are faster.
#[derive(Debug, Default)]
pub(crate) struct ActionRules {
    /// All of them.
    pub(crate) all: PolicySet,
    /// Those without `@ask`: what holds once a human said yes.
    pub(crate) unasked: PolicySet,
}

impl RuleSet {
    /// Builds the set from the files.
    ///
    /// # Errors
    /// Everything that is wrong with the policies. A tool that is wrong is left out and told by [`Self::refused_tools`].
    pub fn build(sources: &Sources, config: &Config) -> Result<Self, Problems> {
        let tools = Tools::of(&sources.tools);
        let mut problems = Vec::new();
        let rules = rule::parse(&sources.policies, &mut problems);
        if rules.is_empty() && problems.is_empty() {
            let hint = "holds no policy (*.cedar), so nothing would be allowed: put the shipped ones back or write one";
            problems.push(Problem::with(config.policies.display(), hint));
        }
        let mut set = Self::unchecked(sources, config, tools, rules).map_err(internal)?;
        set.validate(sources, &mut problems);
        set.index().map_err(internal)?;
        if problems.is_empty() { Ok(set) } else { Err(Problems(problems)) }
    }

    /// All parts, neither validated nor indexed.
    fn unchecked(
        sources: &Sources,
        config: &Config,
        tools: Tools,
        rules: BTreeMap<String, Rule>,
    ) -> anyhow::Result<Self> {
        let words = Vocabulary::new()?;
        let arguments = ArgumentTypes::of(tools.usable.values());
        let digest = digest(sources, &tools, config)?;
        let known = |(name, manifest): (Name, Manifest)| -> anyhow::Result<(Name, Tool)> {
            let entity = tool::entity(&words, &manifest)?;
            Ok((name, Tool { manifest, entity }))
        };
        let usable = tools.usable.into_iter().map(known).collect::<anyhow::Result<_>>()?;
        Ok(Self {
            schema: schema(&config.roles, &arguments)?,
            tools: usable,
            words,
            authorizer: Authorizer::new(),
            arguments,
            users: config.users.clone(),
            rules,
            by_action: BTreeMap::new(),
            digest,
            refused: tools.refused,
            warnings: Vec::new(),
        })
    }

    /// `sha256:<hex>` over policies, tools, roles and users: two sets with one hash decide alike.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none; never, once built.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Tools that were left out.
    pub fn refused_tools(&self) -> &[RefusedTool] {
        &self.refused
    }

    /// What is not wrong but suspicious: policies that can never apply.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The family of a tool that is known.
    pub fn family_of(&self, tool: &Name) -> Option<proto::Family> {
        self.tools.get(tool).map(|tool| tool.manifest.family)
    }

    /// The texts of policies, to show.
    pub fn texts(&self, ids: &[String]) -> Vec<PolicyText> {
        ids.iter().filter_map(|id| self.rules.get(id)).map(|rule| rule.shown.clone()).collect()
    }

    pub(crate) fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.get(id)
    }

    pub(crate) fn of_action(&self, kind: ActionKind) -> Option<&ActionRules> {
        self.by_action.get(&kind)
    }

    fn validate(&mut self, sources: &Sources, problems: &mut Vec<Problem>) {
        let mut all = PolicySet::new();
        for rule in self.rules.values() {
            if let Err(error) = all.add(rule.policy.clone()) {
                problems.push(Problem::with(&rule.shown.file, error));
            }
        }
        let result = Validator::new(self.schema.clone()).validate(&all, ValidationMode::Strict);
        for error in result.validation_errors() {
            let problem = self.locate(error.policy_id(), sources, &DetailedError::from(error));
            problems.push(self.explain_conflict(problem));
        }
        for warning in result.validation_warnings() {
            let problem = self.locate(warning.policy_id(), sources, &DetailedError::from(warning));
            if is_harmless(warning) { self.warnings.push(problem) } else { problems.push(problem) }
        }
        self.warn_of_unknown_tools(sources);
    }

    fn locate(&self, id: impl AsRef<str>, sources: &Sources, error: &DetailedError) -> Problem {
        let file = self.rules.get(id.as_ref()).map(|rule| rule.shown.file.as_str()).unwrap_or_default();
        Problem::of_cedar(file, sources.policies.get(file).map(String::as_str).unwrap_or_default(), error)
    }

    /// A type error may come from a tool that was added later; then the policy's author looks in vain for their own mistake.
    fn explain_conflict(&self, mut problem: Problem) -> Problem {
        let conflicts = self.arguments.conflicts();
        if !conflicts.is_empty() {
            let names = conflicts.into_iter().collect::<Vec<_>>().join(", ");
            problem
                .message
                .push_str(&format!(" (tools disagree about the type of {names}, so policies see text there)"));
        }
        problem
    }

    /// A tool that is named but not installed is most likely misspelt. It is no error, because a broken manifest takes its tool away.
    fn warn_of_unknown_tools(&mut self, sources: &Sources) {
        let installed: BTreeSet<String> = self.tool_names(sources);
        for rule in self.rules.values() {
            let literals = rule.policy.entity_literals();
            let unknown = literals.iter().filter_map(|entity| self.words.tool_named(entity));
            for tool in unknown.filter(|tool| !installed.contains(*tool)) {
                let text = sources.policies.get(&rule.shown.file).map(String::as_str).unwrap_or_default();
                self.warnings
                    .push(rule.problem(text, format!("there is no tool `{tool}`: is it misspelt or not installed?")));
            }
        }
    }

    fn tool_names(&self, sources: &Sources) -> BTreeSet<String> {
        sources.tools.iter().map(|source| source.folder.clone()).collect()
    }

    fn index(&mut self) -> anyhow::Result<()> {
        Entities::from_entities(self.tools.values().map(|tool| tool.entity.clone()), Some(&self.schema))?;
        for kind in ActionKind::ALL {
            let mut rules = ActionRules::default();
            let action = self.words.action(kind);
            for rule in self.rules.values().filter(|rule| concerns(rule, &action)) {
                rules.all.add(rule.policy.clone())?;
                if rule.ask().is_none() {
                    rules.unasked.add(rule.policy.clone())?;
                }
            }
            self.by_action.insert(kind, rules);
        }
        Ok(())
    }
}

/// Whether a policy's scope can match the action. The schema has no action groups, so equality is all there is to `in`.
fn concerns(rule: &Rule, action: &EntityUid) -> bool {
    match rule.policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(one) => one == *action,
        ActionConstraint::In(some) => some.contains(action),
    }
}

/// A policy that never applies protects nothing, but allows nothing either, and it may wait for a tool that is not installed. Characters
/// that make a policy look like another one are refused.
fn is_harmless(warning: &ValidationWarning) -> bool {
    matches!(
        warning,
        ValidationWarning::ImpossiblePolicy(_)
            | ValidationWarning::InvalidActionApplication(_)
            | ValidationWarning::MixedScriptString(_)
    )
}

/// A fault that no file is to blame for.
fn internal(error: anyhow::Error) -> Problems {
    Problems(vec![Problem::with("policy set", format!("{error:#}"))])
}

fn digest(sources: &Sources, tools: &Tools, config: &Config) -> anyhow::Result<String> {
    let users: Vec<_> = config.users.iter().map(|user| json!([user.who.to_string(), user.roles])).collect();
    let tools = serde_json::to_value(&tools.usable)?;
    Ok(digest_of_json(&json!({"policies": sources.policies, "tools": tools, "roles": config.roles, "users": users}))?)
}
