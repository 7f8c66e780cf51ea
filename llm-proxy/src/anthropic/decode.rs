//! Anthropic's stream as our chunks.

use std::collections::BTreeMap;

use proto::llm::{FinishReason, ModelChunk, Usage};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::STATE_FORMAT;
use super::failure::from_error;
use crate::calls::{Calls, reason};
use crate::error::{Class, Failure};

/// Most thinking blocks in one answer: each stays in the conversation, and an answer has a handful.
const MAX_THINKING: usize = 256;

/// Reads one answer, event by event. Nothing that it does not know is an error: fields and events are added every few weeks.
#[derive(Debug)]
pub struct Decoder {
    calls: Calls,
    /// Thinking blocks by their place, as they are to be sent back.
    thinking: BTreeMap<u64, Map<String, Value>>,
    stop: Option<FinishReason>,
    usage: WireUsage,
    done: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Message,
    },
    ContentBlockStart {
        index: u64,
        content_block: Map<String, Value>,
    },
    ContentBlockDelta {
        index: u64,
        delta: Delta,
    },
    MessageDelta {
        delta: Stop,
        #[serde(default)]
        usage: WireUsage,
    },
    MessageStop,
    Error {
        error: Value,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    usage: WireUsage,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Stop {
    #[serde(default)]
    stop_reason: Option<String>,
}

#[derive(Deserialize, Debug, Default)]
struct WireUsage {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
}

impl WireUsage {
    /// Every later word replaces the earlier one, field by field: the numbers are running totals, and may be corrected downwards.
    fn update(&mut self, later: &Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cache_creation_input_tokens = later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
    }

    /// Anthropic counts cached tokens beside the input, we count them in it.
    fn total(&self) -> Usage {
        let cached = self.cache_read_input_tokens.unwrap_or_default();
        let written = self.cache_creation_input_tokens.unwrap_or_default();
        Usage {
            input: self.input_tokens.unwrap_or_default().saturating_add(cached).saturating_add(written),
            output: self.output_tokens.unwrap_or_default(),
            cached,
        }
    }
}

impl Decoder {
    /// A decoder for one answer; calls that come without an id get `<ids>-<number>`.
    pub fn new(ids: impl Into<String>) -> Self {
        Self { calls: Calls::new(ids), thinking: BTreeMap::new(), stop: None, usage: WireUsage::default(), done: false }
    }

    /// Whether the answer is over.
    pub fn done(&self) -> bool {
        self.done
    }

    /// Takes the data of one event.
    ///
    /// # Errors
    /// [`Failure`]: an error sent by the provider, or data that makes no sense.
    pub fn event(&mut self, data: &str, out: &mut Vec<ModelChunk>) -> Result<(), Failure> {
        // Servers that speak several wires end this one with OpenAI's mark.
        if matches!(data.trim(), "" | "[DONE]") {
            return Ok(());
        }
        let event: Event = serde_json::from_str(data).map_err(|error| Failure::new(Class::Malformed, error))?;
        match event {
            Event::MessageStart { message } => self.usage.update(&message.usage),
            Event::ContentBlockStart { index, content_block } => self.begin(index, content_block, out)?,
            Event::ContentBlockDelta { index, delta } => self.delta(index, delta, out)?,
            Event::MessageDelta { delta, usage } => {
                self.usage.update(&usage);
                self.stop = delta.stop_reason.as_deref().map(stop).or(self.stop);
            }
            Event::MessageStop => self.finish(out),
            Event::Error { error } => return Err(from_error(&error)),
            Event::Other => {}
        }
        Ok(())
    }

    /// The stream is over; without `message_stop` before it, it was cut.
    ///
    /// # Errors
    /// [`Failure`] of class `Truncated`.
    pub fn end(&mut self, _: &mut Vec<ModelChunk>) -> Result<(), Failure> {
        if self.done {
            return Ok(());
        }
        Err(Failure::new(Class::Truncated, "the stream ended without message_stop"))
    }

    fn begin(&mut self, index: u64, block: Map<String, Value>, out: &mut Vec<ModelChunk>) -> Result<(), Failure> {
        let word = |field: &str| block.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        match word("type").as_str() {
            "text" => push_text(word("text"), out),
            "tool_use" => {
                let call = self.calls.begin(index, word("id"), word("name"))?;
                // Servers that do not stream arguments send them here; the others send `{}`.
                if let Some(input) = block.get("input").filter(|input| **input != json!({})) {
                    call.set(input)?;
                }
            }
            "thinking" | "redacted_thinking" if self.thinking.len() < MAX_THINKING => {
                self.thinking.insert(index, block);
            }
            "thinking" | "redacted_thinking" => {
                let said = format!("more than {MAX_THINKING} thinking blocks");
                return Err(Failure::new(Class::TooLarge, said));
            }
            _ => {}
        }
        Ok(())
    }

    fn delta(&mut self, index: u64, delta: Delta, out: &mut Vec<ModelChunk>) -> Result<(), Failure> {
        match delta {
            Delta::Text { text } => push_text(text, out),
            Delta::InputJson { partial_json } => {
                // Arguments of the provider's own tools have no call of ours.
                if let Some(call) = self.calls.at(index) {
                    call.push(&partial_json)?;
                }
            }
            Delta::Thinking { thinking } => self.think(index, "thinking", &thinking),
            Delta::Signature { signature } => self.think(index, "signature", &signature),
            Delta::Other => {}
        }
        Ok(())
    }

    fn think(&mut self, index: u64, field: &str, more: &str) {
        let Some(block) = self.thinking.get_mut(&index) else { return };
        match block.get_mut(field) {
            Some(Value::String(text)) => text.push_str(more),
            _ => {
                block.insert(field.to_owned(), json!(more));
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<ModelChunk>) {
        if self.done {
            return;
        }
        self.done = true;
        let said = self.stop.unwrap_or(FinishReason::Stop);
        if !self.thinking.is_empty() {
            let blocks: Vec<Value> = std::mem::take(&mut self.thinking).into_values().map(Value::Object).collect();
            out.push(ModelChunk::ProviderState { state: json!({"format": STATE_FORMAT, "blocks": blocks}) });
        }
        let calls = self.calls.finish(said);
        let reason = reason(said, calls.len());
        out.extend(calls.into_iter().map(ModelChunk::ToolUse));
        out.push(ModelChunk::Finished { reason, usage: self.usage.total() });
    }
}

fn push_text(text: String, out: &mut Vec<ModelChunk>) {
    if !text.is_empty() {
        out.push(ModelChunk::Text { text });
    }
}

fn stop(word: &str) -> FinishReason {
    match word {
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::Refused,
        // `end_turn`, `stop_sequence`, `pause_turn`, and words that this release does not know.
        _ => FinishReason::Stop,
    }
}
