//! Messages from people: each delivery in a task of its own, one after the other within a session, side by side across sessions.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bus::{Deliveries, Delivery};
use proto::Queued as _;
use proto::audit::{Fact, Scope};
use proto::channel::{Inbound, Origin};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::driver::{Driver, Message};
use crate::farewell;
use crate::lanes::Guard;
use crate::service::Gateway;
use crate::store::{Arrival, State};

/// How often a delivery says that it is still worked on; three times within [`bus::ACK_WAIT`], so that one may get lost.
const PULSE: Duration = Duration::from_secs(3);

/// When a message comes again whose session has too many waiting.
const QUEUE_PAUSE: Duration = Duration::from_secs(5);

/// When a message comes again that the store or the bus did not take; grows with the attempts up to [`MAX_PAUSE`].
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause before a message comes again.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Takes deliveries until the bus drains. What is in progress then goes on after the next start.
pub(crate) async fn take_all(gateway: Arc<Gateway>, mut deliveries: Deliveries<Inbound>) {
    while let Some(delivery) = deliveries.next().await {
        let bus = gateway.bus.clone();
        bus.spawn(take(Arc::clone(&gateway), delivery));
    }
}

async fn take(gateway: Arc<Gateway>, delivery: Delivery<Inbound>) {
    let Some((inbound, origin)) = genuine(&gateway, &delivery).await else {
        return settled(delivery.give_up().await);
    };
    let key = (inbound.channel.to_string(), inbound.conversation.clone());
    let Ok(lane) = gateway.lanes.enter(key, delivery.seq) else {
        tracing::warn!(channel = %inbound.channel, "too many messages wait in one session: this one comes again later");
        return settled(delivery.retry_in(QUEUE_PAUSE).await);
    };
    let message = Message { inbound: &inbound, origin: &origin, trace: delivery.trace, attempt: delivery.attempt };
    let worked = while_saying_so(&delivery, async {
        // The lane first, so that a busy session holds none of the places for all.
        let lane: Guard = match lane.await {
            Ok(lane) => lane,
            Err(_) => return None,
        };
        let place = gateway.places.acquire().await;
        let outcome = answer(&gateway, message, delivery.seq).await;
        drop((place, lane));
        Some(outcome)
    });
    match worked.await {
        None => tracing::debug!(seq = delivery.seq, "a later delivery of the same message took over"),
        Some(Ok(())) => settled(delivery.done().await),
        Some(Err(error)) => {
            tracing::error!(seq = delivery.seq, ?error, "the message could not be worked on, it comes again");
            settled(delivery.retry_in(pause(delivery.attempt)).await);
        }
    }
}

fn pause(attempt: u64) -> Duration {
    FAULT_PAUSE.saturating_mul(u32::try_from(attempt).unwrap_or(u32::MAX)).min(MAX_PAUSE)
}

/// What could not be said about a delivery is no loss: it comes again and its turn is found as it was left.
fn settled(said: Result<(), bus::CallError>) {
    if let Err(error) = said {
        tracing::debug!(%error, "the delivery could not be acknowledged, it comes again");
    }
}

async fn while_saying_so<T>(delivery: &Delivery<Inbound>, work: impl Future<Output = T>) -> T {
    let mut pulse = interval_at(Instant::now() + PULSE, PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = pulse.tick() => settled(delivery.working().await),
        }
    }
}

/// The message and its origin, if they say the same. What does not is dropped and recorded: no honest channel sends it.
async fn genuine(gateway: &Gateway, delivery: &Delivery<Inbound>) -> Option<(Inbound, Origin)> {
    let inbound = match &delivery.body {
        Ok(inbound) => inbound,
        Err(error) => {
            tracing::error!(seq = delivery.seq, error, "a message is not readable and was dropped");
            refused(gateway, delivery, format!("{} {}", proto::channel::STREAM, delivery.seq)).await;
            return None;
        }
    };
    // The subject is what the server vouches for: one channel must not write as another.
    let own = inbound.subject().as_str() == delivery.subject;
    let origin = inbound.matches_origin().filter(|_| own);
    if origin.is_none() {
        tracing::error!(
            seq = delivery.seq,
            subject = delivery.subject,
            "a message does not say what its origin or its subject says and was dropped"
        );
        refused(gateway, delivery, delivery.subject.clone()).await;
    }
    Some((inbound.clone(), origin?))
}

async fn refused(gateway: &Gateway, delivery: &Delivery<Inbound>, subject: String) {
    let fact = Fact::ComponentDenied { subject, operation: "publish".to_owned() };
    if let Err(error) = gateway.bus.record(Some(delivery.trace), Scope::default(), fact).await {
        tracing::error!(?error, "the refusal could not be recorded");
    }
}

/// One message, from wherever an earlier attempt stopped, to its answer.
async fn answer(gateway: &Gateway, message: Message<'_>, position: u64) -> anyhow::Result<()> {
    let arrival = Arrival {
        channel: &message.inbound.channel,
        conversation: &message.inbound.conversation,
        event: &message.origin.event,
        position,
    };
    let turn = gateway.store.arrive(&arrival).await.context("the turn could not be opened")?;
    if turn.state == State::Finished {
        return Ok(());
    }
    let (turn, farewell) = match turn.farewell.clone() {
        Some(farewell) => (turn, farewell),
        None => Driver::new(gateway, message, turn).run().await?,
    };
    farewell::say(gateway, &message, &turn, &farewell).await
}
