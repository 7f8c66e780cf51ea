//! The second store of checkpoints: a file in a volume of its own, out of reach of whoever owns the bus's.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::verdict::Finding;

/// The second store.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// Its notes, oldest first.
    pub(super) notes: Vec<String>,
    /// Lines that are none.
    pub(super) broken: Vec<Finding>,
}

#[derive(Deserialize)]
struct Line {
    note: String,
}

impl Store {
    /// Reads the file. A last line without an end is still being written.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read(path)?;
        let mut store = Self::default();
        for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            match serde_json::from_slice::<Line>(line) {
                Ok(line) => store.notes.push(line.note),
                Err(error) => store.broken.push(Finding::new(
                    None,
                    "checkpoint",
                    format!("line {number} of the second store of checkpoints is none: {error}"),
                )),
            }
        }
        Ok(store)
    }
}

/// The number of records that a note covers, its second line.
pub(super) fn size(note: &str) -> u64 {
    note.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(0)
}

/// Checkpoints that are newer than all of the stream: the file is written first, so a service that is killed in between leaves one.
pub(super) fn unpublished(stream: &[(u64, String)], file: &[String]) -> Option<String> {
    let newest = stream.iter().map(|(_, note)| size(note)).max().unwrap_or(0);
    match file.iter().filter(|note| size(note) > newest).count() {
        0 => None,
        found => Some(format!(
            "{found} of the second store are newer than all in the stream CHECKPOINTS, and were checked too"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_that_the_stream_lacks_are_counted() {
        let note = |size: u64| format!("o\n{size}\nroot\n\n— o sig\n");
        let stream = [(1, note(5)), (2, note(9))];
        assert_eq!(unpublished(&stream, &[note(5), note(9)]), None);
        assert!(unpublished(&stream, &[note(9), note(11)]).unwrap().starts_with("1 of the second store"));
    }

    #[test]
    fn a_line_that_is_none_is_said_and_a_torn_end_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "{\"at\":\"x\",\"note\":\"n\"}\nnonsense\n{\"note\":\"m\"}\n{\"no").unwrap();
        let store = Store::read(file.path()).unwrap();
        assert_eq!(store.notes, ["n", "m"]);
        assert!(store.broken[0].what.starts_with("line 2 "));
    }
}
