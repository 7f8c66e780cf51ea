//! The forwarder as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    bus::run(proto::Component::Forwarder, forwarder::serve)
}
