//! Records in the format that somebody asked for. What was converted is verified by converting it again.

use std::io::Write;

use proto::seal::RawRecord;

use crate::ocsf;
use crate::pack::Format;
use crate::table::{CsvTable, ParquetTable};

/// Writes records in one format.
pub enum Converter<W: Write + Send> {
    /// OCSF events, one a line.
    Ocsf(W),
    /// A table as CSV.
    Csv(Box<CsvTable<W>>),
    /// A table as Parquet.
    Parquet(Box<ParquetTable<W>>),
}

impl<W: Write + Send> Converter<W> {
    /// For this format; `None` if it is the records' own form.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn new(format: Format, out: W) -> anyhow::Result<Option<Self>> {
        Ok(match format {
            Format::Jsonl => None,
            Format::Ocsf => Some(Self::Ocsf(out)),
            Format::Csv => Some(Self::Csv(Box::new(CsvTable::new(out)?))),
            Format::Parquet => Some(Self::Parquet(Box::new(ParquetTable::new(out)?))),
        })
    }

    /// The next record.
    ///
    /// # Errors
    /// As [`Converter::new`].
    pub fn record(&mut self, record: &RawRecord) -> anyhow::Result<()> {
        match self {
            Self::Ocsf(out) => Ok(writeln!(out, "{}", ocsf::event(record))?),
            Self::Csv(table) => table.record(record),
            Self::Parquet(table) => table.record(record),
        }
    }

    /// No more records come.
    ///
    /// # Errors
    /// As [`Converter::new`].
    pub fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Ocsf(mut out) => Ok(out.flush()?),
            Self::Csv(table) => table.finish(),
            Self::Parquet(table) => table.finish(),
        }
    }
}
