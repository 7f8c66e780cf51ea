//! Files that only their owner reads, written whole or not at all.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

/// Readable by the owner alone; the owner replaces a file by renaming, so nobody needs to write it.
const OWNER_READS: u32 = 0o400;

/// Writes a file beside its place, flushes it and puts it in place.
pub(super) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let half = path.with_extension("new");
    let _ = fs::remove_file(&half);
    let put = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(OWNER_READS).open(&half)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&half, path)
    };
    put().with_context(|| format!("cannot write {}", path.display()))
}

/// The file's text, or `None` if it is not there.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a file unless it says the same already; tells whether it was written.
pub(super) fn update(path: &Path, content: &str) -> anyhow::Result<bool> {
    let stale = read(path)?.as_deref() != Some(content);
    if stale {
        write(path, content.as_bytes())?;
    }
    Ok(stale)
}
