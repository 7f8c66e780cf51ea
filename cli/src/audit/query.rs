//! `nachos audit query`: records that match, as a table.

use bus::Bus;
use jiff::Timestamp;
use proto::audit::{Filter, Page, Query};

use super::ask::ask;
use super::printer::{Form, Printer};
use super::{filter, note, records};
use crate::failure::{Ending, Failure};
use crate::out::Out;
use crate::session::Session;

/// Records shown where nobody says how many: they fit on a page or two.
const DEFAULT_LIMIT: u64 = 50;

/// Most records that are asked for by number: the newest are held in memory until all are there. `--all` has no such limit.
const MAX_LIMIT: u64 = 100_000;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// At most so many.
    #[arg(short = 'n', long, value_name = "N", default_value_t = DEFAULT_LIMIT, value_parser = clap::value_parser!(u64).range(1..=MAX_LIMIT))]
    limit: u64,
    /// All that match, from the oldest.
    #[arg(long, conflicts_with_all = ["limit", "newest"])]
    all: bool,
    /// Those that come first in the log, not those that come last.
    #[arg(long, conflicts_with = "newest")]
    oldest: bool,
    /// Those that come last in the log; this is what happens anyway.
    #[arg(long)]
    newest: bool,
    /// Records as they are stored, one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Which records.
    #[command(flatten)]
    filter: filter::Args,
}

/// Asks the index and prints what it has.
pub(crate) async fn run(session: Session, out: Out, args: Args) -> Result<Ending, Failure> {
    let filter = args.filter.clone().into_filter(Timestamp::now())?;
    let bus = session.connect().await?;
    let form = if args.json { Form::Json } else { Form::Numbered(number_width(&bus).await?) };
    let mut printer = Printer::new(out, form);
    let more = print(&bus, &filter, &args, &mut printer).await?;
    match (printer.printed, more) {
        (0, _) => note("no record matches")?,
        (shown, true) => note(&format!("{shown} shown, there are more: -n {} or --all shows them", shown * 10))?,
        _ => {}
    }
    Ok(Ending::Done)
}

/// Prints; whether there are more.
async fn print(bus: &Bus, filter: &Filter, args: &Args, printer: &mut Printer) -> Result<bool, Failure> {
    if !args.all && !args.oldest {
        let (found, more) = records::newest(bus, filter, args.limit).await?;
        printer.records(&found)?;
        return Ok(more);
    }
    let limit = (!args.all).then_some(args.limit);
    let mut more = false;
    let take = |page: &Page| {
        more = page.more;
        printer.records(&page.records)
    };
    records::oldest(bus, filter, limit, take).await?;
    Ok(more)
}

/// Columns that the largest number takes.
async fn number_width(bus: &Bus) -> Result<usize, Failure> {
    let nothing = Filter { before: Some(0), ..Filter::default() };
    let query = Query { v: proto::VERSION, filter: nothing, after: None, limit: 1, newest: true };
    Ok(ask(bus, &query).await?.indexed.to_string().len())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn all_and_a_number_of_them_exclude_each_other() {
        let parse = |line: &str| Line::try_parse_from(["query"].into_iter().chain(line.split_whitespace()));
        assert_eq!(parse("").unwrap().args.limit, DEFAULT_LIMIT);
        assert!(parse("--all --oldest --user slack/T1/*").unwrap().args.all);
        for bad in ["--all -n 5", "--all --newest", "--oldest --newest", "-n 0", "-n 100001"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
