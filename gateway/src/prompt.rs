//! What the model is shown: the system prompt, as much of the session as fits, and this turn.

use proto::VERSION;
use proto::channel::SignedOrigin;
use proto::llm::{ChatMessage, ModelRequest, ToolSpec};

use crate::config::Config;
use crate::store::StoredTurn;

/// The request for this turn's next step. `earlier` holds the session's earlier turns, newest first.
pub(crate) fn request(
    config: &Config,
    origin: &SignedOrigin,
    turn: &StoredTurn,
    earlier: &[Vec<ChatMessage>],
    now: Vec<ChatMessage>,
    tools: Vec<ToolSpec>,
) -> ModelRequest {
    let messages = earlier.iter().rev().flatten().cloned().chain(now).collect();
    ModelRequest {
        v: VERSION,
        origin: origin.clone(),
        session: turn.session.id.clone(),
        turn: turn.id,
        taint: turn.session.taint.clone(),
        model: config.model.clone(),
        system: config.system_prompt.clone(),
        messages,
        tools,
        max_tokens: config.max_tokens,
    }
}
