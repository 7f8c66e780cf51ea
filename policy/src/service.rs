//! The conversation with the bus: take a question, have it judged, record the decision, and only then answer.

use std::sync::Arc;
use std::time::Instant;

use bus::{Bus, Call, PublishError};
use jiff::Timestamp;
use proto::policy::{Action, Decision, Explain, Explanation, Permissible, PermissibleTools, Question};
use proto::{Component, Refusal, RefusalCode};
use uuid::Uuid;

use proto::content::Salt;

use crate::answer::Ids;
use crate::judge::{Hearing, Judge};

/// Longest session or call id that is taken, in characters. Both stand in every record of the turn, and a record is bounded.
const MAX_ID: usize = 256;

/// What every call needs.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) bus: Bus,
    pub(crate) judge: Arc<Judge>,
}

impl Service {
    /// May this happen?
    pub(crate) async fn check(self, call: Call<Question>) -> Result<Decision, Refusal> {
        let caller = vouched(call.caller)?;
        bounded(&call.body)?;
        let ids = Ids { decision: Uuid::now_v7(), permit: Uuid::now_v7(), salt: Salt::random() };
        let hearing =
            Hearing { caller, content: self.bus.content_mode(), now: Timestamp::now(), started: Instant::now(), ids };
        let answer = self.judge.check(call.body, &hearing);
        let recorded = self.bus.record_as(ids.decision, Some(call.trace), answer.scope, answer.fact).await;
        recorded.map_err(|error| unrecorded(&error))?;
        Ok(answer.decision)
    }

    /// Which tools could this person be permitted?
    pub(crate) async fn permissible(self, call: Call<PermissibleTools>) -> Result<Permissible, Refusal> {
        let tools = self.judge.permissible(&call.body, Timestamp::now());
        tools.map_err(|reason| Refusal::new(RefusalCode::Unauthorized, reason))
    }

    /// What would be decided?
    pub(crate) async fn explain(self, call: Call<Explain>) -> Result<Explanation, Refusal> {
        let explanation = self.judge.explain(call.body, Timestamp::now());
        explanation.map_err(|error| Refusal::new(RefusalCode::Invalid, error))
    }
}

/// The caller's name comes from the subject, where the server lets nobody put another one's.
fn vouched(caller: Option<Component>) -> Result<Component, Refusal> {
    caller.ok_or_else(|| Refusal::new(RefusalCode::Unauthorized, "the question does not say who asks"))
}

fn bounded(question: &Question) -> Result<(), Refusal> {
    let call = match &question.action {
        Action::CallTool { call, .. } => call.as_str(),
        Action::ReceiveMessage | Action::CallModel { .. } => "",
    };
    let fits = |id: &str| id.chars().count() <= MAX_ID;
    if fits(&question.session) && fits(call) {
        Ok(())
    } else {
        Err(Refusal::new(RefusalCode::Invalid, format!("session and call ids have at most {MAX_ID} characters")))
    }
}

/// Fail closed: a decision that nobody can read afterwards was not made.
fn unrecorded(error: &PublishError) -> Refusal {
    tracing::error!(error = error as &dyn std::error::Error, "a decision could not be recorded and was withheld");
    match error {
        PublishError::TooLarge(_) => {
            Refusal::new(RefusalCode::TooLarge, "the question is too large to be recorded, so it is not decided")
        }
        _ => Refusal::new(
            RefusalCode::Unavailable,
            "the audit log cannot take records, and nothing is decided without one: run `nachos doctor`",
        ),
    }
}
