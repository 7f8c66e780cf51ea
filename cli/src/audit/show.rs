//! `nachos audit show`: one turn as a story, told from proven records.

use std::collections::{BTreeMap, BTreeSet};

use bus::Bus;
use futures_util::{StreamExt as _, stream};
use ledger::bundle;
use proto::audit::{Filter, Part, Query, StoredRecord, attach};
use proto::seal::{Bundle, RawRecord, Which};
use serde_json::Value;
use uuid::Uuid;

use super::ask::ask;
use super::progress::Progress;
use super::prove::prove;
use super::trust::{self, Trust};
use super::{records, story};
use crate::failure::{Ending, Failure};
use crate::out::Out;
use crate::session::Session;

/// Proofs asked for at the same time.
const IN_FLIGHT: usize = 16;

/// Most records that are told as one story; a turn is bounded to far fewer.
const MAX_STORY: usize = 2000;

/// Digits from which on a number can be the beginning of a trace: `tail` shows eight. Streams with as many records are asked for both.
const TRACE_DIGITS: usize = 8;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The turn: its id, the first digits of its trace, or the number of one of its records.
    turn: String,
    /// The story as one JSON object.
    #[arg(long)]
    json: bool,
    /// Which key it must be signed with.
    #[command(flatten)]
    trust: trust::Args,
}

/// A record and what proves it.
pub(super) struct Evidence {
    /// The record: what was sealed, if it is proven; else what the index says.
    pub(super) record: StoredRecord,
    /// Why it is not proven.
    pub(super) unproven: Option<String>,
}

/// Finds the turn, proves its records, tells it.
pub(crate) async fn run(session: Session, mut out: Out, args: Args) -> Result<Ending, Failure> {
    let (common, config) = session.settings()?;
    let trust = args.trust.load(&config)?;
    let bus = crate::session::connect(common).await?;
    let found = find(&bus, args.turn.trim()).await?;
    let evidence = prove_all(&bus, &trust, found).await;
    story::print(&mut out, &evidence, args.json)
}

/// The records that are meant.
async fn find(bus: &Bus, wanted: &str) -> Result<Vec<StoredRecord>, Failure> {
    let found = match Uuid::parse_str(wanted) {
        Ok(id) => by_id(bus, id).await?,
        Err(_) => by_digits(bus, wanted).await?,
    };
    match found.len() {
        0 => Err(Failure::new(
            format!("there is no turn `{wanted}`"),
            "nachos audit query --type turn.finished lists turns",
        )),
        1..=MAX_STORY => Ok(found),
        more => {
            let hint = "nachos audit query --trace shows them as a table";
            Err(Failure::new(format!("{more} records are too many for a story"), hint))
        }
    }
}

/// A turn's id, or a record's.
async fn by_id(bus: &Bus, id: Uuid) -> Result<Vec<StoredRecord>, Failure> {
    let turn = records::all(bus, &Filter { turn: Some(id), ..Filter::default() }).await?;
    if let Some(first) = turn.first() {
        return around(bus, first.clone()).await;
    }
    match prove(bus, Which::Id(id)).await {
        Ok(bundle) => around(bus, sealed(&bundle)).await,
        Err(_) => Ok(Vec::new()),
    }
}

async fn by_digits(bus: &Bus, wanted: &str) -> Result<Vec<StoredRecord>, Failure> {
    let number: Option<u64> = wanted.parse().ok();
    let hex = (1..=32).contains(&wanted.len()) && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex && (number.is_none() || wanted.len() >= TRACE_DIGITS) {
        let found = of_trace(bus, wanted).await?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    match number {
        Some(seq) if seq > 0 => by_number(bus, seq).await,
        _ if hex => Ok(Vec::new()),
        _ => Err(Failure::new(
            format!("`{wanted}` names no turn"),
            "give a turn's id, the first digits of a trace, or a record's number",
        )),
    }
}

async fn by_number(bus: &Bus, seq: u64) -> Result<Vec<StoredRecord>, Failure> {
    let query = Query { v: proto::VERSION, filter: Filter::default(), after: Some(seq - 1), limit: 1, newest: false };
    let page = ask(bus, &query).await?;
    match page.records.into_iter().find(|record| record.seq == seq) {
        Some(record) => around(bus, record).await,
        None => Ok(Vec::new()),
    }
}

/// Everything of the trace of this record: what a channel recorded before the turn had an id belongs to the story.
async fn around(bus: &Bus, record: StoredRecord) -> Result<Vec<StoredRecord>, Failure> {
    match trace(&record) {
        Some(trace) => of_trace(bus, &trace).await,
        None => Ok(vec![record]),
    }
}

/// Everything of the one trace that begins so.
async fn of_trace(bus: &Bus, digits: &str) -> Result<Vec<StoredRecord>, Failure> {
    let found = records::all(bus, &Filter { trace: Some(digits.to_owned()), ..Filter::default() }).await?;
    let traces: BTreeSet<String> = found.iter().filter_map(trace).collect();
    if traces.len() > 1 {
        let all: Vec<String> = traces.into_iter().take(10).collect();
        return Err(Failure::new(
            format!("`{digits}` begins several traces: {}", all.join(", ")),
            "give more digits of one of them",
        ));
    }
    Ok(found)
}

fn trace(record: &StoredRecord) -> Option<String> {
    let parent = record.record.get("traceparent").and_then(Value::as_str)?;
    parent.split('-').nth(1).map(str::to_owned)
}

/// Replaces each record by the one that was sealed, or says why that cannot be.
async fn prove_all(bus: &Bus, trust: &Trust, found: Vec<StoredRecord>) -> Vec<Evidence> {
    let shown = Progress::bar("proving", found.len() as u64);
    let shown = &shown;
    let one = |record: StoredRecord| async move {
        let evidence = prove_one(bus, trust, record).await;
        shown.done(1);
        evidence
    };
    stream::iter(found).map(one).buffered(IN_FLIGHT).collect().await
}

async fn prove_one(bus: &Bus, trust: &Trust, record: StoredRecord) -> Evidence {
    let bundle = match prove(bus, Which::Seq(record.seq)).await {
        Ok(bundle) => bundle,
        Err(failure) => return Evidence { record, unproven: Some(failure.to_string()) },
    };
    match bundle::verify(&bundle, &trust.keys) {
        Ok(_) if bundle.record.seq == record.seq => Evidence { record: sealed(&bundle), unproven: None },
        Ok(_) => Evidence { record, unproven: Some("the proof is of another record".to_owned()) },
        Err(error) => Evidence { record, unproven: Some(error.to_string()) },
    }
}

/// The record as it was sealed, with the texts beside it.
fn sealed(bundle: &Bundle) -> StoredRecord {
    stored(&bundle.record, &bundle.parts)
}

/// A record of the stream as people look at it.
pub(super) fn stored(raw: &RawRecord, parts: &BTreeMap<String, Part>) -> StoredRecord {
    let text = String::from_utf8_lossy(raw.body.as_bytes());
    let mut record = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()));
    attach(&mut record, parts);
    StoredRecord {
        seq: raw.seq,
        stored: jiff::Timestamp::from_nanosecond(raw.time_ns.into()).unwrap_or_default(),
        component: raw.subject.rsplit('.').next().unwrap_or_default().to_owned(),
        record,
    }
}

#[cfg(test)]
mod tests {
    use proto::content::Salt;
    use proto::keys::SigningKey;
    use proto::seal::Body;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sealed_record_is_shown_with_its_texts_and_the_component_of_its_subject() {
        let body = json!({"type": "message.received", "source": "/nachos/policy", "data": {"text": {"digest": "d", "bytes": 2}}});
        let part = Part { salt: Salt::random(), text: Some("hi".into()), redacted: false };
        let bundle = Bundle {
            v: 1,
            record: RawRecord {
                seq: 4,
                time_ns: 1_000_000_000,
                subject: "nachos.audit.log.cli".into(),
                body: Body::new(body.to_string().into_bytes()),
            },
            proof: vec![],
            checkpoint: String::new(),
            key: SigningKey::from_seed([1; 32]).public(),
            parts: BTreeMap::from([("text".to_owned(), part)]),
        };
        let shown = sealed(&bundle);
        assert_eq!((shown.seq, shown.component.as_str(), shown.stored.as_second()), (4, "cli", 1));
        assert_eq!(shown.record["data"]["text"]["text"], "hi");
    }
}
