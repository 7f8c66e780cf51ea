//! The container `policy`.

use std::process::ExitCode;

use proto::Component;

fn main() -> ExitCode {
    bus::run(Component::Policy, policy::serve)
}
