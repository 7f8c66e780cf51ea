//! Carries out what the turn says: asks policy, the model and the runners, stores what happened, and tells it back.

use anyhow::Context as _;
use bus::CallError;
use proto::audit::Fact;
use proto::channel::{Inbound, Origin};
use proto::llm::{ChatMessage, ToolSpec};
use proto::policy::{Action, PermissibleTools, Question};
use proto::tool::{MAX_TOOL_TIME, Manifest, ToolCall, ToolOutcome};
use proto::trace::Trace;
use proto::{Refusal, RefusalCode, VERSION};
use tokio::time::{Duration, Instant, timeout_at};
use uuid::Uuid;

use crate::asking::{in_words, may_pass, never_arrived, patiently};
use crate::deltas::Deltas;
use crate::service::Gateway;
use crate::store::{Farewell, StoreError, StoredTurn};
use crate::turn::{Entry, Event, Reply, Step, Turn};
use crate::{farewell, model, prompt};

/// How often a turn is taken up again after the gateway died of it before it is given up in words: otherwise one message that makes
/// the gateway crash would make it crash for ever.
const MAX_ATTEMPTS: u64 = 10;

/// How much longer than the tool itself its caller waits: the runner's records and the way there and back.
const MARGIN: Duration = Duration::from_secs(5);

/// One message and what is known about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    /// The message.
    pub(crate) inbound: &'a Inbound,
    /// What its origin says.
    pub(crate) origin: &'a Origin,
    /// The trace of everything done for it.
    pub(crate) trace: Trace,
    /// How often it was delivered, this time included.
    pub(crate) attempt: u64,
}

/// A turn while it is carried out.
pub(crate) struct Driver<'a> {
    gateway: &'a Gateway,
    message: Message<'a>,
    turn: StoredTurn,
    brain: Turn,
    deltas: Deltas,
    earlier: Option<Vec<Vec<ChatMessage>>>,
    /// How many entries are on disk.
    stored: usize,
    /// What happened since; it is stored before the next effect.
    pending: Vec<Entry>,
}

impl<'a> Driver<'a> {
    /// A driver for a turn that has no ending yet.
    pub(crate) fn new(gateway: &'a Gateway, message: Message<'a>, turn: StoredTurn) -> Self {
        let deltas = Deltas::new(gateway.bus.clone(), message.inbound, turn.id, message.attempt);
        let brain = Turn::new(gateway.config.limits(), message.inbound.text.clone());
        Self { gateway, message, turn, brain, deltas, earlier: None, stored: 0, pending: Vec::new() }
    }

    /// Carries the turn to its end, from the last stored step. The ending is stored and not yet said.
    ///
    /// # Errors
    /// When the store fails: the message then comes again.
    pub(crate) async fn run(mut self) -> anyhow::Result<(StoredTurn, Farewell)> {
        let give_up = Instant::now() + self.gateway.config.turn_time();
        let event = self.resume().await?;
        let mut step = self.brain.told(event);
        loop {
            let event = match step {
                Step::Reply(reply) => return self.end(reply).await,
                step => match timeout_at(give_up, self.carry_out(step)).await {
                    Ok(event) => event?,
                    Err(_) => Event::TimeIsUp,
                },
            };
            if let Event::Happened(entry) = &event {
                self.pending.push(entry.clone());
            }
            step = self.brain.told(event);
        }
    }

    async fn resume(&mut self) -> anyhow::Result<Event> {
        match self.gateway.store.entries(self.turn.id).await {
            Ok(entries) => {
                self.stored = entries.len();
                self.brain.recall(entries);
            }
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(turn = %self.turn.id, error = ?anyhow::Error::from(error), "the turn is given up");
                return Ok(Event::Abandoned("its stored steps are not readable".to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        if self.message.attempt > MAX_ATTEMPTS {
            return Ok(Event::Abandoned(format!("it was broken off {MAX_ATTEMPTS} times")));
        }
        Ok(Event::Resumed)
    }

    async fn carry_out(&mut self, step: Step) -> anyhow::Result<Event> {
        match step {
            Step::CheckMessage => self.check_message().await,
            Step::FindTools => Ok(Event::ToolsFound(self.find_tools().await)),
            Step::AskModel { messages, tools } => self.ask_model(messages, tools).await,
            Step::CheckTool { call, tool, arguments } => {
                Ok(self.check(Action::CallTool { call, tool, arguments }).await)
            }
            Step::RunTool(call) => self.run_tool(&call).await,
            Step::Note(entry) => Ok(Event::Happened(entry)),
            Step::Reply(reply) => Ok(Event::Abandoned(reply.text)),
        }
    }

    async fn check_message(&mut self) -> anyhow::Result<Event> {
        let event = self.check(Action::ReceiveMessage).await;
        let allowed = matches!(&event, Event::Decided(proto::policy::Decision::Allow { .. }));
        if !allowed || self.turn.session.opened {
            return Ok(event);
        }
        let fact = Fact::SessionOpened { conversation: self.message.inbound.conversation.clone() };
        let scope = farewell::scope(&self.message, &self.turn, true);
        let recorded =
            self.gateway.bus.record_as(self.turn.session.record, Some(self.message.trace), scope, fact).await;
        if let Err(error) = recorded {
            tracing::error!(error = ?anyhow::Error::from(error), "the session could not be recorded");
            let reason = "the audit log takes no records; `nachos doctor` tells more";
            return Ok(Event::Undecided(Refusal::new(RefusalCode::Unavailable, reason)));
        }
        self.gateway.store.opened(&self.turn.session.id).await?;
        self.turn.session.opened = true;
        Ok(event)
    }

    /// Asks policy. No answer is a no.
    async fn check(&self, action: Action) -> Event {
        let question = Question {
            v: VERSION,
            origin: self.message.inbound.origin.clone(),
            session: self.turn.session.id.clone(),
            turn: self.turn.id,
            taint: self.turn.session.taint.clone(),
            action,
        };
        let trace = self.message.trace;
        match patiently("policy", may_pass, || self.gateway.bus.request(trace, &question)).await {
            Ok(decision) => Event::Decided(decision),
            Err(error) => {
                tracing::warn!(turn = %self.turn.id, %error, "policy gave no decision");
                Event::Undecided(in_words("the policy engine", error))
            }
        }
    }

    /// The tools that policy could permit to this person; none when it does not say.
    async fn find_tools(&self) -> Vec<Manifest> {
        let trace = self.message.trace;
        let mut tools = self.gateway.catalogue.tools(&self.gateway.bus, trace).await;
        if tools.is_empty() {
            return tools;
        }
        let question = PermissibleTools {
            v: VERSION,
            origin: self.message.inbound.origin.clone(),
            session: self.turn.session.id.clone(),
            taint: self.turn.session.taint.clone(),
        };
        match patiently("policy", may_pass, || self.gateway.bus.request(trace, &question)).await {
            Ok(permissible) => tools.retain(|tool| permissible.tools.contains(&tool.name)),
            Err(error) => {
                tracing::warn!(turn = %self.turn.id, %error, "policy does not say which tools to offer: none are");
                tools.clear();
            }
        }
        tools
    }

    async fn ask_model(&mut self, messages: Vec<ChatMessage>, tools: Vec<ToolSpec>) -> anyhow::Result<Event> {
        self.flush().await?;
        let config = &self.gateway.config;
        let earlier = match self.earlier.take() {
            Some(earlier) => earlier,
            None => self.gateway.store.history(&self.turn.session.id, config.history_bytes).await?,
        };
        let request = prompt::request(config, &self.message.inbound.origin, &self.turn, &earlier, messages, tools);
        self.earlier = Some(earlier);
        Ok(model::ask(self.gateway, self.message.trace, &request, &mut self.deltas).await)
    }

    async fn run_tool(&mut self, call: &ToolCall) -> anyhow::Result<Event> {
        // From here on a crash leaves a request without an outcome, and that is what the next attempt must find.
        self.flush().await?;
        let tool = call.tool().as_str();
        self.deltas.started(tool, call.arguments()).await;
        let time = self.brain.offered(tool).map_or(MAX_TOOL_TIME, |tool| Duration::from_millis(tool.limits.timeout_ms));
        let patience = time.min(MAX_TOOL_TIME) + MARGIN;
        let trace = self.message.trace;
        let ran = patiently(tool, never_arrived, || self.gateway.bus.request_within(trace, call, patience)).await;
        let event = match ran {
            Ok(output) => {
                self.turn.session.taint.extend(&output.taint);
                Event::ToolFinished(output)
            }
            Err(error) => {
                tracing::warn!(turn = %self.turn.id, tool, %error, "the tool gave no outcome");
                without_outcome(error)
            }
        };
        self.show_end(tool, &event).await;
        Ok(event)
    }

    async fn show_end(&mut self, tool: &str, event: &Event) {
        match event {
            Event::ToolFinished(output) => {
                let (ok, summary) = summary(&output.outcome);
                self.deltas.ended(tool, ok, summary).await;
            }
            Event::ToolNotRun { reason, .. } => self.deltas.ended(tool, false, reason).await,
            _ => self.deltas.ended(tool, false, "the outcome is unknown").await,
        }
    }

    /// What happened is on disk when this returns.
    async fn flush(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.gateway.store.append(&self.turn, self.stored, &self.pending).await?;
        self.stored += self.pending.len();
        self.pending.clear();
        Ok(())
    }

    async fn end(self, reply: Reply) -> anyhow::Result<(StoredTurn, Farewell)> {
        let transcript = self.brain.transcript(&reply);
        let farewell = Farewell {
            message: Uuid::now_v7(),
            record: Uuid::now_v7(),
            totals: self.brain.totals(),
            admitted: self.brain.is_admitted(),
            reply,
        };
        let stored = self.gateway.store.reply(&self.turn, self.stored, &self.pending, &farewell, &transcript).await;
        stored.context("the reply could not be stored")?;
        Ok((self.turn, farewell))
    }
}

/// What a failed call says about the run: certainly none, or nobody knows.
fn without_outcome(error: CallError) -> Event {
    match error {
        // The runner broke off or broke while it was at it.
        CallError::Refused(Refusal { code: RefusalCode::Deadline | RefusalCode::Internal, .. }) => {
            Event::OutcomeUnknown
        }
        error if error.was_not_carried_out() => {
            let may_pass = may_pass(&error);
            Event::ToolNotRun { reason: in_words("the tool's runner", error).reason, may_pass }
        }
        _ => Event::OutcomeUnknown,
    }
}

fn summary(outcome: &ToolOutcome) -> (bool, &str) {
    match outcome {
        ToolOutcome::Ok { text } => (true, text),
        ToolOutcome::Stored { head, .. } => (true, head),
        ToolOutcome::Failed { message } | ToolOutcome::Limit { message, .. } | ToolOutcome::Crashed { message } => {
            (false, message)
        }
    }
}
