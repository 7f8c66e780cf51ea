//! `nachos audit verify`: is the record what it was when it was sealed? Live, reading the streams itself; or of a file, with nothing but
//! the public key.

mod file;
mod index;
mod live;
mod old;
mod pinpoint;
mod store;
mod verdict;

use std::path::{Path, PathBuf};

use clap::ArgGroup;

use self::verdict::Verdict;
use super::print_json;
use super::trust::{self, Trust};
use crate::failure::{Ending, Failure};
use crate::out::Out;
use crate::session::{Config, Session};

/// Where a place of the default settings is not to be looked at.
const NOWHERE: &str = "none";

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("offline"))]
pub(crate) struct Args {
    /// Verify this export and nothing else; - is standard input. No stack is needed.
    #[arg(long, value_name = "FILE", group = "offline")]
    export: Option<PathBuf>,
    /// Verify this archive file and nothing else.
    #[arg(long, value_name = "FILE", group = "offline")]
    archive_file: Option<PathBuf>,
    /// Verify this bundle of `nachos audit prove` and nothing else.
    #[arg(long, value_name = "FILE", group = "offline")]
    bundle: Option<PathBuf>,
    /// The second store of checkpoints, or none [default: that of the stack; with a file nothing].
    #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
    checkpoints: Option<PathBuf>,
    /// The folder of the archive files, or none [default: that of the stack].
    #[arg(long, value_name = "DIR", conflicts_with = "offline")]
    archive: Option<PathBuf>,
    /// Leave the query index out.
    #[arg(long, conflicts_with = "offline")]
    no_index: bool,
    /// The result as one JSON object.
    #[arg(long)]
    json: bool,
    /// Which key it must be signed with.
    #[command(flatten)]
    trust: trust::Args,
}

/// What a live verification looks at beside the streams.
pub(super) struct Places {
    /// The second store, and whether it must be there.
    checkpoints: Option<(PathBuf, bool)>,
    /// The archive, and whether it must be there.
    archive: Option<(PathBuf, bool)>,
    /// Whether the query index is compared.
    index: bool,
}

/// Verifies and says what was found.
pub(crate) async fn run(session: Session, mut out: Out, args: Args) -> Result<Ending, Failure> {
    let (common, config) = session.settings()?;
    let trust = args.trust.load(&config)?;
    let verdict = match (&args.export, &args.archive_file, &args.bundle) {
        (Some(path), ..) | (_, Some(path), _) => file::verify_pack(path, &trust, args.checkpoints.as_deref())?,
        (_, _, Some(path)) => file::verify_bundle(path, &trust)?,
        (None, None, None) => {
            let bus = crate::session::connect(common).await?;
            live::verify(&bus, &trust, &places(&args, &config)).await?
        }
    };
    report(&mut out, verdict, &trust, args.json)
}

fn report(out: &mut Out, mut verdict: Verdict, trust: &Trust, json: bool) -> Result<Ending, Failure> {
    verdict.keys = trust.keys.iter().map(ledger::checkpoint::name).collect();
    let verdict = verdict.conclude();
    if json {
        print_json(out, &verdict)?;
    } else {
        out.text(&verdict.render(out.paint()))?;
    }
    Ok(if verdict.ok { Ending::Done } else { Ending::Unwell })
}

fn places(args: &Args, config: &Config) -> Places {
    Places {
        checkpoints: place(args.checkpoints.as_ref(), &config.checkpoints),
        archive: place(args.archive.as_ref(), &config.archive),
        index: !args.no_index,
    }
}

/// A place that somebody named must be there; one of the default settings may be missing.
fn place(named: Option<&PathBuf>, default: &Path) -> Option<(PathBuf, bool)> {
    match named {
        Some(none) if none.as_os_str() == NOWHERE => None,
        Some(path) => Some((path.clone(), true)),
        None => Some((default.to_owned(), false)),
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

    #[test]
    fn a_file_is_verified_alone() {
        let parse = |line: &str| Line::try_parse_from(["verify"].into_iter().chain(line.split_whitespace()));
        for good in [
            "",
            "--export x --key k",
            "--bundle - --json",
            "--checkpoints none --no-index",
            "--archive-file f --checkpoints c",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in
            ["--export x --bundle y", "--export x --no-index", "--bundle b --archive d", "--bundle f --checkpoints c"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_place_that_was_named_must_be_there() {
        let default = PathBuf::from("/default");
        assert_eq!(place(None, &default), Some((default.clone(), false)));
        assert_eq!(place(Some(&"/named".into()), &default), Some(("/named".into(), true)));
        assert_eq!(place(Some(&"none".into()), &default), None);
    }
}
