//! Asking the model: reads the streamed answer whole, and passes its text on while it comes.

use bus::CallError;
use proto::channel::MAX_TEXT;
use proto::llm::{FinishReason, ModelChunk, ModelRequest, Usage};
use proto::trace::Trace;
use tokio::time::timeout;

use crate::asking::{in_words, may_pass, patiently};
use crate::deltas::Deltas;
use crate::service::Gateway;
use crate::turn::{Answer, Entry, Event};

/// Most tool calls taken from one answer. The turn's own limit is smaller; this bounds what a broken provider can make us store.
const MAX_CALLS: usize = 64;

/// Asks until a whole answer came. Nothing is stored before, so that asking again is safe; what a person saw of an answer that broke
/// off is followed by the next one.
pub(crate) async fn ask(gateway: &Gateway, trace: Trace, request: &ModelRequest, deltas: &mut Deltas) -> Event {
    let deltas = tokio::sync::Mutex::new(deltas);
    let answer = patiently("the model", may_pass, || async {
        let mut deltas = deltas.lock().await;
        read(gateway, trace, request, &mut deltas).await
    });
    match answer.await {
        Ok(answer) => Event::Happened(Entry::ModelAnswered(answer)),
        Err(error) => {
            tracing::warn!(%error, "the model gave no answer");
            Event::ModelFailed(in_words("llm-proxy", error))
        }
    }
}

async fn read(
    gateway: &Gateway,
    trace: Trace,
    request: &ModelRequest,
    deltas: &mut Deltas,
) -> Result<Answer, CallError> {
    let mut chunks = gateway.bus.open(trace, request).await?;
    deltas.new_answer().await;
    let mut draft = Draft::default();
    loop {
        let next = timeout(gateway.config.model_silence(), chunks.next()).await;
        let chunk = match next {
            Err(_) => return Err(CallError::TimedOut("nachos.llm.request".to_owned())),
            Ok(None) => return Err(CallError::Broken("it ended without its end".to_owned())),
            Ok(Some(chunk)) => chunk?,
        };
        if let ModelChunk::Text { text } = &chunk {
            deltas.text(text.clone()).await;
        }
        if let Some(answer) = draft.add(chunk) {
            return Ok(answer);
        }
    }
}

/// An answer as far as it came.
#[derive(Debug, Default)]
struct Draft {
    text: String,
    tool_calls: Vec<proto::llm::ToolUse>,
    state: Option<serde_json::Value>,
    bytes: usize,
}

impl Draft {
    /// The whole answer once it ended, or once it is longer than a channel could pass on.
    fn add(&mut self, chunk: ModelChunk) -> Option<Answer> {
        match chunk {
            ModelChunk::Text { text } => {
                self.bytes = self.bytes.saturating_add(text.len());
                self.text.push_str(&text);
            }
            ModelChunk::ToolUse(call) => {
                self.bytes = self.bytes.saturating_add(call.arguments.to_string().len());
                if self.tool_calls.len() < MAX_CALLS && self.bytes <= MAX_TEXT {
                    self.tool_calls.push(call);
                }
            }
            ModelChunk::ProviderState { state } => self.state = Some(state),
            ModelChunk::Finished { reason, usage } => return Some(self.finish(reason, usage)),
            ModelChunk::Started { .. } | ModelChunk::Unknown => {}
        }
        (self.bytes > MAX_TEXT).then(|| self.finish(FinishReason::Length, Usage::default()))
    }

    fn finish(&mut self, finish: FinishReason, usage: Usage) -> Answer {
        let Self { mut text, tool_calls, state, .. } = std::mem::take(self);
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        Answer { text, tool_calls, state, finish, usage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_end_is_cut_at_what_a_channel_can_pass_on() {
        let mut draft = Draft::default();
        let chunk = || ModelChunk::Text { text: "ä".repeat(40 * 1024) };
        assert_eq!(draft.add(chunk()), None);
        assert_eq!(draft.add(chunk()), None);
        let answer = draft.add(chunk()).unwrap();
        assert_eq!((answer.finish, answer.text.len()), (FinishReason::Length, MAX_TEXT));
    }
}
