//! The figures as a Markdown table: what was measured, how often the floor fits into it, and the budget of the design beside it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::measure::Series;

/// What is said when the machine had other work.
const BUSY: &str = "\nThe machine had other work at the same time: a quiet one gives better figures.\n";

/// What a reader should know about the figures that miss their budgets.
const READING: &str = "\n\
    Where the CPU time of a turn goes, by a sampling profile of the services: there is no hot spot. A turn without a tool stores about \
    seven records and messages, one with a tool about thirteen, each flushed to disk, and each of them is a handful of system calls, \
    wake-ups and allocations in its sender, in the bus and in `audit`. SQLite's thread takes 38 % of `gateway` and 47 % of `audit`; the \
    kernel takes 36 % and 44 % of them; Ed25519 takes about an eighth of `policy`.\n";

/// A budget of the design, and whether the figure keeps it.
#[derive(Debug, Clone)]
pub struct Budget {
    text: String,
    kept: bool,
}

impl Budget {
    /// `figure` must not exceed `limit`.
    pub fn time(figure: Duration, limit: Duration, text: &str) -> Option<Self> {
        Some(Self { text: text.to_owned(), kept: figure <= limit })
    }

    /// As [`Budget::time`], in bytes.
    pub fn bytes(figure: u64, limit: u64, text: &str) -> Option<Self> {
        Some(Self { text: text.to_owned(), kept: figure <= limit })
    }

    /// A condition that holds or does not.
    pub fn of(kept: bool, text: &str) -> Option<Self> {
        Some(Self { text: text.to_owned(), kept })
    }
}

/// The figures so far.
pub struct Report {
    floor: Duration,
    rows: Vec<String>,
}

impl Report {
    /// A report whose floor is one raw round trip.
    pub fn new(floor: Series) -> Self {
        let mut report = Self { floor: floor.median, rows: Vec::new() };
        report.latency("raw NATS round trip (the floor)", floor, None);
        report
    }

    /// One raw round trip.
    pub fn floor(&self) -> Duration {
        self.floor
    }

    /// A latency, with its ratio to the floor.
    pub fn latency(&mut self, what: &str, series: Series, budget: Option<Budget>) {
        let ratio = format!("{:.1}", series.median.as_secs_f64() / self.floor.as_secs_f64());
        self.row(what, &format!("{} (p99 {})", show(series.median), show(series.p99)), &ratio, budget);
    }

    /// A time that is not to be compared with the floor.
    pub fn time(&mut self, what: &str, figure: Duration, budget: Option<Budget>) {
        self.row(what, &show(figure), "", budget);
    }

    /// Anything else.
    pub fn figure(&mut self, what: &str, figure: &str, budget: Option<Budget>) {
        self.row(what, figure, "", budget);
    }

    fn row(&mut self, what: &str, figure: &str, ratio: &str, budget: Option<Budget>) {
        let (text, verdict) = match &budget {
            None => ("", ""),
            Some(Budget { text, kept: true }) => (text.as_str(), "kept"),
            Some(Budget { text, kept: false }) => (text.as_str(), "**missed**"),
        };
        let row = format!("| {what} | {figure} | {ratio} | {text} | {verdict} |");
        println!("{row}");
        self.rows.push(row);
    }

    /// The whole document.
    pub fn document(&self) -> String {
        let mut text = format!(
            "# Benchmarks\n\n\
             Measured by `./nachos bench --write` on {} ({}; load average {} at the end), release build: the shipped binaries as \
             processes around a real nats-server that flushes every stored message to disk, all on loopback of one machine, with \
             the load generator and the fakes beside them. Latencies are medians of runs one after the other; × floor is the ratio \
             to one raw request and reply between two async-nats connections through the same server in the same run. CPU time is \
             the kernel's count in `/proc`. Budgets are goals, not tests: a missed one is said to be missed.\n\n\
             | what | figure | × floor | budget | |\n| --- | --- | --- | --- | --- |\n",
            Timestamp::now().strftime("%Y-%m-%d"),
            machine(),
            load(),
        );
        for row in &self.rows {
            let _infallible = writeln!(text, "{row}");
        }
        text + READING + busy()
    }

    /// Writes the document to docs/BENCHMARKS.md of the repository.
    pub fn write(&self, repository: &Path) {
        fs::write(repository.join("docs/BENCHMARKS.md"), self.document()).expect("docs/BENCHMARKS.md");
    }
}

/// A duration in the unit that fits.
pub fn show(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..1000.0 => format!("{micros:.0} µs"),
        1000.0..100_000.0 => format!("{:.2} ms", micros / 1e3),
        _ => format!("{:.0} ms", micros / 1e3),
    }
}

/// Bytes as MB.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// The benchmark alone never has more to do than twice what the processors can.
fn busy() -> &'static str {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load: f64 = load().parse().unwrap_or_default();
    if load > 2.0 * processors as f64 { BUSY } else { "" }
}

fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let model = model.trim_start_matches([' ', '\t', ':']).split_whitespace().collect::<Vec<_>>().join(" ");
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    format!("{count} × {model}")
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}
