//! The Slack channel as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    bus::run(proto::Component::ChannelSlack, channel_slack::serve)
}
