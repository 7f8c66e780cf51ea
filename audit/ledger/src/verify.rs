//! The verifier: record after record, in order, with all checkpoints that are known from anywhere. It is the same for the live stream, an
//! export, an archive and a backup.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proto::keys::PublicKey;
use proto::seal::{NodeHash, RawRecord};
use serde::Serialize;

use crate::checkpoint::{self, Cosigned, WitnessKey};
use crate::leaf;
use crate::rules::Rules;
use crate::tree::Frontier;

/// Where checkpoints of the bus's own stream are from.
pub const STREAM: &str = "the stream CHECKPOINTS";

/// Where checkpoints of the file outside the bus are from.
pub const SECOND_STORE: &str = "the second store";

/// Problems that are told one by one; of the others only the number.
const MAX_PROBLEMS: usize = 100;

/// Longest run of missing records that is filled up. More cannot be a hole: the log begins somewhere else.
const MAX_HOLE: u64 = 10_000_000;

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// A record is not what was sealed.
    Altered,
    /// A record is gone.
    Deleted,
    /// Records are not in the order of their numbers.
    Reordered,
    /// Time goes backwards.
    Time,
    /// The end of the log is gone.
    Truncated,
    /// Two histories were sealed.
    Fork,
    /// A checkpoint is not genuine.
    Checkpoint,
    /// A checkpoint is gone.
    CheckpointDropped,
    /// Nothing is sealed at all.
    Unsealed,
    /// The file that carries the records is not whole, or not what its manifest says.
    File,
    /// A rule of the platform was broken.
    Rule,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The record, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What kind.
    pub kind: ProblemKind,
    /// In words.
    pub what: String,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Number of the first record.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
    /// Records looked at.
    pub records: u64,
    /// When the first was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// When the last was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// Genuine checkpoints that the records lead to.
    pub checkpoints: u64,
    /// Sealed up to this number.
    pub sealed_upto: u64,
    /// The root there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<NodeHash>,
    /// The log's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Witnesses that cosigned a checkpoint which the records lead to, each with the newest time.
    pub witnesses: BTreeMap<String, Timestamp>,
    /// Tool runs that have their decision.
    pub runs: u64,
    /// Turns that ended.
    pub turns: u64,
    /// What is wrong: the first of each, in the order it was found.
    pub problems: Vec<Problem>,
    /// Problems in all.
    pub problems_total: u64,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn ok(&self) -> bool {
        self.problems_total == 0
    }

    /// Adds a problem.
    pub fn problem(&mut self, seq: Option<u64>, kind: ProblemKind, what: impl Into<String>) {
        self.problems_total += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { seq, kind, what: what.into() });
        }
    }
}

/// A genuine checkpoint that the records have to lead to.
struct Expected {
    root: NodeHash,
    origin: String,
    stores: BTreeSet<String>,
    witnesses: Vec<Cosigned>,
}

/// What the leaves are by somebody else's word: to name the record where they differ.
type Leaves = Box<dyn FnMut(u64) -> Option<NodeHash> + Send>;

/// The verifier.
pub struct Verifier {
    keys: Vec<PublicKey>,
    witnesses: Vec<WitnessKey>,
    tree: Frontier,
    begun: bool,
    checkpoints: BTreeMap<u64, Vec<Expected>>,
    stores: BTreeMap<String, (u64, u64)>,
    leaves: Option<Leaves>,
    rules: Rules,
    last_time: i64,
    diverged: bool,
    report: Report,
}

impl Verifier {
    /// Nothing looked at yet; only these keys are believed.
    pub fn new(keys: Vec<PublicKey>, witnesses: Vec<WitnessKey>) -> Self {
        Self {
            keys,
            witnesses,
            tree: Frontier::empty(),
            begun: false,
            checkpoints: BTreeMap::new(),
            stores: BTreeMap::new(),
            leaves: None,
            rules: Rules::default(),
            last_time: i64::MIN,
            diverged: false,
            report: Report::default(),
        }
    }

    /// The records before are not looked at: only the roots of their subtrees are taken, which lead to the checkpoints as well.
    pub fn start_at(&mut self, tree: Frontier) {
        self.rules.partial = tree.size() > 0;
        self.tree = tree;
    }

    /// The leaves as somebody else has them, by stream number. They are believed in nothing: they have to lead to the same checkpoints.
    /// With them the very record is named that is not what it was.
    pub fn compare_leaves(&mut self, leaves: impl FnMut(u64) -> Option<NodeHash> + Send + 'static) {
        self.leaves = Some(Box::new(leaves));
    }

    /// A checkpoint; `store` says where it is from ([`STREAM`], [`SECOND_STORE`], or a file's name). All that are known go in before the
    /// records that they cover.
    pub fn checkpoint(&mut self, note: &str, store: impl Into<String>) {
        let store = store.into();
        let found = match checkpoint::open(note, &self.keys, &self.witnesses) {
            Ok(found) => found,
            Err(error) => {
                let what = format!("a checkpoint in {store} is not genuine: {error}");
                return self.report.problem(None, ProblemKind::Checkpoint, what);
            }
        };
        let range = self.stores.entry(store.clone()).or_insert((found.size, found.size));
        *range = (range.0.min(found.size), range.1.max(found.size));
        let known = self.checkpoints.entry(found.size).or_default();
        if let Some(same) = known.iter_mut().find(|known| known.root == found.root) {
            same.stores.insert(store);
            same.witnesses.extend(found.witnesses);
            return;
        }
        if let Some(other) = known.first() {
            let there: Vec<&str> = other.stores.iter().map(String::as_str).collect();
            let what = format!(
                "two histories were sealed: the checkpoints over {} records in {} and in {store} are both genuine and differ",
                found.size,
                there.join(" and ")
            );
            self.report.problem(Some(found.size), ProblemKind::Fork, what);
        }
        let (root, origin, witnesses) = (found.root, found.origin, found.witnesses);
        known.push(Expected { root, origin, stores: BTreeSet::from([store]), witnesses });
    }

    /// As [`Verifier::checkpoint`], unless it covers more than `last`: of a log that ends there it says nothing.
    pub fn checkpoint_within(&mut self, note: &str, store: &str, last: u64) {
        let beyond = checkpoint::open(note, &self.keys, &[]).is_ok_and(|found| found.size > last);
        if !beyond {
            self.checkpoint(note, store);
        }
    }

    /// The next record.
    pub fn record(&mut self, record: &RawRecord) {
        if !self.reach(record.seq) {
            return;
        }
        self.report.records += 1;
        let at = Timestamp::from_nanosecond(i128::from(record.time_ns)).ok();
        if self.report.from.is_none() {
            self.report.from = at;
        }
        self.report.to = at;
        if record.time_ns < self.last_time {
            let what =
                format!("record {} was stored before record {}: time goes backwards", record.seq, record.seq - 1);
            self.report.problem(Some(record.seq), ProblemKind::Time, what);
        }
        self.last_time = record.time_ns;
        let mut broken = Vec::new();
        self.rules.record(record, &mut broken);
        self.tell(broken);
        self.push(record.seq, leaf::hash(record), ProblemKind::Altered);
    }

    /// The stream says that it does not hold this number any more.
    pub fn missing(&mut self, seq: u64) {
        if self.reach(seq) {
            self.deleted(seq);
        }
    }

    /// All was given: what is the verdict?
    pub fn finish(mut self) -> Report {
        let size = self.tree.size();
        let beyond = self.checkpoints.iter().rfind(|(covered, _)| **covered > size);
        if let Some((covered, expected)) = beyond {
            let stores: BTreeSet<&str> = expected.iter().flat_map(|one| &one.stores).map(String::as_str).collect();
            let stores: Vec<&str> = stores.into_iter().collect();
            let what = format!(
                "the end of the log is gone: a checkpoint over {covered} records is in {}, but the log ends at {size}",
                stores.join(" and ")
            );
            self.report.problem(Some(size + 1), ProblemKind::Truncated, what);
        }
        self.compare_stores();
        let mut broken = Vec::new();
        let open = self.rules.end(&mut broken);
        self.tell(broken);
        self.sum_up(open);
        self.report
    }

    /// Whether this is the next number; numbers before it that did not come are gone.
    fn reach(&mut self, seq: u64) -> bool {
        let next = self.tree.size() + 1;
        if !std::mem::replace(&mut self.begun, true) {
            self.report.first = next;
        }
        if seq < next {
            let what =
                format!("record {seq} comes after record {}: records are not in the order of their numbers", next - 1);
            self.report.problem(Some(seq), ProblemKind::Reordered, what);
            return false;
        }
        if seq - next > MAX_HOLE {
            let what = format!("records {next} to {} are gone", seq - 1);
            self.report.problem(Some(next), ProblemKind::Deleted, what);
            self.diverged = true;
            return false;
        }
        (next..seq).for_each(|gone| self.deleted(gone));
        true
    }

    fn deleted(&mut self, seq: u64) {
        self.report.problem(
            Some(seq),
            ProblemKind::Deleted,
            format!("record {seq} was deleted: its number is in the log, the record is not"),
        );
        self.push(seq, leaf::missing(seq), ProblemKind::Deleted);
    }

    fn push(&mut self, seq: u64, hash: NodeHash, kind: ProblemKind) {
        let sealed = self.leaves.as_mut().and_then(|leaves| leaves(seq));
        if sealed.is_some_and(|sealed| sealed != hash) && kind == ProblemKind::Altered {
            let what = format!("record {seq} was altered: it, its time or its subject is not what was sealed");
            self.report.problem(Some(seq), ProblemKind::Altered, what);
        }
        self.tree.push(sealed.unwrap_or(hash));
        self.report.last = seq;
        self.compare_root(seq);
    }

    fn compare_root(&mut self, size: u64) {
        let Some(expected) = self.checkpoints.get(&size) else { return };
        let root = self.tree.root();
        if let Some(right) = expected.iter().find(|expected| expected.root == root) {
            self.report.checkpoints += 1;
            self.report.sealed_upto = size;
            self.report.root = Some(root);
            self.report.origin = Some(right.origin.clone());
            for witness in &right.witnesses {
                let newest = self.report.witnesses.entry(witness.name.clone()).or_insert(witness.at);
                *newest = witness.at.max(*newest);
            }
        } else if !std::mem::replace(&mut self.diverged, true) {
            // Once the tree is another one, every later checkpoint differs: that says nothing more.
            let after = self.report.sealed_upto.max(self.report.first.saturating_sub(1)) + 1;
            let what = if after == size {
                format!(
                    "record {size} is not what was sealed: with it the tree has another root than the checkpoint over {size} records"
                )
            } else {
                format!(
                    "records {after} to {size} are not what was sealed: one of them was altered, moved or put in, because the tree has \
                     another root than the checkpoint over {size} records"
                )
            };
            self.report.problem(Some(after), ProblemKind::Altered, what);
        }
    }

    /// The audit service writes each checkpoint to the second store first and then to the stream.
    fn compare_stores(&mut self) {
        let (Some(stream), Some(second)) = (self.stores.get(STREAM).copied(), self.stores.get(SECOND_STORE).copied())
        else {
            return;
        };
        let range = stream.0.max(second.0)..=stream.1.min(second.1);
        let mut lacking = 0;
        for (size, expected) in self.checkpoints.range(range) {
            let has = |store: &str| expected.iter().any(|expected| expected.stores.contains(store));
            if !has(STREAM) {
                let what =
                    format!("the checkpoint over {size} records was dropped from {STREAM}: {SECOND_STORE} has it");
                self.report.problem(Some(*size), ProblemKind::CheckpointDropped, what);
            }
            lacking += u64::from(!has(SECOND_STORE));
        }
        if lacking > 0 {
            self.report.notes.push(format!("{lacking} checkpoints of the stream are not in the second store"));
        }
    }

    fn sum_up(&mut self, open_turns: u64) {
        let report = &mut self.report;
        report.runs = self.rules.runs;
        report.turns = self.rules.turns_ended;
        let unsealed = report.last.saturating_sub(report.sealed_upto);
        if report.records > 0 && report.checkpoints == 0 && !self.diverged && report.problems.is_empty() {
            let what = "no genuine checkpoint covers these records: nothing proves that they are what was written";
            report.problem(None, ProblemKind::Unsealed, what);
        } else if unsealed > 0 && !self.diverged {
            report.notes.push(format!("the newest {unsealed} records are not sealed yet"));
        }
        if open_turns > 0 {
            report.notes.push(format!("{open_turns} turns are under way"));
        }
    }

    fn tell(&mut self, broken: Vec<(u64, String)>) {
        for (seq, what) in broken {
            self.report.problem(Some(seq), ProblemKind::Rule, format!("record {seq}: {what}"));
        }
    }
}
