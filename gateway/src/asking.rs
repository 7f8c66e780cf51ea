//! Asking other components so that the restart of one is a pause and not a failure: a bounded number of attempts, then fail closed.

use std::time::Duration;

use bus::CallError;
use proto::{Refusal, RefusalCode};
use tokio::time::sleep;

/// Pauses between attempts. Together 8 seconds: a container that was killed is back by then, and a person still waits.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1000),
    Duration::from_millis(1500),
    Duration::from_millis(2000),
    Duration::from_millis(3000),
];

/// Asks until there is an answer, an error that asking again would not change, or no patience left.
pub(crate) async fn patiently<T, F>(
    what: &str,
    passes: impl Fn(&CallError) -> bool + Send,
    mut ask: impl FnMut() -> F + Send,
) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>> + Send,
{
    for pause in PAUSES {
        match ask().await {
            Err(error) if passes(&error) => tracing::debug!(%error, what, "asking again"),
            settled => return settled,
        }
        sleep(pause).await;
    }
    ask().await
}

/// Whether a question that has no effect is worth asking again.
pub(crate) fn may_pass(error: &CallError) -> bool {
    match error {
        CallError::Refused(refusal) => matches!(refusal.code, RefusalCode::Unavailable | RefusalCode::Busy),
        CallError::NoResponder(_) | CallError::TimedOut(_) | CallError::Disconnected | CallError::Broken(_) => true,
        CallError::Denied { .. } | CallError::TooLarge(_) => false,
    }
}

/// Whether a request that may have an effect certainly had none and is worth sending again.
pub(crate) fn never_arrived(error: &CallError) -> bool {
    matches!(error, CallError::NoResponder(_) | CallError::Disconnected)
}

/// What a person is told about `who` not answering. The details stay in the log.
pub(crate) fn in_words(who: &str, error: CallError) -> Refusal {
    let code = RefusalCode::Unavailable;
    match error {
        CallError::Refused(refusal) => refusal,
        CallError::NoResponder(_) => Refusal::new(code, format!("{who} is not running; `nachos doctor` tells more")),
        CallError::TimedOut(_) => Refusal::new(code, format!("{who} did not answer in time; try again")),
        CallError::Broken(_) => Refusal::new(code, format!("the answer of {who} was cut off; try again")),
        CallError::Disconnected => Refusal::new(code, "the gateway has lost the bus; try again"),
        CallError::Denied { .. } => {
            Refusal::new(code, format!("the bus does not let the gateway ask {who}; `nachos doctor` tells more"))
        }
        CallError::TooLarge(bytes) => Refusal::new(
            RefusalCode::TooLarge,
            format!("the conversation has become too large ({bytes} bytes); start a new one"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_restart_is_waited_for_and_not_for_ever() {
        let asked = AtomicU32::new(0);
        let nobody = || CallError::NoResponder("x".to_owned());
        let answer = patiently("x", may_pass, || async {
            if asked.fetch_add(1, Ordering::Relaxed) < 3 { Err(nobody()) } else { Ok(7) }
        });
        assert_eq!(answer.await.unwrap(), 7);
        let never = patiently("x", may_pass, || async { Err::<u8, _>(nobody()) });
        assert!(matches!(never.await, Err(CallError::NoResponder(_))));
    }

    #[tokio::test]
    async fn a_no_is_not_asked_again() {
        let asked = AtomicU32::new(0);
        let answer = patiently("x", may_pass, || async {
            asked.fetch_add(1, Ordering::Relaxed);
            Err::<u8, _>(CallError::Refused(Refusal::new(RefusalCode::Forbidden, "no")))
        });
        assert!(answer.await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
