//! The platform's own rules, checked over the record: a tool runs only after policy allowed exactly these arguments, a permit opens one
//! run, what ends has begun, a component speaks for itself only, and every turn ends.
//!
//! Memory is bounded by time: permits live for seconds, so what is older than [`WINDOW`] by the stream's own clock is forgotten.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};

use proto::seal::RawRecord;
use serde::Deserialize;
use serde_json::value::RawValue;

/// How long permits, runs and ids are remembered, in nanoseconds of the stream's time: an hour. A permit lives for 30 seconds and a tool
/// runs for minutes at most.
const WINDOW: i64 = 3600 * 1_000_000_000;

/// Longest time between a decision and the run that it permits: the permit's life, and what clocks may differ by.
const PERMIT_AGE: i64 = 120 * 1_000_000_000;

/// A turn without any record for this long before the end of the log should have ended: a turn is bounded to minutes, and goes on after
/// a crash within seconds.
const TURN_PATIENCE: i64 = 600 * 1_000_000_000;

/// What a rule says about a record: its number, and what is wrong.
pub(crate) type Broken = (u64, String);

/// The part of a CloudEvent that rules look at; borrowed, because there are millions.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    source: Cow<'a, str>,
    #[serde(borrow, default)]
    turn: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Decided<'a> {
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow, default)]
    permit: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<Digest<'a>>,
}

#[derive(Deserialize)]
struct Started<'a> {
    #[serde(borrow)]
    run: Cow<'a, str>,
    #[serde(borrow)]
    tool: Cow<'a, str>,
    #[serde(borrow)]
    decision: Cow<'a, str>,
    #[serde(borrow)]
    arguments: Digest<'a>,
}

#[derive(Deserialize)]
struct Finished<'a> {
    #[serde(borrow)]
    run: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Digest<'a> {
    #[serde(borrow)]
    digest: Cow<'a, str>,
}

struct Permit {
    decision: String,
    tool: String,
    digest: String,
    at: i64,
    started: Option<u64>,
    finished: Option<u64>,
}

struct Turn {
    last_seq: u64,
    last_at: i64,
}

/// The state of the rules after the records so far.
#[derive(Default)]
pub(crate) struct Rules {
    permits: HashMap<String, Permit>,
    by_age: VecDeque<(i64, String)>,
    ids: HashSet<u128>,
    ids_by_age: VecDeque<(i64, u128)>,
    turns: HashMap<String, Turn>,
    begin: Option<i64>,
    /// Whether records before the first one are not seen: what they permitted is not known.
    pub(crate) partial: bool,
    now: i64,
    pub(crate) runs: u64,
    pub(crate) turns_ended: u64,
}

impl Rules {
    /// Looks at the next record.
    pub(crate) fn record(&mut self, record: &RawRecord, broken: &mut Vec<Broken>) {
        self.now = self.now.max(record.time_ns);
        self.begin.get_or_insert(record.time_ns);
        self.forget();
        let Ok(event) = serde_json::from_slice::<Event<'_>>(record.body.as_bytes()) else {
            // Filed as unreadable; it claims nothing, so it breaks no rule.
            return;
        };
        let mut say = |what: String| broken.push((record.seq, what));
        let component = record.subject.rsplit('.').next().unwrap_or_default();
        if event.source.strip_prefix("/nachos/") != Some(component) {
            say(format!("it says that it is from {}, but {component} published it", event.source));
        }
        if let Some(what) = self.id(&event) {
            say(what);
        }
        self.turn(&event, record.seq);
        let wrong = match (&*event.kind, component) {
            ("policy.decided", "policy") => self.decided(&event),
            ("tool.started", _) => self.started(&event, record.seq),
            ("tool.finished", _) => self.finished(&event, record.seq),
            _ => None,
        };
        if let Some(what) = wrong {
            say(what);
        }
    }

    /// What is still open when the log ends: problems, and how many turns are under way.
    pub(crate) fn end(&self, broken: &mut Vec<Broken>) -> u64 {
        let mut young = 0;
        for (id, turn) in &self.turns {
            if self.now - turn.last_at > TURN_PATIENCE {
                let minutes = (self.now - turn.last_at) / 60_000_000_000;
                broken.push((
                    turn.last_seq,
                    format!("turn {id} never ended: this is its last record, {minutes} minutes before the log's end"),
                ));
            } else {
                young += 1;
            }
        }
        young
    }

    fn id(&mut self, event: &Event<'_>) -> Option<String> {
        let id = uuid::Uuid::try_parse(&event.id).ok()?.as_u128();
        if !self.ids.insert(id) {
            return Some(format!("its id {} was used before", event.id));
        }
        self.ids_by_age.push_back((self.now, id));
        None
    }

    fn turn(&mut self, event: &Event<'_>, seq: u64) {
        let Some(turn) = &event.turn else { return };
        if event.kind == "turn.finished" {
            self.turns.remove(&**turn);
            self.turns_ended += 1;
        } else if event.kind == "message.sent" || event.kind == "message.undeliverable" {
            // A reply goes out after the end of its turn.
        } else {
            self.turns.insert(turn.to_string(), Turn { last_seq: seq, last_at: self.now });
        }
    }

    fn decided(&mut self, event: &Event<'_>) -> Option<String> {
        let decided: Decided<'_> = serde_json::from_str(event.data?.get()).ok()?;
        let permit = decided.permit?;
        if decided.outcome != "allow" {
            return Some(format!("it made a permit although it decided {}", decided.outcome));
        }
        if self.permits.contains_key(&*permit) {
            return Some(format!("permit {permit} was made before"));
        }
        let digest = decided.arguments.map(|arguments| arguments.digest.into_owned()).unwrap_or_default();
        self.by_age.push_back((self.now, permit.to_string()));
        let (decision, tool) = (event.id.to_string(), decided.resource.into_owned());
        let made = Permit { decision, tool, digest, at: self.now, started: None, finished: None };
        self.permits.insert(permit.into_owned(), made);
        None
    }

    fn started(&mut self, event: &Event<'_>, seq: u64) -> Option<String> {
        let started: Started<'_> = match serde_json::from_str(event.data?.get()) {
            Ok(started) => started,
            Err(error) => return Some(format!("a run that cannot be read: {error}")),
        };
        self.runs += 1;
        let now = self.now;
        let unseen = self.may_be_unseen();
        let Some(permit) = self.permits.get_mut(&*started.run) else {
            let what = format!("tool {} ran without a decision that allowed it (run {})", started.tool, started.run);
            return (!unseen).then_some(what);
        };
        if let Some(before) = permit.started {
            return Some(format!("permit {} was used twice: record {before} used it first", started.run));
        }
        permit.started = Some(seq);
        if permit.decision != started.decision {
            return Some(format!("the run names decision {}, its permit is of {}", started.decision, permit.decision));
        }
        if permit.tool != started.tool {
            return Some(format!("tool {} ran, but the decision allowed {}", started.tool, permit.tool));
        }
        if permit.digest != started.arguments.digest {
            return Some(format!("tool {} ran with other arguments than the decision allowed", started.tool));
        }
        (now - permit.at > PERMIT_AGE).then(|| {
            format!("the run began {} s after its decision; permits live for 30 s", (now - permit.at) / 1_000_000_000)
        })
    }

    fn finished(&mut self, event: &Event<'_>, seq: u64) -> Option<String> {
        let finished: Finished<'_> = serde_json::from_str(event.data?.get()).ok()?;
        let unseen = self.may_be_unseen();
        match self.permits.get_mut(&*finished.run) {
            Some(permit) if permit.started.is_some() => match permit.finished.replace(seq) {
                Some(before) => Some(format!("run {} ended twice: record {before} ended it first", finished.run)),
                None => None,
            },
            _ => (!unseen).then(|| format!("run {} ended without having started", finished.run)),
        }
    }

    /// Whether what a record refers to may lie before the part of the log that is looked at.
    fn may_be_unseen(&self) -> bool {
        self.partial && self.begin.is_some_and(|begin| self.now - begin < WINDOW)
    }

    fn forget(&mut self) {
        let old = self.now - WINDOW;
        while self.by_age.front().is_some_and(|(at, _)| *at < old) {
            if let Some((_, permit)) = self.by_age.pop_front() {
                self.permits.remove(&permit);
            }
        }
        while self.ids_by_age.front().is_some_and(|(at, _)| *at < old) {
            if let Some((_, id)) = self.ids_by_age.pop_front() {
                self.ids.remove(&id);
            }
        }
    }
}
