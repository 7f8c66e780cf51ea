//! How the component is doing: what it reports about itself, a heartbeat file for the container's health check, and the
//! answer to `nachos status` and `nachos doctor`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proto::admin::{Condition, Health, HealthRequest};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::connection::Bus;
use crate::error::BusError;

/// How often the heartbeat is written.
const BEAT: Duration = Duration::from_secs(2);

/// A heartbeat older than this means that the process hangs.
const STALE: SignedDuration = SignedDuration::from_secs(15);

/// What the component reports about itself.
#[derive(Default)]
pub(crate) struct Board {
    conditions: Mutex<BTreeMap<String, (Condition, bool)>>,
}

/// The heartbeat file.
#[derive(Debug, Serialize, Deserialize)]
struct Heartbeat {
    at: Timestamp,
    /// What is wrong with something vital.
    wrong: Vec<String>,
}

impl Board {
    fn set(&self, condition: Condition, vital: bool) {
        let mut conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        let before = conditions.insert(condition.name.clone(), (condition.clone(), vital));
        if before.is_none_or(|(before, _)| before.ok != condition.ok) && !condition.ok {
            tracing::warn!(condition = condition.name, detail = condition.detail, "not well");
        }
    }

    fn all(&self) -> Vec<Condition> {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.values().map(|(condition, _)| condition.clone()).collect()
    }

    fn wrong(&self) -> Vec<String> {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        let vital = conditions.values().filter(|(condition, vital)| *vital && !condition.ok);
        vital.map(|(condition, _)| format!("{}: {}", condition.name, condition.detail)).collect()
    }
}

impl Bus {
    /// Tells how one thing is, for `nachos doctor`. The last report of a name counts.
    pub fn report(&self, condition: Condition) {
        self.inner.board.set(condition, false);
    }

    /// As [`Bus::report`], for something without which the component is of no use: the container's health check fails.
    pub fn report_vital(&self, condition: Condition) {
        self.inner.board.set(condition, true);
    }

    /// Answers for the component's health and keeps the heartbeat.
    pub(crate) async fn serve_health(
        &self,
        version: &'static str,
        started: Timestamp,
        file: PathBuf,
    ) -> Result<(), BusError> {
        let bus = self.clone();
        self.serve(move |_: crate::Call<HealthRequest>| {
            let health = Health {
                v: proto::VERSION,
                component: bus.component(),
                version: version.to_owned(),
                started,
                conditions: bus.inner.board.all(),
            };
            std::future::ready(Ok(health))
        })
        .await?;
        self.beat(&file).await;
        let bus = self.clone();
        self.spawn(async move {
            loop {
                sleep(BEAT).await;
                bus.beat(&file).await;
            }
        });
        Ok(())
    }

    async fn beat(&self, file: &Path) {
        let reached = self.round_trip().await;
        self.report_vital(Condition {
            name: "bus".to_owned(),
            ok: reached.is_ok(),
            detail: reached
                .map_or_else(|error| error.to_string(), |()| format!("connected, {} refusals", self.denied())),
            hint: (self.denied() > 0)
                .then(|| "look for component.denied: `nachos audit tail --type component.denied`".to_owned()),
        });
        if file.as_os_str().is_empty() {
            return;
        }
        let beat = Heartbeat { at: Timestamp::now(), wrong: self.inner.board.wrong() };
        if let Err(error) = write_whole(file, &beat) {
            tracing::error!(%error, file = %file.display(), "the heartbeat could not be written");
        }
    }
}

fn write_whole(file: &Path, beat: &Heartbeat) -> std::io::Result<()> {
    let half = file.with_extension("new");
    std::fs::write(&half, serde_json::to_vec(beat)?)?;
    std::fs::rename(half, file)
}

/// The container's health check: is the heartbeat fresh, and nothing vital wrong?
pub(crate) fn check(file: &Path, now: Timestamp) -> Result<(), String> {
    let text = std::fs::read(file).map_err(|error| format!("no heartbeat in {}: {error}", file.display()))?;
    let beat: Heartbeat =
        serde_json::from_slice(&text).map_err(|error| format!("the heartbeat is not readable: {error}"))?;
    if now.duration_since(beat.at) > STALE {
        return Err(format!("the last heartbeat was at {}", beat.at));
    }
    if beat.wrong.is_empty() { Ok(()) } else { Err(beat.wrong.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_heartbeat_or_a_vital_fault_is_unhealthy() {
        let file = std::env::temp_dir().join(format!("nachos-health-{}.json", uuid::Uuid::new_v4()));
        let now = Timestamp::now();
        assert!(check(&file, now).is_err());
        write_whole(&file, &Heartbeat { at: now, wrong: vec![] }).unwrap();
        assert_eq!(check(&file, now), Ok(()));
        assert!(check(&file, now + SignedDuration::from_secs(16)).is_err());
        write_whole(&file, &Heartbeat { at: now, wrong: vec!["slack socket: deaf".to_owned()] }).unwrap();
        assert_eq!(check(&file, now), Err("slack socket: deaf".to_owned()));
        std::fs::remove_file(file).unwrap();
    }
}
