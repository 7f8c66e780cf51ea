//! Records as a table, for spreadsheets and databases: CSV (RFC 4180) and Apache Parquet with the same columns. The same records give the
//! same bytes, because an export is verified by converting again.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use proto::seal::RawRecord;
use serde_json::Value;

use crate::facts::Facts;

/// The columns after the number, in their order.
pub const COLUMNS: [&str; 15] = [
    "stored",
    "component",
    "type",
    "id",
    "session",
    "turn",
    "trace",
    "principal",
    "channel",
    "tool",
    "outcome",
    "policies",
    "reason",
    "source",
    "body",
];

/// Rows of a row group: what is held in memory until it is written.
const ROW_GROUP: usize = 10_000;

/// The cells of a record after its number; empty where the record says nothing.
fn cells(record: &RawRecord) -> [String; COLUMNS.len()] {
    let body: Value = serde_json::from_slice(record.body.as_bytes()).unwrap_or_default();
    let facts = Facts::read(record.body.as_bytes());
    let word = |value: Option<String>| value.unwrap_or_default();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let stored = Timestamp::from_nanosecond(i128::from(record.time_ns)).unwrap_or_default();
    [
        stored.to_string(),
        record.subject.rsplit('.').next().unwrap_or_default().to_owned(),
        facts.kind,
        word(facts.id),
        word(facts.session),
        word(facts.turn),
        word(facts.trace),
        word(facts.principal),
        word(facts.channel),
        word(facts.tool),
        word(facts.outcome),
        facts.policies.join(" "),
        text(body.pointer("/data/reason")),
        text(body.get("source")),
        String::from_utf8_lossy(record.body.as_bytes()).into_owned(),
    ]
}

/// Writes CSV with a heading.
pub struct CsvTable<W: Write> {
    writer: csv::Writer<W>,
}

impl<W: Write> CsvTable<W> {
    /// Writes the heading.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn new(out: W) -> anyhow::Result<Self> {
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
        writer.write_record(["seq"].iter().chain(&COLUMNS))?;
        Ok(Self { writer })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// As [`CsvTable::new`].
    pub fn record(&mut self, record: &RawRecord) -> anyhow::Result<()> {
        let cells = cells(record).map(harmless);
        let seq = record.seq.to_string();
        self.writer.write_record([&seq].into_iter().chain(&cells)).map_err(Into::into)
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As [`CsvTable::new`].
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.writer.flush().map_err(Into::into)
    }
}

/// A spreadsheet takes a cell that begins so for a formula, which whoever wrote the text would then run on the reader's machine (OWASP,
/// CSV injection): such a cell begins with an apostrophe instead.
fn harmless(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

/// Writes Parquet: one row group after the other.
pub struct ParquetTable<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    numbers: Vec<i64>,
    columns: Vec<Vec<ByteArray>>,
}

impl<W: Write + Send> ParquetTable<W> {
    /// Begins the file.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn new(out: W) -> anyhow::Result<Self> {
        let column = |name: &str, physical, logical| {
            let column = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
            column.with_logical_type(logical).build().map(Arc::new)
        };
        let mut fields = vec![column("seq", Physical::INT64, None)?];
        for name in COLUMNS {
            fields.push(column(name, Physical::BYTE_ARRAY, Some(LogicalType::String))?);
        }
        let schema = Type::group_type_builder("record").with_fields(fields).build()?;
        let properties = WriterProperties::builder()
            .set_created_by("nachos".to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
        Ok(Self { writer, numbers: Vec::new(), columns: vec![Vec::new(); COLUMNS.len()] })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// As [`ParquetTable::new`].
    pub fn record(&mut self, record: &RawRecord) -> anyhow::Result<()> {
        self.numbers.push(i64::try_from(record.seq).unwrap_or(i64::MAX));
        for (column, cell) in self.columns.iter_mut().zip(cells(record)) {
            column.push(ByteArray::from(cell.into_bytes()));
        }
        if self.numbers.len() >= ROW_GROUP { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> anyhow::Result<()> {
        let mut group = self.writer.next_row_group()?;
        let mut first = group.next_column()?.context("no column for the number")?;
        first.typed::<Int64Type>().write_batch(&self.numbers, None, None)?;
        first.close()?;
        for cells in &self.columns {
            let mut column = group.next_column()?.context("too few columns")?;
            column.typed::<ByteArrayType>().write_batch(cells, None, None)?;
            column.close()?;
        }
        group.close()?;
        self.numbers.clear();
        self.columns.iter_mut().for_each(Vec::clear);
        Ok(())
    }

    /// Writes what is left and the footer.
    ///
    /// # Errors
    /// As [`ParquetTable::new`].
    pub fn finish(mut self) -> anyhow::Result<()> {
        if !self.numbers.is_empty() {
            self.write_group()?;
        }
        self.writer.close()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::RowAccessor as _;
    use proto::seal::Body;

    use super::*;

    fn record(seq: u64, reason: &str) -> RawRecord {
        let body = serde_json::json!({
            "id": "i", "source": "/nachos/policy", "type": "policy.decided", "principal": "=cmd|' /C calc'!A0",
            "data": {"action": "call_tool", "resource": "clock", "outcome": "deny", "policies": ["a", "b"], "reason": reason},
        });
        let subject = "nachos.audit.log.policy".to_owned();
        RawRecord { seq, time_ns: 1_700_000_000_000_000_001, subject, body: Body::new(body.to_string().into_bytes()) }
    }

    fn records() -> Vec<RawRecord> {
        let mut records: Vec<_> = (1..=3).map(|seq| record(seq, "because, \"so\"\nit is")).collect();
        records.push(RawRecord { seq: 4, time_ns: 0, subject: "x".into(), body: Body::new(b"\xff\xfe".to_vec()) });
        records
    }

    #[test]
    fn a_csv_is_read_back_and_no_cell_is_a_formula() {
        let mut bytes = Vec::new();
        let mut table = CsvTable::new(&mut bytes).unwrap();
        records().iter().for_each(|record| table.record(record).unwrap());
        table.finish().unwrap();
        let mut reader = csv::Reader::from_reader(&*bytes);
        assert_eq!(reader.headers().unwrap().len(), COLUMNS.len() + 1);
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 4);
        assert_eq!((&rows[0][0], &rows[0][1], &rows[0][2]), ("1", "2023-11-14T22:13:20.000000001Z", "policy"));
        assert_eq!((&rows[0][8], &rows[0][13]), ("'=cmd|' /C calc'!A0", "because, \"so\"\nit is"));
        assert!(rows.iter().flat_map(|row| row.iter()).all(|cell| !cell.starts_with(['=', '+', '@'])));
    }

    #[test]
    fn a_parquet_file_is_read_back_and_always_the_same() {
        let write = || {
            let mut bytes = Vec::new();
            let mut table = ParquetTable::new(&mut bytes).unwrap();
            records().iter().for_each(|record| table.record(record).unwrap());
            table.finish().unwrap();
            bytes
        };
        let bytes = write();
        assert_eq!(bytes, write());
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 4);
        assert_eq!((rows[0].get_long(0).unwrap(), rows[0].get_string(3).unwrap().as_str()), (1, "policy.decided"));
        assert_eq!(rows[3].get_string(3).unwrap(), "unreadable");
    }
}
