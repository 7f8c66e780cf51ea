//! What a verification found, as a summary that ends in one word.

use jiff::Timestamp;
use ledger::verify::Problem;
use serde::Serialize;

use super::super::count;
use crate::clean;
use crate::out::{Paint, Style, table};

/// Problems that are listed for a person; the first one matters, a broken log can have as many as it has records.
const SHOWN: usize = 20;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The record, if it is about one.
    pub(super) seq: Option<u64>,
    /// In a word.
    pub(super) kind: String,
    /// In a sentence that names the record.
    pub(super) what: String,
}

impl Finding {
    /// Of its parts.
    pub(super) fn new(seq: Option<u64>, kind: &str, what: impl Into<String>) -> Self {
        Self { seq, kind: kind.to_owned(), what: what.into() }
    }
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        let kind = serde_json::to_value(problem.kind).ok();
        let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or("problem");
        Self::new(problem.seq, kind, problem.what)
    }
}

/// What was verified, and what was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Verdict {
    /// True if nothing is wrong.
    pub(super) ok: bool,
    /// What was looked at.
    pub(super) subject: String,
    /// Records read.
    pub(super) records: u64,
    /// Number of the first of them.
    pub(super) first: Option<u64>,
    /// Number of the last of them.
    pub(super) last: Option<u64>,
    /// Time of the first.
    pub(super) from: Option<Timestamp>,
    /// Time of the last.
    pub(super) to: Option<Timestamp>,
    /// Checkpoints that were checked.
    pub(super) checkpoints: u64,
    /// The last record under a checkpoint.
    pub(super) sealed_upto: u64,
    /// Witnesses that signed as well, and when.
    pub(super) witnesses: Vec<String>,
    /// What was checked against the platform's own rules.
    pub(super) rules: String,
    /// Names of the keys that are trusted.
    pub(super) keys: Vec<String>,
    /// What was compared with the second store.
    pub(super) second_store: Option<String>,
    /// What was compared with the query index.
    pub(super) index: Option<String>,
    /// What is wrong, the first record first.
    pub(super) problems: Vec<Finding>,
    /// Problems beyond those.
    pub(super) untold: u64,
    /// What is worth knowing and not wrong.
    pub(super) notes: Vec<String>,
}

impl Verdict {
    /// Puts the problems in order and decides.
    pub(super) fn conclude(mut self) -> Self {
        // What concerns no single record concerns all of them, but a record that is named is what people look for.
        self.problems.sort_by_key(|problem| problem.seq.unwrap_or(u64::MAX));
        self.ok = self.problems.is_empty();
        self
    }

    /// For a person.
    pub(super) fn render(&self, paint: Paint) -> String {
        let mut rows = self.rows();
        rows.extend(self.notes.iter().map(|note| row(Style::Dim, "note", note)));
        rows.extend(self.problems.iter().take(SHOWN).map(|problem| row(Style::Red, "problem", &problem.what)));
        if self.problems.len() > SHOWN {
            let more = format!("and {} more; --json lists them", (self.problems.len() - SHOWN) as u64 + self.untold);
            rows.push(row(Style::Red, "", &more));
        }
        // What is wrong is said whole, however narrow the terminal.
        let lines = table(Paint { width: None, ..paint }, &rows);
        format!("{}\n{}\n", lines.join("\n"), self.last_line(paint))
    }

    fn rows(&self) -> Vec<Vec<(Style, String)>> {
        let mut rows = vec![row(Style::Dim, "verified", &self.subject), row(Style::Dim, "records", &self.span())];
        if let (Some(from), Some(to)) = (self.from, self.to) {
            rows.push(row(Style::Dim, "stored", &format!("{from:.0} to {to:.0}")));
        }
        let sealed = format!("up to {} by {}", self.sealed_upto, count(self.checkpoints, "checkpoint"));
        rows.push(row(Style::Dim, "sealed", &sealed));
        rows.push(row(Style::Dim, "key", &self.keys.join(", ")));
        let (rules, witnesses) = (told(&self.rules), told(&self.witnesses.join(", ")));
        let more = [
            ("witnesses", &witnesses),
            ("rules", &rules),
            ("second store", &self.second_store),
            ("index", &self.index),
        ];
        rows.extend(more.into_iter().filter_map(|(name, value)| Some(row(Style::Dim, name, value.as_deref()?))));
        rows
    }

    fn span(&self) -> String {
        match (self.first, self.last) {
            (Some(first), Some(last)) => format!("{}, {first} to {last}", self.records),
            _ => self.records.to_string(),
        }
    }

    fn last_line(&self, paint: Paint) -> String {
        match self.problems.first() {
            None => paint.with(Style::Green, "verified"),
            Some(first) => {
                let found = count(self.problems.len() as u64 + self.untold, "problem");
                paint.with(Style::Red, &format!("NOT verified: {found}; the first: {}", clean::line(&first.what)))
            }
        }
    }
}

fn told(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn row(style: Style, name: &str, value: &str) -> Vec<(Style, String)> {
    vec![(style, name.to_owned()), (Style::Plain, clean::line(value))]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn verdict() -> Verdict {
        Verdict {
            subject: "the log on the bus".into(),
            records: 60,
            first: Some(1),
            last: Some(60),
            from: "2026-11-20T10:00:00.123Z".parse().ok(),
            to: "2026-11-21T10:00:00Z".parse().ok(),
            checkpoints: 2,
            sealed_upto: 59,
            keys: vec!["nachos-audit-1a2b3c4d".into()],
            second_store: Some("2 checkpoints, the same".into()),
            notes: vec!["1 record is not sealed yet".into()],
            ..Verdict::default()
        }
    }

    #[test]
    fn a_whole_log_is_verified() {
        expect![[r"
            verified      the log on the bus
            records       60, 1 to 60
            stored        2026-11-20T10:00:00Z to 2026-11-21T10:00:00Z
            sealed        up to 59 by 2 checkpoints
            key           nachos-audit-1a2b3c4d
            second store  2 checkpoints, the same
            note          1 record is not sealed yet
            verified
        "]]
        .assert_eq(&verdict().conclude().render(Paint::PLAIN));
    }

    #[test]
    fn the_first_bad_record_stands_in_the_last_line() {
        let problems =
            (5..40).rev().map(|seq| Finding::new(Some(seq), "changed", format!("record {seq} was\u{1b}[1m changed")));
        let everywhere = Finding::new(None, "key", "the key is another one");
        let bad = Verdict { problems: [everywhere].into_iter().chain(problems).collect(), ..verdict() }.conclude();
        let shown = bad.render(Paint::PLAIN);
        assert!(!bad.ok && shown.contains("and 16 more"), "{shown}");
        assert_eq!(shown.lines().last(), Some("NOT verified: 36 problems; the first: record 5 was changed"));
    }
}
