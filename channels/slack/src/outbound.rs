//! From a stored reply to messages in Slack: one conversation after the other in itself, all conversations at once. A reply leaves the
//! stream when Slack said ok to all of its parts and that is recorded.
//!
//! Repeating is harmless: every part carries a client message id computed from the reply's id, by which Slack knows it again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bus::{Bus, Deliveries, Delivery};
use proto::Name;
use proto::admin::Condition;
use proto::audit::{Fact, Scope};
use proto::canonical::token;
use proto::channel::Outbound;
use proto::content::Content;
use proto::keys::SigningKey;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::inbound::as_uuid;
use crate::lanes::{Lanes, Turn};
use crate::markdown;
use crate::people::People;
use crate::place::Place;
use crate::recent::Recent;
use crate::trouble::Class;
use crate::web::{Web, WebError, message_body};

/// How often the stream is told that a reply is still being worked on: well within [`bus::ACK_WAIT`], with room for one lost word.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// How long a reply is kept while Slack is out of reach. A day-old answer helps nobody, and the record says that it was not delivered.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// First and longest wait between attempts.
const BACKOFF: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Replies that were posted are remembered, so that one whose acknowledgement got lost is not recorded twice.
const POSTED_LIFE: Duration = Duration::from_secs(3600);
const POSTED: usize = 20_000;

/// When a reply that was posted but could not be settled shall come again.
const SETTLE_AGAIN: Duration = Duration::from_secs(2);

/// Pause before the deliveries are asked for again.
const PAUSE: Duration = Duration::from_secs(1);

/// What is posted for a reply without text: Slack takes no empty messages.
const NO_TEXT: &str = "(an empty reply)";

/// Takes replies out.
pub(crate) struct Outbox {
    bus: Bus,
    web: Arc<Web>,
    key: SigningKey,
    channel: Name,
    people: Arc<People>,
    lanes: Lanes,
    posted: Mutex<Recent<Uuid, Option<String>>>,
}

/// Why a reply is not delivered, for good.
struct Undeliverable(String);

impl Outbox {
    pub(crate) fn new(bus: Bus, web: Arc<Web>, people: Arc<People>, (key, channel): (SigningKey, Name)) -> Self {
        let posted = Mutex::new(Recent::new(POSTED_LIFE, POSTED));
        Self { bus, web, key, channel, people, lanes: Lanes::default(), posted }
    }

    /// Delivers until the bus drains.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut deliveries = self.deliveries().await;
        while let Some(delivery) = deliveries.next().await {
            let lane = delivery.body.as_ref().map_or("", |outbound| outbound.conversation.as_str());
            let turn = self.lanes.enter(lane);
            let outbox = self.clone();
            self.bus.spawn(async move { outbox.take(delivery, turn).await });
        }
    }

    async fn deliveries(&self) -> Deliveries<Outbound> {
        loop {
            match self.bus.deliveries().await {
                Ok(deliveries) => return deliveries,
                Err(error) => self.report(false, format!("replies cannot be read: {error}")),
            }
            sleep(PAUSE).await;
        }
    }

    /// Keeps the delivery while it waits for its turn and for Slack.
    async fn take(&self, delivery: Delivery<Outbound>, mut turn: Turn) {
        let beat = async {
            loop {
                if let Err(error) = delivery.working().await {
                    tracing::debug!(%error, "the stream could not be told that we are at it");
                }
                sleep(HEARTBEAT).await;
            }
        };
        let work = async {
            turn.come().await;
            match &delivery.body {
                Ok(outbound) => self.deliver(&delivery, outbound).await,
                Err(why) => {
                    tracing::error!(why, seq = delivery.seq, "a reply cannot be understood and is given up");
                    settle(delivery.give_up().await);
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = beat => {}
        }
    }

    async fn deliver(&self, delivery: &Delivery<Outbound>, outbound: &Outbound) {
        let posted = match self.known(outbound.id) {
            Some(posted) => Ok(posted),
            None => timeout(PATIENCE, self.post(outbound))
                .await
                .unwrap_or_else(|_| Err(Undeliverable("Slack was out of reach for a day".to_owned()))),
        };
        let fact = self.fact(outbound, &posted);
        let scope = Scope {
            session: Some(outbound.session.clone()),
            turn: Some(outbound.turn),
            channel: Some(self.channel.to_string()),
            ..Scope::default()
        };
        let id = as_uuid(&self.key.private_token(&["sent", &outbound.id.to_string()]));
        if let Err(error) = self.bus.record_as(id, Some(delivery.trace), scope, fact).await {
            tracing::error!(%error, message = %outbound.id, "a reply cannot be recorded: it stays in the stream");
            return settle(delivery.retry_in(SETTLE_AGAIN).await);
        }
        match posted {
            Ok(_) => settle(delivery.done().await),
            Err(_) => settle(delivery.give_up().await),
        }
    }

    fn fact(&self, outbound: &Outbound, posted: &Result<Option<String>, Undeliverable>) -> Fact {
        let (message, conversation) = (outbound.id, outbound.conversation.clone());
        match posted {
            Ok(posted) => Fact::MessageSent {
                message,
                conversation,
                posted: posted.clone(),
                text: Content::of_text(&outbound.text, self.bus.content_mode()),
            },
            Err(Undeliverable(reason)) => {
                tracing::error!(reason, %message, "a reply cannot be delivered");
                Fact::MessageUndeliverable { message, conversation, reason: reason.clone() }
            }
        }
    }

    /// Posts all parts in their order. The time stamp of the last one.
    async fn post(&self, outbound: &Outbound) -> Result<Option<String>, Undeliverable> {
        let place = Place::open(&outbound.reply_to, &outbound.conversation, &self.key)
            .map_err(|error| Undeliverable(error.to_string()))?;
        let text = if outbound.text.trim().is_empty() { NO_TEXT } else { &outbound.text };
        let mut last = None;
        for (number, part) in markdown::split(&markdown::neutralise(text), markdown::MAX_PART).iter().enumerate() {
            last = self.post_part(&place, &client_msg_id(outbound.id, number), part).await?.or(last);
        }
        self.people.join(&place.channel, &place.thread);
        self.remember(outbound.id, last.clone());
        Ok(last)
    }

    /// Posts one part: as Markdown, as plain text if Slack does not take that, and again as long as it may pass.
    async fn post_part(&self, place: &Place, id: &str, part: &str) -> Result<Option<String>, Undeliverable> {
        let fallback = markdown::fallback(part);
        let mut body = message_body(&place.channel, &place.thread, id, (&fallback, Some(part)));
        let (mut plain, mut wait) = (false, BACKOFF);
        loop {
            let error = match self.web.post_message(&body).await {
                Ok(ts) => {
                    self.report(true, "Slack takes our replies".to_owned());
                    return Ok(ts);
                }
                Err(error) => error,
            };
            match error.class() {
                Class::Posted => return Ok(None),
                Class::Content if !plain => {
                    tracing::warn!(%error, "Slack does not take the Markdown, trying plain text");
                    body = message_body(&place.channel, &place.thread, id, (&markdown::plain(part), None));
                    plain = true;
                }
                Class::Content | Class::Destination => return Err(Undeliverable(error.to_string())),
                Class::Retry | Class::Fatal => {
                    self.complain(&error);
                    sleep(error.retry_after().unwrap_or_else(|| jittered(wait))).await;
                    wait = (wait * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    fn complain(&self, error: &WebError) {
        match error.trouble() {
            Some(trouble) => self.bus.report_vital(trouble.condition(CONDITION)),
            None if error.retry_after().is_some() => tracing::info!(%error, "a reply waits"),
            None => self.report(false, error.to_string()),
        }
    }

    fn report(&self, ok: bool, detail: String) {
        self.bus.report_vital(Condition { name: CONDITION.to_owned(), ok, detail, hint: None });
    }

    fn known(&self, id: Uuid) -> Option<Option<String>> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).get(&id, Instant::now())
    }

    fn remember(&self, id: Uuid, last: Option<String>) {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).insert(id, last, Instant::now());
    }
}

/// The condition that tells whether replies get through.
const CONDITION: &str = "slack replies";

/// The same for every attempt at a part, in every process.
fn client_msg_id(outbound: Uuid, part: usize) -> String {
    as_uuid(&token(&["slack", &outbound.to_string(), &part.to_string()])).to_string()
}

/// Between half and all of it: replies that failed together shall not come back together.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.5..=1.0))
}

/// An acknowledgement that was not confirmed: the delivery comes again, and is known by then.
fn settle(outcome: Result<(), bus::CallError>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "a delivery could not be settled and will come again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_id_and_keeps_it() {
        let outbound = Uuid::from_u128(7);
        assert_eq!(client_msg_id(outbound, 0), client_msg_id(outbound, 0));
        assert_ne!(client_msg_id(outbound, 0), client_msg_id(outbound, 1));
        assert_ne!(client_msg_id(outbound, 0), client_msg_id(Uuid::from_u128(8), 0));
    }
}
