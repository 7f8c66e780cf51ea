//! `nachos audit archive`: old records into sealed files, now and not when the retention settings say.

use jiff::Timestamp;
use proto::seal::{Archive, Archived};

use super::ask::ask;
use super::print_json;
use super::progress::Progress;
use crate::clean;
use crate::clock;
use crate::failure::{Ending, Failure};
use crate::out::Out;
use crate::session::Session;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Everything stored before this time (RFC 3339, or how long ago: 30d); without it, what the retention settings say.
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// The answer as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Has the audit service write the files.
pub(crate) async fn run(session: Session, mut out: Out, args: Args) -> Result<Ending, Failure> {
    let before = time(args.before.as_deref())?;
    let bus = session.connect().await?;
    let shown = Progress::spinner("archiving");
    let archived = ask(&bus, &Archive { v: proto::VERSION, before }).await?;
    drop(shown);
    if args.json {
        print_json(&mut out, &archived)?;
    } else {
        out.text(&render(&archived))?;
    }
    Ok(Ending::Done)
}

/// A time of the command line.
pub(super) fn time(text: Option<&str>) -> Result<Option<Timestamp>, Failure> {
    let parsed = text.map(|text| clock::parse(text, Timestamp::now())).transpose();
    parsed.map_err(|wrong| Failure::new(wrong, "times are RFC 3339, or how long ago"))
}

fn render(archived: &Archived) -> String {
    let upto = match archived.upto {
        0 => "no record is archived".to_owned(),
        upto => format!("archived up to record {upto}; the records stay in the stream until ./nachos audit prune"),
    };
    if archived.files.is_empty() {
        return format!("nothing new to archive: {upto}\n");
    }
    let files: String = archived.files.iter().map(|file| format!("wrote {}\n", clean::line(file))).collect();
    format!("{files}{upto}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_archived_is_named() {
        let nothing = Archived { files: vec![], upto: 0 };
        assert_eq!(render(&nothing), "nothing new to archive: no record is archived\n");
        let one = Archived { files: vec!["audit-1.tar.zst".into()], upto: 60 };
        assert!(render(&one).starts_with("wrote audit-1.tar.zst\narchived up to record 60;"));
    }

    #[test]
    fn a_time_is_read_or_refused() {
        assert_eq!(time(None).unwrap(), None);
        assert!(time(Some("30d")).unwrap().unwrap() < Timestamp::now());
        assert!(time(Some("soon")).unwrap_err().hint().is_some());
    }
}
