//! What Slack says on a Socket Mode connection. Tolerant: everything but `type` may be absent, and unknown frames are no errors.

use serde_json::Value;

/// One text frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    /// The connection is in use. The number counts all open connections of the app.
    Hello {
        /// Open connections of the app, ours included.
        connections: Option<u64>,
    },
    /// Something that wants an acknowledgement.
    Envelope(Envelope),
    /// Slack is about to close this connection.
    Disconnect(Reason),
    /// A frame that this release does not know, or no JSON.
    Unknown,
}

/// An envelope; Slack sends it again when it is not acknowledged within three seconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Envelope {
    /// What the acknowledgement names.
    pub(crate) id: String,
    /// `events_api`, `interactive`, `slash_commands` or something newer.
    pub(crate) kind: String,
    /// 0 on the first delivery.
    pub(crate) attempt: u64,
    /// The event.
    pub(crate) payload: Value,
}

/// Why Slack closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// `warning` or `refresh_requested`, and anything unknown: this connection ends soon, another one is welcome.
    Refresh,
    /// Socket Mode was switched off for the app.
    LinkDisabled,
    /// The app has more than ten connections.
    TooMany,
}

impl Frame {
    /// Reads a text frame.
    pub(crate) fn read(text: &str) -> Self {
        let Ok(mut frame) = serde_json::from_str::<Value>(text) else {
            return Self::Unknown;
        };
        let word = |field: &str| frame.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        match (word("type").as_str(), word("envelope_id")) {
            ("hello", _) => Self::Hello { connections: frame.get("num_connections").and_then(Value::as_u64) },
            ("disconnect", _) => Self::Disconnect(Reason::read(&word("reason"))),
            (_, id) if id.is_empty() => Self::Unknown,
            (kind, id) => Self::Envelope(Envelope {
                id,
                kind: kind.to_owned(),
                attempt: frame.get("retry_attempt").and_then(Value::as_u64).unwrap_or_default(),
                payload: frame.get_mut("payload").map(Value::take).unwrap_or_default(),
            }),
        }
    }
}

impl Reason {
    fn read(word: &str) -> Self {
        match word {
            "link_disabled" => Self::LinkDisabled,
            "too_many_websockets" => Self::TooMany,
            _ => Self::Refresh,
        }
    }
}

/// The acknowledgement of an envelope.
pub(crate) fn ack(id: &str) -> String {
    serde_json::json!({ "envelope_id": id }).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_are_read_with_almost_everything_missing() {
        assert_eq!(Frame::read(r#"{"type":"hello"}"#), Frame::Hello { connections: None });
        assert_eq!(
            Frame::read(r#"{"type":"hello","num_connections":2,"debug_info":{"host":"x"}}"#),
            Frame::Hello { connections: Some(2) }
        );
        for (reason, meaning) in [
            ("warning", Reason::Refresh),
            ("refresh_requested", Reason::Refresh),
            ("something_new", Reason::Refresh),
            ("link_disabled", Reason::LinkDisabled),
            ("too_many_websockets", Reason::TooMany),
        ] {
            let text = json!({"type": "disconnect", "reason": reason}).to_string();
            assert_eq!(Frame::read(&text), Frame::Disconnect(meaning));
        }
        for odd in ["", "[]", "7", "{}", r#"{"type":"new_thing"}"#] {
            assert_eq!(Frame::read(odd), Frame::Unknown, "{odd}");
        }
    }

    #[test]
    fn whatever_has_an_envelope_id_is_an_envelope() {
        let text = r#"{"envelope_id":"e1","type":"new_kind","payload":{"a":1},"retry_attempt":2}"#;
        let envelope = Envelope { id: "e1".into(), kind: "new_kind".into(), attempt: 2, payload: json!({"a": 1}) };
        assert_eq!(Frame::read(text), Frame::Envelope(envelope));
        assert_eq!(ack("e1"), r#"{"envelope_id":"e1"}"#);
    }
}
