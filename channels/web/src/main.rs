//! The web pages as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    bus::run(proto::Component::ChannelWeb, channel_web::serve)
}
