//! Reading the file, entry by entry and line by line, with a bound on everything that its writer could make large.

use std::io::{BufRead, BufReader, Read};

use sha2::{Digest as _, Sha256};

use super::{CHECKPOINTS, Entry, Line, MANIFEST, Manifest, Note, PackError, RECORDS, VERSION};

/// Longest line: a record of 64 KiB, its proof, and texts of 32 KiB a field, each byte as an escape of six.
const MAX_LINE: u64 = 4 << 20;

/// Largest manifest.
const MAX_MANIFEST: u64 = 1 << 20;

/// Most memory that decompression may ask for, as a power of two: what zstd itself thinks safe for a stranger's file.
const MAX_WINDOW: u32 = 27;

/// Tar is made of blocks of this size.
const BLOCK: u64 = 512;

/// The file as far as it was read.
pub struct Reader<R: Read> {
    source: Entries<BufReader<R>>,
    manifest: Manifest,
    checkpoints: Vec<String>,
    in_records: bool,
}

impl<R: Read> Reader<R> {
    /// Reads up to the first record.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn open(file: R) -> Result<Self, PackError> {
        let mut source = Entries::new(BufReader::new(file))?;
        source.expect(MANIFEST)?;
        let manifest: Manifest = serde_json::from_slice(&source.rest(MAX_MANIFEST)?)
            .map_err(|error| PackError::Broken(format!("the manifest: {error}")))?;
        if manifest.version != VERSION {
            return Err(PackError::Newer(manifest.version));
        }
        source.expect(CHECKPOINTS)?;
        let mut checkpoints = Vec::new();
        while let Some(line) = source.line()? {
            checkpoints.push(parse::<Note>(&line)?.note);
        }
        check_digest(&manifest, CHECKPOINTS, source.digest())?;
        source.expect(RECORDS)?;
        Ok(Self { source, manifest, checkpoints, in_records: true })
    }

    /// What it is by its own word.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The checkpoints in it.
    pub fn checkpoints(&self) -> &[String] {
        &self.checkpoints
    }

    /// The next entry of the records, in stream order.
    ///
    /// # Errors
    /// [`PackError`], also at the end if the records are not those of the manifest.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, PackError> {
        if !self.in_records {
            return Ok(None);
        }
        match self.source.line()? {
            Some(line) => parse::<Line>(&line)?.entry().map(Some),
            None => {
                self.in_records = false;
                check_digest(&self.manifest, RECORDS, self.source.digest()).map(|()| None)
            }
        }
    }

    /// The digest of the converted records, which stand behind the others; `None` if there are none.
    ///
    /// # Errors
    /// [`PackError`], also if there is anything else.
    pub fn converted(&mut self) -> Result<Option<String>, PackError> {
        while self.next_entry()?.is_some() {}
        let found = match self.manifest.format.entry() {
            None => None,
            Some(name) => {
                self.source.expect(name)?;
                let digest = self.source.digest_of_rest()?;
                check_digest(&self.manifest, name, digest.clone())?;
                Some(digest)
            }
        };
        match self.source.next()? {
            None => Ok(found),
            Some(other) => Err(PackError::Broken(format!("it holds `{other}`, which no export does"))),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(line: &[u8]) -> Result<T, PackError> {
    serde_json::from_slice(line).map_err(|error| PackError::Broken(format!("a line that cannot be read: {error}")))
}

fn check_digest(manifest: &Manifest, name: &str, found: String) -> Result<(), PackError> {
    if manifest.sha256.get(name) == Some(&found) {
        return Ok(());
    }
    Err(PackError::Broken(format!("`{name}` is not what the manifest says: its SHA-256 is {found}")))
}

/// The entries of the tar, one after the other.
struct Entries<R: BufRead> {
    stream: BufReader<zstd::Decoder<'static, R>>,
    left: u64,
    padding: u64,
    hash: Sha256,
}

impl<R: BufRead> Entries<R> {
    fn new(file: R) -> Result<Self, PackError> {
        let mut decoder = zstd::Decoder::with_buffer(file)?;
        decoder.window_log_max(MAX_WINDOW)?;
        Ok(Self { stream: BufReader::new(decoder), left: 0, padding: 0, hash: Sha256::new() })
    }

    /// The name of the next entry; `None` at the end of the archive.
    fn next(&mut self) -> Result<Option<String>, PackError> {
        let skip = self.left + self.padding;
        let skipped = std::io::copy(&mut self.stream.by_ref().take(skip), &mut std::io::sink())?;
        let mut block = [0; BLOCK as usize];
        self.stream.read_exact(&mut block)?;
        if skipped != skip {
            return Err(PackError::Broken("an entry is cut off".to_owned()));
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = tar::Header::from_byte_slice(&block);
        let name = header.path()?.to_string_lossy().into_owned();
        self.left = header.entry_size()?;
        self.padding = (BLOCK - self.left % BLOCK) % BLOCK;
        self.hash = Sha256::new();
        Ok(Some(name))
    }

    fn expect(&mut self, name: &str) -> Result<(), PackError> {
        match self.next()? {
            Some(found) if found == name => Ok(()),
            found => Err(PackError::Broken(format!(
                "`{name}` is missing; {} is there",
                found.as_deref().unwrap_or("nothing")
            ))),
        }
    }

    /// The next line of the entry, without its end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, PackError> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut line = Vec::new();
        let read = self.stream.by_ref().take(self.left.min(MAX_LINE)).read_until(b'\n', &mut line)?;
        self.left -= read as u64;
        self.hash.update(&line);
        if line.pop() == Some(b'\n') {
            Ok(Some(line))
        } else {
            Err(PackError::Broken("a line does not end".to_owned()))
        }
    }

    fn rest(&mut self, most: u64) -> Result<Vec<u8>, PackError> {
        if self.left > most {
            return Err(PackError::Broken("a part is larger than any export's".to_owned()));
        }
        let mut bytes = Vec::new();
        self.left -= self.stream.by_ref().take(self.left).read_to_end(&mut bytes)? as u64;
        Ok(bytes)
    }

    fn digest(&mut self) -> String {
        hex::encode(std::mem::take(&mut self.hash).finalize())
    }

    fn digest_of_rest(&mut self) -> Result<String, PackError> {
        let mut hash = std::mem::take(&mut self.hash);
        while self.left > 0 {
            let some = self.stream.fill_buf()?;
            let used = some.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            hash.update(some.get(..used).unwrap_or_default());
            self.stream.consume(used);
            self.left -= used as u64;
            if used == 0 {
                return Err(PackError::Broken("an entry is cut off".to_owned()));
            }
        }
        Ok(hex::encode(hash.finalize()))
    }
}
