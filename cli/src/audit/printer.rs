//! Records on their way to whoever asked: a line each, with or without its number, or JSON.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proto::audit::StoredRecord;

use super::{line, print_json};
use crate::clock;
use crate::failure::Failure;
use crate::out::{Out, Paint, Style, pad};

/// How records are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A line each.
    Lines,
    /// A line each that begins with the number in the stream, which takes so many columns.
    Numbered(usize),
    /// One JSON object a line, as they are stored.
    Json,
}

/// Prints records.
pub(super) struct Printer {
    out: Out,
    form: Form,
    zone: TimeZone,
    /// Records that were printed.
    pub(super) printed: u64,
}

impl Printer {
    /// To `out`, in the time zone of whoever looks.
    pub(super) fn new(out: Out, form: Form) -> Self {
        Self { out, form, zone: clock::zone(), printed: 0 }
    }

    /// Some, in their order.
    pub(super) fn records(&mut self, records: &[StoredRecord]) -> Result<(), Failure> {
        records.iter().try_for_each(|record| self.record(record))
    }

    /// One.
    pub(super) fn record(&mut self, record: &StoredRecord) -> Result<(), Failure> {
        let (paint, now) = (self.out.paint(), Timestamp::now());
        if let (0, Form::Numbered(width)) = (self.printed, self.form) {
            self.out.line(&heading(paint, width))?;
        }
        self.printed += 1;
        match self.form {
            Form::Json => print_json(&mut self.out, record),
            Form::Lines => Ok(self.out.line(&line::render(paint, record, now, &self.zone))?),
            Form::Numbered(width) => Ok(self.out.line(&numbered(paint, record, now, &self.zone, width))?),
        }
    }
}

fn heading(paint: Paint, width: usize) -> String {
    let titles = line::heading();
    paint.with(Style::Bold, &format!("{}  {titles}", pad("#", width)))
}

fn numbered(paint: Paint, record: &StoredRecord, now: Timestamp, zone: &TimeZone, width: usize) -> String {
    let number = format!("{:>width$}  ", record.seq);
    let room = Paint { width: paint.width.map(|all| all.saturating_sub(number.len()).max(1)), ..paint };
    format!("{}{}", paint.with(Style::Bold, &number), line::render(room, record, now, zone))
}
