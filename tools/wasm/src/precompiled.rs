//! Machine code of tools made ahead of time: compiling takes seconds and memory, loading a millisecond.
//!
//! Whoever can write such a file decides what the runner executes, sandbox or not. So it is taken only from folders that the
//! settings name for it: those baked into the image beside the runner's own binary, by the same build. A tool from any other
//! folder is compiled, whatever lies beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use proto::canonical::digest;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Name of the machine code of a component: it names the very bytes it was made from, so that it is never taken for others.
fn name(component: &[u8]) -> String {
    format!("component.{}.cwasm", digest(component).trim_start_matches("sha256:"))
}

/// The machine code of `component` in its tool's folder, if it is there and was made by this release for this processor.
pub(crate) fn load(engine: &Engine, tool: &Path, component: &[u8]) -> Option<Component> {
    let file = tool.join(name(component));
    if !file.is_file() {
        return None;
    }
    // SAFETY: the file is native code. The caller asks for it only in folders that the settings call trusted: they are part of
    // the read-only image, as this binary is, and the name binds the file to the component's bytes.
    #[allow(
        unsafe_code,
        reason = "wasmtime has no safe way to take machine code; the folder is as trusted as this binary"
    )]
    let loaded = unsafe { Component::deserialize_file(engine, &file) };
    match loaded {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::info!(file = %file.display(), error = format!("{error:#}"), "made for another release or processor: compiling");
            None
        }
    }
}

/// Makes the machine code of every tool in `folder` and removes that of older components; tells how many it made.
///
/// # Errors
/// A folder that cannot be read or written, or a component that does not compile.
pub fn precompile(folder: &Path) -> anyhow::Result<String> {
    let engine = crate::engine::start()?;
    let mut made = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let tool = entry?.path();
        let Ok(component) = fs::read(tool.join("component.wasm")) else { continue };
        made += usize::from(make(&engine, &tool, &component)?);
    }
    Ok(format!("made the machine code of {made} tools"))
}

fn make(engine: &Engine, tool: &Path, component: &[u8]) -> anyhow::Result<bool> {
    let file = tool.join(name(component));
    remove_others(tool, &file)?;
    if load(engine, tool, component).is_some() {
        return Ok(false);
    }
    let code = engine
        .precompile_component(component)
        .map_err(|error| anyhow::anyhow!("{} does not compile: {error:#}", tool.display()))?;
    let half = tool.join(".component.cwasm");
    fs::write(&half, code).with_context(|| format!("cannot write {}", half.display()))?;
    fs::rename(&half, &file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(true)
}

fn remove_others(tool: &Path, keep: &Path) -> anyhow::Result<()> {
    let stale = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "cwasm") && path != keep;
    for path in fs::read_dir(tool)?.flatten().map(|entry| entry.path()).filter(stale) {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}
