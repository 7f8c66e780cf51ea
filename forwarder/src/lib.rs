//! Sends the audit stream on to a SIEM: at least once, in order, from where it stopped.
//!
//! Its durable consumer is the position: a record is acknowledged when the destination has taken it, so a restart goes on there. What the
//! destination does not take is tried again for ever; nothing is skipped. Checkpoints go along, so that they are outside the platform.
//! Records hold salted digests of texts and never a text, so what was sent on need not be erased there.
//!
//! Roads not taken: two destinations of one forwarder (one that hangs would hold the other up, or need a position of its own: run a
//! collector that fans out); giving up on a record that is refused (the one that matters would be the one that is missing).

mod config;
mod send;
mod syslog;
mod tls;
mod webhook;

use std::time::Duration;

use anyhow::Context as _;
use bus::{Bus, Deliveries, Delivery};
use proto::admin::Condition;
use proto::seal::{Body, RawRecord};
use serde_json::Value;
use tokio::time::{sleep, timeout};

pub use config::{Config, Format, Syslog, Webhook};

use crate::send::{Destination, Item, Refused};

/// How long to wait for more records before a batch goes out that is not full.
const GATHER: Duration = Duration::from_millis(200);

/// How often the stream is told that the records in hand are still being worked on; it hands them to another reader after
/// [`bus::ACK_WAIT`].
const STILL_AT_IT: Duration = Duration::from_secs(4);

/// First pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause, also where the destination asks for more: somebody may be repairing it.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Starts to forward.
///
/// # Errors
/// Settings that cannot be used, or the bus does not hand out the records.
pub fn serve(bus: Bus, config: Config) -> bus::Serving {
    Box::pin(start(bus, config))
}

async fn start(bus: Bus, config: Config) -> anyhow::Result<()> {
    let Some(destination) = Destination::of(&config)? else {
        report(&bus, "nothing is sent: neither [syslog] nor [webhook] is set", None);
        return Ok(());
    };
    let records = bus.records().await.context("cannot read the audit stream")?;
    let checkpoints = bus.checkpoints().await.context("cannot read the checkpoints")?;
    report(&bus, &format!("sends to {destination}"), None);
    let batch = destination.batch();
    bus.spawn(forward(bus.clone(), destination.clone(), records, batch, record));
    bus.spawn(forward(bus.clone(), destination, checkpoints, 1, checkpoint));
    Ok(())
}

fn record(delivery: &Delivery<Value>) -> Item {
    let time_ns = i64::try_from(delivery.stored.as_nanosecond()).unwrap_or_default();
    let body = Body::new(delivery.payload.to_vec());
    Item::Record(RawRecord { seq: delivery.seq, time_ns, subject: delivery.subject.clone(), body })
}

fn checkpoint(delivery: &Delivery<Value>) -> Item {
    Item::Checkpoint { note: String::from_utf8_lossy(&delivery.payload).into_owned(), at: delivery.stored }
}

/// One stream into one destination, batch after batch.
async fn forward(
    bus: Bus,
    mut destination: Destination,
    mut deliveries: Deliveries<Value>,
    most: usize,
    read: fn(&Delivery<Value>) -> Item,
) {
    while let Some(mut batch) = gather(&mut deliveries, most).await {
        // What an earlier process took and did not acknowledge comes again later than its neighbours.
        batch.sort_by_key(|delivery| delivery.seq);
        let items: Vec<Item> = batch.iter().map(read).collect();
        tokio::select! {
            () = insist(&bus, &mut destination, &items) => {}
            () = say_still_at_it(&batch) => {}
            () = bus.stopping() => return,
        }
        for delivery in &batch {
            if let Err(error) = delivery.done().await {
                tracing::debug!(%error, "an acknowledgement was not confirmed; the record will be sent again");
            }
        }
    }
}

/// What there is, at most `most`, after waiting a moment for more.
async fn gather(deliveries: &mut Deliveries<Value>, most: usize) -> Option<Vec<Delivery<Value>>> {
    let mut batch = vec![deliveries.next().await?];
    while batch.len() < most {
        match timeout(GATHER, deliveries.next()).await {
            Ok(Some(delivery)) => batch.push(delivery),
            Ok(None) => return None,
            Err(_) => break,
        }
    }
    Some(batch)
}

/// Never ends by itself.
async fn say_still_at_it(batch: &[Delivery<Value>]) {
    loop {
        sleep(STILL_AT_IT).await;
        for delivery in batch {
            if let Err(error) = delivery.working().await {
                tracing::debug!(%error, "the stream could not be told that a record is still in hand");
            }
        }
    }
}

/// Until the destination has taken them.
async fn insist(bus: &Bus, destination: &mut Destination, items: &[Item]) {
    let mut pause = FIRST_PAUSE;
    let mut failed = false;
    while let Err(refused) = destination.send(items).await {
        failed = true;
        tracing::warn!("{destination} did not take {} records: {refused}", items.len());
        report(bus, &format!("{destination} takes nothing: {refused}"), Some(&refused));
        sleep(refused.after().unwrap_or(pause).min(LONGEST_PAUSE).mul_f64(jitter())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    if failed {
        report(bus, &format!("sends to {destination}"), None);
    }
}

/// Between 0.8 and 1.2, so that many forwarders do not come back at the same moment. From an id's random bits.
fn jitter() -> f64 {
    let byte = uuid::Uuid::new_v4().into_bytes().first().copied().unwrap_or(128);
    0.8 + f64::from(byte) / 255.0 * 0.4
}

fn report(bus: &Bus, detail: &str, refused: Option<&Refused>) {
    bus.report(Condition {
        name: "destination".to_owned(),
        ok: refused.is_none(),
        detail: detail.to_owned(),
        hint: refused.map(|refused| refused.hint().to_owned()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_a_little() {
        let some: Vec<f64> = (0..100).map(|_| jitter()).collect();
        assert!(
            some.iter().all(|jitter| (0.79..1.21).contains(jitter)) && some.iter().any(|jitter| *jitter != some[0])
        );
    }
}
