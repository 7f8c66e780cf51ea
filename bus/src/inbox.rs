//! The own inbox: one subscription for all answers of a connection, and a table of who waits for what.
//!
//! Tokens are 122 random bits each: a peer that answers one call learns nothing that lets it answer another. An entry
//! leaves the table when its caller drops its [`Waiting`], so calls that time out leave nothing behind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::Message;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::wire::Violation;

/// What arrives for a waiting call.
#[derive(Debug)]
pub(crate) enum Arrival {
    Message(Box<Message>),
    Denied(Violation),
}

/// Chunks that may wait for a slow reader. Beyond it the stream counts as broken: better said than memory filled.
const BUFFER: usize = 4096;

struct Pending {
    subject: String,
    sender: mpsc::Sender<Arrival>,
}

/// The table of waiting calls.
#[derive(Clone)]
pub(crate) struct Inbox {
    prefix: Arc<str>,
    pending: Arc<Mutex<HashMap<String, Pending>>>,
}

/// One waiting call.
pub(crate) struct Waiting {
    /// Where its answer goes.
    pub(crate) reply: String,
    token: String,
    receiver: mpsc::Receiver<Arrival>,
    inbox: Inbox,
}

impl Inbox {
    /// The inbox of one connection of `component`: `_INBOX.<component>.<random>`.
    pub(crate) fn new(component: proto::Component) -> Self {
        let prefix = format!("_INBOX.{component}.{}", Uuid::new_v4().simple());
        Self { prefix: prefix.into(), pending: Arc::default() }
    }

    /// What to subscribe to.
    pub(crate) fn subject(&self) -> String {
        format!("{}.*", self.prefix)
    }

    /// Makes room for the answer to a call on `subject`.
    pub(crate) fn expect(&self, subject: &str, answers: usize) -> Waiting {
        let token = Uuid::new_v4().simple().to_string();
        let (sender, receiver) = mpsc::channel(answers.clamp(1, BUFFER));
        self.table(|table| table.insert(token.clone(), Pending { subject: subject.to_owned(), sender }));
        Waiting { reply: format!("{}.{token}", self.prefix), token, receiver, inbox: self.clone() }
    }

    /// As [`Inbox::expect`], for a stream of answers.
    pub(crate) fn expect_stream(&self, subject: &str) -> Waiting {
        self.expect(subject, BUFFER)
    }

    /// Hands a message to whoever waits for it; late ones are dropped.
    pub(crate) fn deliver(&self, message: Message) {
        let Some(token) = message.subject.as_str().rsplit('.').next().map(str::to_owned) else { return };
        self.table(|table| {
            let full = table
                .get(&token)
                .is_some_and(|pending| pending.sender.try_send(Arrival::Message(Box::new(message))).is_err());
            if full {
                // Dropping the sender makes the reader see a stream that was cut off.
                table.remove(&token);
            }
        });
    }

    /// Ends the calls that the server did not permit.
    pub(crate) fn deny(&self, violation: &Violation) {
        self.table(|table| {
            for pending in table.values().filter(|pending| pending.subject == violation.subject) {
                let _ = pending.sender.try_send(Arrival::Denied(violation.clone()));
            }
        });
    }

    /// Ends all calls that wait: the connection that their answers would have come over is gone.
    pub(crate) fn cut(&self) {
        self.table(HashMap::clear);
    }

    /// Calls that wait right now.
    pub(crate) fn len(&self) -> usize {
        self.table(|table| table.len())
    }

    fn table<T>(&self, act: impl FnOnce(&mut HashMap<String, Pending>) -> T) -> T {
        act(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Waiting {
    /// The next answer; `None` when the inbox gave up on this call.
    pub(crate) async fn next(&mut self) -> Option<Arrival> {
        self.receiver.recv().await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.inbox.table(|table| table.remove(&self.token));
    }
}
