//! The gateway: sessions and the agent loop. It takes people's messages from the channels, asks policy, the model and the tools'
//! runners, and answers.
//!
//! * [`turn`] decides and does nothing: told an event, it says a step. `driver` carries steps out, `inbox` keeps messages of one
//!   session in order, [`store`] keeps what happened.
//! * What happened is stored before the next effect, so that a turn goes on after a crash where it was; what may have run is known
//!   as such. The reply and the id under which it is said are stored before it is said.
//! * The gateway decides nothing about permission and holds no key: every tool call it can make came out of a decision of policy.
//!
//! Roads not taken: an event-sourced session (the entries of one turn are all that has to be replayed), a queue in memory for
//! replies (the outbound stream is one), storing every decision of policy (it is in the audit log; a permit dies within seconds).

mod asking;
mod catalogue;
mod config;
mod deltas;
mod driver;
mod farewell;
mod inbox;
mod lanes;
mod model;
mod prompt;
mod service;
pub mod store;
pub mod turn;
mod words;

pub use config::{BadConfig, Config};
pub use service::serve;
