//! What is wrong with policies or tools, in words that name the file, the line and what to do.

use std::fmt;

use cedar_policy::ffi::DetailedError;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file or folder.
    pub place: String,
    /// The line, where there is one.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

/// Everything that is wrong, so that a person can mend it in one go. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Problems(pub Vec<Problem>);

impl Problem {
    /// A problem with a file or folder as a whole.
    pub(crate) fn with(place: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self { place: place.to_string(), line: None, message: message.to_string() }
    }

    /// A problem at a byte offset of a file.
    pub(crate) fn at(file: &str, text: &str, offset: usize, message: impl fmt::Display) -> Self {
        Self { line: Some(line_of(text, offset)), ..Self::with(file, message) }
    }

    /// Cedar's own words, with the place that it points to.
    pub(crate) fn of_cedar(file: &str, text: &str, error: &DetailedError) -> Self {
        let help = error.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        let message = format!("{}{help}", error.message);
        match error.source_locations.first() {
            Some(label) => Self::at(file, text, label.loc.start, message),
            None => Self::with(file, message),
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.message),
            None => write!(f, "{}: {}", self.place, self.message),
        }
    }
}
