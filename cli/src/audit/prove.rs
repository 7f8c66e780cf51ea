//! `nachos audit prove`: one record with all that proves it, for a machine without the stack.

use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

use bus::Bus;
use ledger::bundle;
use proto::seal::{Bundle, Prove, Which};
use uuid::Uuid;

use super::ask::ask;
use super::output::{Output, file_name};
use super::{note, trust};
use crate::clean;
use crate::failure::{Ending, Failure};
use crate::session::Session;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The record: its number in the stream (the first column of query), or its id.
    record: Wanted,
    /// Write the bundle into this file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The bundle on one line.
    #[arg(long)]
    json: bool,
    /// Which key it must be signed with.
    #[command(flatten)]
    trust: trust::Args,
}

/// A record of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted(Which);

impl FromStr for Wanted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seq = text.parse().ok().filter(|seq| *seq > 0).map(Which::Seq);
        let id = || Uuid::parse_str(text).ok().map(Which::Id);
        seq.or_else(id).map(Self).ok_or("a record is named by its number in the stream (1, 2, …) or by its id, a UUID")
    }
}

/// Asks for the bundle, checks it as whoever gets it will, and writes it.
pub(crate) async fn run(session: Session, args: Args) -> Result<Ending, Failure> {
    let trust = args.trust.load_if_there(&session.settings()?.1)?;
    let mut output = Output::open(args.output.as_deref(), true)?;
    let bus = session.connect().await?;
    let bundle = prove(&bus, args.record.0).await?;
    match &trust {
        Some(trust) => bundle::verify(&bundle, &trust.keys).map(|_| ()).map_err(unproven)?,
        None => note("not checked here: there is no key; nachos audit verify --bundle FILE --key KEY checks it")?,
    }
    let text = if args.json { serde_json::to_string(&bundle) } else { serde_json::to_string_pretty(&bundle) };
    let text = clean::json(&text.map_err(anyhow::Error::new)?);
    writeln!(output, "{text}")?;
    output.finish()?;
    if let Some(file) = &args.output {
        let (seq, file) = (bundle.record.seq, file_name(file));
        note(&format!("wrote the proof of record {seq}; nachos audit verify --bundle {file} checks it anywhere"))?;
    }
    Ok(Ending::Done)
}

/// The proof of a record, as the audit service has it.
pub(super) async fn prove(bus: &Bus, which: Which) -> Result<Bundle, Failure> {
    ask(bus, &Prove { v: proto::VERSION, which }).await
}

fn unproven(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    let hint = "nachos audit verify looks at the whole log; if the key is another one, --key names it";
    Failure::new(anyhow::Error::new(error), hint).context("what the audit service sent proves nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_number_or_an_id() {
        assert_eq!("12".parse(), Ok(Wanted(Which::Seq(12))));
        let id = Uuid::from_u128(7);
        assert_eq!(id.to_string().parse(), Ok(Wanted(Which::Id(id))));
        for bad in ["", "0", "-1", "twelve", "1.5"] {
            assert!(bad.parse::<Wanted>().is_err(), "{bad}");
        }
    }
}
