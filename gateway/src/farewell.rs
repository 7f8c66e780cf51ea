//! The end of a turn: the stored reply is published once, the turn's end is recorded once, and then the message is done.

use anyhow::Context as _;
use proto::VERSION;
use proto::audit::{Fact, Scope};
use proto::channel::Outbound;

use crate::driver::Message;
use crate::service::Gateway;
use crate::store::{Farewell, State, StoredTurn};

/// Says what is stored, from wherever an earlier attempt stopped. Both ids were stored before, so that saying it again is the same.
///
/// # Errors
/// When the bus or the store does not take it: the message then comes again.
pub(crate) async fn say(
    gateway: &Gateway,
    message: &Message<'_>,
    turn: &StoredTurn,
    farewell: &Farewell,
) -> anyhow::Result<()> {
    if matches!(turn.state, State::Open | State::Replied) {
        let outbound = outbound(message, turn, farewell);
        let id = format!("out-{}", farewell.message);
        gateway.bus.enqueue(message.trace, &id, &outbound).await.context("the reply could not be queued")?;
    }
    if turn.state != State::Finished {
        if let Err(error) = record(gateway, message, turn, farewell).await {
            gateway.store.mark(turn.id, State::Published).await?;
            return Err(error);
        }
        gateway.store.mark(turn.id, State::Finished).await?;
    }
    Ok(())
}

fn outbound(message: &Message<'_>, turn: &StoredTurn, farewell: &Farewell) -> Outbound {
    Outbound {
        v: VERSION,
        id: farewell.message,
        channel: message.inbound.channel.clone(),
        conversation: message.inbound.conversation.clone(),
        session: turn.session.id.clone(),
        turn: turn.id,
        text: farewell.reply.text.clone(),
        reply_to: message.inbound.reply_to.clone(),
        kind: farewell.reply.kind,
    }
}

async fn record(
    gateway: &Gateway,
    message: &Message<'_>,
    turn: &StoredTurn,
    farewell: &Farewell,
) -> anyhow::Result<()> {
    let fact = Fact::TurnFinished {
        outcome: farewell.reply.outcome.as_str().to_owned(),
        reason: farewell.reply.reason.clone(),
        model_calls: farewell.totals.model_calls.into(),
        tool_calls: farewell.totals.tool_calls.into(),
        usage: farewell.totals.usage,
    };
    let scope = scope(message, turn, farewell.admitted);
    let recorded = gateway.bus.record_as(farewell.record, Some(message.trace), scope, fact).await;
    recorded.context("the turn's end could not be recorded")
}

/// What a record of this turn belongs to. Who wrote is known only once policy has let the message in.
pub(crate) fn scope(message: &Message<'_>, turn: &StoredTurn, admitted: bool) -> Scope {
    Scope {
        session: Some(turn.session.id.clone()),
        turn: Some(turn.id),
        principal: admitted.then(|| message.origin.principal()),
        channel: Some(message.inbound.channel.to_string()),
    }
}
