//! Records converted, collected in a file of their own: how many there are is known at the end only.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::Path;

use ledger::pack::Format;
use proto::audit::Part;
use proto::seal::RawRecord;

use super::super::show::stored;
use super::sink::no_room;
use crate::clean;
use crate::failure::Failure;

/// Converts one record after the other.
pub(super) enum Converter {
    /// There is nothing to convert.
    Nothing,
    /// JSON lines.
    Lines(BufWriter<File>),
    /// Another format, and the file it goes into.
    Other(Box<ledger::convert::Converter<BufWriter<File>>>, File),
}

impl Converter {
    /// Into a file in `folder`; the records' own form is only written where it stands alone.
    pub(super) fn new(folder: &Path, format: Format, plain: bool) -> io::Result<Self> {
        if format == Format::Jsonl && !plain {
            return Ok(Self::Nothing);
        }
        let file = tempfile::tempfile_in(folder)?;
        let to = BufWriter::new(file.try_clone()?);
        match ledger::convert::Converter::new(format, to).map_err(io::Error::other)? {
            Some(other) => Ok(Self::Other(Box::new(other), file)),
            None => Ok(Self::Lines(BufWriter::new(file))),
        }
    }

    /// The next record.
    pub(super) fn record(&mut self, record: &RawRecord, parts: &BTreeMap<String, Part>) -> Result<(), Failure> {
        match self {
            Self::Nothing => Ok(()),
            Self::Other(other, _) => Ok(other.record(record)?),
            Self::Lines(file) => {
                let line = serde_json::to_string(&stored(record, parts)).map_err(anyhow::Error::new)?;
                writeln!(file, "{}", clean::json(&line)).map_err(no_room)
            }
        }
    }

    /// Copies what was collected.
    pub(super) fn finish(self, to: &mut impl Write) -> Result<(), Failure> {
        let file = match self {
            Self::Nothing => return Ok(()),
            Self::Other(other, file) => {
                other.finish()?;
                file
            }
            Self::Lines(file) => file.into_inner().map_err(io::IntoInnerError::into_error).map_err(no_room)?,
        };
        copy(file, to)
    }
}

fn copy(mut file: File, to: &mut impl Write) -> Result<(), Failure> {
    file.seek(SeekFrom::Start(0)).map_err(no_room)?;
    io::copy(&mut file, to)?;
    Ok(())
}
