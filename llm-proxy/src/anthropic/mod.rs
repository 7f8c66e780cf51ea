//! Anthropic Messages, and the servers that speak it.

mod decode;
mod encode;
mod failure;

pub use decode::Decoder;
pub use encode::to_provider;
pub use failure::{from_error, from_status};

/// Where Anthropic itself is.
pub const BASE_URL: &str = "https://api.anthropic.com";

/// The version of the wire that the codec was written for.
pub const VERSION: &str = "2023-06-01";

/// Marks our provider state, so that another provider's is left out.
const STATE_FORMAT: &str = "anthropic-thinking";
