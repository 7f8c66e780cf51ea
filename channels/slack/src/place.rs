//! Where to answer: what an inbound message carries as `reply_to`, sealed, so that a reply goes only where a person wrote.

use proto::keys::SigningKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Message, conversation};

/// A thread, with a seal that only the channel can make. The gateway carries it without being able to make one: a gateway that was
/// taken over can answer where somebody asked, and write nowhere else in the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) team: String,
    pub(crate) channel: String,
    pub(crate) thread: String,
    seal: String,
}

/// A reply must not go where it wants to go.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BadPlace {
    /// It is not what this channel hands out.
    #[error("reply_to does not come from this channel")]
    Unsealed,
    /// It belongs to another conversation.
    #[error("reply_to belongs to another conversation")]
    OtherConversation,
}

impl Place {
    /// The thread of a message.
    pub(crate) fn of(message: &Message, key: &SigningKey) -> Self {
        let mut place = Self {
            team: message.team.clone(),
            channel: message.channel.clone(),
            thread: message.root.clone(),
            seal: String::new(),
        };
        place.seal = place.make_seal(key);
        place
    }

    /// Reads a reply's `reply_to` and checks its seal and its conversation.
    pub(crate) fn open(reply_to: &Value, claimed: &str, key: &SigningKey) -> Result<Self, BadPlace> {
        let place = Self::deserialize(reply_to).map_err(|_| BadPlace::Unsealed)?;
        if place.seal != place.make_seal(key) {
            Err(BadPlace::Unsealed)
        } else if claimed != conversation(&place.team, &place.channel, &place.thread) {
            Err(BadPlace::OtherConversation)
        } else {
            Ok(place)
        }
    }

    fn make_seal(&self, key: &SigningKey) -> String {
        key.private_token(&["reply-to", &self.team, &self.channel, &self.thread])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message() -> Message {
        Message {
            team: "T1".into(),
            channel: "C1".into(),
            ts: "2.1".into(),
            root: "1.1".into(),
            user: "U1".into(),
            text: String::new(),
            files: Vec::new(),
        }
    }

    #[test]
    fn a_reply_goes_only_where_a_person_wrote() {
        let (key, other) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
        let place = Place::of(&message(), &key);
        let sealed = serde_json::to_value(&place).unwrap();
        assert_eq!(Place::open(&sealed, "T1:C1:1.1", &key), Ok(place));
        assert_eq!(Place::open(&sealed, "T1:C1:9.9", &key), Err(BadPlace::OtherConversation));
        assert_eq!(Place::open(&sealed, "T1:C1:1.1", &other), Err(BadPlace::Unsealed));
        for (field, value) in [("channel", "C2"), ("thread", "9.9"), ("team", "T2"), ("seal", "")] {
            let mut forged = sealed.clone();
            forged[field] = json!(value);
            assert!(Place::open(&forged, "T1:C1:1.1", &key).is_err(), "{field}");
        }
        assert_eq!(Place::open(&json!({"channel": "C1"}), "T1:C1:1.1", &key), Err(BadPlace::Unsealed));
        assert_eq!(Place::open(&Value::Null, "", &key), Err(BadPlace::Unsealed));
    }
}
