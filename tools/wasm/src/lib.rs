//! Runs tools that are WebAssembly components.
//!
//! A component gets text and gives text. It has no WASI, no files, no network and no environment: its one import is the
//! small interface in `tools/wit`. Every call runs in a store of its own that is thrown away afterwards, with a deadline,
//! a memory limit, a stack limit and an output limit, on a thread where nothing else waits.
//!
//! Roads not taken: *fuel* instead of epochs (slower, and says nothing about time); *async* stores (every call would need a
//! second stack, and the call would still hold its thread between two ticks); *reuse of stores* (what one call leaves
//! behind, the next would see); *WASI with a closed context* (several advisories in 2026 alone were in it, and a tool that
//! only computes needs none of it).

mod call;
mod catalogue;
mod engine;
mod precompiled;
mod service;
mod world;

use std::sync::Arc;
use std::time::Instant;

pub use call::{Code, Limit, Outcome};
pub use catalogue::{Catalogue, Folders, MAX_OUTPUT, Tool};
pub use engine::{MAX_MEMORY, PLACES, StartError, TICK};
pub use precompiled::precompile;
pub use service::{Config, serve};

use call::Calls;
use wasmtime::Engine;
use wasmtime::component::Linker;
use world::Caller;

/// Loads tools and runs them.
pub struct Host {
    engine: Engine,
    linker: Linker<Caller>,
    calls: Calls,
}

impl Host {
    /// Starts the engine.
    pub fn start() -> Result<Self, StartError> {
        let engine = engine::start()?;
        let linker = world::linker(&engine).map_err(StartError::Engine)?;
        let calls = Calls::new(engine.clone());
        Ok(Self { engine, linker, calls })
    }

    /// Takes every tool `<folder>/<name>/{manifest.json,component.wasm}`. It compiles, so it takes a processor for up to
    /// seconds: call it where blocking is fine. Of two tools with one name the first folder's stays.
    pub fn load(&self, folders: &Folders) -> Catalogue {
        catalogue::load(&self.engine, &self.linker, folders)
    }

    /// Runs the tool once with `arguments`, a JSON text. It returns by `deadline` or the tool's own time limit, whichever
    /// comes first, give or take a [`TICK`]; a caller that goes away earlier does not stop it before.
    pub async fn call(&self, tool: &Arc<Tool>, arguments: String, deadline: Instant) -> Outcome {
        self.calls.call(Arc::clone(tool), arguments, deadline).await
    }
}
