//! `nachos audit`: what was done, for whom and why; and the proof that the record of it is whole.
//!
//! What is shown comes from the audit service's index. What is proven does not take its word: a verification reads the streams on the bus,
//! the second store of checkpoints and the archive itself, with a public key that this tool was given when it was set up.

mod archive;
mod ask;
mod checkpoint;
mod describe;
mod erase;
mod export;
mod filter;
mod line;
mod output;
mod printer;
mod progress;
mod prove;
mod query;
mod records;
mod show;
mod story;
mod tail;
mod trust;
mod verify;

use serde::Serialize;

use crate::clean;
use crate::failure::{Ending, Failure};
use crate::out::{Out, Style};
use crate::session::Session;

/// What can be asked of the audit log.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The newest records; with -f also those to come.
    Tail(tail::Args),
    /// Records that match, as a table.
    Query(query::Args),
    /// One turn as a story: who asked what, which rule decided, what ran, and whether it is proven.
    Show(show::Args),
    /// Prove that no record was changed, removed, added or moved: live, or of a file without the stack.
    Verify(verify::Args),
    /// Everything that proves one record, as a small file that verifies alone.
    Prove(prove::Args),
    /// Records as a file that verifies alone, with the same records as jsonl, ocsf, csv or parquet in it.
    Export(export::Args),
    /// The newest signed checkpoint, and the key that it verifies with.
    Checkpoint(checkpoint::Args),
    /// Erase what somebody said or was told; the records and their proof stay.
    Erase(erase::Args),
    /// Move old records into sealed archive files.
    Archive(archive::Args),
}

/// Carries one of them out.
pub(crate) async fn run(session: Session, out: Out, command: Command) -> Result<Ending, Failure> {
    match command {
        Command::Tail(args) => tail::run(session, out, args).await,
        Command::Query(args) => query::run(session, out, args).await,
        Command::Show(args) => show::run(session, out, args).await,
        Command::Verify(args) => verify::run(session, out, args).await,
        Command::Prove(args) => prove::run(session, args).await,
        Command::Export(args) => export::run(session, args).await,
        Command::Checkpoint(args) => checkpoint::run(session, out, args).await,
        Command::Erase(args) => erase::run(session, out, args).await,
        Command::Archive(args) => archive::run(session, out, args).await,
    }
}

/// One JSON object on one line, for programs.
fn print_json(out: &mut Out, value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value).map_err(anyhow::Error::new)?;
    Ok(out.line(&clean::json(&line))?)
}

/// Something beside the answer, to standard error.
fn note(text: &str) -> Result<(), Failure> {
    let mut err = Out::stderr();
    let text = err.paint().with(Style::Dim, &clean::line(text));
    Ok(err.line(&text)?)
}

/// `1 record`, `2 records`.
fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}
