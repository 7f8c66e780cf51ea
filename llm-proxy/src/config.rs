//! The settings of `llm-proxy`: which models there are, who provides them, and how long anything may take.

use std::path::PathBuf;

use proto::Name;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

/// The settings. An empty file is a working demo: one offline model, and OpenAI's and Anthropic's as soon as their keys are stored.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The model of requests that name none. Absent: the first of `models` whose key is there, then `openai`, `anthropic`, `demo`.
    pub default_model: Option<Name>,
    /// Folder with the key files of the built-in providers: `openai-api-key`, `anthropic-api-key`.
    pub secrets: PathBuf,
    /// More certificate authorities to trust, a PEM file: for a company's own proxy or model server.
    pub ca_bundle: Option<PathBuf>,
    /// Longest time for one request, retries included.
    pub deadline_ms: u64,
    /// Longest wait for the first piece of an answer. Callers give up after 150 s of silence and would not learn why.
    pub first_output_ms: u64,
    /// Longest silence of a provider in the middle of an answer.
    pub idle_ms: u64,
    /// Models beside the built-in ones.
    pub models: Vec<ModelConfig>,
    /// Providers beside the built-in `openai`, `anthropic` and `offline`; one of these names replaces the built-in one.
    pub providers: Vec<ProviderConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_model: None,
            secrets: "/run/secrets".into(),
            ca_bundle: None,
            deadline_ms: 600_000,
            first_output_ms: 140_000,
            idle_ms: 120_000,
            models: Vec::new(),
            providers: Vec::new(),
        }
    }
}

/// A model under the name that policies, requests and records use.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Its name here.
    pub name: Name,
    /// The provider's name.
    pub provider: Name,
    /// What the provider calls it.
    pub id: String,
    /// More fields for the request's body, as the provider documents them: `temperature`, `reasoning_effort`, `thinking`, …
    #[serde(default)]
    pub extra: Map<String, Value>,
}

/// A place where models are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Its name here.
    pub name: Name,
    /// The wire that it speaks.
    pub kind: ProviderKind,
    /// Where it is, up to and without `/chat/completions` or `/v1/messages`. Absent: OpenAI's or Anthropic's own.
    #[serde(default)]
    pub base_url: Option<Url>,
    /// File with the API key. Absent: no key is sent.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Send the key over `http://` to another machine all the same.
    #[serde(default)]
    pub key_in_clear: bool,
}

/// The wires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// OpenAI Chat Completions, by whatever server.
    OpenAi,
    /// Anthropic Messages, by whatever server.
    Anthropic,
    /// The demo model inside this service.
    Offline,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        bus::config::parse(text).map(|(_, config)| config)
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config.secrets, PathBuf::from("/run/secrets"));
        assert!(config.models.is_empty() && config.default_model.is_none());
    }

    #[test]
    fn unknown_keys_are_refused_at_every_level() {
        for text in [
            "defaultmodel = 'x'",
            "[[models]]\nname = 'a'\nprovider = 'openai'\nid = 'x'\ntemperature = 1",
            "[[providers]]\nname = 'a'\nkind = 'openai'\nurl = 'https://x'",
            "[[providers]]\nname = 'a'\nkind = 'gemini'",
            "[[models]]\nname = 'Not A Name'\nprovider = 'openai'\nid = 'x'",
            "[[providers]]\nname = 'a'\nkind = 'openai'\nbase_url = 'not a url'",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_local_server_takes_five_lines() {
        let config = parse(
            "[[providers]]\nname = 'ollama'\nkind = 'openai'\nbase_url = 'http://ollama:11434/v1'\n\
             [[models]]\nname = 'qwen'\nprovider = 'ollama'\nid = 'qwen3:8b'\nextra = { temperature = 0.2 }\n",
        )
        .unwrap();
        assert_eq!(config.models[0].extra["temperature"], 0.2);
        assert_eq!(config.providers[0].kind, ProviderKind::OpenAi);
    }
}
