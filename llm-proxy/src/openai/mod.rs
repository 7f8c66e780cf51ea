//! OpenAI Chat Completions, and so every server that speaks it: Ollama, vLLM, Mistral, Groq, DeepSeek, OpenRouter and others.

mod decode;
mod encode;
mod failure;

pub use decode::Decoder;
pub use encode::to_provider;
pub use failure::{from_error, from_status};

/// Where OpenAI itself is.
pub const BASE_URL: &str = "https://api.openai.com/v1";

/// What differs between OpenAI itself and the servers that speak its wire: OpenAI's newer models refuse `max_tokens`, and others refuse
/// fields that they do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI itself.
    OpenAi,
    /// Any other server.
    Compatible,
}
