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
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// The test vectors of Certificate Transparency: eight entries, and the root after each.
    const ENTRIES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn leaf(data: &[u8]) -> NodeHash {
        NodeHash(Sha256::new().chain_update([0]).chain_update(data).finalize().into())
    }

    fn node(left: NodeHash, right: NodeHash) -> NodeHash {
        NodeHash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    /// MTH(D[n]) as RFC 6962 section 2.1 writes it.
    fn mth(leaves: &[NodeHash]) -> NodeHash {
        match leaves.len() {
            0 => NodeHash(Sha256::digest([]).into()),
            1 => leaves[0],
            n => {
                let k = (n - 1).ilog2();
                let (left, right) = leaves.split_at(1 << k);
                node(mth(left), mth(right))
            }
        }
    }

    /// PATH(m, D[n]) as RFC 6962 section 2.1.1 writes it.
    fn path(m: usize, leaves: &[NodeHash]) -> Vec<NodeHash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(1 << (leaves.len() - 1).ilog2());
        let (mut below, beside) =
            if m < left.len() { (path(m, left), mth(right)) } else { (path(m - left.len(), right), mth(left)) };
        below.push(beside);
        below
    }

    fn tree(leaves: &[NodeHash]) -> (tempfile::TempDir, TreeFile) {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = TreeFile::open(&dir.path().join("tree")).unwrap();
        for some in leaves.chunks(5) {
            tree.append(some).unwrap();
        }
        (dir, tree)
    }

    #[test]
    fn the_vectors_of_certificate_transparency_hold() {
        let leaves: Vec<NodeHash> = ENTRIES.iter().map(|entry| leaf(&hex::decode(entry).unwrap())).collect();
        let (_dir, tree) = tree(&leaves);
        let mut frontier = Frontier::empty();
        for (n, root) in ROOTS.iter().enumerate() {
            frontier.push(leaves[n]);
            let size = n as u64 + 1;
            assert_eq!(hex::encode(tree.root(size).unwrap().0), *root);
            assert_eq!(hex::encode(frontier.root().0), *root);
        }
    }

    #[test]
    fn roots_proofs_and_frontiers_are_those_of_the_rfc() {
        let leaves: Vec<NodeHash> = (0..70_u8).map(|n| leaf(&[n])).collect();
        let (_dir, tree) = tree(&leaves);
        let mut frontier = Frontier::empty();
        assert_eq!(frontier.root(), mth(&[]));
        for size in 1..=leaves.len() {
            frontier.push(leaves[size - 1]);
            let (root, n) = (mth(&leaves[..size]), size as u64);
            assert_eq!((tree.root(n).unwrap(), frontier.root()), (root, root));
            assert_eq!(tree.frontier(n).unwrap(), frontier.hashes());
            assert_eq!(Frontier::resume(n, frontier.hashes()), Some(frontier.clone()));
            for index in 0..size {
                let proof = tree.prove(index as u64, n).unwrap();
                assert_eq!(proof, path(index, &leaves[..size]));
                assert!(check_inclusion(root, &proof, index as u64, n, leaves[index]));
                assert!(!check_inclusion(root, &proof, index as u64, n, leaf(b"other")));
                if size > 1 {
                    assert!(!check_inclusion(root, &proof, (index as u64 + 1) % n, n, leaves[index]));
                }
                let old = (index as u64 + 1, mth(&leaves[..=index]));
                let proof = tree.prove_consistency(old.0, n).unwrap();
                assert!(check_consistency(old, (n, root), &proof));
                assert!(!check_consistency((old.0, leaf(b"other")), (n, root), &proof));
            }
        }
    }

    #[test]
    fn a_torn_end_is_cut_off_and_the_tree_goes_on() {
        let leaves: Vec<NodeHash> = (0..13_u8).map(|n| leaf(&[n])).collect();
        for torn in [1, 31, 32, 33, 64, 95] {
            let (dir, whole) = tree(&leaves);
            let path = dir.path().join("tree");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() - torn]).unwrap();
            drop(whole);
            let mut again = TreeFile::open(&path).unwrap();
            assert!(again.size() < 13);
            let rest = again.size() as usize;
            again.append(&leaves[rest..]).unwrap();
            assert_eq!(again.root(13).unwrap(), mth(&leaves));
        }
        let (_dir, mut tree) = tree(&leaves);
        tree.truncate(5).unwrap();
        assert!(tree.root(6).is_err() && tree.leaf(5).is_err());
        tree.append(&leaves[5..]).unwrap();
        assert_eq!(tree.root(13).unwrap(), mth(&leaves));
    }

    #[test]
    fn sizes_that_cannot_be_prove_nothing() {
        let one = leaf(b"one");
        assert!(!check_inclusion(one, &[], 1, 1, one) && !check_inclusion(one, &[], 0, u64::MAX, one));
        assert!(!check_consistency((0, one), (1, one), &[]) && !check_consistency((2, one), (1, one), &[]));
        assert_eq!(Frontier::resume(3, &[one]), None);
        assert_eq!(Frontier::resume(u64::MAX, &[one; 64]), None);
    }
}
