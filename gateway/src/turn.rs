//! The brain of a turn: told an [`Event`], it says a [`Step`]. No clock, bus, randomness or tokio in it, so that everything the agent
//! decides can be read and tested as a table.
//!
//! What must survive a crash is an [`Entry`]: the driver stores it and tells it back. A turn is rebuilt by telling a fresh machine
//! its stored entries in order, then [`Event::Resumed`]. Nothing but entries changes what later entries mean, so the same entries
//! always lead to the same place; the tools on offer are found anew in every attempt.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::canonical::{canonical, token};
use proto::llm::{ChatMessage, FinishReason, ToolSpec, ToolUse, Usage};
use proto::policy::Decision;
use proto::tool::{Manifest, ToolCall, ToolOutput};
use proto::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};

pub use self::event::{Answer, Entry, Event, How, Outcome, Reply, Step};
use crate::words;

mod event;
#[cfg(test)]
mod tests;

/// How often one call of the model may be run: once, and once more where nobody knows how the first run ended and the tool's manifest
/// says that running twice is as good as once. Without a bound a runner that dies of a call would be killed by it for ever.
const MAX_RUNS: u32 = 2;

/// What bounds a turn.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Model requests.
    pub steps: u32,
    /// Tool calls that the model may ask for.
    pub tool_calls: u32,
    /// Tokens of all model requests together.
    pub tokens: u64,
    /// Bytes of one tool result that the model is shown.
    pub result_bytes: usize,
}

/// What a turn has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Model requests answered.
    pub model_calls: u32,
    /// Tool calls asked for.
    pub tool_calls: u32,
    /// Tokens.
    pub usage: Usage,
}

/// A tool call that is not settled yet; the first of the queue is the one at hand.
#[derive(Debug)]
struct Pending {
    call: ToolUse,
    /// Which of the turn's tool calls it is, from 1.
    number: u32,
    /// How often a runner was asked.
    runs: u32,
    /// A runner was asked and has not answered.
    running: bool,
}

/// One turn.
#[derive(Debug)]
pub struct Turn {
    limits: Limits,
    text: String,
    admitted: bool,
    tools: Option<BTreeMap<String, Manifest>>,
    messages: Vec<ChatMessage>,
    calls: VecDeque<Pending>,
    /// The permitted call that waits for its request to be stored.
    permitted: Option<Box<ToolCall>>,
    denied: BTreeSet<String>,
    ids: BTreeSet<String>,
    finish: Option<FinishReason>,
    totals: Totals,
    end: Option<Reply>,
}

impl Turn {
    /// A turn for what a person wrote; nothing has happened yet.
    pub fn new(limits: Limits, text: impl Into<String>) -> Self {
        Self {
            limits,
            text: text.into(),
            admitted: false,
            tools: None,
            messages: Vec::new(),
            calls: VecDeque::new(),
            permitted: None,
            denied: BTreeSet::new(),
            ids: BTreeSet::new(),
            finish: None,
            totals: Totals::default(),
            end: None,
        }
    }

    /// Takes in what happened before a crash; [`Event::Resumed`] then goes on.
    pub fn recall(&mut self, entries: impl IntoIterator<Item = Entry>) {
        entries.into_iter().for_each(|entry| self.remember(entry));
    }

    /// Takes in what happened and says what to do next.
    pub fn told(&mut self, event: Event) -> Step {
        match event {
            Event::Happened(entry) => {
                self.remember(entry);
                if let Some(call) = self.permitted.take() {
                    return Step::RunTool(call);
                }
            }
            Event::Decided(decision) if self.admitted => return self.decided(decision),
            Event::Decided(decision) => return self.judged(decision),
            Event::Undecided(refusal) if self.admitted => return self.settle(How::NotRun, words::undecided(&refusal)),
            Event::Undecided(refusal) => self.end_with(outcome_of(&refusal), words::not_admitted(&refusal)),
            Event::ToolsFound(tools) => {
                self.tools = Some(tools.into_iter().map(|tool| (tool.name.to_string(), tool)).collect());
            }
            Event::ToolFinished(output) => return self.finished(&output),
            Event::ToolNotRun { may_pass: true, .. } if self.may_repeat() => self.interrupted(),
            Event::ToolNotRun { reason, .. } => return self.settle(How::NotRun, words::not_run(&reason)),
            Event::OutcomeUnknown | Event::Resumed => self.interrupted(),
            Event::ModelFailed(refusal) => self.end_with(outcome_of(&refusal), words::model_failed(&refusal)),
            Event::TimeIsUp => self.end_with(Outcome::Limit, words::time_is_up(self.running_tool())),
            Event::Abandoned(reason) => self.end_with(Outcome::Failed, words::abandoned(&reason)),
        }
        self.next()
    }

    /// Whether policy let the message in.
    pub fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// What the turn has used so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The manifest of a tool on offer.
    pub fn offered(&self, tool: &str) -> Option<&Manifest> {
        self.tools.as_ref()?.get(tool)
    }

    /// What later turns of the session see of this one; nothing where the message was not let in. Every call has an outcome in it and
    /// the last word is the reply, as providers demand of a conversation.
    pub fn transcript(&self, reply: &Reply) -> Vec<ChatMessage> {
        let mut said: Vec<_> = self.messages.iter().cloned().map(without_state).collect();
        said.extend(self.calls.iter().map(|pending| {
            let how = if pending.runs > 0 { How::Unknown } else { How::NotRun };
            outcome_message(&pending.call, how, words::turn_ended(how))
        }));
        if !said.is_empty() && !ends_with_answer(&said) {
            said.push(ChatMessage::Assistant {
                text: reply.text.clone(),
                tool_calls: Vec::new(),
                provider_state: None,
            });
        }
        said
    }

    fn next(&self) -> Step {
        if let Some(end) = &self.end {
            return Step::Reply(end.clone());
        }
        if !self.admitted {
            return Step::CheckMessage;
        }
        if let (Some(finish), true) = (self.finish, self.calls.is_empty() && ends_with_answer(&self.messages)) {
            return Step::Reply(self.answer(finish));
        }
        let Some(tools) = &self.tools else {
            return Step::FindTools;
        };
        if let Some(pending) = self.calls.front() {
            return self.next_call(pending, tools);
        }
        if let Some(text) = self.used_up() {
            return Step::Reply(Reply::notice(Outcome::Limit, text));
        }
        Step::AskModel { messages: self.messages.clone(), tools: tools.values().map(spec).collect() }
    }

    fn used_up(&self) -> Option<String> {
        let tokens = self.totals.usage.input.saturating_add(self.totals.usage.output);
        if self.totals.model_calls >= self.limits.steps {
            Some(words::steps_used_up(self.limits.steps))
        } else if tokens >= self.limits.tokens {
            Some(words::tokens_used_up(self.limits.tokens))
        } else {
            None
        }
    }

    fn next_call(&self, pending: &Pending, tools: &BTreeMap<String, Manifest>) -> Step {
        let call = &pending.call;
        let tool = tools.get(&call.name);
        if pending.runs > 0 {
            return match tool {
                Some(tool) if self.may_repeat() => check(call, tool),
                _ => self.settle(How::Unknown, words::unknown_outcome()),
            };
        }
        if pending.number > self.limits.tool_calls {
            return self.settle(How::NotRun, words::too_many_calls(self.limits.tool_calls));
        }
        let Some(tool) = tool else {
            return self.settle(How::NotRun, words::no_such_tool(&call.name, tools.keys()));
        };
        if !call.arguments.is_object() {
            return self.settle(How::NotRun, words::no_object(&call.name));
        }
        if self.denied.contains(&fingerprint(call)) {
            return self.settle(How::Denied, words::denied_before());
        }
        check(call, tool)
    }

    /// Whether the call at hand may be run again.
    fn may_repeat(&self) -> bool {
        self.calls.front().is_some_and(|pending| {
            pending.runs < MAX_RUNS && self.offered(&pending.call.name).is_some_and(|tool| tool.effects.may_repeat())
        })
    }

    /// Policy's word on the message.
    fn judged(&mut self, decision: Decision) -> Step {
        match decision {
            Decision::Allow { .. } => return Step::Note(Entry::Admitted { text: self.text.clone() }),
            Decision::Deny { reason, .. } => self.end_with(Outcome::Refused, words::rejected(&reason)),
            Decision::Ask { prompt, .. } => self.end_with(Outcome::Refused, words::rejected(&words::approval(&prompt))),
        }
        self.next()
    }

    /// Policy's word on the tool call at hand.
    fn decided(&mut self, decision: Decision) -> Step {
        match (decision, self.calls.front()) {
            (Decision::Allow { call: Some(call), .. }, Some(pending)) => {
                let request = Entry::ToolRequested { call: pending.call.id.clone() };
                self.permitted = Some(call);
                Step::Note(request)
            }
            (Decision::Allow { .. }, _) => self.settle(How::NotRun, words::no_permit()),
            (Decision::Deny { reason, .. }, _) => self.settle(How::Denied, words::denied(&reason)),
            (Decision::Ask { prompt, .. }, _) => self.settle(How::Denied, words::approval(&prompt)),
        }
    }

    fn finished(&self, output: &ToolOutput) -> Step {
        let tool = self.calls.front().map_or("", |pending| pending.call.name.as_str());
        let (how, text) = words::outcome(tool, &output.outcome, self.limits.result_bytes);
        self.settle(how, text)
    }

    /// The call at hand comes to its end. What may have run before stays unknown, whatever was said about running it again.
    fn settle(&self, how: How, text: String) -> Step {
        let Some(pending) = self.calls.front() else {
            return Step::Reply(Reply::notice(Outcome::Failed, words::abandoned(words::MIXED_UP)));
        };
        let earlier_run = pending.runs > u32::from(pending.running);
        let (how, text) = match how {
            How::NotRun | How::Denied if earlier_run => (How::Unknown, words::unknown_outcome()),
            _ => (how, text),
        };
        Step::Note(Entry::ToolSettled { call: pending.call.id.clone(), how, text })
    }

    fn remember(&mut self, entry: Entry) {
        match entry {
            Entry::Admitted { text } => self.admit(text),
            Entry::ModelAnswered(answer) => self.answered(answer),
            Entry::ToolRequested { call } => match self.at_hand(&call) {
                Some(pending) => {
                    pending.runs = pending.runs.saturating_add(1);
                    pending.running = true;
                }
                None => self.end_with(Outcome::Failed, words::abandoned(words::MIXED_UP)),
            },
            Entry::ToolSettled { call, how, text } => self.settled(&call, how, text),
        }
    }

    fn admit(&mut self, text: String) {
        self.admitted = true;
        self.messages.push(ChatMessage::User { text: text.clone() });
        self.text = text;
    }

    fn answered(&mut self, mut answer: Answer) {
        self.totals.model_calls = self.totals.model_calls.saturating_add(1);
        self.totals.usage = self.totals.usage + answer.usage;
        for (index, call) in answer.tool_calls.iter_mut().enumerate() {
            self.totals.tool_calls = self.totals.tool_calls.saturating_add(1);
            // Some providers leave ids out or use one twice; an outcome must be tied to its call.
            if call.id.is_empty() || self.ids.contains(&call.id) {
                call.id = format!("call-{}-{}", self.totals.model_calls, index);
            }
            self.ids.insert(call.id.clone());
            let number = self.totals.tool_calls;
            self.calls.push_back(Pending { call: call.clone(), number, runs: 0, running: false });
        }
        self.finish = Some(answer.finish);
        let Answer { text, tool_calls, state, .. } = answer;
        self.messages.push(ChatMessage::Assistant { text, tool_calls, provider_state: state });
    }

    fn settled(&mut self, id: &str, how: How, text: String) {
        if self.at_hand(id).is_none() {
            return self.end_with(Outcome::Failed, words::abandoned(words::MIXED_UP));
        }
        let Some(pending) = self.calls.pop_front() else { return };
        if how == How::Denied {
            self.denied.insert(fingerprint(&pending.call));
        }
        self.messages.push(outcome_message(&pending.call, how, text));
    }

    fn at_hand(&mut self, id: &str) -> Option<&mut Pending> {
        self.calls.front_mut().filter(|pending| pending.call.id == id)
    }

    fn interrupted(&mut self) {
        if let Some(pending) = self.calls.front_mut() {
            pending.running = false;
        }
    }

    fn running_tool(&self) -> Option<&str> {
        let pending = self.calls.front().filter(|pending| pending.runs > 0)?;
        Some(&pending.call.name)
    }

    fn answer(&self, finish: FinishReason) -> Reply {
        let text = self.messages.iter().rev().find_map(spoken).unwrap_or_default();
        match finish {
            FinishReason::Refused => Reply::notice(Outcome::Refused, words::model_refused(text)),
            _ if text.is_empty() => Reply::notice(Outcome::Failed, words::empty_answer()),
            FinishReason::Length => Reply::answer(words::cut_short(text)),
            FinishReason::Stop | FinishReason::ToolCalls => Reply::answer(text.to_owned()),
        }
    }

    fn end_with(&mut self, outcome: Outcome, text: String) {
        self.end.get_or_insert_with(|| Reply::notice(outcome, text));
    }
}

fn check(call: &ToolUse, tool: &Manifest) -> Step {
    Step::CheckTool { call: call.id.clone(), tool: tool.name.clone(), arguments: call.arguments.clone() }
}

fn spec(tool: &Manifest) -> ToolSpec {
    ToolSpec { name: tool.name.clone(), description: tool.description.clone(), parameters: tool.parameters.clone() }
}

/// What makes two calls the same: the tool and its arguments, however they were written.
fn fingerprint(call: &ToolUse) -> String {
    let arguments = canonical(&call.arguments).unwrap_or_else(|_| call.arguments.to_string());
    token(&[&call.name, &arguments])
}

fn outcome_message(call: &ToolUse, how: How, text: String) -> ChatMessage {
    ChatMessage::Tool { call: call.id.clone(), tool: call.name.clone(), text, is_error: how != How::Ran }
}

fn without_state(message: ChatMessage) -> ChatMessage {
    match message {
        ChatMessage::Assistant { text, tool_calls, .. } => {
            ChatMessage::Assistant { text, tool_calls, provider_state: None }
        }
        other => other,
    }
}

fn ends_with_answer(messages: &[ChatMessage]) -> bool {
    matches!(messages.last(), Some(ChatMessage::Assistant { tool_calls, .. }) if tool_calls.is_empty())
}

fn spoken(message: &ChatMessage) -> Option<&str> {
    match message {
        ChatMessage::Assistant { text, .. } if !text.trim().is_empty() => Some(text),
        _ => None,
    }
}

fn outcome_of(refusal: &Refusal) -> Outcome {
    match refusal.code {
        RefusalCode::Forbidden | RefusalCode::Unauthorized => Outcome::Refused,
        _ => Outcome::Failed,
    }
}
