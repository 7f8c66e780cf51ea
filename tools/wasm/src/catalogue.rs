//! Finds tools in folders and makes them ready to run. A bad tool is refused with its reason, and the others go on.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::name::{Family, Name};
use proto::tool::{MAX_TOOL_TIME, Manifest, RefusedTool};
use serde_json::Value;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

use crate::engine::MAX_MEMORY;
use crate::precompiled;
use crate::world::{self, Caller, ToolPre, cut};

/// A manifest is read by people; a larger file is something else.
const MAX_MANIFEST: u64 = 64 << 10;

/// A component with a whole Python interpreter has 18 MiB.
const MAX_COMPONENT: u64 = 32 << 20;

/// The description goes to the model with every request.
const MAX_DESCRIPTION: usize = 2000;

/// Largest output a manifest may ask for: what is worth storing by reference. It is held in memory once or twice.
pub const MAX_OUTPUT: u64 = 4 << 20;

/// Less than this and no component starts.
const MIN_MEMORY: u64 = 64 << 10;

/// A refusal's reason is cut here: parts of it come from the refused file.
const MAX_REASON: usize = 1000;

/// A tool that is ready to run.
pub struct Tool {
    manifest: Manifest,
    ready: ToolPre<Caller>,
}

impl Tool {
    /// What the tool's maker wrote about it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn ready(&self) -> &ToolPre<Caller> {
        &self.ready
    }
}

/// The tools that are ready, by name, and those that were refused.
#[derive(Default)]
pub struct Catalogue {
    tools: BTreeMap<Name, Arc<Tool>>,
    refused: Vec<RefusedTool>,
}

impl Catalogue {
    /// The tool of that name.
    pub fn get(&self, name: &Name) -> Option<&Arc<Tool>> {
        self.tools.get(name)
    }

    /// All tools that are ready, in the order of their names.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.tools.values()
    }

    /// What was found and not taken, and why.
    pub fn refused(&self) -> &[RefusedTool] {
        &self.refused
    }

    fn refuse(&mut self, name: String, reason: &Refused) {
        let reason = cut(&reason.to_string(), MAX_REASON).to_owned();
        tracing::warn!(tool = name, reason, "a tool was refused");
        self.refused.push(RefusedTool { name, reason });
    }
}

/// Why a tool is refused. The text is for the person who put it there.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{what} cannot be read: {error}")]
    Unreadable { what: String, error: io::Error },
    #[error("{0} is missing; a tool is a folder with manifest.json and component.wasm")]
    Missing(&'static str),
    #[error("{what} is larger than {most} bytes")]
    TooLarge { what: &'static str, most: u64 },
    #[error("manifest.json is not a tool manifest: {0}")]
    NotAManifest(serde_json::Error),
    #[error("manifest.json has version {0}; this runner knows version {version}", version = proto::VERSION)]
    Version(u32),
    #[error("the manifest's name is `{manifest}` and the folder's is `{folder}`; they must be the same")]
    OtherName { manifest: Name, folder: String },
    #[error("the manifest's family is `{0}`; this runner has only `wasm`")]
    OtherFamily(Family),
    #[error("the description must have between 1 and {MAX_DESCRIPTION} characters")]
    Description,
    #[error("`parameters` must be a JSON Schema of an object: {{\"type\": \"object\", …}}")]
    Parameters,
    #[error("limits.{name} must be between {least} and {most}, and is {is}")]
    Limit { name: &'static str, least: u64, most: u64, is: u64 },
    #[error("component.wasm is not a WebAssembly component that this runner takes: {0}")]
    NotAComponent(String),
    #[error(
        "the component imports `{0}`, which is not granted; a tool may import only `{host}`",
        host = world::HOST
    )]
    Import(String),
    #[error("the component does not fit the world nachos:tool@0.1.0: {0}")]
    OtherWorld(String),
    #[error("another tool of this name is already there; the folder that comes first wins")]
    Duplicate,
    #[error("a component belongs into a folder of its own, as component.wasm beside its manifest.json")]
    Loose,
}

/// Where tools are, and which of the folders hold machine code that is as trusted as this binary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders {
    /// Folders with tools, in the order of their say.
    pub tools: Vec<PathBuf>,
    /// Those of them whose precompiled code is taken.
    pub precompiled: Vec<PathBuf>,
}

/// Takes every tool from the folders. Where two have the same name, the one from the folder that comes first stays, so that
/// nothing added later can replace a shipped tool.
pub(crate) fn load(engine: &Engine, linker: &Linker<Caller>, folders: &Folders) -> Catalogue {
    let mut catalogue = Catalogue::default();
    for folder in &folders.tools {
        let trusted = folders.precompiled.contains(folder);
        match entries(folder) {
            Ok(found) => found.iter().for_each(|path| add(&mut catalogue, engine, linker, path, trusted)),
            // A folder for the user's own tools need not be there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let name = folder.display().to_string();
                catalogue.refuse(name, &Refused::Unreadable { what: "the folder".to_owned(), error });
            }
        }
    }
    catalogue
}

/// What may be a tool in a folder, in the order of its names.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    found.retain(|path| {
        let hidden = folder_name(path).starts_with('.');
        let component = path.extension().is_some_and(|extension| extension == "wasm");
        !hidden && (component || path.is_dir())
    });
    found.sort();
    Ok(found)
}

fn folder_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn add(catalogue: &mut Catalogue, engine: &Engine, linker: &Linker<Caller>, path: &Path, trusted: bool) {
    let taken =
        read(engine, linker, path, trusted).and_then(|tool| match catalogue.tools.entry(tool.manifest.name.clone()) {
            Entry::Occupied(_) => Err(Refused::Duplicate),
            Entry::Vacant(free) => {
                free.insert(Arc::new(tool));
                Ok(())
            }
        });
    if let Err(reason) = taken {
        catalogue.refuse(folder_name(path), &reason);
    }
}

fn read(engine: &Engine, linker: &Linker<Caller>, path: &Path, trusted: bool) -> Result<Tool, Refused> {
    if !path.is_dir() {
        return Err(Refused::Loose);
    }
    let manifest = bounded(path, "manifest.json", MAX_MANIFEST)?;
    let manifest: Manifest = serde_json::from_slice(&manifest).map_err(Refused::NotAManifest)?;
    check(&manifest, &folder_name(path))?;
    let component = bounded(path, "component.wasm", MAX_COMPONENT)?;
    let made = if trusted { precompiled::load(engine, path, &component) } else { None };
    let component = made.map_or_else(|| compile(engine, &component), Ok)?;
    let ready = prepare(engine, linker, &component)?;
    Ok(Tool { manifest, ready })
}

/// A whole file, if it is no larger than `most`.
fn bounded(folder: &Path, what: &'static str, most: u64) -> Result<Vec<u8>, Refused> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Refused::Missing(what),
        _ => Refused::Unreadable { what: what.to_owned(), error },
    };
    let mut content = Vec::new();
    let file = File::open(folder.join(what)).map_err(unreadable)?;
    file.take(most + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > most {
        return Err(Refused::TooLarge { what, most });
    }
    Ok(content)
}

fn check(manifest: &Manifest, folder: &str) -> Result<(), Refused> {
    if manifest.v != proto::VERSION {
        return Err(Refused::Version(manifest.v));
    }
    if manifest.name.as_str() != folder {
        return Err(Refused::OtherName { manifest: manifest.name.clone(), folder: folder.to_owned() });
    }
    if manifest.family != Family::Wasm {
        return Err(Refused::OtherFamily(manifest.family));
    }
    if !(1..=MAX_DESCRIPTION).contains(&manifest.description.trim().chars().count()) {
        return Err(Refused::Description);
    }
    if manifest.parameters.get("type").and_then(Value::as_str) != Some("object") {
        return Err(Refused::Parameters);
    }
    let limits = &manifest.limits;
    let longest = u64::try_from(MAX_TOOL_TIME.as_millis()).unwrap_or(u64::MAX);
    within("timeout_ms", limits.timeout_ms, 1, longest)?;
    within("memory_bytes", limits.memory_bytes, MIN_MEMORY, MAX_MEMORY as u64)?;
    within("output_bytes", limits.output_bytes, 1, MAX_OUTPUT)
}

fn within(name: &'static str, is: u64, least: u64, most: u64) -> Result<(), Refused> {
    if (least..=most).contains(&is) {
        return Ok(());
    }
    Err(Refused::Limit { name, least, most, is })
}

/// Checks what a component imports and links it, once for all its calls.
fn prepare(engine: &Engine, linker: &Linker<Caller>, component: &Component) -> Result<ToolPre<Caller>, Refused> {
    for (name, import) in component.component_type().imports(engine) {
        // A type grants nothing: the world's own error record appears as one.
        if name != world::HOST && !matches!(import.ty, ComponentItem::Type(_)) {
            return Err(Refused::Import(name.to_owned()));
        }
    }
    let other_world = |error: wasmtime::Error| Refused::OtherWorld(format!("{error:#}"));
    ToolPre::new(linker.instantiate_pre(component).map_err(other_world)?).map_err(other_world)
}

/// wasmtime has panicked on components that it should have refused; one bad tool must not take the others along.
fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, Refused> {
    match catch_unwind(AssertUnwindSafe(|| Component::new(engine, bytes))) {
        Ok(compiled) => compiled.map_err(|error| Refused::NotAComponent(format!("{error:#}"))),
        Err(_) => Err(Refused::NotAComponent("the compiler gave up on it".to_owned())),
    }
}
