//! The configuration as a whole: built-in models and providers with the user's own, checked once, everything wrong reported together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proto::Name;
use serde_json::{Map, Value};
use url::{Host, Url};

use crate::config::{Config, ModelConfig, ProviderConfig, ProviderKind};
use crate::wire::Wire;
use crate::{anthropic, openai};

/// The built-in providers with a key file each, in the order in which they become the default.
const BUILT_IN: [(&str, ProviderKind, &str); 2] =
    [("openai", ProviderKind::OpenAi, "gpt-5.4-mini"), ("anthropic", ProviderKind::Anthropic, "claude-sonnet-4-6")];

/// The model that needs nothing, and its provider.
const DEMO: (&str, &str) = ("demo", "offline");

/// Body fields that the codec owns; `extra` may not change what a request is.
const OWN_FIELDS: [&str; 6] = ["model", "messages", "system", "tools", "stream", "stream_options"];

/// Every model that could be asked, in order of preference, whether its key is there or not.
#[derive(Debug)]
pub struct Plan {
    /// The configured default.
    pub default: Option<Name>,
    /// The models.
    pub models: Vec<PlannedModel>,
}

/// A model and where it is.
#[derive(Debug)]
pub struct PlannedModel {
    /// Its name here.
    pub name: Name,
    /// Its provider's name.
    pub provider: Name,
    /// What the provider calls it.
    pub id: String,
    /// More fields for the request's body.
    pub extra: Map<String, Value>,
    /// How to ask it.
    pub route: Route,
}

/// How to ask a model.
#[derive(Debug, Clone)]
pub enum Route {
    /// Inside this service.
    Offline,
    /// Over HTTP.
    Http {
        /// The provider's wire.
        wire: Wire,
        /// The address that is posted to.
        url: Url,
        /// Where its key is, if it needs one.
        key_file: Option<PathBuf>,
    },
}

/// What is wrong with a configuration, all of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", .0.join("; "))]
pub struct BadConfig(Vec<String>);

impl Plan {
    /// Checks a configuration.
    ///
    /// # Errors
    /// [`BadConfig`] with everything that is wrong.
    pub fn new(config: &Config) -> Result<Self, BadConfig> {
        let mut wrong = Vec::new();
        let providers = providers(config, &mut wrong);
        let mut models: Vec<PlannedModel> = Vec::new();
        for model in config.models.iter().cloned().chain(built_in_models()) {
            let built_in = models.len() >= config.models.len();
            if models.iter().any(|known| known.name == model.name) {
                if !built_in {
                    wrong.push(format!("two models are called `{}`", model.name));
                }
                continue;
            }
            match plan(model, &providers) {
                Ok(planned) => models.push(planned),
                Err(why) => wrong.push(why),
            }
        }
        check_default(config.default_model.as_ref(), &models, &mut wrong);
        let default = config.default_model.clone();
        if wrong.is_empty() { Ok(Self { default, models }) } else { Err(BadConfig(wrong)) }
    }

    /// All key files.
    pub fn key_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.models.iter().filter_map(|model| match &model.route {
            Route::Http { key_file, .. } => key_file.as_ref(),
            Route::Offline => None,
        })
    }
}

fn check_default(default: Option<&Name>, models: &[PlannedModel], wrong: &mut Vec<String>) {
    if let Some(name) = default.filter(|name| models.iter().all(|model| model.name != **name)) {
        wrong.push(format!("default_model is `{name}`, but no model has that name"));
    }
}

fn built_in_models() -> impl Iterator<Item = ModelConfig> {
    let demo = (DEMO.0, DEMO.1, DEMO.0);
    let model = |(name, provider, id): (&str, &str, &str)| {
        let (name, provider) = (name.parse().ok()?, provider.parse().ok()?);
        Some(ModelConfig { name, provider, id: id.to_owned(), extra: Map::new() })
    };
    BUILT_IN.map(|(name, _, id)| (name, name, id)).into_iter().chain([demo]).filter_map(model)
}

/// Built-in providers, replaced and joined by the user's own.
fn providers(config: &Config, wrong: &mut Vec<String>) -> BTreeMap<Name, Route> {
    let mut providers = BTreeMap::new();
    for provider in built_in_providers(&config.secrets) {
        if let Ok(route) = route(&provider) {
            providers.insert(provider.name, route);
        }
    }
    let mut own = Vec::new();
    for provider in &config.providers {
        if own.contains(&&provider.name) {
            wrong.push(format!("two providers are called `{}`", provider.name));
        }
        own.push(&provider.name);
        match route(provider) {
            Ok(route) => drop(providers.insert(provider.name.clone(), route)),
            Err(why) => wrong.push(format!("provider `{}`: {why}", provider.name)),
        }
    }
    providers
}

fn built_in_providers(secrets: &Path) -> impl Iterator<Item = ProviderConfig> {
    let secret = |name: &str| secrets.join(format!("{name}-api-key"));
    let keyed = BUILT_IN.map(|(name, kind, _)| (name, kind, Some(secret(name))));
    keyed.into_iter().chain([(DEMO.1, ProviderKind::Offline, None)]).filter_map(|(name, kind, key_file)| {
        let name = name.parse().ok()?;
        Some(ProviderConfig { name, kind, base_url: None, key_file, key_in_clear: false })
    })
}

fn route(provider: &ProviderConfig) -> Result<Route, String> {
    let (own, path) = match provider.kind {
        ProviderKind::OpenAi => (openai::BASE_URL, "/chat/completions"),
        ProviderKind::Anthropic => (anthropic::BASE_URL, "/v1/messages"),
        ProviderKind::Offline if provider.base_url.is_some() || provider.key_file.is_some() => {
            return Err("an offline provider has neither base_url nor key_file".to_owned());
        }
        ProviderKind::Offline => return Ok(Route::Offline),
    };
    let base = provider.base_url.as_ref().map_or(own, Url::as_str).trim_end_matches('/');
    let wire = match provider.kind {
        ProviderKind::Anthropic => Wire::Anthropic,
        _ if base == openai::BASE_URL => Wire::OpenAi(openai::Dialect::OpenAi),
        _ => Wire::OpenAi(openai::Dialect::Compatible),
    };
    let url = Url::parse(&format!("{base}{path}")).map_err(|error| format!("base_url: {error}"))?;
    check_url(&url, provider)?;
    Ok(Route::Http { wire, url, key_file: provider.key_file.clone() })
}

fn check_url(url: &Url, provider: &ProviderConfig) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || !url.username().is_empty() {
        return Err("base_url must be http:// or https:// without user, password or query".to_owned());
    }
    let in_clear = url.scheme() == "http" && provider.key_file.is_some() && !is_loopback(url);
    if in_clear && !provider.key_in_clear {
        return Err("its key would cross the network in clear: use https://, or say key_in_clear = true".to_owned());
    }
    Ok(())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn plan(model: ModelConfig, providers: &BTreeMap<Name, Route>) -> Result<PlannedModel, String> {
    let ModelConfig { name, provider, id, extra } = model;
    let Some(route) = providers.get(&provider).cloned() else {
        return Err(format!("model `{name}`: no provider is called `{provider}`"));
    };
    if let Some(field) = OWN_FIELDS.iter().find(|field| extra.contains_key(**field)) {
        return Err(format!("model `{name}`: extra may not set `{field}`"));
    }
    Ok(PlannedModel { name, provider, id, extra, route })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Plan, BadConfig> {
        let (_, config): (_, Config) = bus::config::parse(text).unwrap();
        Plan::new(&config)
    }

    fn names(plan: &Plan) -> String {
        plan.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_users_models_come_before_the_built_in_ones() {
        assert_eq!(names(&plan("").unwrap()), "openai anthropic demo");
        let own = "[[models]]\nname = 'mine'\nprovider = 'openai'\nid = 'x'\n";
        assert_eq!(names(&plan(own).unwrap()), "mine openai anthropic demo");
        let other = "[[models]]\nname = 'openai'\nprovider = 'openai'\nid = 'other'\n";
        let plan = plan(other).unwrap();
        assert_eq!((names(&plan).as_str(), plan.models[0].id.as_str()), ("openai anthropic demo", "other"));
    }

    #[test]
    fn addresses_are_made_from_the_base_url() {
        let text = "[[providers]]\nname = 'a'\nkind = 'openai'\nbase_url = 'http://ollama:11434/v1/'\n\
                    [[models]]\nname = 'm'\nprovider = 'a'\nid = 'x'\n";
        let url = |plan: &Plan, at: usize| match &plan.models[at].route {
            Route::Http { url, wire, .. } => format!("{wire:?} {url}"),
            Route::Offline => "offline".to_owned(),
        };
        let plan = plan(text).unwrap();
        assert_eq!(url(&plan, 0), "OpenAi(Compatible) http://ollama:11434/v1/chat/completions");
        assert_eq!(url(&plan, 1), "OpenAi(OpenAi) https://api.openai.com/v1/chat/completions");
        assert_eq!(url(&plan, 2), "Anthropic https://api.anthropic.com/v1/messages");
        assert_eq!(url(&plan, 3), "offline");
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let text = "default_model = 'none'\n\
                    [[providers]]\nname = 'a'\nkind = 'openai'\nbase_url = 'http://10.0.0.1/v1'\nkey_file = '/k'\n\
                    [[providers]]\nname = 'b'\nkind = 'offline'\nkey_file = '/k'\n\
                    [[providers]]\nname = 'c'\nkind = 'openai'\nbase_url = 'ftp://x/v1'\n\
                    [[models]]\nname = 'x'\nprovider = 'nowhere'\nid = 'x'\n\
                    [[models]]\nname = 'y'\nprovider = 'openai'\nid = 'x'\nextra = { stream = false }\n\
                    [[models]]\nname = 'z'\nprovider = 'openai'\nid = 'x'\n\
                    [[models]]\nname = 'z'\nprovider = 'openai'\nid = 'x'\n";
        let error = plan(text).unwrap_err().to_string();
        for part in
            ["`none`", "in clear", "offline provider", "http:// or https://", "`nowhere`", "`stream`", "called `z`"]
        {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }

    #[test]
    fn a_key_in_clear_has_to_be_said() {
        let text = |more: &str, host: &str| {
            format!(
                "[[providers]]\nname = 'a'\nkind = 'openai'\nbase_url = 'http://{host}/v1'\nkey_file = '/k'\n{more}"
            )
        };
        assert!(plan(&text("", "vllm:8000")).is_err());
        assert!(plan(&text("key_in_clear = true", "vllm:8000")).is_ok());
        assert!(plan(&text("", "127.0.0.1:8000")).is_ok());
        assert!(plan(&text("", "localhost")).is_ok());
    }
}
