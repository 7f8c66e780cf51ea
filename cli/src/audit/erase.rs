//! `nachos audit erase`: what was said is gone, that it was said stays proven.

use std::io::{self, BufRead as _, IsTerminal as _};

use clap::ArgGroup;
use proto::seal::{Erase, Subjects};
use serde_json::json;
use uuid::Uuid;

use super::archive::time;
use super::ask::ask;
use super::{count, print_json};
use crate::clean;
use crate::failure::{Ending, Failure};
use crate::out::{Out, Style};
use crate::session::Session;

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("whose").required(true))]
pub(crate) struct Args {
    /// Of everything on behalf of this user, such as slack/T1/U2.
    #[arg(long, visible_alias = "user", group = "whose", value_name = "CHANNEL/TEAM/USER")]
    principal: Option<String>,
    /// Of this session.
    #[arg(long, group = "whose")]
    session: Option<String>,
    /// Of this turn.
    #[arg(long, group = "whose", value_name = "UUID")]
    turn: Option<Uuid>,
    /// Of this record.
    #[arg(long, group = "whose", value_name = "UUID")]
    record: Option<Uuid>,
    /// Why; it is recorded, with who or what was erased.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    /// Only of records stored before this time (RFC 3339, or how long ago: 30d).
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// Only count; nothing is erased.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// The answer as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Counts, asks, erases.
pub(crate) async fn run(session: Session, mut out: Out, args: Args) -> Result<Ending, Failure> {
    let mut order = order(&args)?;
    if !args.dry_run && !args.yes && !io::stdin().is_terminal() {
        let message = "erasing cannot be undone, and there is no terminal to ask on";
        return Err(Failure::new(message, "--dry-run counts what would be erased, --yes erases it"));
    }
    let bus = session.connect().await?;
    if !args.yes {
        let found = ask(&bus, &Erase { dry_run: true, ..order.clone() }).await?.records;
        if args.dry_run || found == 0 {
            return told(&mut out, &order, found, args.json);
        }
        if !agreed(&order, found)? {
            return Err(Failure::new("nothing was erased", "only the word yes erases"));
        }
    }
    order.dry_run = args.dry_run;
    let erased = ask(&bus, &order).await?.records;
    told(&mut out, &order, erased, args.json)
}

fn order(args: &Args) -> Result<Erase, Failure> {
    let whose = [
        args.principal.clone().map(Subjects::Principal),
        args.session.clone().map(Subjects::Session),
        args.turn.map(Subjects::Turn),
        args.record.map(Subjects::Record),
    ];
    let missing = || Failure::new("whose texts?", "--principal, --session, --turn or --record says whose");
    Ok(Erase {
        v: proto::VERSION,
        whose: whose.into_iter().flatten().next().ok_or_else(missing)?,
        before: time(args.before.as_deref())?,
        reason: args.reason.clone(),
        dry_run: true,
    })
}

fn agreed(order: &Erase, records: u64) -> Result<bool, Failure> {
    let mut err = Out::stderr();
    let paint = err.paint();
    let whose = clean::line(&order.whose.to_string());
    let question = format!(
        "The texts of {} of {whose} will be erased for good; the records stay, and they stay proven.\nErase? Type yes: ",
        count(records, "record")
    );
    err.text(&paint.with(Style::Bold, &question))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

fn told(out: &mut Out, order: &Erase, records: u64, json: bool) -> Result<Ending, Failure> {
    if json {
        let told = json!({"whose": order.whose, "records": records, "dry_run": order.dry_run});
        print_json(out, &told)?;
    } else {
        out.line(&render(order, records))?;
    }
    Ok(Ending::Done)
}

fn render(order: &Erase, records: u64) -> String {
    let whose = clean::line(&order.whose.to_string());
    match (records, order.dry_run) {
        (0, _) => format!("{whose}: no record has a text that could be erased"),
        (_, true) => format!("{whose}: texts of {} would be erased", count(records, "record")),
        (_, false) => {
            format!("{whose}: texts of {} erased; the records stay, and they stay proven", count(records, "record"))
        }
    }
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

    fn parse(line: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from([&["erase"], line].concat()).map(|line| line.args)
    }

    #[test]
    fn whose_and_why_must_be_said() {
        for bad in [
            &["--reason", "r"][..],
            &["--session", "s"],
            &["--session", "s", "--user", "u", "--reason", "r"],
            &["--session", "s", "--reason", ""],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let args =
            parse(&["--user", "slack/T1/U2", "--reason", "asked for it", "--before", "2026-11-01T00:00:00Z"]).unwrap();
        let order = order(&args).unwrap();
        assert_eq!(order.whose, Subjects::Principal("slack/T1/U2".into()));
        assert!(order.dry_run && order.before.is_some());
    }

    #[test]
    fn it_is_said_what_was_erased_and_what_stays() {
        let mut order = order(&parse(&["--session", "s", "--reason", "r"]).unwrap()).unwrap();
        assert_eq!(render(&order, 1), "session s: texts of 1 record would be erased");
        order.dry_run = false;
        assert_eq!(render(&order, 2), "session s: texts of 2 records erased; the records stay, and they stay proven");
    }
}
