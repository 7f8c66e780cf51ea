//! Serves `nachos.llm.request`: resolve the model, ask policy, record, ask the provider, pass the answer on, record.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Call, CallError, Replies};
use proto::llm::{FinishReason, ModelChunk, ModelRequest, Usage};
use proto::policy::{Action, Decision, Question};
use proto::{Refusal, RefusalCode};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::ask::{Limits, ask};
use crate::config::Config;
use crate::error::{Class, Failure};
use crate::keys::{self, Keys};
use crate::models::{Backend, Catalogue, Endpoint, Model};
use crate::plan::Plan;
use crate::record::Recording;
use crate::{http, offline};

/// Requests in the making at once. Each may hold a conversation and an answer, some hundred kilobytes; together they must stay far
/// below the container's memory.
pub const MAX_REQUESTS: usize = 256;

/// How often key files are looked at.
const KEY_POLL: Duration = Duration::from_secs(5);

/// Time kept back from the caller's deadline, so that a request that runs out of time is still recorded and refused in words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Registers the endpoint and watches the keys.
///
/// # Errors
/// A wrong configuration, an unusable CA bundle, or a bus that does not permit it.
pub fn serve(bus: Bus, config: Config) -> bus::Serving {
    Box::pin(start(bus, config))
}

async fn start(bus: Bus, config: Config) -> anyhow::Result<()> {
    let plan = Plan::new(&config)?;
    let http = http::client(config.ca_bundle.as_deref())?;
    let keys = keys::read(plan.key_files()).await;
    let (changed, catalogue) = watch::channel(Arc::new(Catalogue::new(&plan, &keys)));
    show(&bus, &catalogue.borrow());
    let proxy = Arc::new(Proxy {
        bus: bus.clone(),
        http,
        catalogue,
        room: Semaphore::new(MAX_REQUESTS),
        patience: Patience::new(&config),
    });
    bus.serve_stream(move |call, replies| {
        let proxy = Arc::clone(&proxy);
        async move { proxy.answer(call, replies).await }
    })
    .await?;
    bus.spawn(watch_keys(bus.clone(), plan, keys, changed));
    Ok(())
}

/// A key that is stored, replaced or removed takes effect without a restart.
async fn watch_keys(bus: Bus, plan: Plan, mut keys: Keys, changed: watch::Sender<Arc<Catalogue>>) {
    let files: Vec<PathBuf> = plan.key_files().cloned().collect();
    loop {
        tokio::time::sleep(KEY_POLL).await;
        let now = keys::read(&files).await;
        if now != keys {
            keys = now;
            let catalogue = Arc::new(Catalogue::new(&plan, &keys));
            show(&bus, &catalogue);
            changed.send_replace(catalogue);
        }
    }
}

fn show(bus: &Bus, catalogue: &Catalogue) {
    let condition = catalogue.condition();
    tracing::info!(ok = condition.ok, detail = condition.detail, "models");
    bus.report(condition);
}

struct Patience {
    whole: Duration,
    first_output: Duration,
    idle: Duration,
}

impl Patience {
    fn new(config: &Config) -> Self {
        Self {
            whole: Duration::from_millis(config.deadline_ms),
            first_output: Duration::from_millis(config.first_output_ms),
            idle: Duration::from_millis(config.idle_ms),
        }
    }

    fn deadline(&self, caller: Instant) -> Instant {
        let kept_back = caller.checked_sub(LAST_WORDS).unwrap_or(caller);
        kept_back.min(Instant::now() + self.whole)
    }
}

struct Proxy {
    bus: Bus,
    http: reqwest::Client,
    catalogue: watch::Receiver<Arc<Catalogue>>,
    room: Semaphore,
    patience: Patience,
}

/// What was said so far, for the record.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) tool_calls: Vec<String>,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) usage: Usage,
}

impl Proxy {
    async fn answer(&self, call: Call<ModelRequest>, replies: Replies<ModelChunk>) -> Result<(), Refusal> {
        let _place = self.room.try_acquire().map_err(|_| {
            Refusal::new(RefusalCode::Busy, format!("{MAX_REQUESTS} model requests are running already: try again"))
        })?;
        let model = Arc::clone(&self.catalogue.borrow()).resolve(call.body.model.as_ref())?;
        check(&call.body)?;
        self.permitted(&call, &model).await?;
        let recording = Recording::requested(&self.bus, &call, &model).await?;
        let deadline = self.patience.deadline(call.deadline);
        let mut answer = Answer::default();
        let relayed = timeout_at(deadline, self.relay(&model, &call.body, &replies, &mut answer)).await;
        let outcome = relayed.unwrap_or_else(|_| Err(Failure::new(Class::Deadline, "")));
        // The record stands before the end is told: whoever has a whole answer finds it recorded.
        recording.answered(&self.bus, &answer, outcome.as_ref().err()).await?;
        outcome.map_err(|failure| failure.refusal(model.name.as_str(), model.provider.as_str()))?;
        let reason = answer.finish.unwrap_or(FinishReason::Stop);
        let finished = ModelChunk::Finished { reason, usage: answer.usage };
        replies.send(&finished).await.map_err(|error| undeliverable(&error).refusal("", model.provider.as_str()))
    }

    /// Only a decision that allows lets a request through; no decision is a no.
    async fn permitted(&self, call: &Call<ModelRequest>, model: &Model) -> Result<(), Refusal> {
        let question = Question {
            v: proto::VERSION,
            origin: call.body.origin.clone(),
            session: call.body.session.clone(),
            turn: call.body.turn,
            taint: call.body.taint.clone(),
            action: Action::CallModel { model: model.name.clone() },
        };
        let forbidden = |why: String| {
            let reason = format!("the model `{}` may not be asked: {why}", model.name);
            Err(Refusal::new(RefusalCode::Forbidden, reason))
        };
        match self.bus.request(call.trace, &question).await {
            Ok(Decision::Allow { .. }) => Ok(()),
            Ok(Decision::Deny { reason, .. }) => forbidden(reason),
            // Nobody waits for a human in the middle of a model request.
            Ok(Decision::Ask { prompt, .. }) => forbidden(format!("a person would have to approve it ({prompt})")),
            Err(CallError::Refused(refusal)) => Err(refusal),
            Err(error) => {
                let reason = format!("policy gave no decision, so no model is asked: {error}");
                Err(Refusal::new(RefusalCode::Unavailable, reason))
            }
        }
    }

    /// Passes everything on but the end, which waits for the record.
    async fn relay(
        &self,
        model: &Model,
        request: &ModelRequest,
        replies: &Replies<ModelChunk>,
        answer: &mut Answer,
    ) -> Result<(), Failure> {
        let mut out = Out { model, replies, answer };
        match &model.backend {
            Backend::Offline => {
                out.started().await?;
                for chunk in offline::answer(request) {
                    out.pass(chunk).await?;
                }
                Ok(())
            }
            Backend::Http(endpoint) => self.relay_http(endpoint, request, &mut out).await,
        }
    }

    async fn relay_http(&self, endpoint: &Endpoint, request: &ModelRequest, out: &mut Out<'_>) -> Result<(), Failure> {
        let body = endpoint.wire.body(request, &out.model.id, &out.model.extra).to_string().into_bytes();
        let limits = Limits { first_output: Instant::now() + self.patience.first_output, idle: self.patience.idle };
        let mut reply = match ask(&self.http, endpoint, body, limits).await {
            Ok(reply) => reply,
            // A refusal to answer is an answer.
            Err(failure) if failure.class == Class::Filtered => return out.filtered().await,
            Err(failure) => return Err(failure),
        };
        out.started().await?;
        while let Some(chunk) = reply.next().await? {
            out.pass(chunk).await?;
        }
        reply.close().await;
        Ok(())
    }
}

/// Where an answer goes: to the caller, and into the record.
struct Out<'a> {
    model: &'a Model,
    replies: &'a Replies<ModelChunk>,
    answer: &'a mut Answer,
}

impl Out<'_> {
    async fn started(&self) -> Result<(), Failure> {
        let (model, provider) = (self.model.name.clone(), self.model.provider.to_string());
        self.send(&ModelChunk::Started { model, provider }).await
    }

    async fn filtered(&mut self) -> Result<(), Failure> {
        self.answer.finish = Some(FinishReason::Refused);
        self.started().await
    }

    async fn pass(&mut self, chunk: ModelChunk) -> Result<(), Failure> {
        match &chunk {
            ModelChunk::Finished { reason, usage } => {
                self.answer.finish = Some(*reason);
                self.answer.usage = *usage;
                return Ok(());
            }
            ModelChunk::Text { text } => self.answer.text.push_str(text),
            ModelChunk::ToolUse(call) => self.answer.tool_calls.push(call.name.clone()),
            _ => {}
        }
        self.send(&chunk).await
    }

    async fn send(&self, chunk: &ModelChunk) -> Result<(), Failure> {
        self.replies.send(chunk).await.map_err(|error| undeliverable(&error))
    }
}

/// A lost connection passes, and whoever asked may ask again; what no message can hold stays too large.
fn undeliverable(error: &bus::BusError) -> Failure {
    let class = if matches!(error, bus::BusError::Unsendable(_)) { Class::TooLarge } else { Class::Undeliverable };
    Failure::new(class, error)
}

fn check(request: &ModelRequest) -> Result<(), Refusal> {
    if request.messages.is_empty() || request.max_tokens == 0 {
        return Err(Refusal::new(RefusalCode::Invalid, "a model request needs a message and max_tokens above 0"));
    }
    Ok(())
}
