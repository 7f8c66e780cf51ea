//! The tree against a transcription of RFC 6962 and the vectors of Certificate Transparency.

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
