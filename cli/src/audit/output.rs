//! Where a command writes what it makes: a file, which is there only when it is whole, or standard output.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use crate::clean;
use crate::failure::Failure;

/// What standard output is called where a file is expected.
pub(super) const STANDARD: &str = "-";

/// A file or standard output.
pub(super) struct Output {
    writer: Box<dyn Write>,
    file: Option<Unfinished>,
}

/// A file on its way; what is not finished is removed.
struct Unfinished {
    part: PathBuf,
    whole: PathBuf,
}

impl Output {
    /// The file of the command line, or standard output, to which bytes that are no text only go where no terminal is.
    pub(super) fn open(path: Option<&Path>, text: bool) -> Result<Self, Failure> {
        let Some(whole) = path.filter(|path| *path != Path::new(STANDARD)) else {
            if !text && io::stdout().is_terminal() {
                let message = "this is no text, and standard output is a terminal";
                return Err(Failure::new(message, "-o FILE writes a file, > FILE and | pass it on"));
            }
            return Ok(Self { writer: Box::new(BufWriter::new(io::stdout())), file: None });
        };
        let mut part = whole.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let created = File::create(&part).map_err(|error| cannot_write(whole, error))?;
        let file = Some(Unfinished { part, whole: whole.to_owned() });
        Ok(Self { writer: Box::new(BufWriter::new(created)), file })
    }

    /// Everything is written.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.writer.flush()?;
        // Closed before it is renamed.
        self.writer = Box::new(io::sink());
        let Some(file) = self.file.take() else { return Ok(()) };
        fs::rename(&file.part, &file.whole).map_err(|error| cannot_write(&file.whole, error))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After it was renamed there is nothing left; before, half a file helps nobody.
        let _gone = fs::remove_file(&self.part);
    }
}

/// What a file is called where it lies: in a container its folder is not the one that the user knows.
pub(super) fn file_name(path: &Path) -> String {
    clean::line(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}

fn cannot_write(path: &Path, error: io::Error) -> Failure {
    Failure::from(anyhow::Error::new(error)).context(format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut abandoned = Output::open(Some(&path), false).unwrap();
        abandoned.write_all(b"half").unwrap();
        drop(abandoned);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        let mut output = Output::open(Some(&path), false).unwrap();
        output.write_all(b"whole").unwrap();
        assert!(!path.exists());
        output.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Output::open(Some(&folder.path().join("no/such/folder")), true).is_err());
    }
}
