//! The one holder of provider keys: takes [`proto::llm::ModelRequest`]s, asks policy, records, asks a provider and streams its answer
//! back in one form for all.
//!
//! A codec per provider stands in [`openai`] and [`anthropic`], pure functions from our types to the provider's JSON and from its events
//! to our chunks, held by the golden files in `golden/`. [`ask`] is the exchange over HTTP with its one bounded retry, [`service`] the
//! order of steps around it. [`offline`] is a demo model behind the same interface, so that an installation answers before anybody has
//! stored a key.
//!
//! Road not taken: a client crate for many providers. Their types are closed, so a field or event that a provider adds is an error or is
//! lost, and their retries cannot be told from ours (docs/adr/0005).

pub mod anthropic;
pub mod ask;
mod calls;
pub mod config;
mod conversation;
pub mod error;
pub mod http;
pub mod keys;
pub mod models;
pub mod offline;
pub mod openai;
pub mod plan;
mod record;
pub mod reply;
pub mod service;
pub mod sse;
pub mod wire;

pub use config::Config;
pub use service::serve;
