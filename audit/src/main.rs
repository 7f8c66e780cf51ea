//! The binary of the audit service.

use std::process::ExitCode;

fn main() -> ExitCode {
    bus::run(proto::Component::Audit, audit::serve)
}
