//! The service: the runner's duties around the WebAssembly host, and tools that come and go while it runs.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use bus::Bus;
use proto::admin::Condition;
use proto::tool::{Manifest, RefusedTool};
use proto::{Family, Name};
use runner::{Ran, Toolbox};
use serde::Deserialize;
use serde_json::Value;

use crate::catalogue::{Catalogue, Folders};
use crate::{Host, Outcome};

/// How often the folders are looked at: a tool that was dropped in is there when its maker looks for it.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// `tools-wasm.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folders with tools: each tool is a folder with `manifest.json` and `component.wasm`.
    pub tools: Vec<PathBuf>,
    /// Those of the folders whose precompiled machine code is taken. Whoever can write there decides what the runner executes: only
    /// folders of the image.
    pub precompiled: Vec<PathBuf>,
    /// The public key of the permits.
    pub permit_key: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tools: vec!["/etc/nachos/tools/builtin".into(), "/etc/nachos/tools/user".into()],
            precompiled: vec!["/etc/nachos/tools/builtin".into()],
            permit_key: "/keys/permit.pub".into(),
        }
    }
}

/// Loads the tools and answers for them.
///
/// # Errors
/// A missing permit key, a machine that does not give what the sandbox needs, or a bus that does not permit it.
pub fn serve(bus: Bus, config: Config) -> bus::Serving {
    Box::pin(start(bus, config))
}

async fn start(bus: Bus, config: Config) -> anyhow::Result<()> {
    let policy = runner::permit_key(&config.permit_key)?;
    let host = Host::start().context("cannot start the sandbox")?;
    let wasm = Arc::new(Wasm::load(host, Folders { tools: config.tools, precompiled: config.precompiled }).await?);
    bus.report(wasm.condition());
    runner::serve(&bus, Arc::clone(&wasm), policy).await?;
    bus.clone().spawn(async move {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if let Err(error) = wasm.look_again().await {
                tracing::error!(%error, "the tools could not be loaded again");
            }
            bus.report(wasm.condition());
        }
    });
    Ok(())
}

/// The WebAssembly tools.
struct Wasm {
    host: Arc<Host>,
    folders: Folders,
    loaded: RwLock<Loaded>,
}

/// What is loaded, and what the folders looked like then.
struct Loaded {
    catalogue: Arc<Catalogue>,
    look: Look,
}

/// What a folder's files look like: path, size and time of change.
type Look = Vec<(PathBuf, u64, Option<SystemTime>)>;

impl Wasm {
    async fn load(host: Host, folders: Folders) -> anyhow::Result<Self> {
        let host = Arc::new(host);
        let loaded = load(Arc::clone(&host), folders.clone()).await?;
        Ok(Self { host, folders, loaded: RwLock::new(loaded) })
    }

    async fn look_again(&self) -> anyhow::Result<()> {
        let folders = self.folders.tools.clone();
        let now = tokio::task::spawn_blocking(move || look(&folders)).await?;
        let same = self.loaded.read().unwrap_or_else(PoisonError::into_inner).look == now;
        if !same {
            let loaded = load(Arc::clone(&self.host), self.folders.clone()).await?;
            tracing::info!(tools = loaded.catalogue.tools().count(), "the tools changed");
            *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        }
        Ok(())
    }

    fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner).catalogue)
    }

    fn condition(&self) -> Condition {
        let catalogue = self.catalogue();
        let refused: Vec<_> = catalogue.refused().iter().map(|tool| tool.name.as_str()).collect();
        let works = catalogue.tools().count();
        Condition {
            name: "tools".to_owned(),
            ok: refused.is_empty() && works > 0,
            detail: if refused.is_empty() {
                format!("{works} tools")
            } else {
                format!("{works} tools; refused: {}", refused.join(", "))
            },
            hint: Some("`nachos tools` says why a tool was refused".to_owned()),
        }
    }
}

/// Compiling takes a while and does not belong on the async side.
async fn load(host: Arc<Host>, folders: Folders) -> anyhow::Result<Loaded> {
    let loading = tokio::task::spawn_blocking(move || {
        let look = look(&folders.tools);
        Loaded { catalogue: Arc::new(host.load(&folders)), look }
    });
    loading.await.context("loading the tools was broken off")
}

fn look(folders: &[PathBuf]) -> Look {
    let tools = folders.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
    let files = tools.filter_map(|tool| tool.path().read_dir().ok()).flatten().flatten();
    let mut seen: Look = files
        .filter_map(|file| {
            let about = std::fs::metadata(file.path()).ok()?;
            Some((file.path(), about.len(), about.modified().ok()))
        })
        .collect();
    seen.sort();
    seen
}

impl Toolbox for Wasm {
    const FAMILY: Family = Family::Wasm;

    fn tools(&self) -> Vec<Manifest> {
        self.catalogue().tools().map(|tool| tool.manifest().clone()).collect()
    }

    fn refused(&self) -> Vec<RefusedTool> {
        self.catalogue().refused().to_vec()
    }

    fn manifest(&self, tool: &Name) -> Option<Manifest> {
        self.catalogue().get(tool).map(|tool| tool.manifest().clone())
    }

    async fn run(&self, tool: Name, arguments: Value, deadline: tokio::time::Instant) -> Ran {
        let Some(tool) = self.catalogue().get(&tool).cloned() else {
            return Ran::Crashed(format!("the tool `{tool}` was taken away"));
        };
        let deadline: Instant = deadline.into_std();
        match self.host.call(&tool, arguments.to_string(), deadline).await {
            Outcome::Ok(text) => Ran::Ok(text),
            Outcome::Failed { message, .. } => Ran::Failed(message),
            Outcome::Limit { limit, message } => Ran::Limit { limit: limit.to_string(), message },
            Outcome::Crashed { message } => Ran::Crashed(message),
        }
    }
}
