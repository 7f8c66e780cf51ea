//! What the platform costs: `cargo bench --profile release -p system-tests --bench platform`, with `-- --write` also into
//! docs/BENCHMARKS.md. Nothing here fails because of a time; the figures stand beside the budgets of the design.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark fails by panicking and reports by printing"
)]

mod decisions;
mod measure;
mod models;
mod raw;
mod report;
mod services;
mod turns;

use std::path::Path;

use bus::Bus;
use proto::Component;
use system_tests::Server;
use system_tests::fakes::openai::FakeOpenAi;
use system_tests::fakes::slack::FakeSlack;
use system_tests::platform::Person;
use system_tests::processes::Stack;

use crate::report::Report;

/// Where everything runs, and who asks.
pub struct Stage {
    pub stack: Stack,
    pub server: Server,
    /// The benchmark, as the gateway.
    pub gateway: Bus,
    /// The benchmark, as the user's tool.
    pub cli: Bus,
    /// The benchmark, as a person who writes on the channel `cli`.
    pub person: Person,
    pub model: FakeOpenAi,
    pub slack: FakeSlack,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Test runners start every target to ask for its tests; there are none here.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let report = runtime.block_on(measure_all());
    if arguments.iter().any(|argument| argument == "--write") {
        report.write(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository"));
    }
}

async fn measure_all() -> Report {
    let server = Server::start().await;
    let mut report = Report::new(raw::round_trip(&server).await);
    let mut stage = Stage::set(server).await;
    services::memory(&mut report, &stage, "idle").await;
    decisions::policy(&mut report, &stage).await;
    decisions::tool(&mut report, &stage).await;
    turns::turns(&mut report, &mut stage).await;
    models::models(&mut report, &mut stage).await;
    services::memory(&mut report, &stage, "after the load above").await;
    services::starts(&mut report, &mut stage).await;
    stage.stack.kill(Component::Audit);
    report.latency("the floor again, after everything else", raw::round_trip(&stage.server).await, None);
    report
}

impl Stage {
    /// All services as processes; models are the offline one.
    async fn set(server: Server) -> Self {
        let (model, slack) = (FakeOpenAi::start().await, FakeSlack::start().await);
        let mut stack = Stack::new(&server);
        stack.start_core(&models::settings(&model)).await;
        stack.start(Component::Audit, "");
        stack.start(Component::ChannelSlack, &format!("api_url = '{}'", slack.api_url()));
        for component in [Component::Audit, Component::ChannelSlack] {
            stack.ready(component).await;
        }
        let (gateway, cli) = (server.connect(Component::Gateway).await, server.connect(Component::Cli).await);
        let person = Person::new(&server, "bench").await;
        Self { stack, server, gateway, cli, person, model, slack }
    }
}
