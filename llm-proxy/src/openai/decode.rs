//! OpenAI's stream as our chunks.

use proto::llm::{FinishReason, ModelChunk, Usage};
use serde::Deserialize;
use serde_json::Value;

use super::failure::from_error;
use crate::calls::{Calls, reason};
use crate::error::{Class, Failure};

/// What ends the stream.
const DONE: &str = "[DONE]";

/// Reads one answer, event by event. Nothing that it does not know is an error: fields and events are added every few weeks.
#[derive(Debug)]
pub struct Decoder {
    calls: Calls,
    /// Set once the model said why it stopped: from then on the answer is whole.
    finish: Option<FinishReason>,
    refused: bool,
    usage: Usage,
    done: bool,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionDelta>,
}

#[derive(Deserialize, Default)]
struct FunctionDelta {
    #[serde(default)]
    name: Option<String>,
    /// A fragment of JSON text; some servers send the object itself.
    #[serde(default)]
    arguments: Option<Value>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

impl Decoder {
    /// A decoder for one answer; calls that come without an id get `<ids>-<number>`.
    pub fn new(ids: impl Into<String>) -> Self {
        Self { calls: Calls::new(ids), finish: None, refused: false, usage: Usage::default(), done: false }
    }

    /// Whether the answer is over.
    pub fn done(&self) -> bool {
        self.done
    }

    /// Takes the data of one event.
    ///
    /// # Errors
    /// [`Failure`]: an error sent by the provider, or data that is no JSON.
    pub fn event(&mut self, data: &str, out: &mut Vec<ModelChunk>) -> Result<(), Failure> {
        if data.trim() == DONE {
            return self.end(out);
        }
        if data.trim().is_empty() {
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(|error| Failure::new(Class::Malformed, error))?;
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(from_error(&error));
        }
        if let Some(usage) = chunk.usage {
            self.count(&usage);
        }
        // Only one choice is asked for.
        chunk.choices.into_iter().filter(|choice| choice.index == 0).try_for_each(|choice| self.choice(choice, out))
    }

    /// The stream is over. Some servers leave out `[DONE]`; a stream that ends before the model said why it stopped is cut.
    ///
    /// # Errors
    /// [`Failure`] of class `Truncated`.
    pub fn end(&mut self, out: &mut Vec<ModelChunk>) -> Result<(), Failure> {
        if self.done {
            return Ok(());
        }
        let Some(said) = self.finish else {
            return Err(Failure::new(Class::Truncated, "the stream ended without a finish_reason"));
        };
        self.done = true;
        let calls = self.calls.finish(said);
        let said = if self.refused { FinishReason::Refused } else { reason(said, calls.len()) };
        out.extend(calls.into_iter().map(ModelChunk::ToolUse));
        out.push(ModelChunk::Finished { reason: said, usage: self.usage });
        Ok(())
    }

    fn choice(&mut self, choice: Choice, out: &mut Vec<ModelChunk>) -> Result<(), Failure> {
        if let Some(delta) = choice.delta {
            self.delta(delta, out)?;
        }
        if let Some(word) = choice.finish_reason.filter(|word| !word.is_empty()) {
            self.finish = Some(finish(&word));
        }
        Ok(())
    }

    fn delta(&mut self, delta: Delta, out: &mut Vec<ModelChunk>) -> Result<(), Failure> {
        self.refused |= delta.refusal.as_ref().is_some_and(|text| !text.is_empty());
        for text in [delta.content, delta.refusal].into_iter().flatten().filter(|text| !text.is_empty()) {
            out.push(ModelChunk::Text { text });
        }
        delta.tool_calls.into_iter().flatten().try_for_each(|call| self.call(call))
    }

    fn call(&mut self, delta: CallDelta) -> Result<(), Failure> {
        let function = delta.function.unwrap_or_default();
        let id = delta.id.filter(|id| !id.is_empty());
        let name = function.name.filter(|name| !name.is_empty());
        if self.begins(delta.index, id.as_deref()) {
            let number = self.calls.len();
            let place = delta.index.unwrap_or(number as u64);
            self.calls.begin(place, id.unwrap_or_default(), name.unwrap_or_default())?;
        } else if let (Some(name), Some(call)) = (name, self.place(delta.index)) {
            // Repeated by some servers, sent late by others; never in pieces.
            call.name = name;
        }
        match (function.arguments, self.place(delta.index)) {
            (Some(Value::String(fragment)), Some(call)) => call.push(&fragment),
            (Some(whole @ Value::Object(_)), Some(call)) => call.set(&whole),
            _ => Ok(()),
        }
    }

    /// Whether a delta begins a call: a place not seen before, or another id at the same place, which is how some servers send
    /// parallel calls; without a place, any id does, and the first delta.
    fn begins(&mut self, index: Option<u64>, id: Option<&str>) -> bool {
        match (self.place(index), id) {
            (None, _) => true,
            (Some(call), Some(id)) => call.id != id,
            (Some(_), None) => false,
        }
    }

    fn place(&mut self, index: Option<u64>) -> Option<&mut crate::calls::Call> {
        match index {
            Some(index) => self.calls.at(index),
            None => self.calls.last_mut(),
        }
    }

    /// The last word counts: some servers send running totals with every chunk.
    fn count(&mut self, usage: &WireUsage) {
        let cached = usage.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens);
        self.usage = Usage {
            input: usage.prompt_tokens.unwrap_or(self.usage.input),
            output: usage.completion_tokens.unwrap_or(self.usage.output),
            cached: cached.unwrap_or(self.usage.cached),
        };
    }
}

fn finish(word: &str) -> FinishReason {
    match word {
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::Refused,
        // A word that this release does not know still says that the model is done.
        _ => FinishReason::Stop,
    }
}
