//! The second store of checkpoints: files in a volume of their own, which the bus does not see. `checkpoints.jsonl` holds every note with
//! its time, one JSON object a line; `latest` the newest note alone, for other people's tools. In `witnessed/` lie notes that witnesses
//! have cosigned, put there by whoever asked them.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Bytes at the end of the file that hold the last line: a note has some hundred.
const TAIL: u64 = 64 * 1024;

/// Most cosigned notes that are looked at: the newest one counts.
const MAX_WITNESSED: usize = 100;

/// The folder.
#[derive(Debug, Clone)]
pub struct SecondStore {
    folder: PathBuf,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    at: Timestamp,
    note: String,
}

impl SecondStore {
    /// In this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Adds a note; it is on disk when this returns.
    ///
    /// # Errors
    /// The folder is not there or takes no more.
    pub fn append(&self, at: Timestamp, note: &str) -> io::Result<()> {
        let line = serde_json::to_string(&Line { at, note: note.to_owned() })?;
        let mut file =
            File::options().create(true).read(true).append(true).open(self.folder.join("checkpoints.jsonl"))?;
        // A line that a crash has cut off stays as it is, by itself.
        let torn = file.seek(SeekFrom::End(-1)).is_ok() && {
            let mut last = [0];
            file.read_exact(&mut last)?;
            last != *b"\n"
        };
        file.write_all(format!("{}{line}\n", if torn { "\n" } else { "" }).as_bytes())?;
        file.sync_data()?;
        let new = self.folder.join("latest.new");
        fs::write(&new, note)?;
        fs::rename(new, self.folder.join("latest"))
    }

    /// The last whole note.
    pub fn last(&self) -> Option<String> {
        let mut file = File::open(self.folder.join("checkpoints.jsonl")).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).ok()?;
        let text = String::from_utf8_lossy(&text);
        text.lines().rev().find_map(|line| serde_json::from_str::<Line>(line).ok()).map(|line| line.note)
    }

    /// Notes with cosignatures of witnesses.
    pub fn witnessed(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folder.join("witnessed")) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        paths.iter().rev().take(MAX_WITNESSED).filter_map(|path| fs::read_to_string(path).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_note_is_found_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let store = SecondStore::new(dir.path().to_owned());
        assert_eq!(store.last(), None);
        store.append(Timestamp::UNIX_EPOCH, "one\n").unwrap();
        let path = dir.path().join("checkpoints.jsonl");
        let torn = fs::read_to_string(&path).unwrap() + r#"{"at":"20"#;
        fs::write(&path, torn).unwrap();
        assert_eq!(store.last().as_deref(), Some("one\n"));
        store.append(Timestamp::UNIX_EPOCH, "two\n").unwrap();
        assert_eq!(store.last().as_deref(), Some("two\n"));
        assert_eq!(fs::read_to_string(dir.path().join("latest")).unwrap(), "two\n");
        assert!(SecondStore::new(dir.path().join("gone")).append(Timestamp::UNIX_EPOCH, "x").is_err());
    }
}
