//! What every tool written in Rust needs: typed arguments in, typed output out, and the two things a tool may ask of
//! its host.
//!
//! ```ignore
//! #[derive(serde::Deserialize)]
//! struct Arguments { name: String }
//! #[derive(serde::Serialize)]
//! struct Output { greeting: String }
//!
//! fn run(arguments: Arguments) -> Result<Output, tool::Error> {
//!     Ok(Output { greeting: format!("Hello, {}", arguments.name) })
//! }
//! tool::export!(run);
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

#[doc(hidden)]
#[allow(
    unsafe_code,
    missing_docs,
    clippy::all,
    reason = "generated from the WIT world: lifting and lowering of strings is unsafe by nature"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "tool",
        pub_export_macro: true,
        export_macro_name: "export_bindings",
        default_bindings_module: "::tool::bindings",
    });
}

use bindings::nachos::tool::host;
use bindings::{ErrorCode, ToolError};

/// A failure that the model and the user are told about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The arguments are wrong; the text says what to change.
    InvalidArguments(String),
    /// The arguments were fine and the tool could not do it.
    Failed(String),
}

impl Error {
    /// The arguments are wrong; `message` says what to change.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidArguments(message.into())
    }

    /// The arguments were fine and the tool could not do it.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InvalidArguments(message) | Self::Failed(message) => f.write_str(message),
        }
    }
}

impl From<Error> for ToolError {
    fn from(error: Error) -> Self {
        let (code, message) = match error {
            Error::InvalidArguments(message) => (ErrorCode::InvalidArguments, message),
            Error::Failed(message) => (ErrorCode::Failed, message),
        };
        Self { code, message }
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
pub fn now_millis() -> u64 {
    host::now_millis()
}

/// Writes a line to the runner's log.
pub fn log(text: &str) {
    host::log(host::Level::Info, text);
}

/// Makes `run` the component's entry point; `run` is a `fn(Arguments) -> Result<Output, tool::Error>`.
#[macro_export]
macro_rules! export {
    ($run:path) => {
        #[doc(hidden)]
        struct Exported;

        impl $crate::bindings::Guest for Exported {
            fn run(arguments: String) -> Result<String, $crate::bindings::ToolError> {
                $crate::call($run, &arguments)
            }
        }

        #[allow(unsafe_code, reason = "the entry points that the component model calls")]
        mod exported {
            $crate::bindings::export_bindings!(Exported with_types_in $crate::bindings);
            use super::Exported;
        }
    };
}

/// Reads the arguments, runs the tool, writes the output. Used by [`export!`].
#[doc(hidden)]
pub fn call<A: DeserializeOwned, O: Serialize>(
    run: fn(A) -> Result<O, Error>,
    arguments: &str,
) -> Result<String, ToolError> {
    // A panic becomes a trap without words; the host reports the last error line of the log beside it.
    std::panic::set_hook(Box::new(|panic| {
        host::log(host::Level::Error, &panic.to_string())
    }));
    let arguments = serde_json::from_str(arguments)
        .map_err(|error| Error::invalid(format!("the arguments do not fit: {error}")))?;
    let output = run(arguments)?;
    serde_json::to_string(&output)
        .map_err(|error| Error::failed(format!("the result cannot be written as JSON: {error}")).into())
}
