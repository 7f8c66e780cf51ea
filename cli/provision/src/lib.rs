//! `nachos provision`: keys, the server's configuration and the streams, made once. Running it again changes nothing.
//!
//! It is the root of all keys, so it runs as two one-shots: `keys` without any network, `streams` with the right to make
//! streams. The same identity copies the record, restores it into an empty stack and drops its archived old end, each by a command of
//! its own that somebody at the machine runs; nothing on the bus can ask for it.

mod backup;
mod files;
mod keys;
mod proof;
mod prune;
mod secrets;
mod server;
mod streams;

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use backup::{Backup, back_up, restore};
pub use keys::make_keys;
pub use prune::prune;
pub use server::ServerSettings;
pub use streams::{StreamPlan, make_streams};

/// What can be provisioned.
#[derive(Debug, Subcommand)]
pub enum Provision {
    /// Make the keys that are missing, each in its owner's folder, and the server's configuration.
    Keys {
        /// Folder with one folder per component, and `bus`, `bus-data`.
        #[arg(long, default_value = "/provision")]
        dir: PathBuf,
    },
    /// Make the streams that were never made before, once the server says that its whole store is there.
    Streams(StreamPlan),
    /// Keep a secret of a component.
    #[command(subcommand)]
    Secret(Secret),
    /// Verify the record and write a copy of it to standard output.
    Backup(StreamPlan),
    /// Make the record from a copy, in a stack that has none, and verify it.
    Restore(Backup),
    /// Drop what is archived from the stream, after verifying the archive and comparing it with the stream.
    Prune(StreamPlan),
}

/// What can be done with secrets. None of it shows one.
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Read a value from standard input and keep it where only its component reads it.
    Set {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Folder with one folder `<component>-secrets` per component.
        #[arg(long, default_value = "/provision")]
        dir: PathBuf,
    },
    /// List which are set, as `component/name` lines.
    List {
        /// Folder with one folder `<component>-secrets` per component.
        #[arg(long, default_value = "/provision")]
        dir: PathBuf,
    },
}

/// A component's secret.
#[derive(Debug, Args)]
pub struct Which {
    /// `llm-proxy`, `channel-slack` or `forwarder`.
    pub component: proto::Component,
    /// For example `openai-api-key`, `app-token`.
    pub name: proto::Name,
}

impl Provision {
    /// Does it and tells what was done.
    ///
    /// # Errors
    /// What stands in the way, and what to do about it.
    pub async fn run(self) -> anyhow::Result<String> {
        match self {
            Self::Keys { dir } => make_keys(&dir, &ServerSettings::default()),
            Self::Streams(plan) => make_streams(&plan).await,
            Self::Secret(Secret::Set { which, dir }) => secrets::set(&dir, &which, std::io::stdin().lock()),
            Self::Secret(Secret::List { dir }) => secrets::list(&dir),
            // Standard output is the copy: what is to be said goes beside it.
            Self::Backup(plan) => {
                let said = back_up(&plan, std::io::stdout().lock()).await?;
                writeln!(std::io::stderr(), "{said}")?;
                Ok(String::new())
            }
            Self::Restore(from) => restore(&from).await,
            Self::Prune(plan) => prune(&plan).await,
        }
    }
}
