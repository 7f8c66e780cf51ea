//! The tools that policy knows, from their manifests: their effects are what policies go by.

use std::collections::BTreeMap;

use cedar_policy::{Entity, RestrictedExpression};
use proto::Name;
use proto::canonical::canonical;
use proto::tool::{Manifest, RefusedTool};
use serde_json::Value;

use crate::source::ToolSource;
use crate::vocabulary::Vocabulary;

/// Longest name of an argument, and what it may consist of: what model providers accept, and nothing that means something in a Cedar
/// schema.
const MAX_ARGUMENT_NAME: usize = 64;

/// The usable tools and the others.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    /// By name.
    pub(crate) usable: BTreeMap<Name, Manifest>,
    /// Those that policy does not know and therefore denies.
    pub(crate) refused: Vec<RefusedTool>,
}

impl Tools {
    /// Reads the manifests. Of two tools with one name the first counts, so that a user's tool cannot take the place of a built-in one.
    pub(crate) fn of(sources: &[ToolSource]) -> Self {
        let mut tools = Self::default();
        for source in sources {
            match manifest(source) {
                Ok(manifest) if tools.usable.contains_key(&manifest.name) => {
                    tools.refuse(source, "another tool has this name: give it another one".to_owned());
                }
                Ok(manifest) => {
                    tools.usable.insert(manifest.name.clone(), manifest);
                }
                Err(reason) => tools.refuse(source, reason),
            }
        }
        tools
    }

    fn refuse(&mut self, source: &ToolSource, reason: String) {
        self.refused.push(RefusedTool { name: source.folder.clone(), reason: format!("{}: {reason}", source.path) });
    }
}

fn manifest(source: &ToolSource) -> Result<Manifest, String> {
    let text = source.text.as_ref().map_err(Clone::clone)?;
    let manifest: Manifest = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if manifest.name.as_str() != source.folder {
        return Err(format!("the name `{}` is not the folder's: make them the same", manifest.name));
    }
    let whole: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    canonical(&whole).map_err(|error| error.to_string())?;
    let properties = manifest.parameters.get("properties").and_then(Value::as_object);
    match properties.into_iter().flatten().find(|(name, _)| !is_argument_name(name)) {
        Some((name, _)) => Err(format!(
            "`{name}` cannot be an argument's name: use up to {MAX_ARGUMENT_NAME} of A-Z, a-z, 0-9, `_`, `-` and `.`"
        )),
        None => Ok(manifest),
    }
}

fn is_argument_name(name: &str) -> bool {
    (1..=MAX_ARGUMENT_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// The tool as policies see it.
pub(crate) fn entity(words: &Vocabulary, manifest: &Manifest) -> anyhow::Result<Entity> {
    let effects = manifest.effects;
    let flags = [
        ("reads_untrusted", effects.reads_untrusted),
        ("reads_private", effects.reads_private),
        ("sends_outside", effects.sends_outside),
        ("read_only", effects.read_only),
        ("idempotent", effects.idempotent),
    ];
    let flags = flags.map(|(name, truth)| (name.to_owned(), RestrictedExpression::new_bool(truth)));
    let family = RestrictedExpression::new_string(manifest.family.as_str().to_owned());
    let attributes = flags.into_iter().chain([("family".to_owned(), family)]).collect();
    Ok(Entity::new(words.tool(&manifest.name), attributes, Default::default())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(folder: &str, text: &str) -> ToolSource {
        ToolSource { folder: folder.into(), path: format!("/t/{folder}/manifest.json"), text: Ok(text.into()) }
    }

    #[test]
    fn a_bad_manifest_is_refused_with_its_reason_and_the_others_go_on() {
        let good = r#"{"name":"ok","family":"wasm","description":"d","parameters":{"properties":{"a":{}}}}"#;
        let bad_name = good.replace("\"a\"", "\"a b\"").replace("ok", "spaced");
        let missing =
            ToolSource { folder: "gone".into(), path: "/t/gone/manifest.json".into(), text: Err("no file".into()) };
        let sources = [
            source("ok", good),
            source("other", good),
            source("broken", "{"),
            source("spaced", &bad_name),
            missing,
            source("ok", good),
        ];
        let tools = Tools::of(&sources);
        assert_eq!(tools.usable.keys().map(Name::as_str).collect::<Vec<_>>(), ["ok"]);
        let reasons: Vec<_> = tools.refused.iter().map(|tool| tool.reason.as_str()).collect();
        for (reason, part) in reasons.iter().zip(["not the folder's", "EOF", "`a b`", "no file", "another tool"]) {
            assert!(reason.contains(part), "{reason}");
        }
        assert_eq!(reasons.len(), 5);
    }

    #[test]
    fn a_manifest_without_effects_is_taken_for_the_worst() {
        let text = r#"{"name":"ok","family":"wasm","description":"d","parameters":{}}"#;
        let tools = Tools::of(&[source("ok", text)]);
        let entity = entity(&Vocabulary::new().unwrap(), tools.usable.values().next().unwrap()).unwrap();
        assert_eq!(entity.attr("sends_outside").unwrap().unwrap().to_string(), "true");
        assert_eq!(entity.attr("read_only").unwrap().unwrap().to_string(), "false");
    }
}
