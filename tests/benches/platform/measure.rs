//! Measuring: medians of many runs, and CPU time as the kernel counts it.

use std::time::Duration;

use system_tests::processes::usage;
use tokio::time::Instant;

/// Runs before the ones that count: connections, caches and the branch predictor are warm then.
pub const WARM_UP: usize = 20;

/// What a series of runs took.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    /// The run in the middle.
    pub median: Duration,
    /// Slower than 99 of 100.
    pub p99: Duration,
}

impl Series {
    /// Of these runs.
    pub fn of(mut runs: Vec<Duration>) -> Self {
        runs.sort();
        let at = |percent: usize| runs[(runs.len() * percent / 100).min(runs.len() - 1)];
        Self { median: at(50), p99: at(99) }
    }
}

/// One run after the other, `times` of them.
pub async fn one_by_one(times: usize, mut run: impl AsyncFnMut()) -> Series {
    for _ in 0..WARM_UP {
        run().await;
    }
    let mut runs = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        run().await;
        runs.push(start.elapsed());
    }
    Series::of(runs)
}

/// CPU time that each of some processes used while `work` went on.
pub async fn cpu_of<T>(processes: &[u32], work: impl Future<Output = T>) -> (T, Vec<Duration>) {
    let used = || processes.iter().map(|pid| usage(*pid).cpu).collect::<Vec<_>>();
    let before = used();
    let outcome = work.await;
    let spent = used().into_iter().zip(before).map(|(after, before)| after - before);
    (outcome, spent.collect())
}
