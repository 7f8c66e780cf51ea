//! Replies to the channel `cli`, sorted: all processes of this tool share one durable consumer.
//!
//! A reply to another conversation is put back for the process that waits for it. One that nobody fetched for long belongs to a
//! process that is gone; whoever comes across it shows it, so that it is not put back for ever.

use std::time::Duration;

use bus::{Bus, BusError, Delivery};
use jiff::{SignedDuration, Timestamp};
use proto::channel::Outbound;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Pause before a reply that is somebody else's is handed out again.
const PUT_BACK: Duration = Duration::from_millis(100);

/// Age from which on a reply counts as abandoned: longer than any turn, and than anybody looks at a terminal in vain.
const ABANDONED: SignedDuration = SignedDuration::from_mins(10);

/// Replies that wait to be shown while a person types.
const WAITING: usize = 16;

/// A reply for us.
pub(super) struct Letter {
    /// What it says.
    pub(super) reply: Outbound,
    /// Why we show it.
    pub(super) whose: Whose,
    delivery: Delivery<Outbound>,
}

/// Whose a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of our conversation.
    Ours,
    /// Of another one that a process waits for, or will.
    Theirs,
    /// Of another one, and too old for anybody to wait.
    Abandoned,
}

impl Letter {
    /// Whether it answers this message.
    pub(super) fn answers(&self, event: Uuid) -> bool {
        self.whose == Whose::Ours && answers(&self.reply, event)
    }

    /// The trace of the turn that it ends.
    pub(super) fn trace(&self) -> proto::trace::Trace {
        self.delivery.trace
    }

    /// It was shown and need not come again.
    ///
    /// # Errors
    /// It may come again.
    pub(super) async fn done(&self) -> Result<(), bus::CallError> {
        self.delivery.done().await
    }
}

/// The channel puts the event's id where the answer comes back with it.
fn answers(reply: &Outbound, event: Uuid) -> bool {
    reply.reply_to.get("event").and_then(|id| id.as_str()) == Some(event.to_string().as_str())
}

/// Starts sorting; ends with the connection.
///
/// # Errors
/// The bus does not hand out replies.
pub(super) async fn open(bus: &Bus, conversation: String) -> Result<mpsc::Receiver<Letter>, BusError> {
    let mut deliveries = bus.deliveries::<Outbound>().await?;
    let (found, letters) = mpsc::channel(WAITING);
    bus.spawn(async move {
        while let Some(delivery) = deliveries.next().await {
            if let Some(letter) = sort(delivery, &conversation).await
                && found.send(letter).await.is_err()
            {
                return;
            }
        }
    });
    Ok(letters)
}

async fn sort(delivery: Delivery<Outbound>, conversation: &str) -> Option<Letter> {
    let Ok(reply) = delivery.body.clone() else {
        tracing::error!(seq = delivery.seq, "a reply that is not understood was given up");
        report(delivery.give_up().await);
        return None;
    };
    let age = Timestamp::now().duration_since(delivery.stored);
    match whose(&reply.conversation, conversation, age) {
        Whose::Theirs => {
            report(delivery.retry_in(PUT_BACK).await);
            None
        }
        whose => Some(Letter { reply, whose, delivery }),
    }
}

fn whose(reply: &str, ours: &str, age: SignedDuration) -> Whose {
    if reply == ours {
        Whose::Ours
    } else if age < ABANDONED {
        Whose::Theirs
    } else {
        Whose::Abandoned
    }
}

/// What the bus did not hear comes again on its own.
fn report(said: Result<(), bus::CallError>) {
    if let Err(error) = said {
        tracing::debug!(%error, "a delivery was not put back");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replies_of_others_are_left_to_them_until_nobody_comes() {
        let minutes = SignedDuration::from_mins;
        assert_eq!(whose("a", "a", minutes(60)), Whose::Ours);
        assert_eq!(whose("b", "a", minutes(9)), Whose::Theirs);
        assert_eq!(whose("b", "a", minutes(10)), Whose::Abandoned);
    }

    #[test]
    fn a_reply_answers_the_message_whose_id_it_carries() {
        let (event, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let reply = Outbound {
            v: 1,
            id: other,
            channel: "cli".parse().unwrap(),
            conversation: "c".into(),
            session: "s".into(),
            turn: other,
            text: "x".into(),
            reply_to: json!({"event": event}),
            kind: proto::channel::ReplyKind::Answer,
        };
        assert!(answers(&reply, event) && !answers(&reply, other));
    }
}
