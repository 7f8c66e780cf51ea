//! Policies from text: each with its id and place, and checked before the set as a whole is.

use std::collections::BTreeMap;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Effect, Policy, PolicyId, PolicySet};
use proto::policy::PolicyText;

use crate::problem::Problem;

/// The annotations that mean something here. Another one is refused, because a misspelt `@ask` would silently lose its meaning.
const ANNOTATIONS: [&str; 3] = ["id", "ask", "reason"];

/// One policy and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// With its `@id` as Cedar's id.
    pub(crate) policy: Policy,
    /// Its `@id`, file and text.
    pub(crate) shown: PolicyText,
    /// Where in its file the policy starts, to name lines.
    offset: usize,
}

impl Rule {
    /// The question to a human, if this policy asks instead of forbidding.
    pub(crate) fn ask(&self) -> Option<&str> {
        self.policy.annotation("ask")
    }

    /// The words for a denial.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.policy.annotation("reason")
    }

    /// A problem with this policy, at its place.
    pub(crate) fn problem(&self, file_text: &str, message: impl std::fmt::Display) -> Problem {
        Problem::at(&self.shown.file, file_text, self.offset, message)
    }
}

/// Parses all files; every policy gets its `@id` as id.
pub(crate) fn parse(files: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> BTreeMap<String, Rule> {
    let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
    for (file, text) in files {
        for rule in parse_file(file, text, problems) {
            let id = rule.shown.id.clone();
            match rules.get(&id) {
                Some(first) => problems.push(rule.problem(
                    text,
                    format!("there is another policy with @id(\"{id}\") in {}: give each its own", first.shown.file),
                )),
                None => {
                    rules.insert(id, rule);
                }
            }
        }
    }
    rules
}

fn parse_file(file: &str, text: &str, problems: &mut Vec<Problem>) -> Vec<Rule> {
    let set: PolicySet = match text.parse() {
        Ok(set) => set,
        Err(errors) => {
            let errors: &cedar_policy::ParseErrors = &errors;
            problems.extend(errors.iter().map(|e| Problem::of_cedar(file, text, &DetailedError::from(e))));
            return Vec::new();
        }
    };
    if set.num_of_templates() > 0 {
        problems.push(Problem::with(file, "templates (?principal, ?resource) are not supported: write the policy out"));
    }
    let mut policies: Vec<(usize, Policy)> =
        set.policies().map(|policy| (offset_of(text, policy), policy.clone())).collect();
    policies.sort_by_key(|(offset, _)| *offset);
    policies.into_iter().filter_map(|(offset, policy)| rule(file, text, offset, policy, problems)).collect()
}

/// Where the policy starts in its file. Cedar keeps each policy's own text; of two identical ones the second is a duplicate anyhow.
fn offset_of(text: &str, policy: &Policy) -> usize {
    policy.to_cedar().and_then(|own| text.find(&own)).unwrap_or_default()
}

fn rule(file: &str, text: &str, offset: usize, policy: Policy, problems: &mut Vec<Problem>) -> Option<Rule> {
    let wrong = flaws(&policy);
    problems.extend(wrong.iter().map(|message| Problem::at(file, text, offset, message)));
    let id = policy.annotation("id").filter(|_| wrong.is_empty())?.to_owned();
    let shown = PolicyText { id: id.clone(), file: file.to_owned(), text: policy.to_cedar().unwrap_or_default() };
    Some(Rule { policy: policy.new_id(PolicyId::new(id)), shown, offset })
}

/// What is wrong with one policy on its own.
fn flaws(policy: &Policy) -> Vec<String> {
    let mut flaws = Vec::new();
    if policy.annotation("id").is_none_or(|id| id.trim().is_empty()) {
        flaws.push("this policy has no name: put @id(\"a-short-name\") in front of it".to_owned());
    }
    for (name, text) in policy.annotations() {
        if !ANNOTATIONS.contains(&name) {
            flaws.push(format!("@{name} means nothing here: only @id, @ask and @reason do"));
        } else if text.trim().is_empty() && name != "id" {
            flaws.push(format!("@{name} is empty: say it in words, @{name}(\"…\")"));
        }
    }
    if policy.effect() == Effect::Permit && policy.annotation("ask").is_some() {
        flaws.push("@ask belongs to a forbid policy: it asks a human before it forbids".to_owned());
    }
    flaws
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        let mut problems = Vec::new();
        parse(&[("x.cedar".to_owned(), text.to_owned())].into(), &mut problems);
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_wrong_with_a_policy_is_said_with_file_and_line() {
        for (text, expected) in [
            ("\n\npermit(principal, action, resource);", "x.cedar:3: this policy has no name"),
            ("@id(\"a\")\npermit(principal, action, resource", "x.cedar:2: "),
            ("@id(\"a\") @aks(\"?\")\nforbid(principal, action, resource);", "x.cedar:1: @aks means nothing"),
            ("@id(\"a\") @ask(\"?\")\npermit(principal, action, resource);", "@ask belongs to a forbid"),
            ("@id(\"a\") @reason(\" \")\nforbid(principal, action, resource);", "@reason is empty"),
            ("@id(\"a\")\npermit(principal == ?principal, action, resource);", "templates"),
            (
                "@id(\"a\")\npermit(principal, action, resource);\n@id(\"a\")\nforbid(principal, action, resource);",
                "x.cedar:3: there is another policy with @id(\"a\")",
            ),
        ] {
            let found = problems(text);
            assert!(found.contains(expected), "{text}\n{found}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once_and_good_policies_keep_their_text() {
        let text = "permit(principal, action, resource);\npermit(principal, action, resource) when { true };";
        assert_eq!(problems(text).lines().count(), 2);
        let good = "// why\n@id(\"a\")\nforbid(principal, action, resource); // after\n";
        let mut none = Vec::new();
        let rules = parse(&[("x.cedar".to_owned(), good.to_owned())].into(), &mut none);
        assert_eq!(rules["a"].shown.text, "@id(\"a\")\nforbid(principal, action, resource);");
        assert!(none.is_empty());
    }
}
