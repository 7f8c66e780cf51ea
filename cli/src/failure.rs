//! How a command ends: with an exit code, and where it failed with what to do next.

use std::fmt;
use std::io;
use std::process::ExitCode;

use bus::{BusError, CallError, ConnectError, PublishError};

use crate::out::{Out, Style};

/// How a command ended that did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It did what was asked, and all is well.
    Done,
    /// It did what was asked, and something is not well.
    Unwell,
    /// The platform answered no.
    Refused,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Done => Self::SUCCESS,
            Ending::Unwell => Self::FAILURE,
            Ending::Refused => Self::from(3),
        }
    }
}

/// Exit code of a command that was interrupted, as shells count: 128 and the signal's number.
pub(crate) const INTERRUPTED: u8 = 130;

/// A command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// A failure in words, and what to do next.
    pub(crate) fn new(message: impl fmt::Display, hint: &str) -> Self {
        Self { error: anyhow::anyhow!("{message}"), hint: Some(hint.to_owned()) }
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Says what was tried when it failed.
    pub(crate) fn context(self, tried: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self { error: self.error.context(tried), hint: self.hint }
    }

    /// Whether nobody reads what is printed any more: a pipe's end, and no fault.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let kind = self.error.downcast_ref::<io::Error>().map(io::Error::kind);
        kind == Some(io::ErrorKind::BrokenPipe)
    }

    /// Prints the chain once, and the hint.
    pub(crate) fn print(&self, out: &mut Out) -> io::Result<()> {
        let paint = out.paint();
        let chain = crate::clean::text(&chain(&self.error));
        out.line(&format!("{} {chain}", paint.with(Style::Red, "nachos:")))?;
        match &self.hint {
            Some(hint) => out.line(&format!("  {} {hint}", paint.with(Style::Bold, "→"))),
            None => Ok(()),
        }
    }

    /// The chain and the hint, for programs.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"event": "error", "error": chain(&self.error), "hint": self.hint})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&self.error))
    }
}

/// The error and its causes on one line; a cause that repeats what stands there already is left out.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { error, hint: None }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { error: error.into(), hint: None }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let hint = match &error {
            ConnectError::Seed { .. } => "run it as ./nachos: the launcher starts it in the container that has the key",
            ConnectError::Server { .. } => "./nachos up starts the bus; ./nachos logs bus says what it complains about",
            ConnectError::Inbox(_) => "./nachos up provisions the bus anew; nothing stored is touched",
        };
        Self { hint: Some(hint.to_owned()), error: error.into() }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let hint = match &error {
            CallError::Refused(_) => None,
            CallError::TooLarge(_) => Some("send less at once"),
            CallError::Denied { .. } => Some("./nachos up provisions the bus anew; nothing stored is touched"),
            CallError::NoResponder(_) | CallError::TimedOut(_) | CallError::Disconnected | CallError::Broken(_) => {
                Some("nachos doctor says what is wrong")
            }
        };
        Self { hint: hint.map(str::to_owned), error: error.into() }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        Self { error: error.into(), hint: Some("nachos doctor says what is wrong".to_owned()) }
    }
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        Self { error: error.into(), hint: Some("nachos doctor says what is wrong".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_chain_says_each_thing_once() {
        let inner = Err::<(), _>(anyhow::anyhow!("disk full")).context("cannot write: disk full");
        let error = inner.context("cannot save").unwrap_err();
        assert_eq!(chain(&error), "cannot save: cannot write: disk full");
    }

    #[test]
    fn an_error_of_the_bus_says_what_to_do_next() {
        let failure = Failure::from(CallError::NoResponder("nachos.audit.query".into()));
        assert_eq!(failure.hint.as_deref(), Some("nachos doctor says what is wrong"));
        assert!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_broken_pipe());
    }
}
