//! Files as they are written, and as somebody edited them.

use std::collections::BTreeMap;

use proto::keys::SigningKey;
use proto::seal::{Body, RawRecord};

use super::*;
use crate::tree::Frontier;
use crate::verify::ProblemKind;
use crate::{checkpoint, leaf};

fn record(seq: u64) -> RawRecord {
    let id = uuid::Uuid::from_u128(u128::from(seq));
    let body =
        format!(r#"{{"id":"{id}","source":"/nachos/cli","type":"component.started","data":{{"version":"{seq}"}}}}"#);
    RawRecord {
        seq,
        time_ns: 1_700_000_000_000_000_000 + i64::try_from(seq).unwrap(),
        subject: "nachos.audit.log.cli".into(),
        body: Body::new(body.into_bytes()),
    }
}

fn about(key: &SigningKey, first: u64, frontier: Vec<NodeHash>) -> Manifest {
    Manifest {
        version: VERSION,
        kind: Kind::Range,
        first,
        last: 0,
        records: 0,
        frontier,
        key: key.public(),
        filter: None,
        format: Format::Jsonl,
        created: Timestamp::UNIX_EPOCH,
        tool: "test".into(),
        sha256: BTreeMap::new(),
    }
}

/// Records `first` to `last` of a log, sealed at every tenth and at the end; `edit` changes what is written.
fn range(key: &SigningKey, first: u64, last: u64, edit: impl Fn(RawRecord) -> Option<RawRecord>) -> Vec<u8> {
    let mut tree = Frontier::empty();
    (1..first).for_each(|seq| tree.push(leaf::hash(&record(seq))));
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path(), about(key, first, tree.hashes().to_vec())).unwrap();
    for seq in first..=last {
        tree.push(leaf::hash(&record(seq)));
        if seq % 10 == 0 || seq == last {
            writer.checkpoint(&checkpoint::sign(key, seq, tree.root()).unwrap()).unwrap();
        }
        if let Some(record) = edit(record(seq)) {
            writer.record(&record, None, &BTreeMap::new()).unwrap();
        }
    }
    writer.finish(Vec::new()).unwrap().1
}

fn check(file: &[u8], key: &SigningKey) -> Report {
    verify(file, &[key.public()], &[], &[]).unwrap()
}

use crate::verify::Report;

#[test]
fn an_untouched_file_verifies_wherever_in_the_log_it_begins() {
    let key = SigningKey::from_seed([1; 32]);
    for (first, last) in [(1, 1), (1, 35), (8, 35), (33, 70)] {
        let report = check(&range(&key, first, last, Some), &key);
        assert!(report.ok(), "{report:?}");
        assert_eq!((report.first, report.last, report.sealed_upto), (first, last, last));
    }
}

#[test]
fn every_edit_is_found_and_named() {
    let key = SigningKey::from_seed([1; 32]);
    let problem = |edit: &dyn Fn(RawRecord) -> Option<RawRecord>| {
        let report = check(&range(&key, 3, 35, edit), &key);
        let first = report.problems.first().cloned().expect("it is found");
        println!("{}", first.what);
        (first.kind, first.seq)
    };
    let altered = problem(&|mut record| {
        if record.seq == 17 {
            record.body = Body::new(b"{}".to_vec());
        }
        Some(record)
    });
    assert_eq!(altered, (ProblemKind::Altered, Some(11)), "between the checkpoints over 10 and 20");
    assert_eq!(problem(&|record| (record.seq != 17).then_some(record)), (ProblemKind::Deleted, Some(17)));
    let swapped = problem(&|record| {
        Some(match record.seq {
            17 => super::tests::record(18),
            18 => super::tests::record(17),
            _ => record,
        })
    });
    assert_eq!(swapped.0, ProblemKind::Deleted);
    assert_eq!(problem(&|record| (record.seq < 31).then_some(record)), (ProblemKind::Truncated, Some(31)));
    let later = problem(&|mut record| {
        record.time_ns += i64::from(record.seq == 35);
        Some(record)
    });
    assert_eq!(later, (ProblemKind::Altered, Some(31)));
    let backwards = problem(&|mut record| {
        record.time_ns -= if record.seq == 12 { 100 } else { 0 };
        Some(record)
    });
    assert_eq!(backwards, (ProblemKind::Time, Some(12)));
}

#[test]
fn another_key_or_a_known_checkpoint_that_differs_is_found() {
    let (key, other) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
    let file = range(&key, 1, 35, Some);
    let report = verify(&*file, &[other.public()], &[], &[]).unwrap();
    assert_eq!(report.problems[0].kind, ProblemKind::Checkpoint);
    let fork = checkpoint::sign(&key, 20, NodeHash([9; 32])).unwrap();
    let report = verify(&*file, &[key.public()], &[], &[("a printout".into(), fork)]).unwrap();
    assert_eq!((report.problems[0].kind, report.problems[0].seq), (ProblemKind::Fork, Some(20)));
    let beyond = checkpoint::sign(&key, 99, NodeHash([9; 32])).unwrap();
    assert!(verify(&*file, &[key.public()], &[], &[("a printout".into(), beyond)]).unwrap().ok());
}

#[test]
fn a_file_that_was_damaged_anywhere_is_refused_and_never_verified() {
    let key = SigningKey::from_seed([1; 32]);
    let file = range(&key, 1, 200, Some);
    let trusted = [key.public()];
    for at in (0..file.len()).step_by(7) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        if let Ok(report) = verify(&*damaged, &trusted, &[], &[]) {
            // Only what does not matter may change: a header's time, padding.
            let same =
                zstd::decode_all(&*damaged).is_ok_and(|tar| tar.len() == zstd::decode_all(&*file).unwrap().len());
            assert!(!report.ok() || same, "byte {at}");
        }
    }
    for cut in [0, 1, 100, file.len() / 2, file.len() - 1] {
        assert!(verify(&file[..cut], &trusted, &[], &[]).is_err(), "cut at {cut}");
    }
}
