//! What can go wrong on the bus, as far as somebody branches on it.

use proto::Refusal;

/// No connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The seed file cannot be read.
    #[error("cannot read the key {path}; `./nachos up` makes it")]
    Seed {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The server is not reachable, or does not know the key.
    #[error("cannot connect to the bus at {url} as {component}: {reason}")]
    Server {
        /// Where.
        url: String,
        /// As whom.
        component: proto::Component,
        /// Why.
        reason: String,
    },
    /// The server took the key but refused the component's own inbox.
    #[error("the bus does not let messages through on the own inbox: was it provisioned for this release?")]
    Inbox(#[source] CallError),
}

/// A call did not bring an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The other side said no, in words for a person.
    #[error("{0}")]
    Refused(Refusal),
    /// Nobody serves this; the request was certainly not carried out.
    #[error("nobody answers on {0}: is the component running?")]
    NoResponder(String),
    /// No answer in time; the request may or may not have been carried out.
    #[error("no answer on {0} in time")]
    TimedOut(String),
    /// The server does not let us say this; it was not delivered.
    #[error("the bus does not permit {operation} on {subject}")]
    Denied {
        /// Subject.
        subject: String,
        /// `publish` or `subscribe`.
        operation: String,
    },
    /// There is no connection right now; nothing was sent.
    #[error("not connected to the bus")]
    Disconnected,
    /// The message is larger than the bus carries; nothing was sent.
    #[error("the message has {0} bytes, more than the bus carries")]
    TooLarge(usize),
    /// The answer is malformed, or a stream of chunks has a gap or was cut off.
    #[error("the answer is broken: {0}")]
    Broken(String),
}

impl CallError {
    /// Whether the request certainly was not carried out.
    pub fn was_not_carried_out(&self) -> bool {
        match self {
            Self::Refused(_) | Self::NoResponder(_) | Self::Denied { .. } | Self::Disconnected | Self::TooLarge(_) => {
                true
            }
            Self::TimedOut(_) | Self::Broken(_) => false,
        }
    }
}

/// Something could not be stored in a stream.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// The stream said no, for example because it is full.
    #[error("the stream does not take it: {0}")]
    Rejected(String),
    /// It could not be said whether it was stored.
    #[error("storing it was not confirmed")]
    Unconfirmed(#[source] CallError),
    /// It does not fit a message.
    #[error("it has {0} bytes, more than a record may have")]
    TooLarge(usize),
    /// It has no JSON form.
    #[error("it has no JSON form: {0}")]
    Unserializable(String),
}

/// The bus cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BusError {
    /// The server does not permit it.
    #[error("the bus does not permit {operation} on {subject}")]
    Denied {
        /// Subject.
        subject: String,
        /// What was tried.
        operation: String,
    },
    /// The connection is closed or the client refuses.
    #[error("the bus connection does not work: {0}")]
    Broken(String),
    /// Whoever would receive it is gone.
    #[error("the receiver is gone")]
    ReceiverGone,
    /// It has no JSON form or is too large.
    #[error("the message cannot be sent: {0}")]
    Unsendable(String),
}
