//! Typed NATS: the only crate that knows async-nats.
//!
//! A service asks ([`Bus::request`], [`Bus::open`]), answers ([`Bus::serve`], [`Bus::serve_stream`]), stores
//! ([`Bus::enqueue`], [`Bus::record`]) and reads ([`Bus::deliveries`]) with the types of `proto`, whose subjects belong to
//! them. What async-nats leaves to its users is settled here:
//!
//! * `flush` is no round trip: a subscription counts as made only after a message over the own inbox came back.
//! * Requests that time out leak in the client's own multiplexer: this crate has its own ([`inbox`]), which forgets
//!   a request when its caller does.
//! * Permission errors arrive as events: they end the calls they belong to at once and become audit records.
//! * A dropped connection buffers: a call while disconnected fails at once instead of being delivered late.
//! * Nobody tells when a peer dies in the middle of a stream: its server says every two seconds that it is still at it, so that silence
//!   of a model and death of a server are two things.
//!
//! Roads not taken: `allow_responses` (a caller could choose where a server publishes), the client's service module
//! (no drain, no per-call deadline), JetStream publish through the client (its time-outs leak, and it has no atomic
//! batches, which are what makes one disk flush serve many records).

mod audit;
pub mod config;
mod connection;
mod delivery;
mod discovery;
mod error;
mod health;
mod inbox;
mod lookup;
mod object;
mod publish;
mod request;
mod run;
mod serve;
mod snapshot;
mod streams;
mod wire;

pub use audit::Once;
pub use config::BusConfig;
pub use connection::Bus;
pub use delivery::{Deliveries, Delivery};
pub use error::{BusError, CallError, ConnectError, PublishError};
pub use lookup::StreamState;
pub use publish::Stored;
pub use request::{Chunks, Events};
pub use run::{Serving, run};
pub use serve::{Call, Replies};
pub use streams::StreamSizes;

/// How long a delivery stays with its reader before the server gives it to another one. Short, so that a killed
/// reader's work goes on soon; a reader that is still at it says so ([`Delivery::working`]).
pub const ACK_WAIT: std::time::Duration = std::time::Duration::from_secs(10);
