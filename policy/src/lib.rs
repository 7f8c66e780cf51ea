//! Decides, in the words of Cedar policies, who may talk to the agent, ask a model or run a tool, and signs a permit for every tool
//! call that may run.
//!
//! The order of an answer is fixed: verify the origin that the channel signed, decide ([`decide`], a pure function), sign, record, wait
//! until the record is stored, and only then answer. Everything that goes wrong on the way is a denial or a refusal.
//!
//! Roads not taken: an engine of our own or of priorities (a forbid that outweighs every permit needs no order to be understood), Rego
//! (policies are not typed, so a misspelt name is found in production), one Cedar action per tool (a policy about all tools that send
//! something outside would have to name them). docs/adr/0003-cedar-for-policy.md has the reasons.

pub mod config;
pub mod decide;
pub mod principal;
pub mod problem;
pub mod ruleset;
pub mod source;
pub mod vocabulary;

mod answer;
mod argument;
mod judge;
mod rule;
mod schema;
mod service;
mod tool;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use bus::{Bus, Call};
use proto::Name;
use proto::keys::{PublicKey, SigningKey};
use proto::policy::{Explain, PermissibleTools, Question};

pub use config::Config;

use judge::Judge;
use ruleset::RuleSet;
use service::Service;
use source::Sources;

/// Answers until the bus stops. Refuses to start without a usable policy set and keys.
///
/// # Errors
/// What is missing or wrong, with file, line and what to do.
pub fn serve(bus: Bus, config: Config) -> bus::Serving {
    Box::pin(start(bus, config))
}

async fn start(bus: Bus, config: Config) -> anyhow::Result<()> {
    config.check()?;
    let permits = permit_key(&config.permit_key)?;
    let channels = channel_keys(&config.origins)?;
    let sources = Sources::read(&config).context("the policy set cannot be read")?;
    let rules = RuleSet::build(&sources, &config).context("the policy set is not usable")?;
    watch::report(&bus, &rules);
    tracing::info!(policy_set = rules.digest(), policies = rules.len(), "in force");
    announce(&bus, rules.digest().to_owned());
    let judge = Arc::new(Judge { rules: ArcSwap::from_pointee(rules), permits, channels });
    let service = Service { bus: bus.clone(), judge };
    let s = service.clone();
    bus.serve(move |call: Call<Question>| s.clone().check(call)).await?;
    let s = service.clone();
    bus.serve(move |call: Call<PermissibleTools>| s.clone().permissible(call)).await?;
    let s = service.clone();
    bus.serve(move |call: Call<Explain>| s.clone().explain(call)).await?;
    bus.spawn(watch::watch(service, config, sources));
    Ok(())
}

/// Records in the background what is in force from the start on: policy must come up to say that the audit log takes nothing, and
/// decides nothing until it does.
fn announce(bus: &Bus, digest: String) {
    let recorder = bus.clone();
    bus.spawn(async move {
        if let Err(error) = watch::record(&recorder, &digest, None).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the policy set in force could not be recorded");
        }
    });
}

fn permit_key(path: &Path) -> anyhow::Result<SigningKey> {
    let what = || format!("cannot use the permit key {}: `nachos provision` makes it", path.display());
    let pem = fs::read_to_string(path).with_context(what)?;
    SigningKey::from_pem(&pem).with_context(what)
}

fn channel_keys(path: &Path) -> anyhow::Result<BTreeMap<Name, PublicKey>> {
    let what = || format!("cannot use the channels' keys {}: `nachos provision` makes them", path.display());
    let text = fs::read_to_string(path).with_context(what)?;
    serde_json::from_str(&text).with_context(what)
}
