//! The gateway's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    bus::run(proto::Component::Gateway, gateway::serve)
}
