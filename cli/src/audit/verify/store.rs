//! The second store of checkpoints: a file in a volume of its own, out of reach of whoever owns the bus's.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

/// The folder beside the file, in which lie notes that witnesses have signed as well.
const WITNESSED: &str = "witnessed";

/// Most of them that are looked at: the newest count.
const MAX_WITNESSED: usize = 100;

/// The second store.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// Its notes, oldest first.
    pub(super) notes: Vec<String>,
    /// The same notes with the signatures of witnesses, where there are any.
    pub(super) witnessed: Vec<String>,
    /// Lines that are no notes: a crash may leave one that is cut off.
    pub(super) broken: usize,
}

#[derive(Deserialize)]
struct Line {
    note: String,
}

impl Store {
    /// Reads the file and what lies beside it.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read(path)?;
        let mut store = Self { witnessed: witnessed(path), ..Self::default() };
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Line>(line) {
                Ok(line) => store.notes.push(line.note),
                Err(_) => store.broken += 1,
            }
        }
        Ok(store)
    }
}

fn witnessed(path: &Path) -> Vec<String> {
    let folder = path.parent().unwrap_or(Path::new("")).join(WITNESSED);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().rev().take(MAX_WITNESSED).filter_map(|path| fs::read_to_string(path).ok()).collect()
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
    fn a_line_that_a_crash_cut_off_is_counted_and_what_witnesses_signed_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("checkpoints.jsonl");
        fs::write(&file, "{\"at\":\"x\",\"note\":\"n\"}\n{\"at\":\"20\n{\"note\":\"m\"}\n{\"no").unwrap();
        fs::create_dir(folder.path().join(WITNESSED)).unwrap();
        fs::write(folder.path().join(WITNESSED).join("1"), "signed").unwrap();
        let store = Store::read(&file).unwrap();
        assert_eq!(
            (store.notes, store.witnessed, store.broken),
            (vec!["n".into(), "m".into()], vec!["signed".into()], 2)
        );
    }
}
