//! What every tool runner does around its tools: answer for the catalogue, check the permit, record before it runs,
//! run within the limits, record what came out, answer.
//!
//! The order is the guarantee. A call runs only after its permit was found genuine, fresh and made for exactly these
//! arguments, and after its start was stored under the permit's id: no acknowledgement, no run; an id that the record
//! already holds means that the permit was used, by this replica or another. The gateway is not believed anything.

mod call;
mod output;
mod schema;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bus::Bus;
use proto::keys::PublicKey;
use proto::tool::{Catalog, CatalogRequest, Manifest, RefusedTool, ToolCall};
use proto::{Family, Name};
use serde_json::Value;
use tokio::time::Instant;

use crate::call::Runner;

/// The tools of one runner.
pub trait Toolbox: Send + Sync + 'static {
    /// The kind of tools.
    const FAMILY: Family;

    /// The tools that work right now.
    fn tools(&self) -> Vec<Manifest>;

    /// Those that were refused at loading, with reasons.
    fn refused(&self) -> Vec<RefusedTool>;

    /// One tool's manifest.
    fn manifest(&self, tool: &Name) -> Option<Manifest>;

    /// Runs a tool, at most until `deadline`. Arguments are the ones that policy judged.
    fn run(&self, tool: Name, arguments: Value, deadline: Instant) -> impl Future<Output = Ran> + Send;
}

/// How a run ended, as the toolbox sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// A result: JSON text.
    Ok(String),
    /// The tool itself said that it cannot.
    Failed(String),
    /// A limit ended it.
    Limit {
        /// `time`, `memory`, `stack` or `output`.
        limit: String,
        /// In words.
        message: String,
    },
    /// It broke.
    Crashed(String),
}

/// Time that a run leaves for recording and sending its outcome.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// Reads the key that permits are signed with.
///
/// # Errors
/// A file that is not there or holds no key.
pub fn permit_key(path: &Path) -> anyhow::Result<PublicKey> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the permit key {}", path.display()))?;
    text.try_into().with_context(|| format!("{} is not usable", path.display()))
}

/// Registers a runner on the bus.
///
/// # Errors
/// When the bus does not permit it.
pub async fn serve<T: Toolbox>(bus: &Bus, toolbox: Arc<T>, policy: PublicKey) -> anyhow::Result<()> {
    let catalogue = Arc::clone(&toolbox);
    bus.serve(move |_: bus::Call<CatalogRequest>| {
        let catalog = Catalog { v: proto::VERSION, tools: catalogue.tools(), refused: catalogue.refused() };
        std::future::ready(Ok(catalog))
    })
    .await?;
    let runner = Arc::new(Runner::new(bus.clone(), toolbox, policy));
    bus.serve(move |call: bus::Call<ToolCall>| {
        let runner = Arc::clone(&runner);
        async move { runner.answer(call).await }
    })
    .await?;
    Ok(())
}
