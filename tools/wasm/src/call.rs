//! One call of a tool: a fresh store, its limits, and a clear word about how it ended.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::tool::Limits;
use serde::de::IgnoredAny;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use wasmtime::{Engine, Store, Trap};

use crate::catalogue::Tool;
use crate::engine::{PLACES, TICK};
use crate::world::{self, Caller, cut};

/// What a guest may hand over beside its output: the message of an error, a long log line.
const HANDOVER: usize = 64 << 10;

/// A tool's own error message is cut here; it goes to the model.
const MAX_MESSAGE: usize = 2000;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The tool answered: JSON text.
    Ok(String),
    /// The tool itself said that it cannot.
    Failed {
        /// Whose fault it is.
        code: Code,
        /// What it said.
        message: String,
    },
    /// A limit ended it.
    Limit {
        /// Which.
        limit: Limit,
        /// In words, for people.
        message: String,
    },
    /// It broke, or the host did.
    Crashed {
        /// In words, for people.
        message: String,
    },
}

/// Whose fault a tool's own failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The arguments are wrong; others may do.
    InvalidArguments,
    /// The arguments were fine.
    Failed,
}

/// What ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Its own time, or the caller's deadline.
    Time,
    /// Linear memory, all of it together.
    Memory,
    /// Nested function calls.
    Stack,
    /// The size of the result.
    Output,
    /// Every place was taken until the deadline. The tool did not start.
    Busy,
}

impl Limit {
    /// The word in answers and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Output => "output",
            Self::Busy => "busy",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Admits calls and runs them, each on a blocking thread: wasm never runs where the async side does its work.
pub(crate) struct Calls {
    engine: Engine,
    places: Arc<Semaphore>,
}

impl Calls {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, places: Arc::new(Semaphore::new(PLACES as usize)) }
    }

    /// Runs the tool once and returns by `deadline`, give or take a [`TICK`].
    pub(crate) async fn call(&self, tool: Arc<Tool>, arguments: String, deadline: Instant) -> Outcome {
        let place = tokio::time::timeout_at(deadline.into(), Arc::clone(&self.places).acquire_owned());
        let Ok(Ok(place)) = place.await else {
            return busy();
        };
        let engine = self.engine.clone();
        let run = spawn_blocking(move || run(&engine, &tool, &arguments, deadline, place));
        run.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the host failed in a call");
            Outcome::Crashed { message: "the runner failed while it ran the tool; its log says why".to_owned() }
        })
    }
}

fn busy() -> Outcome {
    let message = format!("the tool was not started: {PLACES} others were running until the deadline");
    Outcome::Limit { limit: Limit::Busy, message }
}

/// The place is given back when the call has really ended, whoever still waits for it.
fn run(engine: &Engine, tool: &Tool, arguments: &str, deadline: Instant, _place: OwnedSemaphorePermit) -> Outcome {
    let limits = tool.manifest().limits;
    let left = deadline.saturating_duration_since(Instant::now());
    let time = left.min(Duration::from_millis(limits.timeout_ms));
    let mut store = store(engine, tool, time);
    // A store is used once, also because a trap may leave it in a state that no later call should see (GHSA-2hw9).
    let ended = tool.ready().instantiate(&mut store).and_then(|tool| tool.call_run(&mut store, arguments));
    match ended {
        Ok(Ok(output)) => output_within(output, &limits),
        Ok(Err(error)) => {
            let code = match error.code {
                world::ErrorCode::InvalidArguments => Code::InvalidArguments,
                world::ErrorCode::Failed => Code::Failed,
            };
            Outcome::Failed { code, message: cut(&error.message, MAX_MESSAGE).to_owned() }
        }
        Err(error) => broken(&error, store.data(), &limits, time),
    }
}

fn store(engine: &Engine, tool: &Tool, time: Duration) -> Store<Caller> {
    let limits = tool.manifest().limits;
    let memory = usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX);
    let mut store = Store::new(engine, Caller::new(tool.manifest().name.clone(), memory));
    store.limiter(|caller| caller);
    // One more than fits, as the first tick may come at once.
    store.set_epoch_deadline(u64::try_from(time.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX).saturating_add(1));
    store.epoch_deadline_trap();
    // What is copied out of the guest is memory of the host, which the limits above do not count.
    store.set_hostcall_fuel(usize::try_from(limits.output_bytes).unwrap_or(usize::MAX).saturating_add(HANDOVER));
    store
}

fn output_within(output: String, limits: &Limits) -> Outcome {
    if output.len() as u64 > limits.output_bytes {
        return too_much(limits);
    }
    // Whoever reads the answer relies on it, and a tool's word is not taken for it.
    match serde_json::from_str::<IgnoredAny>(&output) {
        Ok(IgnoredAny) => Outcome::Ok(output),
        Err(error) => Outcome::Crashed { message: format!("the tool answered something that is not JSON: {error}") },
    }
}

fn too_much(limits: &Limits) -> Outcome {
    let message =
        format!("the tool's output is larger than its limit of {} bytes; ask for less at once", limits.output_bytes);
    Outcome::Limit { limit: Limit::Output, message }
}

/// Puts the end of a call into words.
fn broken(error: &wasmtime::Error, caller: &Caller, limits: &Limits, time: Duration) -> Outcome {
    let limit = |limit, message| Outcome::Limit { limit, message };
    if caller.exceeded_memory() {
        return limit(
            Limit::Memory,
            format!("the tool needed more than its limit of {} bytes of memory", limits.memory_bytes),
        );
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => {
            return limit(Limit::Time, format!("the tool did not end within {} ms and was stopped", time.as_millis()));
        }
        Some(Trap::StackOverflow) => {
            return limit(Limit::Stack, "the tool's function calls were nested too deep".to_owned());
        }
        _ => {}
    }
    let cause = error.root_cause().to_string();
    if cause.contains(HANDOVER_EXHAUSTED) {
        return too_much(limits);
    }
    let words = caller.last_words().map(|words| format!("; its last words: {words}")).unwrap_or_default();
    Outcome::Crashed { message: format!("the tool broke: {}{words}", cut(&cause, MAX_MESSAGE)) }
}

/// Part of the error by which wasmtime ends a call that hands over more than `set_hostcall_fuel`; its type is private. A test
/// holds on to it.
const HANDOVER_EXHAUSTED: &str = "fuel allocated for hostcalls has been exhausted";
