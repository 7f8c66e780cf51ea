//! The models that can be asked right now: the plan together with the keys that are there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use proto::admin::Condition;
use proto::{Name, Refusal, RefusalCode};
use secrecy::SecretString;
use serde_json::{Map, Value};
use url::Url;

use crate::keys::{Key, Keys};
use crate::plan::{Plan, PlannedModel, Route};
use crate::wire::Wire;

/// A model that can be asked.
#[derive(Debug)]
pub struct Model {
    /// Its name here.
    pub name: Name,
    /// Its provider's name.
    pub provider: Name,
    /// What the provider calls it.
    pub id: String,
    /// More fields for the request's body.
    pub extra: Map<String, Value>,
    /// Who answers.
    pub backend: Backend,
}

/// Who answers.
#[derive(Debug)]
pub enum Backend {
    /// The demo model inside this service.
    Offline,
    /// A provider.
    Http(Endpoint),
}

/// A provider's address, wire and key.
#[derive(Debug)]
pub struct Endpoint {
    /// The wire.
    pub wire: Wire,
    /// The address that is posted to.
    pub url: Url,
    /// The key, if one is needed.
    pub key: Option<SecretString>,
}

/// All models, with those that lack their key.
#[derive(Debug)]
pub struct Catalogue {
    default: Option<Name>,
    models: BTreeMap<Name, Result<Arc<Model>, MissingKey>>,
}

/// Why a model cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key file {file} {why}")]
pub struct MissingKey {
    file: String,
    why: String,
    /// True if a file is there and wrong, which somebody has to see.
    wrong: bool,
}

impl Catalogue {
    /// What can be asked with these keys. The default is the configured model, or else the first that has its key.
    pub fn new(plan: &Plan, keys: &Keys) -> Self {
        let ready: Vec<_> = plan.models.iter().map(|planned| (planned.name.clone(), model(planned, keys))).collect();
        let first = || ready.iter().find(|(_, model)| model.is_ok()).map(|(name, _)| name.clone());
        let default = plan.default.clone().or_else(first);
        Self { default, models: ready.into_iter().collect() }
    }

    /// The model of that name, or the default.
    ///
    /// # Errors
    /// A refusal that names the models there are, or says what the model lacks.
    pub fn resolve(&self, name: Option<&Name>) -> Result<Arc<Model>, Refusal> {
        let wanted = name.or(self.default.as_ref());
        let Some((name, model)) = wanted.and_then(|wanted| self.models.get_key_value(wanted)) else {
            let known = self.ready().collect::<Vec<_>>().join("`, `");
            let wanted = wanted.map_or("", Name::as_str);
            let reason = format!("no model is called `{wanted}`; there are `{known}`");
            return Err(Refusal::new(RefusalCode::NotFound, reason));
        };
        model.clone().map_err(|missing| {
            let reason =
                format!("the model `{name}` cannot be asked: {missing} (docs/models.md tells how to connect one)");
            Refusal::new(RefusalCode::Unavailable, reason)
        })
    }

    /// Names of the models that can be asked.
    pub fn ready(&self) -> impl Iterator<Item = &str> {
        self.models.iter().filter(|(_, model)| model.is_ok()).map(|(name, _)| name.as_str())
    }

    /// For `nachos status` and `nachos doctor`: what is asked by default, and what is wrong.
    pub fn condition(&self) -> Condition {
        let default = self.default.as_ref().map_or("none", Name::as_str);
        let default_ready = self.resolve(None).is_ok();
        let ready = self.ready().collect::<Vec<_>>().join(", ");
        let broken = self.models.values().filter_map(|model| model.as_ref().err()).find(|missing| missing.wrong);
        let detail = match (broken, default_ready) {
            (Some(missing), _) => missing.to_string(),
            (None, false) => format!("the default model `{default}` has no key"),
            (None, true) => format!("default `{default}`; available: {ready}"),
        };
        let ok = broken.is_none() && default_ready;
        Condition { name: "models".to_owned(), ok, detail, hint: self.hint(ok) }
    }

    fn hint(&self, ok: bool) -> Option<String> {
        let demo = self.resolve(None).is_ok_and(|model| matches!(model.backend, Backend::Offline));
        let store = "`./nachos secret set llm-proxy openai-api-key` (or anthropic-api-key)";
        match (ok, demo) {
            (false, _) => Some(format!("store the key again: {store}")),
            (true, true) => Some(format!("the demo model answers; connect a real one: {store}")),
            (true, false) => None,
        }
    }
}

fn model(planned: &PlannedModel, keys: &Keys) -> Result<Arc<Model>, MissingKey> {
    let backend = match &planned.route {
        Route::Offline => Backend::Offline,
        Route::Http { wire, url, key_file } => {
            let key = key_file.as_ref().map(|file| key(file, keys)).transpose()?;
            Backend::Http(Endpoint { wire: *wire, url: url.clone(), key })
        }
    };
    let (name, provider) = (planned.name.clone(), planned.provider.clone());
    Ok(Arc::new(Model { name, provider, id: planned.id.clone(), extra: planned.extra.clone(), backend }))
}

fn key(file: &PathBuf, keys: &Keys) -> Result<SecretString, MissingKey> {
    let missing = |why: &str, wrong| MissingKey { file: file.display().to_string(), why: why.to_owned(), wrong };
    match keys.get(file) {
        Some(Key::Present(key)) => Ok(key.clone()),
        Some(Key::Absent) | None => Err(missing("is not there", false)),
        Some(Key::Unusable(why)) => Err(missing(&format!("is not usable: {why}"), true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn catalogue(text: &str, present: &[(&str, Key)]) -> Catalogue {
        let (_, config): (_, Config) = bus::config::parse(text).unwrap();
        let keys = present.iter().map(|(file, key)| (PathBuf::from(file), key.clone())).collect();
        Catalogue::new(&Plan::new(&config).unwrap(), &keys)
    }

    fn default(catalogue: &Catalogue) -> String {
        catalogue.resolve(None).unwrap().name.to_string()
    }

    const OPENAI: &str = "/run/secrets/openai-api-key";
    const ANTHROPIC: &str = "/run/secrets/anthropic-api-key";

    #[test]
    fn a_stored_key_makes_its_model_the_default() {
        let present = || Key::Present("sk-x".into());
        assert_eq!(default(&catalogue("", &[])), "demo");
        assert_eq!(default(&catalogue("", &[(ANTHROPIC, present())])), "anthropic");
        assert_eq!(default(&catalogue("", &[(OPENAI, present()), (ANTHROPIC, present())])), "openai");
        assert_eq!(default(&catalogue("default_model = 'demo'", &[(OPENAI, present())])), "demo");
    }

    #[test]
    fn a_model_without_its_key_says_what_it_lacks() {
        let refusal = catalogue("", &[]).resolve(Some(&"openai".parse().unwrap())).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Unavailable);
        assert!(refusal.reason.contains(OPENAI) && refusal.reason.contains("docs/models.md"), "{refusal}");
    }

    #[test]
    fn an_unknown_model_is_answered_with_the_known_ones() {
        let refusal = catalogue("", &[]).resolve(Some(&"gpt".parse().unwrap())).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (RefusalCode::NotFound, "no model is called `gpt`; there are `demo`")
        );
    }

    #[test]
    fn an_unusable_key_shows_in_the_condition() {
        let well = catalogue("", &[]).condition();
        assert!(well.ok && well.detail.contains("default `demo`"), "{well:?}");
        let ill = catalogue("", &[(OPENAI, Key::Unusable("it is empty".into()))]).condition();
        assert!(!ill.ok && ill.detail.contains("it is empty"), "{ill:?}");
        let ill = catalogue("default_model = 'openai'", &[]).condition();
        assert!(!ill.ok && ill.detail.contains("no key"), "{ill:?}");
    }
}
