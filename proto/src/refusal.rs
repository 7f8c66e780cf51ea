//! What a component answers when it does not do what was asked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest reason in characters: it travels in the header `Nats-Service-Error`, and a server's control line is bounded.
pub const MAX_REASON: usize = 512;

/// A refusal as it travels in `Nats-Service-Error-Code` and `Nats-Service-Error` (NATS ADR-32): a code to branch on and a reason fit
/// for a person. Secrets and error chains stay in the log of the component that refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What kind of refusal.
    pub code: RefusalCode,
    /// What to tell a person, and what they can do.
    pub reason: String,
}

impl Refusal {
    /// A refusal; line breaks become spaces (a header is one line) and the reason is cut at [`MAX_REASON`].
    pub fn new(code: RefusalCode, reason: impl fmt::Display) -> Self {
        let flat = reason.to_string().replace(|c: char| c.is_control(), " ");
        let cut = flat.chars().count() > MAX_REASON;
        let mut reason: String = flat.chars().take(MAX_REASON - 1).collect();
        if cut {
            reason.push('…');
        } else {
            reason = flat;
        }
        Self { code, reason }
    }
}

/// The kinds of refusal, with the numbers of the HTTP status codes that mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u16", from = "u16")]
pub enum RefusalCode {
    /// The question is malformed; asking again does not help.
    Invalid,
    /// No valid proof of who asks or that it was permitted.
    Unauthorized,
    /// Policy said no.
    Forbidden,
    /// No such thing.
    NotFound,
    /// Already done or already used.
    Conflict,
    /// Too large.
    TooLarge,
    /// Too many at once, or over a limit of the provider.
    Busy,
    /// A fault of the component.
    Internal,
    /// A provider or another component failed.
    Upstream,
    /// Something that must be there is not: fail closed.
    Unavailable,
    /// The deadline passed.
    Deadline,
}

impl RefusalCode {
    const TABLE: [(Self, u16); 11] = [
        (Self::Invalid, 400),
        (Self::Unauthorized, 401),
        (Self::Forbidden, 403),
        (Self::NotFound, 404),
        (Self::Conflict, 409),
        (Self::TooLarge, 413),
        (Self::Busy, 429),
        (Self::Internal, 500),
        (Self::Upstream, 502),
        (Self::Unavailable, 503),
        (Self::Deadline, 504),
    ];
}

impl From<RefusalCode> for u16 {
    fn from(code: RefusalCode) -> Self {
        RefusalCode::TABLE.into_iter().find(|(known, _)| *known == code).map_or(500, |(_, number)| number)
    }
}

impl From<u16> for RefusalCode {
    /// A number that this release does not know is a fault of the component that sent it.
    fn from(number: u16) -> Self {
        Self::TABLE.into_iter().find(|(_, known)| *known == number).map_or(Self::Internal, |(code, _)| code)
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", u16::from(*self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_bounded_line() {
        let refusal = Refusal::new(RefusalCode::Invalid, format!("a\r\nb{}", "x".repeat(2000)));
        assert!(!refusal.reason.contains(['\r', '\n']));
        assert_eq!(refusal.reason.chars().count(), MAX_REASON);
        assert_eq!(Refusal::new(RefusalCode::Busy, "later").reason, "later");
    }

    #[test]
    fn codes_survive_the_wire() {
        for (code, number) in RefusalCode::TABLE {
            assert_eq!(RefusalCode::from(u16::from(code)), code);
            assert_eq!(u16::from(code), number);
        }
        assert_eq!(RefusalCode::from(999), RefusalCode::Internal);
    }
}
