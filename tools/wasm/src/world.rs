//! Our side of `tools/wit`: what a component may ask of the host, and what one call has used of it.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::name::Name;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Engine, ResourceLimiter};

use crate::engine::{CORE_INSTANCES_PER_CALL, MEMORIES_PER_CALL, TABLE_ELEMENTS, TABLES_PER_CALL};

pub(crate) use bindings::nachos::tool::host::Level;
pub(crate) use bindings::{ErrorCode, ToolPre};

/// The one interface that a component may import.
pub(crate) const HOST: &str = "nachos:tool/host@0.1.0";

/// Lines one call may log: enough to find a fault with, too few to drown the log in.
const MAX_LOG_LINES: u32 = 32;

/// A log line is cut here.
const MAX_LOG_LINE: usize = 1024;

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from the WIT world")]
mod bindings {
    wasmtime::component::bindgen!({ path: "../wit", world: "tool" });
}

/// A linker that gives a component the host interface and nothing else.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Caller>> {
    let mut linker = Linker::new(engine);
    bindings::Tool::add_to_linker::<_, HasSelf<Caller>>(&mut linker, |caller| caller)?;
    Ok(linker)
}

/// One call's side of the host: who calls, what is left of its bounds.
pub(crate) struct Caller {
    tool: Name,
    memory: Budget,
    log_lines: u32,
    last_words: Option<String>,
}

/// Memory of all of a call's linear memories together. wasmtime's own `StoreLimits` bounds each of them alone.
struct Budget {
    most: usize,
    used: usize,
    exceeded: bool,
}

impl Caller {
    pub(crate) fn new(tool: Name, most_memory: usize) -> Self {
        let memory = Budget { most: most_memory, used: 0, exceeded: false };
        Self { tool, memory, log_lines: 0, last_words: None }
    }

    /// Whether the call was ended because it asked for more memory than it may have.
    pub(crate) fn exceeded_memory(&self) -> bool {
        self.memory.exceeded
    }

    /// The last error it logged; a panic in a guest logs its message before it traps.
    pub(crate) fn last_words(&self) -> Option<&str> {
        self.last_words.as_deref()
    }
}

impl bindings::nachos::tool::host::Host for Caller {
    fn log(&mut self, level: Level, text: String) {
        let text = cut(&text, MAX_LOG_LINE);
        if level == Level::Error {
            self.last_words = Some(text.to_owned());
        }
        self.log_lines = self.log_lines.saturating_add(1);
        if self.log_lines > MAX_LOG_LINES {
            return;
        }
        let (tool, last) = (self.tool.as_str(), self.log_lines == MAX_LOG_LINES);
        match level {
            Level::Debug => tracing::debug!(tool, last, "{text}"),
            Level::Info => tracing::info!(tool, last, "{text}"),
            Level::Warn => tracing::warn!(tool, last, "{text}"),
            Level::Error => tracing::error!(tool, last, "{text}"),
        }
    }

    fn now_millis(&mut self) -> u64 {
        // A clock before 1970 is as wrong as one that says 1970.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl ResourceLimiter for Caller {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.memory.used.saturating_add(desired.saturating_sub(current));
        if used > self.memory.most {
            self.memory.exceeded = true;
            // An error ends the call here. A mere refusal would leave it to the guest, which may try on until its time is up.
            return Err(wasmtime::Error::msg("the memory limit is reached"));
        }
        self.memory.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_PER_CALL as usize
    }

    fn tables(&self) -> usize {
        TABLES_PER_CALL as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_PER_CALL as usize
    }
}

/// The beginning of `text`, at most `most` bytes.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}
