//! Which tools there are: asked of every family's runner, remembered for a moment.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::{Bus, CallError};
use proto::admin::Condition;
use proto::tool::{Catalog, CatalogRequest, Manifest};
use proto::trace::Trace;
use proto::{Family, VERSION};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long an answer is taken for the present: a new tool shows up within this time, and a busy gateway asks rarely.
const FRESH: Duration = Duration::from_secs(5);

/// How long the last answer stands in for a runner that does not answer: it is restarting, and its tools are the same afterwards.
/// What it offers decides nothing; every call is judged by policy and checked by the runner.
const STALE: Duration = Duration::from_secs(60);

/// How long a runner that kept silent is not asked again: a turn must not wait for it every time.
const SULK: Duration = Duration::from_secs(2);

/// What the families' runners offered last.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    families: Mutex<BTreeMap<Family, Seen>>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    tools: Vec<Manifest>,
    answered: Option<Instant>,
    failed: Option<Instant>,
}

impl Seen {
    fn is_settled(&self) -> bool {
        let within = |at: Option<Instant>, time| at.is_some_and(|at| at.elapsed() < time);
        within(self.answered, FRESH) || within(self.failed, SULK)
    }
}

impl Catalogue {
    /// All tools on offer. A family without an answer offers nothing, and the gateway's health says so.
    pub(crate) async fn tools(&self, bus: &Bus, trace: Trace) -> Vec<Manifest> {
        let mut families = self.families.lock().await;
        for family in Family::ALL {
            let seen = families.entry(family).or_default();
            if !seen.is_settled() {
                refresh(seen, family, bus, trace).await;
            }
        }
        let mut tools: BTreeMap<_, Manifest> = BTreeMap::new();
        for tool in families.values().flat_map(|seen| &seen.tools) {
            tools.entry(tool.name.clone()).or_insert_with(|| tool.clone());
        }
        tools.into_values().collect()
    }
}

async fn refresh(seen: &mut Seen, family: Family, bus: &Bus, trace: Trace) {
    let answer = bus.request(trace, &CatalogRequest { v: VERSION, family }).await;
    bus.report(condition(family, answer.as_ref()));
    match answer {
        Ok(catalog) => {
            // A runner speaks for its own family only.
            let tools = catalog.tools.into_iter().filter(|tool| tool.family == family).collect();
            *seen = Seen { tools, answered: Some(Instant::now()), failed: None };
        }
        Err(error) => {
            tracing::warn!(%family, %error, "the runner does not say which tools it has");
            // That nobody is there is said at once, so asking again costs nothing; a runner that keeps silent does.
            seen.failed = (!matches!(error, CallError::NoResponder(_))).then(Instant::now);
            if seen.answered.is_none_or(|at| at.elapsed() > STALE) {
                seen.tools.clear();
            }
        }
    }
}

fn condition(family: Family, answer: Result<&Catalog, &CallError>) -> Condition {
    let (ok, detail) = match answer {
        Ok(catalog) => (true, format!("{} offered", catalog.tools.len())),
        Err(error) => (false, error.to_string()),
    };
    Condition {
        name: format!("tools of {family}"),
        ok,
        detail,
        hint: (!ok).then(|| format!("look at the container tools-{family}: `nachos logs tools-{family}`")),
    }
}
