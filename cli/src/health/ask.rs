//! Asking every component how it is.

use bus::{Bus, CallError};
use futures_util::future::join_all;
use proto::Component;
use proto::admin::{Health, HealthRequest};

/// Components that a stack may do without; they are started when their secrets are there.
const OPTIONAL: [Component; 1] = [Component::ChannelSlack];

/// What is known about a component.
#[derive(Debug)]
pub(super) enum State {
    /// It answered.
    Up(Health),
    /// It does not run and need not.
    Off,
    /// It should have answered.
    Down(CallError),
}

/// Every service, asked at the same time: one that hangs costs its patience once.
pub(super) async fn everybody(bus: &Bus) -> Vec<(Component, State)> {
    join_all(Component::SERVICES.map(|component| async move { (component, one(bus, component).await) })).await
}

async fn one(bus: &Bus, component: Component) -> State {
    let question = HealthRequest { v: proto::VERSION, component };
    match bus.request(Bus::new_trace(), &question).await {
        Ok(health) => State::Up(health),
        Err(CallError::NoResponder(_)) if OPTIONAL.contains(&component) => State::Off,
        Err(error) => State::Down(error),
    }
}
