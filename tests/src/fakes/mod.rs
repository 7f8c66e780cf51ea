//! The outside, played by the test: providers and Slack, speaking the real wire and misbehaving as the real ones do.

pub mod anthropic;
pub mod openai;
pub mod provider;
pub mod slack;
