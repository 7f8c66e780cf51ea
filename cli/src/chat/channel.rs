//! The channel `cli`: signs what its user writes, stores it, and takes what comes back.

use std::fs;

use anyhow::Context as _;
use bus::{Bus, Events};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use proto::Name;
use proto::audit::{Fact, Scope};
use proto::canonical::digest;
use proto::channel::{Delta, Inbound, Origin, Progress, deltas_of};
use proto::content::Content;
use proto::keys::SigningKey;
use proto::trace::Trace;
use serde_json::json;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::mailbox::{self, Letter, Whose};
use crate::failure::Failure;
use crate::session::{Session, connect};

/// The channel's name.
const CHANNEL: &str = "cli";

/// One conversation of one user.
pub(super) struct Channel {
    bus: Bus,
    key: SigningKey,
    name: Name,
    user: String,
    conversation: String,
    deltas: Events<Delta>,
    letters: mpsc::Receiver<Letter>,
    /// The turn that was answered last: what still comes of it is old.
    answered: Option<Uuid>,
}

/// What comes back.
pub(super) enum Heard {
    /// Something happens in the turn.
    Progress(Progress),
    /// A reply.
    Letter(Box<Letter>),
}

/// A message that is stored.
pub(super) struct Sent {
    /// Its id.
    pub(super) event: Uuid,
    /// The trace of all that it causes.
    pub(super) trace: Trace,
}

impl Channel {
    /// Connects and listens for the conversation, so that nothing is missed of what comes after the first message.
    pub(super) async fn open(session: &Session, conversation: String, user: String) -> Result<Self, Failure> {
        let (common, own) = session.settings()?;
        let pem = fs::read_to_string(&own.origin_key)
            .with_context(|| format!("cannot read the channel's key {}", own.origin_key.display()))
            .map_err(|error| {
                Failure::new(format!("{error:#}"), "run it as ./nachos chat; ./nachos up makes the key")
            })?;
        let key = SigningKey::from_pem(&pem).context("the channel's key is not usable")?;
        let name: Name = CHANNEL.parse().context("the channel has no valid name")?;
        let bus = connect(common).await?;
        let deltas = bus.listen(deltas_of(&name, &conversation)).await?;
        let letters = mailbox::open(&bus, conversation.clone()).await?;
        Ok(Self { bus, key, name, user, conversation, deltas, letters, answered: None })
    }

    /// The conversation's name.
    pub(super) fn conversation(&self) -> &str {
        &self.conversation
    }

    /// Records the message, then stores it for the gateway: what cannot be recorded is not taken in.
    pub(super) async fn send(&self, text: &str) -> Result<Sent, Failure> {
        let sent = Sent { event: Uuid::new_v4(), trace: Bus::new_trace() };
        let origin = self.origin(text, sent.event);
        let scope =
            Scope { principal: Some(origin.principal()), channel: Some(CHANNEL.to_owned()), ..Scope::default() };
        let received = Fact::MessageReceived {
            event: sent.event.to_string(),
            conversation: self.conversation.clone(),
            text: Content::of_text(text, self.bus.content_mode()),
        };
        let recorded = self.bus.record(Some(sent.trace), scope, received).await;
        recorded.map_err(|error| Failure::from(error).context("the message could not be recorded and was not sent"))?;
        let inbound = Inbound {
            v: proto::VERSION,
            origin: origin.sign(&self.key).context("the message could not be signed")?,
            channel: self.name.clone(),
            conversation: self.conversation.clone(),
            text: text.to_owned(),
            reply_to: json!({"event": sent.event}),
        };
        let stored = self.bus.enqueue(sent.trace, &sent.event.to_string(), &inbound).await;
        stored.map_err(|error| Failure::from(error).context("the message could not be stored"))?;
        Ok(sent)
    }

    fn origin(&self, text: &str, event: Uuid) -> Origin {
        Origin {
            channel: self.name.clone(),
            team: None,
            user: self.user.clone(),
            conversation: self.conversation.clone(),
            event: event.to_string(),
            text_digest: digest(text.as_bytes()),
            at: Timestamp::now(),
        }
    }

    /// What comes next, progress before replies: it was said before them.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            tokio::select! {
                biased;
                Some(delta) = self.deltas.next() => match self.news(delta) {
                    Some(what) => return Heard::Progress(what),
                    None => continue,
                },
                Some(letter) = self.letters.recv() => return Heard::Letter(Box::new(letter)),
                // The connection is closed for good; waiting has its own end.
                else => return std::future::pending().await,
            }
        }
    }

    /// What happened already and was not looked at yet.
    pub(super) fn delta_at_hand(&mut self) -> Option<Progress> {
        let delta = self.deltas.next().now_or_never()??;
        self.news(delta)
    }

    /// What belongs to the turn before is no news.
    fn news(&self, delta: Delta) -> Option<Progress> {
        (Some(delta.turn) != self.answered).then_some(delta.what)
    }

    /// The next reply for us.
    pub(super) async fn letter(&mut self) -> Letter {
        match self.letters.recv().await {
            Some(letter) => letter,
            None => std::future::pending().await,
        }
    }

    /// The reply was shown: that is recorded, and it need not come again.
    pub(super) async fn sent(&mut self, letter: &Letter) -> Result<(), Failure> {
        let reply = &letter.reply;
        self.answered = Some(reply.turn);
        let scope = Scope {
            session: Some(reply.session.clone()),
            turn: Some(reply.turn),
            // Who waited for an abandoned reply is not known here; its other records tell.
            principal: (letter.whose == Whose::Ours).then(|| format!("{CHANNEL}/{}", self.user)),
            channel: Some(CHANNEL.to_owned()),
        };
        let sent = Fact::MessageSent {
            message: reply.id,
            conversation: reply.conversation.clone(),
            posted: None,
            text: Content::of_text(&reply.text, self.bus.content_mode()),
        };
        let recorded = self.bus.record(Some(letter.trace()), scope, sent).await;
        recorded.map_err(|error| Failure::from(error).context("that the answer was shown could not be recorded"))?;
        // If the bus did not hear it, the reply is shown once more, as a late one: better twice than never.
        if let Err(error) = letter.done().await {
            tracing::debug!(%error, "the acknowledgement was not confirmed");
        }
        Ok(())
    }
}
