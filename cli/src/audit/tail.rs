//! `nachos audit tail`: the newest records, and with `-f` those to come.

use std::time::Duration;

use bus::{Bus, CallError, Chunks};
use jiff::Timestamp;
use proto::audit::{Filter, MAX_QUERY, Query, Tail, TailChunk};
use tokio::time::sleep;

use super::ask::{ask, no_answer};
use super::printer::{Form, Printer};
use super::{filter, note, records};
use crate::failure::{Ending, Failure};
use crate::out::Out;
use crate::session::Session;

/// Records shown where nobody says how many.
const DEFAULT_COUNT: u32 = 20;

/// Pause before a tail that broke is asked for anew.
const RETRY: Duration = Duration::from_millis(500);

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on and show records as they come.
    #[arg(short, long)]
    follow: bool,
    /// How many of the newest [default: 20, or all where --since is given].
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_QUERY)))]
    number: Option<u32>,
    /// Records as they are stored, one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Which records.
    #[command(flatten)]
    filter: filter::Args,
}

/// Shows records until there are no more, or for ever.
pub(crate) async fn run(session: Session, out: Out, args: Args) -> Result<Ending, Failure> {
    let filter = args.filter.into_filter(Timestamp::now())?;
    let bus = session.connect().await?;
    let mut printer = Printer::new(out, if args.json { Form::Json } else { Form::Lines });
    let everything = args.number.is_none() && filter.since.is_some();
    let seen = if everything {
        show_all(&bus, &filter, &mut printer).await?
    } else {
        show_newest(&bus, &filter, args.number.unwrap_or(DEFAULT_COUNT), &mut printer).await?
    };
    if printer.printed == 0 && !args.follow {
        note("no record matches")?;
    }
    if args.follow {
        follow(&bus, &filter, seen, &mut printer).await?;
    }
    Ok(Ending::Done)
}

async fn show_newest(bus: &Bus, filter: &Filter, limit: u32, printer: &mut Printer) -> Result<u64, Failure> {
    let query = Query { v: proto::VERSION, filter: filter.clone(), after: None, limit, newest: true };
    let page = ask(bus, &query).await?;
    printer.records(&page.records)?;
    Ok(page.indexed)
}

/// Page after page, from the oldest.
async fn show_all(bus: &Bus, filter: &Filter, printer: &mut Printer) -> Result<u64, Failure> {
    records::oldest(bus, filter, None, |page| printer.records(&page.records)).await
}

/// Shows what comes after `seen`. The service ends a tail now and then; what broke is asked for anew, from the last record seen.
async fn follow(bus: &Bus, filter: &Filter, mut seen: u64, printer: &mut Printer) -> Result<(), Failure> {
    let mut told = false;
    loop {
        let tail = Tail { v: proto::VERSION, filter: filter.clone(), after: seen };
        let broken = match bus.open(Bus::new_trace(), &tail).await {
            Ok(chunks) => follow_one(chunks, &mut seen, &mut told, printer).await?,
            Err(error) => Some(error),
        };
        let Some(error) = broken else { continue };
        if matches!(error, CallError::Denied { .. } | CallError::Refused(_)) {
            return Err(no_answer(error));
        }
        if !std::mem::replace(&mut told, true) {
            note(&format!("the audit service does not answer ({error}); trying on, nothing will be skipped"))?;
        }
        sleep(RETRY).await;
    }
}

/// One stream of chunks to its end; the error that broke it, if one did.
async fn follow_one(
    mut chunks: Chunks<TailChunk>,
    seen: &mut u64,
    told: &mut bool,
    printer: &mut Printer,
) -> Result<Option<CallError>, Failure> {
    while let Some(chunk) = chunks.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Ok(Some(error)),
        };
        if std::mem::take(told) {
            note("the audit service answers again")?;
        }
        match chunk {
            TailChunk::Record(record) => {
                printer.record(&record)?;
                *seen = record.seq;
            }
            TailChunk::Idle { seen: upto } => *seen = upto.max(*seen),
            TailChunk::Unknown => {}
        }
    }
    Ok(None)
}
