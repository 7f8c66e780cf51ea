//! What happens in a conversation, as `--json` prints it and as the screen shows it.

use serde::Serialize;
use uuid::Uuid;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Event {
    /// The message is stored; from here on it will be answered.
    Sent {
        /// The conversation, for `--session`.
        conversation: String,
        /// The message's id.
        message: Uuid,
        /// The trace of all its records.
        trace: String,
    },
    /// More text of the answer; a preview.
    Text {
        /// The new text.
        text: String,
    },
    /// A tool is about to run.
    ToolStarted {
        /// The tool.
        tool: String,
        /// Its arguments, shortened.
        arguments: String,
    },
    /// A tool ended.
    ToolFinished {
        /// The tool.
        tool: String,
        /// Whether it gave a result.
        ok: bool,
        /// What it gave or why not, shortened.
        summary: String,
    },
    /// The answer: this is what counts.
    Answer {
        /// The whole text.
        text: String,
        /// The conversation.
        conversation: String,
        /// The session.
        session: String,
        /// The turn.
        turn: Uuid,
        /// The trace.
        trace: String,
    },
    /// The platform speaks instead of the model: a refusal or a fault.
    Notice {
        /// The whole text.
        text: String,
        /// The conversation.
        conversation: String,
        /// The session.
        session: String,
        /// The turn.
        turn: Uuid,
        /// The trace.
        trace: String,
    },
    /// An answer to an earlier message.
    Late {
        /// The whole text.
        text: String,
        /// The conversation.
        conversation: String,
        /// True if it belongs to another conversation that nobody went on with.
        abandoned: bool,
    },
}
