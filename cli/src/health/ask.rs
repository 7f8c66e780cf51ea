//! Asking every component how it is.

use bus::{Bus, CallError};
use futures_util::future::join_all;
use proto::Component;
use proto::admin::{Health, HealthRequest};

/// Components that a stack may do without, and what starts them.
const OPTIONAL: [(Component, &str); 2] = [
    (Component::ChannelSlack, "optional; it starts once its secrets are there, see ./nachos help slack"),
    (
        Component::Forwarder,
        "optional; it starts once a destination is set in deploy/config/forwarder.toml, see docs/siem.md",
    ),
];

/// What is known about a component.
#[derive(Debug)]
pub(super) enum State {
    /// It answered.
    Up(Health),
    /// It does not run and need not; what would start it.
    Off(&'static str),
    /// It should have answered.
    Down(CallError),
}

/// Every service, asked at the same time: one that hangs costs its patience once.
pub(super) async fn everybody(bus: &Bus) -> Vec<(Component, State)> {
    join_all(Component::SERVICES.map(|component| async move { (component, one(bus, component).await) })).await
}

async fn one(bus: &Bus, component: Component) -> State {
    let question = HealthRequest { v: proto::VERSION, component };
    let optional = OPTIONAL.iter().find(|(optional, _)| *optional == component);
    match (bus.request(Bus::new_trace(), &question).await, optional) {
        (Ok(health), _) => State::Up(health),
        (Err(CallError::NoResponder(_)), Some((_, start))) => State::Off(start),
        (Err(error), _) => State::Down(error),
    }
}
