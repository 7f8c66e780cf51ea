//! What a person sees while a turn happens. It may get lost; the reply is what counts.

use bus::Bus;
use proto::VERSION;
use proto::channel::{Delta, Inbound, Progress};
use proto::content::mask_secrets;
use uuid::Uuid;

/// Longest glimpse of arguments and results, in characters: one line.
const MAX_GLIMPSE: usize = 120;

/// Room for the numbers of one attempt. A turn that goes on after a crash counts from the next such mark, so that what the person saw
/// before is not mistaken for the same; the gap says that something got lost.
const ATTEMPT: u64 = 1_000_000;

/// The numbered pieces of one turn.
pub(crate) struct Deltas {
    bus: Bus,
    pattern: Delta,
    /// Something of an answer was shown already, so that the next answer starts a new paragraph.
    spoke: bool,
}

impl Deltas {
    /// The pieces of `turn`, answering `inbound`, in its `attempt` (1 is the first).
    pub(crate) fn new(bus: Bus, inbound: &Inbound, turn: Uuid, attempt: u64) -> Self {
        let pattern = Delta {
            v: VERSION,
            channel: inbound.channel.clone(),
            conversation: inbound.conversation.clone(),
            turn,
            seq: attempt.saturating_sub(1).saturating_mul(ATTEMPT),
            what: Progress::Unknown,
        };
        Self { bus, pattern, spoke: false }
    }

    /// Another answer begins.
    pub(crate) async fn new_answer(&mut self) {
        if std::mem::take(&mut self.spoke) {
            self.emit(Progress::Text { text: "\n\n".to_owned() }).await;
        }
    }

    /// More text of the answer.
    pub(crate) async fn text(&mut self, text: String) {
        self.spoke = true;
        self.emit(Progress::Text { text }).await;
    }

    /// A tool is about to run.
    pub(crate) async fn started(&mut self, tool: &str, arguments: &serde_json::Value) {
        self.emit(Progress::ToolStarted { tool: tool.to_owned(), arguments: glimpse(&arguments.to_string()) }).await;
    }

    /// A tool ended, or did not run.
    pub(crate) async fn ended(&mut self, tool: &str, ok: bool, summary: &str) {
        self.emit(Progress::ToolFinished { tool: tool.to_owned(), ok, summary: glimpse(summary) }).await;
    }

    async fn emit(&mut self, what: Progress) {
        self.pattern.seq = self.pattern.seq.saturating_add(1);
        self.pattern.what = what;
        if let Err(error) = self.bus.emit(&self.pattern).await {
            tracing::debug!(%error, "a piece of progress got lost");
        }
    }
}

fn glimpse(text: &str) -> String {
    let masked = mask_secrets(text);
    let mut short: String = masked.chars().take(MAX_GLIMPSE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < masked.len() {
        short.push('…');
    }
    short
}
