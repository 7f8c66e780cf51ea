//! From an envelope to a stored message: judged, deduplicated, cleaned, signed, stored, recorded, and only then acknowledged.
//!
//! Whatever fails on the way leaves the envelope unacknowledged, and Slack sends it again. A repetition is harmless: the message's id,
//! its trace and its record's id are computed from what Slack calls it, with the channel's own key, so that every attempt, either event
//! of a mention and every replica come to the same, and nobody else can use them up first.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bus::Bus;
use jiff::Timestamp;
use proto::Name;
use proto::admin::Condition;
use proto::audit::{Fact, Scope};
use proto::canonical::digest;
use proto::channel::{Inbound, MAX_TEXT, Origin};
use proto::content::Content;
use proto::keys::SigningKey;
use proto::trace::Trace;
use uuid::Uuid;

use crate::event::{Identity, Message, Verdict, judge};
use crate::frame::Envelope;
use crate::lanes::{Lanes, Turn};
use crate::people::People;
use crate::place::Place;
use crate::recent::Recent;

/// How long a message is remembered, and how many. Longer than Slack goes on sending (up to eight minutes were seen), and than the
/// stream remembers ids (ten minutes).
const SEEN_LIFE: Duration = Duration::from_secs(3600);
const SEEN: usize = 100_000;

/// What is passed on when somebody mentions the agent and says nothing: models refuse empty messages.
const NO_WORDS: &str = "(mentioned you without a word)";

/// Takes envelopes in.
pub(crate) struct Inbox {
    pub(crate) bus: Bus,
    pub(crate) key: SigningKey,
    pub(crate) channel: Name,
    pub(crate) me: Identity,
    pub(crate) people: Arc<People>,
    lanes: Lanes,
    seen: Mutex<Recent<[String; 3], ()>>,
}

impl Inbox {
    pub(crate) fn new(bus: Bus, key: SigningKey, channel: Name, (me, people): (Identity, Arc<People>)) -> Self {
        let seen = Mutex::new(Recent::new(SEEN_LIFE, SEEN));
        Self { bus, key, channel, me, people, lanes: Lanes::default(), seen }
    }

    /// Takes an envelope; says whether to acknowledge it. The place in the conversation's lane is taken at once, so that messages
    /// of a conversation are stored in the order in which they came.
    pub(crate) fn handle(self: &Arc<Self>, envelope: Envelope) -> impl Future<Output = bool> + Send + use<> {
        let verdict = match envelope.kind.as_str() {
            "events_api" => judge(&envelope.payload, &self.me),
            _ => Verdict::Ignore("no event"),
        };
        if envelope.attempt > 0 {
            tracing::info!(envelope = envelope.id, attempt = envelope.attempt, "Slack sends an envelope again");
        }
        let turn = match &verdict {
            Verdict::Take(message) | Verdict::IfInThread(message) => Some(self.lanes.enter(&message.conversation())),
            Verdict::Own(..) | Verdict::Ignore(_) => None,
        };
        let inbox = self.clone();
        async move { inbox.follow(verdict, turn).await }
    }

    async fn follow(&self, verdict: Verdict, turn: Option<Turn>) -> bool {
        let mut turn = turn;
        if let Some(turn) = &mut turn {
            turn.come().await;
        }
        match verdict {
            Verdict::Ignore(why) => tracing::debug!(why, "an event is not for us"),
            Verdict::Own(channel, root) => self.people.join(&channel, &root),
            Verdict::Take(message) => return self.take(&message).await,
            Verdict::IfInThread(message) => match self.people.in_thread(&message).await {
                Ok(true) => return self.take(&message).await,
                // Not marked as seen: the same message may come again as a mention.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "whether a thread is ours is not known: Slack shall send the message again");
                    return false;
                }
            },
        }
        true
    }

    async fn take(&self, message: &Message) -> bool {
        let key = [message.team.clone(), message.channel.clone(), message.ts.clone()];
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen().get(&key, Instant::now()).is_some() {
            return true;
        }
        let stored = self.store(message).await;
        self.report(&stored);
        if stored.is_ok() {
            seen().insert(key, (), Instant::now());
            self.people.join(&message.channel, &message.root);
        }
        stored.is_ok()
    }

    async fn store(&self, message: &Message) -> anyhow::Result<()> {
        let mut text = self.people.readable(message).await;
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        if text.is_empty() {
            NO_WORDS.clone_into(&mut text);
        }
        let origin = self.origin(message, &text);
        let principal = origin.principal();
        let inbound = Inbound {
            v: proto::VERSION,
            origin: origin.sign(&self.key).context("the origin cannot be signed")?,
            channel: self.channel.clone(),
            conversation: message.conversation(),
            text,
            reply_to: serde_json::to_value(Place::of(message, &self.key))?,
        };
        let trace = self.trace(message);
        let id = self.token("message", message);
        self.bus.enqueue(trace, &id, &inbound).await.context("the message cannot be stored")?;
        self.record(trace, message, principal, &inbound.text).await.context("the message cannot be recorded")
    }

    fn origin(&self, message: &Message, text: &str) -> Origin {
        Origin {
            channel: self.channel.clone(),
            team: Some(message.team.clone()),
            user: message.user.clone(),
            conversation: message.conversation(),
            event: format!("{}:{}", message.channel, message.ts),
            text_digest: digest(text.as_bytes()),
            at: Timestamp::now(),
        }
    }

    /// Recorded after every attempt, under one id: a crash between storing and recording leaves no message without its record.
    async fn record(&self, trace: Trace, message: &Message, principal: String, text: &str) -> anyhow::Result<()> {
        let scope = Scope { principal: Some(principal), channel: Some(self.channel.to_string()), ..Scope::default() };
        let fact = Fact::MessageReceived {
            event: format!("{}:{}", message.channel, message.ts),
            conversation: message.conversation(),
            text: Content::of_text(text, self.bus.content_mode()),
        };
        let id = as_uuid(&self.token("record", message));
        Ok(self.bus.record_as(id, Some(trace), scope, fact).await?)
    }

    /// One trace for all attempts.
    fn trace(&self, message: &Message) -> Trace {
        let id = as_uuid(&self.token("trace", message));
        Trace::new(id.as_u128(), Uuid::now_v7().as_u64_pair().1)
    }

    fn token(&self, what: &str, message: &Message) -> String {
        self.key.private_token(&[what, &message.team, &message.channel, &message.ts])
    }

    fn report(&self, stored: &anyhow::Result<()>) {
        let detail = match stored {
            Ok(()) => "messages are stored before Slack is told".to_owned(),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "a message is left for Slack to send again");
                format!("{error:#}")
            }
        };
        self.bus.report(Condition { name: "slack inbound".to_owned(), ok: stored.is_ok(), detail, hint: None });
    }
}

/// A token of 32 hexadecimal digits as a UUID of version 4.
pub(crate) fn as_uuid(token: &str) -> Uuid {
    let bits = Uuid::parse_str(token).unwrap_or_default();
    uuid::Builder::from_random_bytes(bits.into_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_becomes_a_proper_uuid() {
        let key = SigningKey::from_seed([1; 32]);
        let one = as_uuid(&key.private_token(&["record", "T1", "C1", "1.1"]));
        assert_eq!(one.get_version_num(), 4);
        assert_eq!(one, as_uuid(&key.private_token(&["record", "T1", "C1", "1.1"])));
        assert_ne!(one, as_uuid(&key.private_token(&["record", "T1", "C1", "1.2"])));
        assert!(!one.is_nil());
    }
}
