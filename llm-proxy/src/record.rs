//! The two records of a request: that a model is about to be asked, durably before it is, and what came of it.

use std::time::Instant;

use bus::{Bus, Call, PublishError};
use proto::audit::{Fact, Scope};
use proto::content::{Content, ContentMode};
use proto::llm::ModelRequest;
use proto::trace::Trace;
use proto::{Name, Refusal, RefusalCode};
use serde_json::Value;
use uuid::Uuid;

use crate::error::Failure;
use crate::models::Model;
use crate::service::Answer;

/// Most names of called tools in a record, and of offered ones: a record has 64 KiB.
const MAX_NAMES: usize = 256;

/// A request whose beginning is recorded.
pub(crate) struct Recording {
    request: Uuid,
    model: Name,
    provider: String,
    trace: Trace,
    scope: Scope,
    begun: Instant,
}

impl Recording {
    /// Records that `model` is about to be asked; without the record it is not.
    pub(crate) async fn requested(bus: &Bus, call: &Call<ModelRequest>, model: &Model) -> Result<Self, Refusal> {
        let recording = Self {
            request: Uuid::now_v7(),
            model: model.name.clone(),
            provider: model.provider.to_string(),
            trace: call.trace,
            scope: scope(&call.body),
            begun: Instant::now(),
        };
        let asked = asked(&call.body);
        let fact = |mode| Fact::ModelRequested {
            request: recording.request,
            model: recording.model.clone(),
            provider: recording.provider.clone(),
            messages: call.body.messages.len() as u64,
            tools: call.body.tools.iter().take(MAX_NAMES).map(|tool| tool.name.clone()).collect(),
            content: Content::of_json(&asked, mode),
        };
        recording.store(bus, fact).await?;
        Ok(recording)
    }

    /// Records what came of it.
    pub(crate) async fn answered(self, bus: &Bus, answer: &Answer, failure: Option<&Failure>) -> Result<(), Refusal> {
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let fact = |mode| Fact::ModelAnswered {
            request: self.request,
            model: self.model.clone(),
            provider: self.provider.clone(),
            finish: answer.finish.filter(|_| failure.is_none()),
            error: failure.map(ToString::to_string),
            usage: answer.usage,
            tool_calls: answer.tool_calls.iter().take(MAX_NAMES).map(|name| head(name)).collect(),
            text: Content::of_text(&answer.text, mode),
            micros,
        };
        self.store(bus, fact).await
    }

    /// Content that makes the record too large is left out; its digest stays.
    async fn store(&self, bus: &Bus, fact: impl Fn(ContentMode) -> Fact) -> Result<(), Refusal> {
        let record = |mode| bus.record(Some(self.trace), self.scope.clone(), fact(mode));
        let stored = match record(bus.content_mode()).await {
            Err(PublishError::TooLarge(_)) => record(ContentMode::Digest).await,
            stored => stored,
        };
        stored.map(|_| ()).map_err(|error| {
            tracing::error!(%error, request = %self.request, "not recorded");
            let reason = format!("the request could not be recorded, so it does not go on: {error}");
            Refusal::new(RefusalCode::Unavailable, reason)
        })
    }
}

/// Policy has verified the origin by now, so what it claims holds.
fn scope(request: &ModelRequest) -> Scope {
    let origin = request.origin.unverified();
    Scope {
        session: Some(request.session.clone()),
        turn: Some(request.turn),
        principal: origin.as_ref().map(|origin| origin.principal()),
        channel: origin.map(|origin| origin.channel.to_string()),
    }
}

/// Everything that the model gets to see.
fn asked(request: &ModelRequest) -> Value {
    serde_json::json!({"system": request.system, "messages": request.messages, "tools": request.tools})
}

/// A model may call a tool by any name, of any length.
fn head(name: &str) -> String {
    name.chars().take(proto::name::MAX_NAME).collect()
}
