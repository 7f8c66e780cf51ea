//! The wires that we speak, behind one face: how a request is written, sent and its answer read.

use proto::llm::{ModelChunk, ModelRequest};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use crate::error::{Class, Failure};
use crate::{anthropic, openai};

/// A provider's wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// OpenAI Chat Completions.
    OpenAi(openai::Dialect),
    /// Anthropic Messages.
    Anthropic,
}

/// Reads one answer of either wire.
#[derive(Debug)]
pub enum Decoder {
    /// OpenAI Chat Completions.
    OpenAi(openai::Decoder),
    /// Anthropic Messages.
    Anthropic(anthropic::Decoder),
}

impl Wire {
    /// The request's body for the provider's model `id`.
    pub fn body(self, request: &ModelRequest, id: &str, extra: &Map<String, Value>) -> Value {
        match self {
            Self::OpenAi(dialect) => openai::to_provider(request, id, dialect, extra),
            Self::Anthropic => anthropic::to_provider(request, id, extra),
        }
    }

    /// The headers that this wire wants, the key among them, marked so that no log shows it.
    ///
    /// # Errors
    /// [`Failure`] when the key fits no header.
    pub fn headers(self, key: Option<&SecretString>) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        if self == Self::Anthropic {
            let version = HeaderName::from_static("anthropic-version");
            headers.insert(version, HeaderValue::from_static(anthropic::VERSION));
        }
        let Some(key) = key else { return Ok(headers) };
        let (name, value) = match self {
            Self::OpenAi(_) => (reqwest::header::AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
            Self::Anthropic => (HeaderName::from_static("x-api-key"), key.expose_secret().to_owned()),
        };
        let unfit = |_| Failure::new(Class::KeyRejected, "the key does not fit a header");
        let mut value = HeaderValue::from_str(&value).map_err(unfit)?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(headers)
    }

    /// A decoder for one answer; calls that come without an id get `<ids>-<number>`.
    pub fn decoder(self, ids: String) -> Decoder {
        match self {
            Self::OpenAi(_) => Decoder::OpenAi(openai::Decoder::new(ids)),
            Self::Anthropic => Decoder::Anthropic(anthropic::Decoder::new(ids)),
        }
    }

    /// What a status other than 2xx and its body mean.
    pub fn failure(self, status: u16, body: &str) -> Failure {
        match self {
            Self::OpenAi(_) => openai::from_status(status, body),
            Self::Anthropic => anthropic::from_status(status, body),
        }
    }
}

impl Decoder {
    /// Takes the data of one event.
    ///
    /// # Errors
    /// [`Failure`]: an error sent by the provider, or data that makes no sense.
    pub fn event(&mut self, data: &str, out: &mut Vec<ModelChunk>) -> Result<(), Failure> {
        match self {
            Self::OpenAi(decoder) => decoder.event(data, out),
            Self::Anthropic(decoder) => decoder.event(data, out),
        }
    }

    /// The stream is over.
    ///
    /// # Errors
    /// [`Failure`] of class `Truncated` if the answer is not.
    pub fn end(&mut self, out: &mut Vec<ModelChunk>) -> Result<(), Failure> {
        match self {
            Self::OpenAi(decoder) => decoder.end(out),
            Self::Anthropic(decoder) => decoder.end(out),
        }
    }

    /// Whether the answer is over.
    pub fn done(&self) -> bool {
        match self {
            Self::OpenAi(decoder) => decoder.done(),
            Self::Anthropic(decoder) => decoder.done(),
        }
    }
}
