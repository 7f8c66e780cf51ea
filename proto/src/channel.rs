//! Messages in and out of chat channels, and the signed origin that says who wrote.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::canonical::{digest, token};
use crate::keys::{KeyError, PublicKey, SigningKey};
use crate::name::Name;
use crate::subject::{Event, Queued, Subject};
use crate::version;

/// The stream that holds messages until their reader acknowledged them.
pub const STREAM: &str = "CHANNELS";

/// Longest message that a channel passes on, in bytes. Slack cuts at 40,000 characters; 4 bytes each still fit one bus message.
pub const MAX_TEXT: usize = 160 * 1024;

/// How long a signed origin opens anything. A turn and its redeliveries end long before; a stolen origin dies with it.
pub const ORIGIN_LIFETIME: SignedDuration = SignedDuration::from_hours(1);

/// How far ahead a channel's clock may be.
pub const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(30);

/// `typ` of a signed origin.
const ORIGIN_TYPE: &str = "nachos-origin+jwt";

/// Who wrote what, where and when, as the channel saw it. The channel signs it; policy takes the principal from here and from
/// nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The channel that signed.
    pub channel: Name,
    /// The workspace or tenant, where the channel has one (Slack team id).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The author's stable id in the channel (Slack user id).
    pub user: String,
    /// The conversation (Slack: channel and thread): one conversation is one session.
    pub conversation: String,
    /// The channel's id of the event.
    pub event: String,
    /// `sha256:<hex>` of the text.
    pub text_digest: String,
    /// When the channel received it.
    pub at: Timestamp,
}

impl Origin {
    /// The principal: `channel/team/user`, or `channel/user` where there are no teams.
    pub fn principal(&self) -> String {
        match &self.team {
            Some(team) => format!("{}/{team}/{}", self.channel, self.user),
            None => format!("{}/{}", self.channel, self.user),
        }
    }

    /// Signs it with the channel's own key.
    ///
    /// # Errors
    /// [`KeyError::Signing`].
    pub fn sign(&self, key: &SigningKey) -> Result<SignedOrigin, KeyError> {
        key.sign(ORIGIN_TYPE, self).map(SignedOrigin)
    }
}

/// An [`Origin`] as compact JWS, EdDSA. Whoever holds it can show it, nobody but the channel can make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedOrigin(String);

/// Why an origin opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The token is malformed, altered or signed by a key that is not this channel's.
    #[error("the message's origin is not signed by its channel")]
    Forged(#[source] KeyError),
    /// No known channel signs with this name.
    #[error("the message's origin names a channel that this installation does not know")]
    Foreign,
    /// Older than [`ORIGIN_LIFETIME`].
    #[error("the message is too old to act on: send it again")]
    Expired,
    /// From the future by more than [`CLOCK_SKEW`].
    #[error("the message's origin is from the future: check the clocks")]
    Future,
}

impl SignedOrigin {
    /// Checks signature, channel and age, and only then tells what it says.
    ///
    /// # Errors
    /// [`OriginError`].
    pub fn verify(&self, channels: &BTreeMap<Name, PublicKey>, now: Timestamp) -> Result<Origin, OriginError> {
        let claimed = self.unverified().ok_or(OriginError::Foreign)?;
        let key = channels.get(&claimed.channel).ok_or(OriginError::Foreign)?;
        let origin: Origin = key.verify(ORIGIN_TYPE, &self.0).map_err(OriginError::Forged)?;
        let age = now.duration_since(origin.at);
        if age > ORIGIN_LIFETIME {
            Err(OriginError::Expired)
        } else if age < -CLOCK_SKEW {
            Err(OriginError::Future)
        } else {
            Ok(origin)
        }
    }

    /// What it claims, unchecked: for routing and for display, never for a decision.
    pub fn unverified(&self) -> Option<Origin> {
        use base64::Engine as _;
        let payload = self.0.split('.').nth(1)?;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// A message from a person. Subject `nachos.channel.<channel>.inbound`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inbound {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Who wrote, signed.
    pub origin: SignedOrigin,
    /// The channel; equals the subject's token, which the server vouches for.
    pub channel: Name,
    /// The conversation, as in the origin.
    pub conversation: String,
    /// What was written, cleaned of the channel's own markup.
    pub text: String,
    /// How the channel finds the place to answer; opaque to everybody else.
    #[serde(default)]
    pub reply_to: serde_json::Value,
}

impl Inbound {
    /// Checks that the body says what its origin says; whether the origin is genuine is policy's to decide.
    pub fn matches_origin(&self) -> Option<Origin> {
        let origin = self.origin.unverified()?;
        let same = origin.channel == self.channel
            && origin.conversation == self.conversation
            && origin.text_digest == digest(self.text.as_bytes());
        same.then_some(origin)
    }
}

impl Queued for Inbound {
    const STREAM: &'static str = STREAM;

    fn subject(&self) -> Subject {
        Subject::new(format!("nachos.channel.{}.inbound", self.channel))
    }
}

/// The token of a conversation in subjects.
pub fn conversation_token(channel: &Name, conversation: &str) -> String {
    token(&[channel.as_str(), conversation])
}

/// A whole reply. Subject `nachos.channel.<channel>.outbound.<conversation token>`; the channel acknowledges it when its API said ok.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outbound {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// The message's id; a channel's retries carry it, so that nothing is posted twice.
    pub id: Uuid,
    /// The channel that sends it.
    pub channel: Name,
    /// The conversation it belongs to.
    pub conversation: String,
    /// The session.
    pub session: String,
    /// The turn.
    pub turn: Uuid,
    /// What to say, Markdown.
    pub text: String,
    /// Where, as the inbound message said.
    #[serde(default)]
    pub reply_to: serde_json::Value,
    /// What kind of text this is.
    #[serde(default)]
    pub kind: ReplyKind,
}

/// What a reply is, so that a channel can show it accordingly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplyKind {
    /// The model's answer.
    #[default]
    Answer,
    /// The platform speaks: a refusal or a fault, in words for the user.
    Notice,
}

impl Queued for Outbound {
    const STREAM: &'static str = STREAM;

    fn subject(&self) -> Subject {
        let token = conversation_token(&self.channel, &self.conversation);
        Subject::new(format!("nachos.channel.{}.outbound.{token}", self.channel))
    }
}

/// A piece of a turn while it happens; may get lost, the [`Outbound`] is what counts. Subject
/// `nachos.channel.<channel>.delta.<conversation token>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// The channel.
    pub channel: Name,
    /// The conversation.
    pub conversation: String,
    /// The turn.
    pub turn: Uuid,
    /// Counts from 1 within the turn; a gap means that something got lost.
    pub seq: u64,
    /// What happened.
    pub what: Progress,
}

/// What a [`Delta`] tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Progress {
    /// More text of the answer.
    Text {
        /// The new text.
        text: String,
    },
    /// A tool is about to run.
    ToolStarted {
        /// The tool.
        tool: String,
        /// Its arguments, shortened.
        arguments: String,
    },
    /// A tool ended.
    ToolFinished {
        /// The tool.
        tool: String,
        /// Whether it gave a result.
        ok: bool,
        /// What it gave or why not, shortened.
        summary: String,
    },
    /// Something this release does not know.
    #[serde(other)]
    Unknown,
}

impl Event for Delta {
    fn subject(&self) -> Subject {
        let token = conversation_token(&self.channel, &self.conversation);
        Subject::new(format!("nachos.channel.{}.delta.{token}", self.channel))
    }
}

/// What a channel subscribes to in order to see the deltas of one conversation.
pub fn deltas_of(channel: &Name, conversation: &str) -> Subject {
    Subject::new(format!("nachos.channel.{channel}.delta.{}", conversation_token(channel, conversation)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(channel: &str) -> Origin {
        Origin {
            channel: channel.parse().unwrap(),
            team: Some("T1".into()),
            user: "U1".into(),
            conversation: "C1:1.2".into(),
            event: "Ev1".into(),
            text_digest: digest(b"hi"),
            at: "2026-11-20T10:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn an_origin_opens_only_when_genuine_known_and_fresh() {
        let (slack, cli) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
        let known =
            BTreeMap::from([("slack".parse().unwrap(), slack.public()), ("cli".parse().unwrap(), cli.public())]);
        let now = "2026-11-20T10:01:00Z".parse().unwrap();
        let good = origin("slack").sign(&slack).unwrap();
        assert_eq!(good.verify(&known, now).unwrap().principal(), "slack/T1/U1");

        let foreign_key = origin("slack").sign(&cli).unwrap();
        assert!(matches!(foreign_key.verify(&known, now), Err(OriginError::Forged(_))));
        let unknown_channel = origin("irc").sign(&slack).unwrap();
        assert!(matches!(unknown_channel.verify(&known, now), Err(OriginError::Foreign)));
        let late = "2026-11-20T11:00:01Z".parse().unwrap();
        assert!(matches!(good.verify(&known, late), Err(OriginError::Expired)));
        let early = "2026-11-20T09:59:00Z".parse().unwrap();
        assert!(matches!(good.verify(&known, early), Err(OriginError::Future)));
        let altered = SignedOrigin(good.0.replace('.', ".A"));
        assert!(altered.verify(&known, now).is_err());
    }
}
