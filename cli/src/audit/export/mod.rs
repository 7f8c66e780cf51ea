//! `nachos audit export`: records for other programs, as a file that proves itself or as plain text.

mod contents;
mod convert;
mod range;
mod selection;
mod sink;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use jiff::Timestamp;
use ledger::checkpoint::{self, Checkpoint};
use ledger::pack::{self, Format, Manifest};
use proto::audit::Filter;

use self::sink::Sink;
use super::output::{Output, STANDARD, file_name};
use super::{count, filter, note, print_json, trust};
use crate::failure::{Ending, Failure};
use crate::out::Out;
use crate::session::Session;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the records are converted to; their own form, jsonl, is always in the file.
    #[arg(long, value_enum, default_value_t = FormatArg::Jsonl)]
    format: FormatArg,
    /// Write into this file; - is standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only the converted records, without what proves them.
    #[arg(long)]
    plain: bool,
    /// Leave out what was said; the records hold its salted digests.
    #[arg(long)]
    no_content: bool,
    /// What was written as one JSON object; with -o FILE.
    #[arg(long, requires = "output")]
    json: bool,
    /// Which records; without filters all that are in the stream.
    #[command(flatten)]
    filter: filter::Args,
    /// Which key they must be sealed with.
    #[command(flatten)]
    trust: trust::Args,
}

/// What records are converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// JSON, a record a line, as it is stored.
    Jsonl,
    /// Events of the Open Cybersecurity Schema Framework, one a line.
    Ocsf,
    /// A table for spreadsheets.
    Csv,
    /// The same table for databases.
    Parquet,
}

impl FormatArg {
    fn format(self) -> Format {
        match self {
            Self::Jsonl => Format::Jsonl,
            Self::Ocsf => Format::Ocsf,
            Self::Csv => Format::Csv,
            Self::Parquet => Format::Parquet,
        }
    }
}

/// What to export.
struct Order {
    filter: Filter,
    format: Format,
    contents: bool,
    plain: bool,
    /// Where there is room for the parts of the file.
    folder: PathBuf,
    trust: trust::Trust,
}

/// Collects, proves, writes.
pub(crate) async fn run(session: Session, args: Args) -> Result<Ending, Failure> {
    let (common, config) = session.settings()?;
    let order = Order {
        filter: args.filter.clone().into_filter(Timestamp::now())?,
        format: args.format.format(),
        contents: !args.no_content,
        plain: args.plain,
        folder: folder(args.output.as_deref()),
        trust: args.trust.load(&config)?,
    };
    // Before anything is read: a terminal that takes no binary says so at once.
    let output = Output::open(args.output.as_deref(), args.plain && args.format != FormatArg::Parquet)?;
    let bus = crate::session::connect(common).await?;
    let sink = if order.filter == Filter::default() {
        range::collect(&bus, &order).await?
    } else {
        selection::collect(&bus, &order).await?
    };
    let manifest = sink.finish(output)?;
    tell(&args, manifest.as_ref())
}

/// Parts are collected beside the file that they go into: there is room.
fn folder(output: Option<&Path>) -> PathBuf {
    let beside = output.filter(|path| *path != Path::new(STANDARD)).map(|path| path.parent().unwrap_or(Path::new("")));
    match beside {
        Some(here) if here.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder.to_owned(),
        None => std::env::temp_dir(),
    }
}

fn tell(args: &Args, manifest: Option<&Manifest>) -> Result<Ending, Failure> {
    let file = args.output.as_deref().filter(|path| *path != Path::new(STANDARD));
    match (manifest, file) {
        (Some(manifest), Some(_)) if args.json => print_json(&mut Out::stdout(), manifest)?,
        (Some(manifest), Some(file)) => {
            let records = count(manifest.records, "record");
            let (first, last) = (manifest.first, manifest.last);
            let file = file_name(file);
            note(&format!("{records}, {first} to {last}; nachos audit verify --export {file} checks them anywhere"))?;
        }
        _ => {}
    }
    Ok(Ending::Done)
}

impl Order {
    /// An empty place for the records.
    fn sink(&self, about: Manifest) -> Result<Sink, Failure> {
        Sink::new(self, about)
    }

    /// A checkpoint that is signed by a trusted key.
    fn opened(&self, note: &str) -> Result<Checkpoint, Failure> {
        checkpoint::open(note, &self.trust.keys, &self.trust.witnesses).map_err(|error| {
            let hint = "nachos audit checkpoint shows who signs; --key names another key";
            Failure::new(error, hint).context("the audit service's newest checkpoint")
        })
    }

    /// What the file will be.
    fn manifest(&self, kind: pack::Kind, first: u64, key: proto::keys::PublicKey) -> Manifest {
        let filter = serde_json::to_value(&self.filter).map(without_nothing).unwrap_or_default();
        Manifest {
            version: pack::VERSION,
            kind,
            first,
            last: 0,
            records: 0,
            frontier: Vec::new(),
            key,
            filter: (kind == pack::Kind::Selection).then(|| filter.to_string()),
            format: self.format,
            created: Timestamp::now(),
            tool: format!("nachos {}", env!("CARGO_PKG_VERSION")),
            sha256: std::collections::BTreeMap::new(),
        }
    }
}

/// The conditions that were set.
fn without_nothing(filter: serde_json::Value) -> serde_json::Value {
    let serde_json::Value::Object(mut fields) = filter else { return filter };
    fields.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    fields.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_collected_beside_the_file() {
        assert_eq!(folder(Some(Path::new("out.tar.zst"))), Path::new("."));
        assert_eq!(folder(Some(Path::new("/out/x"))), Path::new("/out"));
        assert_eq!(folder(Some(Path::new("-"))), std::env::temp_dir());
        assert_eq!(folder(None), std::env::temp_dir());
    }

    #[test]
    fn a_filter_is_told_by_what_was_set() {
        let filter = Filter { outcome: Some("deny".into()), types: vec!["tool.*".into()], ..Filter::default() };
        let told = without_nothing(serde_json::to_value(filter).unwrap());
        assert_eq!(told, serde_json::json!({"outcome": "deny", "types": ["tool.*"]}));
    }
}
