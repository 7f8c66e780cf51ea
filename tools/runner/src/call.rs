//! One call, from permit to answer.

use std::sync::Arc;

use bus::{Bus, Once, PublishError};
use jiff::Timestamp;
use proto::audit::{Fact, Scope};
use proto::content::Content;
use proto::keys::PublicKey;
use proto::permit::{PermitClaims, PermitError};
use proto::tool::{Manifest, ToolCall, ToolOutcome, ToolOutput};
use proto::trace::Trace;
use proto::{Refusal, RefusalCode};
use tokio::time::{Duration, Instant};

use crate::schema::Schemas;
use crate::{ANSWER_TIME, Ran, Toolbox, output};

/// A runner: its tools and the key that opens them.
pub(crate) struct Runner<T> {
    bus: Bus,
    toolbox: Arc<T>,
    policy: PublicKey,
    schemas: Schemas,
}

impl<T: Toolbox> Runner<T> {
    pub(crate) fn new(bus: Bus, toolbox: Arc<T>, policy: PublicKey) -> Self {
        Self { bus, toolbox, policy, schemas: Schemas::default() }
    }

    /// Checks, records, runs, records, answers; a refusal is recorded too.
    pub(crate) async fn answer(&self, call: bus::Call<ToolCall>) -> Result<ToolOutput, Refusal> {
        let (manifest, claims) = match self.admit(&call.body) {
            Ok(admitted) => admitted,
            Err(refusal) => return Err(self.refused(&call, refusal)),
        };
        if let Err(refusal) = self.record_start(call.trace, &call.body, &claims).await {
            return Err(self.refused(&call, refusal));
        }
        Ok(self.run(call, &manifest, &claims).await)
    }

    /// Everything that can be checked without using the permit up.
    fn admit(&self, call: &ToolCall) -> Result<(Manifest, PermitClaims), Refusal> {
        let manifest = self.toolbox.manifest(call.tool()).ok_or_else(|| {
            Refusal::new(RefusalCode::NotFound, format!("there is no tool `{}`; see `nachos tools`", call.tool()))
        })?;
        let now = Timestamp::now();
        let claims = call
            .permit()
            .verify(&self.policy, T::FAMILY, call.tool(), call.arguments(), now)
            .map_err(|error| refuse_permit(&error))?;
        self.schemas.check(&manifest, call.arguments())?;
        Ok((manifest, claims))
    }

    /// Uses the permit up by recording the start under its id. Whatever leaves doubt is a no.
    async fn record_start(&self, trace: Trace, call: &ToolCall, claims: &PermitClaims) -> Result<(), Refusal> {
        // Under the salt of the decision, so that the record ties start and decision together by one digest.
        let arguments = Content::of_json_salted(call.arguments(), self.bus.content_mode(), claims.salt);
        let fact = Fact::ToolStarted {
            run: claims.jti,
            tool: call.tool().clone(),
            call: claims.call.clone(),
            decision: claims.decision,
            arguments,
        };
        match self.bus.record_once(claims.jti, Some(trace), scope(claims), fact).await {
            Ok(Once::First) => Ok(()),
            Ok(Once::AlreadyUsed) => {
                Err(Refusal::new(RefusalCode::Conflict, "the permit was used before; a permit is for one run"))
            }
            Err(error) => Err(Refusal::new(RefusalCode::Unavailable, unrecordable(&error))),
        }
    }

    async fn run(&self, call: bus::Call<ToolCall>, manifest: &Manifest, claims: &PermitClaims) -> ToolOutput {
        let begun = Instant::now();
        let own = begun + Duration::from_millis(manifest.limits.timeout_ms);
        let callers = call.deadline.checked_sub(ANSWER_TIME).unwrap_or(call.deadline);
        let ran = self.toolbox.run(manifest.name.clone(), call.body.arguments().clone(), own.min(callers)).await;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let outcome = self.finish(call.trace, manifest, claims, ran, micros).await;
        ToolOutput { v: proto::VERSION, run: claims.jti, outcome, micros, taint: manifest.effects.taint() }
    }

    /// Records the end. A result that cannot be recorded is withheld: what nobody can prove did not happen here.
    async fn finish(
        &self,
        trace: Trace,
        manifest: &Manifest,
        claims: &PermitClaims,
        ran: Ran,
        micros: u64,
    ) -> ToolOutcome {
        let text = match &ran {
            Ran::Ok(text) | Ran::Failed(text) | Ran::Crashed(text) | Ran::Limit { message: text, .. } => text,
        };
        let result = Content::of_text(text, self.bus.content_mode());
        let outcome = output::outcome(&self.bus, manifest, ran).await;
        let fact = Fact::ToolFinished {
            run: claims.jti,
            tool: manifest.name.clone(),
            outcome: outcome.word().to_owned(),
            result,
            micros,
        };
        match self.bus.record(Some(trace), scope(claims), fact).await {
            Ok(_) => outcome,
            Err(error) => {
                tracing::error!(%error, run = %claims.jti, "the end of a run could not be recorded");
                ToolOutcome::Crashed {
                    message: "the tool ran, but its outcome could not be recorded and is withheld".to_owned(),
                }
            }
        }
    }

    /// Records a refusal in the background: the caller need not wait for it, and it may be the record that does not work.
    fn refused(&self, call: &bus::Call<ToolCall>, refusal: Refusal) -> Refusal {
        let (bus, trace) = (self.bus.clone(), call.trace);
        let fact = Fact::ToolRefused { tool: call.body.tool().to_string(), reason: refusal.reason.clone() };
        self.bus.spawn(async move {
            if let Err(error) = bus.record(Some(trace), Scope::default(), fact).await {
                tracing::error!(%error, "a refusal could not be recorded");
            }
        });
        refusal
    }
}

/// What the records of a run belong to; all of it signed by policy.
fn scope(claims: &PermitClaims) -> Scope {
    Scope {
        session: Some(claims.session.clone()),
        turn: Some(claims.turn),
        principal: Some(claims.sub.clone()),
        channel: claims.sub.split('/').next().map(str::to_owned),
    }
}

fn refuse_permit(error: &PermitError) -> Refusal {
    let code = match error {
        PermitError::NotCanonical(_) => RefusalCode::Invalid,
        _ => RefusalCode::Unauthorized,
    };
    Refusal::new(code, format!("nothing ran: {error}"))
}

fn unrecordable(error: &PublishError) -> String {
    format!("nothing ran: the start could not be recorded ({error}); see `nachos doctor`")
}
