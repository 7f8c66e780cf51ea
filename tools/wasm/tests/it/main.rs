//! The host with real components: those that are shipped, one that misbehaves, and small ones written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod attacks;
mod folders;
mod handmade;
mod shipped;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tools_wasm::{Catalogue, Folders, Host, Outcome, Tool};

/// Long enough that only a call that never ends misses it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The built components: `NACHOS_TOOLS`, and beside it those for tests.
fn built(tests: bool) -> PathBuf {
    let Ok(folder) = std::env::var("NACHOS_TOOLS") else {
        panic!("NACHOS_TOOLS is not set: run `tools/guests/build --with-tests DIR` and set NACHOS_TOOLS=DIR");
    };
    let folder = PathBuf::from(if tests { format!("{folder}-tests") } else { folder });
    assert!(folder.is_dir(), "{} is not there: run `tools/guests/build --with-tests DIR`", folder.display());
    folder
}

/// A host with the tools of some folders.
struct Bench {
    host: Host,
    catalogue: Catalogue,
}

impl Bench {
    fn new(folders: &[PathBuf]) -> Self {
        let host = Host::start().unwrap();
        let catalogue = host.load(&Folders { tools: folders.to_vec(), precompiled: Vec::new() });
        Self { host, catalogue }
    }

    fn tool(&self, name: &str) -> Arc<Tool> {
        let tool = self.catalogue.get(&name.parse().unwrap());
        Arc::clone(tool.unwrap_or_else(|| panic!("no {name}; refused: {:?}", self.catalogue.refused())))
    }

    async fn call(&self, name: &str, arguments: &str) -> Outcome {
        let (tool, deadline) = (self.tool(name), Instant::now() + PATIENCE);
        let call = self.host.call(&tool, arguments.to_owned(), deadline);
        tokio::time::timeout(PATIENCE, call).await.expect("the call did not end")
    }

    /// The reason for which a tool was refused.
    fn refusal(&self, name: &str) -> &str {
        let refused = self.catalogue.refused().iter().find(|refused| refused.name == name);
        &refused.unwrap_or_else(|| panic!("{name} was not refused: {:?}", self.catalogue.refused())).reason
    }
}
