//! Asking the audit service.

use bus::{Bus, CallError};
use proto::subject::Request;

use crate::failure::Failure;

/// One question, one answer.
pub(super) async fn ask<R: Request>(bus: &Bus, question: &R) -> Result<R::Reply, Failure> {
    bus.request(Bus::new_trace(), question).await.map_err(no_answer)
}

/// The audit service said no, or nothing.
pub(super) fn no_answer(error: CallError) -> Failure {
    match &error {
        CallError::Refused(_) => Failure::from(error).context("the audit service said no"),
        _ => Failure::from(error).context("the audit service did not answer"),
    }
}
