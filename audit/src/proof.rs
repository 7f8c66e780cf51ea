//! Answers about the proof: bundles, the seal, the frontier, the index compared with the tree, texts beside records, erasure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError};
use ledger::checkpoint::{self, WitnessKey};
use proto::audit::{Fact, STREAM, Scope};
use proto::seal::{
    Archive, Archived, Bundle, Contents as Kept, ContentsRequest, Erase, Erased, FrontierReply, FrontierRequest,
    Inspect, Inspected, MAX_INSPECT, Prove, RawRecord, Seal, SealRequest, Which,
};
use proto::{Refusal, RefusalCode};
use tokio::time::timeout;

use crate::Follow;
use crate::archive::{self, Archiver};
use crate::contents::Contents;
use crate::index::Index;
use crate::row::Row;
use crate::seal::Shared;

/// How long to wait until what is stored is indexed; a catching-up index takes longer, and its caller is told.
const INDEXED: Duration = Duration::from_secs(8);

/// Records of one page of texts: with texts of 32 KiB each, still under a message's limit most of the time.
const CONTENTS_PAGE: u64 = 100;

/// Bytes of texts in one answer; a bus message holds a mebibyte.
const CONTENTS_BYTES: usize = 512 * 1024;

/// What answers are made of.
#[derive(Clone)]
pub(crate) struct Prover {
    pub(crate) bus: Bus,
    pub(crate) index: Index,
    pub(crate) sealer: Shared,
    pub(crate) contents: Contents,
    pub(crate) follow: Follow,
    pub(crate) archiver: Arc<Archiver>,
    /// Whose cosignatures count.
    pub(crate) witnesses: Arc<[WitnessKey]>,
}

/// Serves the requests of `proto::seal`.
pub(crate) async fn start(bus: &Bus, prover: Prover) -> Result<(), BusError> {
    let p = prover.clone();
    bus.serve(move |call: bus::Call<Prove>| p.clone().prove(call.body.which)).await?;
    let p = prover.clone();
    bus.serve(move |call: bus::Call<SealRequest>| p.clone().seal(call.body.now)).await?;
    let p = prover.clone();
    bus.serve(move |call: bus::Call<FrontierRequest>| p.clone().frontier(call.body.size)).await?;
    let p = prover.clone();
    bus.serve(move |call: bus::Call<Inspect>| p.clone().inspect(call.body.after)).await?;
    let p = prover.clone();
    bus.serve(move |call: bus::Call<ContentsRequest>| p.clone().contents(call.body)).await?;
    let p = prover.clone();
    bus.serve(move |call: bus::Call<Erase>| p.clone().erase(call.body)).await?;
    bus.serve(move |call: bus::Call<Archive>| prover.clone().archive(call.body)).await
}

impl Prover {
    async fn prove(self, which: Which) -> Result<Bundle, Refusal> {
        let seq = match which {
            Which::Seq(seq) => seq,
            Which::Id(id) => self.index.number_of(id).await.map_err(|error| failed(&error))?.ok_or_else(no_record)?,
        };
        let record = self.record(seq).await?;
        self.cover(seq).await?;
        let parts = self.parts(&record).await?;
        let sealer = self.sealer.lock().await;
        let signed = sealer.last.as_ref().filter(|signed| signed.size >= seq).ok_or_else(|| unsealed(&sealer))?;
        let proof = sealer.tree.prove(seq - 1, signed.size).map_err(|error| failed(&error))?;
        Ok(Bundle { v: proto::VERSION, record, proof, checkpoint: signed.note.clone(), key: sealer.key(), parts })
    }

    /// From the stream; what is only in the archive any more, as the index holds it.
    async fn record(&self, seq: u64) -> Result<RawRecord, Refusal> {
        if seq == 0 {
            return Err(no_record());
        }
        if let Some(record) = self.bus.look_up(STREAM, seq).await.map_err(|error| failed(&error))? {
            return Ok(record);
        }
        let rows = self.index.rows(seq - 1, seq, 1).await.map_err(|error| failed(&error))?;
        rows.first().map(Row::record).ok_or_else(no_record)
    }

    async fn parts(&self, record: &RawRecord) -> Result<BTreeMap<String, proto::audit::Part>, Refusal> {
        let row = Row::new(record);
        let Some(id) = row.facts.id else { return Ok(BTreeMap::new()) };
        let mut found = self.contents.of(std::slice::from_ref(&id)).await.map_err(|error| failed(&error))?;
        Ok(found.remove(&(id, row.component)).unwrap_or_default())
    }

    /// Makes a checkpoint if none covers this number yet.
    async fn cover(&self, seq: u64) -> Result<(), Refusal> {
        if self.sealer.lock().await.last.as_ref().is_some_and(|signed| signed.size >= seq) {
            return Ok(());
        }
        let upto = self.indexed(seq).await?;
        let mut sealer = self.sealer.lock().await;
        if sealer.last.as_ref().is_none_or(|signed| signed.size < seq) {
            sealer.carry_on(&self.index, upto, true).await;
        }
        Ok(())
    }

    /// Waits until the index has seen this number.
    async fn indexed(&self, seq: u64) -> Result<u64, Refusal> {
        let mut follow = self.follow.clone();
        let seen = timeout(INDEXED, follow.wait_for(|progress| progress.upto() >= seq)).await;
        match seen {
            Ok(Ok(progress)) => Ok(progress.upto()),
            _ => Err(Refusal::new(RefusalCode::Unavailable, "the audit service is catching up: ask again in a moment")),
        }
    }

    async fn seal(self, now: bool) -> Result<Seal, Refusal> {
        let state = self.bus.stream_state(STREAM).await.map_err(|error| failed(&error))?;
        if now && state.last_seq > 0 {
            self.cover(state.last_seq).await?;
        }
        let sealer = self.sealer.lock().await;
        let names = archive::files(&self.archiver.folder).into_iter();
        let names = names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        Ok(Seal {
            size: sealer.last.as_ref().map_or(0, |signed| signed.size),
            checkpoint: self.newest_note(&sealer),
            at: sealer.last.as_ref().and_then(|signed| signed.at),
            key: sealer.key(),
            first: state.first_seq,
            archives: names.collect(),
            problems: sealer.contradiction.iter().cloned().collect(),
        })
    }

    /// The newest note; with the cosignatures of witnesses where somebody has put them beside it.
    fn newest_note(&self, sealer: &crate::seal::Sealer) -> String {
        let Some(signed) = &sealer.last else { return String::new() };
        let body = signed.note.split("\n\n").next().unwrap_or_default();
        let genuine = |note: &String| {
            checkpoint::open(note, &[sealer.key()], &self.witnesses).is_ok_and(|found| !found.witnesses.is_empty())
        };
        let cosigned = sealer.store().witnessed().into_iter().find(|note| note.starts_with(body) && genuine(note));
        cosigned.unwrap_or_else(|| signed.note.clone())
    }

    async fn frontier(self, size: u64) -> Result<FrontierReply, Refusal> {
        let hashes = self.sealer.lock().await.tree.frontier(size).map_err(|error| failed(&error))?;
        Ok(FrontierReply { hashes })
    }

    /// Row by row: is it what was sealed, and do its columns say what it says?
    async fn inspect(self, after: u64) -> Result<Inspected, Refusal> {
        let size = self.sealer.lock().await.tree.size();
        let upto = size.min(after.saturating_add(MAX_INSPECT));
        let rows = self.index.rows(after, upto, MAX_INSPECT).await.map_err(|error| failed(&error))?;
        let mut rows = rows.into_iter().peekable();
        let mut wrong = Vec::new();
        let sealer = self.sealer.lock().await;
        for seq in after + 1..=upto {
            let leaf = sealer.tree.leaf(seq - 1).map_err(|error| failed(&error))?;
            match rows.next_if(|row| row.seq == seq) {
                None => wrong.push((seq, "the row is gone".to_owned())),
                Some(row) => wrong.extend(what_is_wrong(&row, leaf).map(|what| (seq, what))),
            }
        }
        Ok(Inspected { upto, done: upto == size, wrong })
    }

    async fn contents(self, asked: ContentsRequest) -> Result<Kept, Refusal> {
        let rows = self.index.rows(asked.after, asked.upto, CONTENTS_PAGE).await.map_err(|error| failed(&error))?;
        let ids: Vec<String> = rows.iter().filter_map(|row| row.facts.id.clone()).collect();
        let mut found = self.contents.of(&ids).await.map_err(|error| failed(&error))?;
        let (mut items, mut bytes) = (Vec::new(), 0);
        let mut upto =
            if rows.len() < usize::try_from(CONTENTS_PAGE).unwrap_or(usize::MAX) { asked.upto } else { asked.after };
        for row in rows {
            let key = row.facts.id.clone().map(|id| (id, row.component.clone()));
            if let Some(parts) = key.and_then(|key| found.remove(&key)) {
                bytes += parts.values().map(|part| part.text.as_ref().map_or(64, String::len) + 64).sum::<usize>();
                if bytes > CONTENTS_BYTES && !items.is_empty() {
                    return Ok(Kept { items, upto: row.seq - 1 });
                }
                items.push((row.seq, parts));
            }
            upto = upto.max(row.seq);
        }
        Ok(Kept { items, upto })
    }

    /// Recorded first: an erasure that nobody can prove to have been asked for is not done.
    async fn erase(self, asked: Erase) -> Result<Erased, Refusal> {
        let records = self.index.records_of(&asked.whose, asked.before).await.map_err(|error| failed(&error))?;
        let count = self.contents.count(&records).await.map_err(|error| failed(&error))?;
        if asked.dry_run || count == 0 {
            return Ok(Erased { records: count });
        }
        let fact = Fact::ContentErased { what: asked.whose.to_string(), records: count, reason: asked.reason };
        let recorded = self.bus.record(None, Scope::default(), fact).await;
        recorded.map_err(|error| Refusal::new(RefusalCode::Unavailable, format!("nothing was erased: {error}")))?;
        let records = self.contents.erase(&records).await.map_err(|error| failed(&error))?;
        Ok(Erased { records })
    }

    async fn archive(self, asked: Archive) -> Result<Archived, Refusal> {
        self.archiver.run(asked.before).await.map_err(|error| {
            tracing::error!("archiving: {error:#}");
            Refusal::new(RefusalCode::Internal, format!("not everything was archived: {error:#}"))
        })
    }
}

/// What of a row is not as it was sealed.
fn what_is_wrong(row: &Row, leaf: proto::seal::NodeHash) -> Option<String> {
    let right =
        if row.raw.is_empty() && row.subject.is_empty() { Row::missing(row.seq) } else { Row::new(&row.record()) };
    if right.leaf != leaf {
        return Some("the record in the index is not the one that was sealed".to_owned());
    }
    if right.component != row.component {
        return Some(format!("the index says that {} wrote it; it was {}", row.component, right.component));
    }
    let sorted = |row: &Row| {
        let mut facts = row.facts.clone();
        facts.policies.sort();
        facts.policies.dedup();
        facts
    };
    (sorted(&right) != sorted(row)).then(|| "a column of the index says something else than the record".to_owned())
}

fn no_record() -> Refusal {
    Refusal::new(RefusalCode::NotFound, "there is no such record")
}

fn unsealed(sealer: &crate::seal::Sealer) -> Refusal {
    let why = sealer.contradiction.as_deref().unwrap_or("the checkpoint could not be made; `nachos doctor` says more");
    Refusal::new(RefusalCode::Unavailable, format!("the record is not sealed: {why}"))
}

fn failed(error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%error, "a question about the proof failed");
    Refusal::new(RefusalCode::Internal, "the proof cannot be read; `nachos doctor` and `nachos logs audit` say more")
}
