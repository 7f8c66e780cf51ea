//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use provision::Provision;

use crate::{audit, chat, health, policy, tools, web};

/// Talk to Nachos, see what it did and why, and how it is.
#[derive(Debug, Parser)]
#[command(name = "nachos", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Settings of this tool; /etc/nachos/cli.toml if it is there, else the defaults.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 all is well, 1 something failed, 2 the command line is wrong, 3 the platform said no.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Talk to the agent: a line at a time, one message (-m), or what comes on standard input.
    Chat(chat::Args),
    /// What was done, for whom, and which rule allowed it.
    #[command(subcommand)]
    Audit(audit::Command),
    /// The components: which run, since when, and how they are.
    Status(health::StatusArgs),
    /// Everything that every component watches about itself, and what to do where something is wrong.
    Doctor,
    /// The tools there are, what they touch and may use, and those that were refused.
    Tools(tools::Args),
    /// What the rules say.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Connecting Slack.
    #[command(subcommand)]
    Slack(SlackCommand),
    /// The audit log as a page in a browser.
    #[command(subcommand)]
    Web(web::Command),
    /// This tool's version.
    Version,
    /// Make keys and streams, keep secrets; the launcher does this.
    #[command(subcommand)]
    Provision(Provision),
}

/// What can be asked of policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// What would the rules say? Nothing happens, and nothing is recorded.
    Check(policy::Args),
}

/// What helps to connect Slack.
#[derive(Debug, Subcommand)]
pub(crate) enum SlackCommand {
    /// The manifest to create the Slack app from.
    Manifest,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_wrong_on_the_command_line_is_refused() {
        for bad in ["", "audit tail -n 0", "audit tail -n 501", "audit tail --turn x", "policy check receive-message"] {
            let words = ["nachos"].into_iter().chain(bad.split_whitespace());
            assert_eq!(Arguments::try_parse_from(words).err().map(|error| error.exit_code()), Some(2), "{bad}");
        }
    }
}
