//! Watches policies and manifests on disk: a good change is taken, a bad one is refused and told, and nothing comes into force
//! unrecorded.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, PublishError};
use proto::admin::Condition;
use proto::audit::{Fact, Scope};

use crate::config::Config;
use crate::problem::{Problem, Problems};
use crate::ruleset::RuleSet;
use crate::service::Service;
use crate::source::Sources;

/// Pause between two looks. A change is taken when two looks in a row saw the same, so within two to three pauses: a file that is being
/// copied may be valid and yet lack its last `forbid`.
const LOOK: Duration = Duration::from_secs(1);

/// The subject of records and of the condition.
const POLICY_SET: &str = "policy set";

/// What a look saw.
type Seen = Result<Sources, Problems>;

/// Looks at the files until the bus stops.
pub(crate) async fn watch(service: Service, config: Config, taken: Sources) {
    let config = Arc::new(config);
    let mut settled: Seen = Ok(taken);
    let mut last = settled.clone();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = look(&config).await;
        let changed = now == last && now != settled;
        last = now;
        if changed && take(&service, &config, &last).await.is_ok() {
            settled.clone_from(&last);
        }
    }
}

/// Reading waits for the disk, which is none of the runtime's threads' business.
async fn look(config: &Arc<Config>) -> Seen {
    let config = Arc::clone(config);
    let read = tokio::task::spawn_blocking(move || Sources::read(&config)).await;
    read.unwrap_or_else(|error| Err(Problems(vec![Problem::with(POLICY_SET, error)])))
}

/// Puts a change into force, or says why not. An error means that it could not be recorded; then it is tried again at the next look.
async fn take(service: &Service, config: &Config, seen: &Seen) -> Result<(), PublishError> {
    let built = seen.as_ref().map_err(Clone::clone).and_then(|sources| RuleSet::build(sources, config));
    let taken = match built {
        Ok(rules) => replace(service, rules).await,
        Err(problems) => refuse(service, &problems).await,
    };
    if let Err(error) = &taken {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "a change of the policy set waits until it can be recorded"
        );
    }
    taken
}

async fn replace(service: &Service, rules: RuleSet) -> Result<(), PublishError> {
    if rules.digest() != service.judge.rules.load().digest() {
        record(&service.bus, rules.digest(), None).await?;
        tracing::info!(policy_set = rules.digest(), policies = rules.len(), "a new policy set is in force");
    }
    report(&service.bus, &rules);
    service.judge.rules.store(Arc::new(rules));
    Ok(())
}

async fn refuse(service: &Service, problems: &Problems) -> Result<(), PublishError> {
    let in_force = service.judge.rules.load().digest().to_owned();
    tracing::error!(%problems, policy_set = in_force, "the changed policy set is not usable; the last good one stays in force");
    service.bus.report(Condition {
        name: POLICY_SET.to_owned(),
        ok: false,
        detail: format!("the changed files are not usable, {in_force} stays in force: {problems}"),
        hint: Some("correct the file that is named; it is taken within seconds".to_owned()),
    });
    record(&service.bus, &in_force, Some(clipped(problems))).await
}

/// Longest list of problems in a record, in characters; the log and the condition have them all.
const MAX_RECORDED: usize = 4000;

fn clipped(problems: &Problems) -> String {
    problems.to_string().chars().take(MAX_RECORDED).collect()
}

/// Records what is in force, or why something did not come into force.
pub(crate) async fn record(bus: &Bus, in_force: &str, refused: Option<String>) -> Result<(), PublishError> {
    let fact = Fact::ConfigChanged { what: POLICY_SET.to_owned(), digest: in_force.to_owned(), refused };
    bus.record(None, Scope::default(), fact).await.map(|_| ())
}

/// Tells how the set that is in force is.
pub(crate) fn report(bus: &Bus, rules: &RuleSet) {
    let warnings: Vec<_> = rules.warnings().iter().map(ToString::to_string).collect();
    bus.report(Condition {
        name: POLICY_SET.to_owned(),
        ok: true,
        detail: format!("{} policies in force, {}", rules.len(), rules.digest()),
        hint: (!warnings.is_empty()).then(|| format!("look at: {}", warnings.join("; "))),
    });
    let refused: Vec<_> = rules.refused_tools().iter().map(|tool| tool.reason.as_str()).collect();
    bus.report(Condition {
        name: "tool manifests".to_owned(),
        ok: refused.is_empty(),
        detail: if refused.is_empty() { "all are usable".to_owned() } else { refused.join("; ") },
        hint: (!refused.is_empty()).then(|| "correct them; until then these tools are denied".to_owned()),
    });
    for problem in warnings.iter().map(String::as_str).chain(refused) {
        tracing::warn!(problem, "in the policy set");
    }
}
