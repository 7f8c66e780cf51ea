//! Writing the file: its parts are collected in files of their own first, because a tar wants to know how long they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::Path;

use proto::audit::Part;
use proto::seal::{NodeHash, RawRecord};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{CHECKPOINTS, Kind, Line, MANIFEST, Manifest, Note, RECORDS};

/// How hard zstd tries: its default, fast and about a tenth of the size for records.
const LEVEL: i32 = 3;

/// A part that is being collected.
struct Spool {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Spool {
    fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(tempfile::tempfile_in(folder)?), hash: Sha256::new() })
    }

    fn line<T: Serialize>(&mut self, line: &T) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.write_all(&text)
    }

    /// The part from its beginning, its length and its digest.
    fn collected(self) -> io::Result<(File, u64, String)> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let length = file.stream_position()?;
        file.seek(SeekFrom::Start(0))?;
        Ok((file, length, hex::encode(self.hash.finalize())))
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Collects records and writes the file at the end.
pub struct Writer {
    manifest: Manifest,
    checkpoints: Spool,
    records: Spool,
    converted: Option<Spool>,
}

impl Writer {
    /// `about` says what it will be; numbers and digests are filled in. Parts are collected in `folder`, which needs room for them.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn new(folder: &Path, about: Manifest) -> io::Result<Self> {
        let converted = about.format.entry().map(|_| Spool::new(folder)).transpose()?;
        let manifest = Manifest { records: 0, sha256: BTreeMap::new(), ..about };
        Ok(Self { manifest, checkpoints: Spool::new(folder)?, records: Spool::new(folder)?, converted })
    }

    /// Adds a signed checkpoint.
    ///
    /// # Errors
    /// The folder takes no more.
    pub fn checkpoint(&mut self, note: &str) -> io::Result<()> {
        self.checkpoints.line(&Note { note: note.to_owned() })
    }

    /// Adds a record, in stream order: with its proof in a selection, and with what is kept beside it if that goes along.
    ///
    /// # Errors
    /// As [`Writer::checkpoint`].
    pub fn record(
        &mut self,
        record: &RawRecord,
        proof: Option<&[NodeHash]>,
        parts: &BTreeMap<String, Part>,
    ) -> io::Result<()> {
        self.count(record.seq);
        let line = Line { proof: proof.map(<[_]>::to_vec), parts: parts.clone(), ..Line::of(record) };
        self.records.line(&line)
    }

    /// Adds a number that the stream does not hold any more; the tree has a leaf of its own kind there.
    ///
    /// # Errors
    /// As [`Writer::checkpoint`].
    pub fn missing(&mut self, seq: u64) -> io::Result<()> {
        self.count(seq);
        self.records.line(&Line { missing: Some(seq), ..Line::default() })
    }

    /// Where the converted records go; nowhere if the format has none.
    pub fn converted(&mut self) -> Option<impl Write + Send + '_> {
        self.converted.as_mut()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn finish<W: Write>(mut self, out: W) -> io::Result<(Manifest, W)> {
        let mut parts = vec![(CHECKPOINTS, self.checkpoints.collected()?), (RECORDS, self.records.collected()?)];
        if let (Some(name), Some(spool)) = (self.manifest.format.entry(), self.converted) {
            parts.push((name, spool.collected()?));
        }
        let digests = parts.iter().map(|(name, (_, _, digest))| ((*name).to_owned(), digest.clone()));
        self.manifest.sha256 = digests.collect();
        let mut tar = tar::Builder::new(zstd::Encoder::new(out, LEVEL)?);
        let manifest = serde_json::to_vec_pretty(&self.manifest)?;
        append(&mut tar, MANIFEST, manifest.len() as u64, &*manifest)?;
        for (name, (file, length, _)) in parts {
            append(&mut tar, name, length, file)?;
        }
        let out = tar.into_inner()?.finish()?;
        Ok((self.manifest, out))
    }

    fn count(&mut self, seq: u64) {
        if self.manifest.records == 0 && self.manifest.kind == Kind::Selection {
            self.manifest.first = seq;
        }
        self.manifest.last = seq;
        self.manifest.records += 1;
    }
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, length: u64, content: impl io::Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content)
}
