//! How far long work is, on standard error, and only where somebody looks there.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a spinner moves.
const TICK: Duration = Duration::from_millis(120);

/// Of work whose size is known: what it is, how much is done, how fast, how long to go.
const BAR: &str = "  {msg} {wide_bar} {human_pos} of {human_len}, {per_sec}, {eta} to go ";

/// Of work whose size nobody knows.
const SPINNER: &str = "  {spinner} {msg} {human_pos} ";

/// A bar or spinner; it goes away with this value.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Of `size` steps.
    pub(super) fn bar(what: &str, size: u64) -> Self {
        Self::new(ProgressBar::with_draw_target(Some(size), target()), BAR, what)
    }

    /// Of work without a known end.
    pub(super) fn spinner(what: &str) -> Self {
        let shown = Self::new(ProgressBar::with_draw_target(None, target()), SPINNER, what);
        shown.0.enable_steady_tick(TICK);
        shown
    }

    fn new(bar: ProgressBar, template: &str, what: &str) -> Self {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// So many more steps are done.
    pub(super) fn done(&self, steps: u64) {
        self.0.inc(steps);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn target() -> ProgressDrawTarget {
    if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}
