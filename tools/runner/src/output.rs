//! What came out of a run, bounded: small inline, large by reference, too large as an error.

use bus::Bus;
use proto::object::MAX_OBJECT;
use proto::tool::{MAX_INLINE_OUTPUT, Manifest, ToolOutcome};

use crate::Ran;

/// Beginning of a stored output that travels inline, in bytes: enough for a model to see what it is.
const HEAD: usize = 2 * 1024;

/// Longest message of a failed run in bytes: it is for a model to read, not a place to put data.
const MAX_MESSAGE: usize = 4 * 1024;

/// The outcome of a run as it travels.
pub(crate) async fn outcome(bus: &Bus, manifest: &Manifest, ran: Ran) -> ToolOutcome {
    match ran {
        Ran::Ok(text) => result(bus, manifest, text).await,
        Ran::Failed(message) => ToolOutcome::Failed { message: head(&message, MAX_MESSAGE) },
        Ran::Limit { limit, message } => ToolOutcome::Limit { limit, message: head(&message, MAX_MESSAGE) },
        Ran::Crashed(message) => ToolOutcome::Crashed { message: head(&message, MAX_MESSAGE) },
    }
}

async fn result(bus: &Bus, manifest: &Manifest, text: String) -> ToolOutcome {
    let most = usize::try_from(manifest.limits.output_bytes).unwrap_or(MAX_OBJECT).min(MAX_OBJECT);
    if text.len() > most {
        return ToolOutcome::Limit {
            limit: "output".to_owned(),
            message: format!(
                "the output has {} bytes, more than the {most} that `{}` may give",
                text.len(),
                manifest.name
            ),
        };
    }
    if text.len() <= MAX_INLINE_OUTPUT {
        return ToolOutcome::Ok { text };
    }
    let beginning = head(&text, HEAD);
    match bus.put_object(text.into()).await {
        Ok(object) => ToolOutcome::Stored { object, head: beginning },
        Err(error) => ToolOutcome::Crashed { message: format!("the output could not be stored: {error}") },
    }
}

/// The first `bytes` of a text, cut between characters.
fn head(text: &str, bytes: usize) -> String {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default().to_owned()
}
