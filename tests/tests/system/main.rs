//! The whole-system tests, one binary: the services are linked once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking and reports by printing"
)]

mod attacks;
mod audit;
mod bus;
mod cli;
mod containers;
mod faults;
mod forwarder;
mod gateway;
mod llm_proxy;
mod permissions;
mod prove;
mod seal;
mod seal_faults;
mod slack;
mod tamper;
mod tidy;
mod turn;
mod web;
mod whole_turn;
