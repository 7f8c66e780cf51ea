//! The Merkle tree of RFC 6962 section 2.1: as a file of hashes that only grows, and as the few hashes of a prefix.
//!
//! The algorithms are those of `tlog_tiles`; here is where the hashes are. The file holds the *stored hashes* of a tree in the order in
//! which they are completed (golang.org/x/mod/sumdb/tlog): 32 bytes each, just under two per leaf. Reading a root or a proof touches a
//! number of them that grows with the logarithm of the size, so memory stays flat.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use proto::seal::NodeHash;
use tlog_tiles::{Error, Hash, HashReader};

/// Bytes of a hash.
const HASH: u64 = 32;

/// Largest size that is calculated with: far more records than a stream will ever hold, and far from where the arithmetic ends.
const MAX_SIZE: u64 = 1 << 48;

/// The tree in a file. One writes; reading needs no lock, because what is written never changes.
#[derive(Debug)]
pub struct TreeFile {
    file: File,
    size: u64,
}

impl TreeFile {
    /// Opens the file, or makes it. What a crash left behind the last whole leaf is cut off.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let held = file.metadata()?.len() / HASH;
        let mut tree = Self { file, size: leaves_in(held) };
        tree.truncate(tree.size)?;
        Ok(tree)
    }

    /// Leaves in the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds leaves. They are on disk after [`TreeFile::sync`].
    ///
    /// # Errors
    /// The file cannot be written; the tree is as it was.
    pub fn append(&mut self, leaves: &[NodeHash]) -> io::Result<()> {
        let start = tlog_tiles::stored_hash_count(self.size);
        let mut batch = Batch { file: &self.file, start, added: Vec::with_capacity(leaves.len() * 2) };
        for (index, leaf) in (self.size..).zip(leaves) {
            let hashes = tlog_tiles::stored_hashes_for_record_hash(index, Hash(leaf.0), &batch).map_err(wrong)?;
            batch.added.extend(hashes);
        }
        let bytes: Vec<u8> = batch.added.iter().flat_map(|hash| hash.0).collect();
        self.file.write_all_at(&bytes, start * HASH)?;
        self.size += leaves.len() as u64;
        Ok(())
    }

    /// Waits until everything is on disk.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Forgets the leaves from `size` on.
    ///
    /// # Errors
    /// The file cannot be shortened.
    pub fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.size = size.min(self.size);
        self.file.set_len(tlog_tiles::stored_hash_count(self.size) * HASH)
    }

    /// The leaf at `index`, from 0.
    ///
    /// # Errors
    /// There is no such leaf, or the file cannot be read.
    pub fn leaf(&self, index: u64) -> io::Result<NodeHash> {
        self.within(index + 1)?;
        let hash = read_one(&self.file, tlog_tiles::stored_hash_index(0, index))?;
        Ok(NodeHash(hash.0))
    }

    /// The root over the first `size` leaves.
    ///
    /// # Errors
    /// As [`TreeFile::leaf`].
    pub fn root(&self, size: u64) -> io::Result<NodeHash> {
        self.within(size)?;
        tlog_tiles::tree_hash(size, &Stored(&self.file)).map(|hash| NodeHash(hash.0)).map_err(wrong)
    }

    /// The inclusion proof of the leaf at `index` in the tree of the first `size` leaves, lowest first.
    ///
    /// # Errors
    /// As [`TreeFile::leaf`].
    pub fn prove(&self, index: u64, size: u64) -> io::Result<Vec<NodeHash>> {
        self.within(size)?;
        tlog_tiles::prove_record(size, index, &Stored(&self.file)).map(ours).map_err(wrong)
    }

    /// The proof that the tree of the first `new` leaves continues that of the first `old`.
    ///
    /// # Errors
    /// As [`TreeFile::leaf`].
    pub fn prove_consistency(&self, old: u64, new: u64) -> io::Result<Vec<NodeHash>> {
        self.within(new)?;
        tlog_tiles::prove_tree(new, old, &Stored(&self.file)).map(ours).map_err(wrong)
    }

    /// The roots of the complete subtrees of the first `size` leaves, largest first.
    ///
    /// # Errors
    /// As [`TreeFile::leaf`].
    pub fn frontier(&self, size: u64) -> io::Result<Vec<NodeHash>> {
        self.within(size)?;
        let mut before = 0;
        let mut hashes = Vec::new();
        for level in levels(size) {
            let hash = read_one(&self.file, tlog_tiles::stored_hash_index(level, before >> level))?;
            hashes.push(NodeHash(hash.0));
            before += 1 << level;
        }
        Ok(hashes)
    }

    fn within(&self, size: u64) -> io::Result<()> {
        if size <= self.size {
            return Ok(());
        }
        let said = format!("the tree has {} leaves, {size} were asked for", self.size);
        Err(io::Error::new(io::ErrorKind::InvalidInput, said))
    }
}

/// Levels of the complete subtrees of a tree of this size, largest first: its one bits.
fn levels(size: u64) -> impl Iterator<Item = u8> {
    (0..u64::BITS as u8).rev().filter(move |level| size >> level & 1 == 1)
}

/// The most leaves whose stored hashes fit into so many.
fn leaves_in(held: u64) -> u64 {
    let (mut low, mut high) = (0, held + 1);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if tlog_tiles::stored_hash_count(middle) <= held { low = middle } else { high = middle }
    }
    low
}

fn read_one(file: &File, index: u64) -> io::Result<Hash> {
    let mut hash = [0; HASH as usize];
    file.read_exact_at(&mut hash, index * HASH)?;
    Ok(Hash(hash))
}

fn wrong(error: Error) -> io::Error {
    io::Error::other(error.to_string())
}

fn ours(hashes: Vec<Hash>) -> Vec<NodeHash> {
    hashes.into_iter().map(|hash| NodeHash(hash.0)).collect()
}

fn theirs(hashes: &[NodeHash]) -> Vec<Hash> {
    hashes.iter().map(|hash| Hash(hash.0)).collect()
}

/// The hashes in the file.
struct Stored<'a>(&'a File);

impl HashReader for Stored<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        let read = |index: &u64| read_one(self.0, *index).map_err(|error| Error::InvalidInput(error.to_string()));
        indexes.iter().map(read).collect()
    }
}

/// The hashes in the file, and behind them those that are about to be written.
struct Batch<'a> {
    file: &'a File,
    start: u64,
    added: Vec<Hash>,
}

impl HashReader for Batch<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        let read = |index: &u64| match index.checked_sub(self.start) {
            None => read_one(self.file, *index).map_err(|error| Error::InvalidInput(error.to_string())),
            Some(at) => {
                let added = usize::try_from(at).ok().and_then(|at| self.added.get(at)).copied();
                added.ok_or_else(|| Error::InvalidInput("a hash that is not there yet".to_owned()))
            }
        };
        indexes.iter().map(read).collect()
    }
}

/// The roots of the complete subtrees of a prefix: enough to go on from there and to know its root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    hashes: Vec<NodeHash>,
}

impl Frontier {
    /// Of nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Of the first `size` leaves, largest subtree first; `None` if it is not the right number of hashes for that.
    pub fn resume(size: u64, hashes: &[NodeHash]) -> Option<Self> {
        let fits = size <= MAX_SIZE && levels(size).count() == hashes.len();
        fits.then(|| Self { size, hashes: hashes.to_vec() })
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: NodeHash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                node = parent(left, node);
            }
        }
        self.hashes.push(node);
        self.size += 1;
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over them.
    pub fn root(&self) -> NodeHash {
        let mut from_the_right = self.hashes.iter().rev().copied();
        let empty = || NodeHash(tlog_tiles::EMPTY_HASH.0);
        from_the_right.next().map_or_else(empty, |last| from_the_right.fold(last, |right, left| parent(left, right)))
    }

    /// The hashes, largest subtree first.
    pub fn hashes(&self) -> &[NodeHash] {
        &self.hashes
    }
}

fn parent(left: NodeHash, right: NodeHash) -> NodeHash {
    NodeHash(tlog_tiles::node_hash(Hash(left.0), Hash(right.0)).0)
}

/// Whether `leaf` is at `index` of the tree with this root and size.
pub fn check_inclusion(root: NodeHash, proof: &[NodeHash], index: u64, size: u64, leaf: NodeHash) -> bool {
    let possible = index < size && size <= MAX_SIZE;
    possible && tlog_tiles::check_record(&theirs(proof), size, Hash(root.0), index, Hash(leaf.0)).is_ok()
}

/// Whether the tree with the new root and size continues the one with the old.
pub fn check_consistency(old: (u64, NodeHash), new: (u64, NodeHash), proof: &[NodeHash]) -> bool {
    let possible = 0 < old.0 && old.0 <= new.0 && new.0 <= MAX_SIZE;
    possible && tlog_tiles::check_tree(&theirs(proof), new.0, Hash(new.1.0), old.0, Hash(old.1.0)).is_ok()
}

#[cfg(test)]
mod tests;
