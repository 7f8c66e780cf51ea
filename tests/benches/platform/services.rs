//! What the services take by just being there: memory, and the time from start to ready.

use std::time::Duration;

use system_tests::processes::usage;
use tokio::time::sleep;

use crate::Stage;
use crate::measure::Series;
use crate::report::{Budget, Report, megabytes, show};

/// Starts that are measured of each service.
const STARTS: usize = 5;

/// What all of them, and the bus, may take.
const MEMORY: u64 = 80_000_000;

/// What a start may take.
const READY: Duration = Duration::from_millis(50);

/// Until what a start allocated and freed again is back at the system.
const SETTLE: Duration = Duration::from_secs(2);

/// Resident memory of each process and of all together.
pub async fn memory(report: &mut Report, stage: &Stage, when: &str) {
    sleep(SETTLE).await;
    let mut shares = vec![("bus".to_owned(), usage(stage.server.pid()).resident)];
    let services = stage.stack.components().into_iter();
    shares.extend(services.map(|component| (component.to_string(), stage.stack.usage(component).resident)));
    let sum: u64 = shares.iter().map(|(_, bytes)| bytes).sum();
    let each: Vec<String> = shares.iter().map(|(name, bytes)| format!("{name} {}", megabytes(*bytes))).collect();
    let budget = (when == "idle").then(|| Budget::bytes(sum, MEMORY, "≤ 80 MB")).flatten();
    report.figure(&format!("resident memory {when}: {}", each.join(", ")), &megabytes(sum), budget);
}

/// From the start of each service to its being ready.
pub async fn starts(report: &mut Report, stage: &mut Stage) {
    for component in stage.stack.components() {
        let mut took = Vec::new();
        for _ in 0..STARTS {
            stage.stack.kill(component);
            stage.stack.start_again(component);
            took.push(stage.stack.ready(component).await);
        }
        let ready = Series::of(took);
        let what = format!("start to ready: {component}");
        let figure = format!("{} (slowest {})", show(ready.median), show(ready.p99));
        report.figure(&what, &figure, Budget::time(ready.median, READY, "≤ 50 ms"));
    }
}
