//! `nachos audit checkpoint`: how far the log is sealed, by whom, and the key that it verifies with. Write the note down somewhere else,
//! and nobody can take back what it covers.

use jiff::Timestamp;
use ledger::checkpoint::{self, Checkpoint};
use proto::seal::{Seal, SealRequest};
use serde_json::json;

use super::ask::ask;
use super::{count, print_json, trust};
use crate::clean;
use crate::clock;
use crate::failure::{Ending, Failure};
use crate::out::{Out, Paint, Style, table};
use crate::session::Session;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seal everything that is stored now, and show that.
    #[arg(long)]
    now: bool,
    /// The answer as one JSON object.
    #[arg(long)]
    json: bool,
    /// Which key it must be signed with.
    #[command(flatten)]
    trust: trust::Args,
}

/// Asks, checks the signature, shows.
pub(crate) async fn run(session: Session, mut out: Out, args: Args) -> Result<Ending, Failure> {
    let trust = args.trust.load(&session.settings()?.1)?;
    let bus = session.connect().await?;
    let mut seal = ask(&bus, &SealRequest { v: proto::VERSION, now: args.now }).await?;
    let opened = open(&mut seal, &trust);
    if args.json {
        print_json(&mut out, &as_json(&seal, opened.as_ref()))?;
    } else {
        out.text(&render(out.paint(), &seal, opened.as_ref(), Timestamp::now()))?;
    }
    Ok(if seal.problems.is_empty() { Ending::Done } else { Ending::Unwell })
}

/// What the note says, if it is signed by a key that is trusted; what is wrong is added to the problems.
fn open(seal: &mut Seal, trust: &trust::Trust) -> Option<Checkpoint> {
    if seal.checkpoint.is_empty() {
        return None;
    }
    match checkpoint::open(&seal.checkpoint, &trust.keys, &trust.witnesses) {
        Ok(opened) => Some(opened),
        Err(error) => {
            seal.problems.push(format!("the newest checkpoint: {error}"));
            None
        }
    }
}

/// Known witnesses whose signatures are valid. A signature that is not would have made the note bad.
fn witnesses(opened: Option<&Checkpoint>) -> Vec<String> {
    let witnesses = opened.map(|opened| opened.witnesses.as_slice()).unwrap_or_default();
    witnesses.iter().map(|witness| format!("{} at {}", witness.name, witness.at)).collect()
}

fn as_json(seal: &Seal, opened: Option<&Checkpoint>) -> serde_json::Value {
    json!({
        "ok": seal.problems.is_empty(),
        "checkpoint": seal.checkpoint,
        "vkey": checkpoint::vkey(&seal.key),
        "key": seal.key,
        "size": opened.map(|opened| opened.size),
        "at": seal.at,
        "tree": seal.size,
        "first": seal.first,
        "archives": seal.archives,
        "witnesses": witnesses(opened),
        "problems": seal.problems,
    })
}

fn render(paint: Paint, seal: &Seal, opened: Option<&Checkpoint>, now: Timestamp) -> String {
    let note =
        if seal.checkpoint.is_empty() { "no checkpoint yet\n".to_owned() } else { clean::text(&seal.checkpoint) };
    let age = seal.at.map_or_else(|| "–".to_owned(), |at| clock::lasted(now.duration_since(at)));
    let sealed = opened.map_or(0, |opened| opened.size);
    let or_none =
        |found: Vec<String>| if found.is_empty() { "none".to_owned() } else { clean::line(&found.join(", ")) };
    let rows = [
        ("key", checkpoint::vkey(&seal.key)),
        ("age", age),
        ("sealed", format!("{} of {}, the stream begins at {}", sealed, count(seal.size, "record"), seal.first)),
        ("archives", or_none(seal.archives.clone())),
        ("witnesses", or_none(witnesses(opened))),
    ];
    let mut rows: Vec<_> =
        rows.into_iter().map(|(name, value)| vec![(Style::Dim, name.to_owned()), (Style::Plain, value)]).collect();
    let wrong =
        seal.problems.iter().map(|what| vec![(Style::Red, "problem".to_owned()), (Style::Plain, clean::line(what))]);
    rows.extend(wrong);
    // A key that was cut to the terminal would be useless.
    let lines = table(Paint { width: None, ..paint }, &rows);
    format!("{note}\n{}\n", lines.join("\n"))
}
