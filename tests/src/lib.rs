//! What the whole-system tests share: a real server with the real permissions, the fakes of the outside, and the platform's
//! services running in this process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking and reports by printing"
)]

pub mod chromium;
pub mod containers;
pub mod fakes;
pub mod owner;
pub mod platform;
pub mod processes;
pub mod server;

pub use platform::{Person, Platform};
pub use server::Server;
