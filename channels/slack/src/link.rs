//! The connections to Slack as a pure state machine: told an [`Event`] and the time, it says what to do. No clock, no socket, no
//! randomness in here; [`crate::socket`] carries the actions out.
//!
//! What it makes sure of: there are as many connections as wanted; a connection that Slack is about to close is replaced before it
//! goes and read until it is gone; one that stops answering pings is dropped; a crowd is met by closing first and waiting; and what
//! a person has to mend (a revoked token, Socket Mode switched off) ends the attempts instead of being hammered at.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::frame::Reason;
use crate::trouble::Trouble;

/// A connection's number; never used again.
pub(crate) type Conn = u64;

/// Time since the start of the machine.
pub(crate) type Time = Duration;

/// A connection that ended sooner than this after its hello did not prove anything: the waiting times go on growing. Without it, a
/// server that says hello and hangs up would be called every second for ever.
const STABLE: Duration = Duration::from_secs(30);

/// `too_many_websockets` counts as so many failures: the others do not go away within a second.
const CROWD: u32 = 3;

/// The times the machine works with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// From the start of an attempt to its hello.
    pub(crate) open: Duration,
    /// Between two pings.
    pub(crate) ping: Duration,
    /// Without a pong for so long, a connection is dead.
    pub(crate) dead: Duration,
    /// How long a connection that Slack wants to end is read before we close it.
    pub(crate) drain: Duration,
    /// From our close frame to dropping the connection; Slack leaves the TCP connection open.
    pub(crate) close: Duration,
    /// First wait after a failure.
    pub(crate) backoff: Duration,
    /// Longest wait after a failure.
    pub(crate) backoff_max: Duration,
}

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Slack said hello.
    Hello(Conn),
    /// Slack answered a ping.
    Pong(Conn),
    /// Slack announced the end of a connection.
    Disconnect(Conn, Reason),
    /// A connection could not be made; try again, not before the time that Slack named.
    Failed(Conn, Option<Duration>),
    /// A connection could not be made, and a person has to do something about it.
    Refused(Conn, Trouble),
    /// A connection is gone.
    Closed(Conn),
    /// Time passed.
    Tick,
    /// We are stopping.
    Shutdown,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Fetch a URL, dial it, read it.
    Open(Conn),
    /// Send a ping.
    Ping(Conn),
    /// Send a close frame and read on.
    Close(Conn),
    /// End it, whatever it is doing.
    Drop(Conn),
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Opening { until: Time },
    Live { since: Time, failures: u32, pulse: Pulse },
    Draining { until: Time, pulse: Pulse },
    Closing { until: Time },
}

#[derive(Debug, Clone, Copy)]
struct Pulse {
    pong: Time,
    next_ping: Time,
}

/// Why no connection is tried any more.
#[derive(Debug, Clone)]
enum End {
    Trouble(Trouble),
    Shutdown,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Link {
    pace: Pace,
    wanted: usize,
    conns: BTreeMap<Conn, Phase>,
    next: Conn,
    failures: u32,
    wait: Time,
    end: Option<End>,
}

/// How the link is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// Connections that take messages.
    pub(crate) live: usize,
    /// Age of the newest pong (or hello).
    pub(crate) pulse: Option<Duration>,
    /// How long until the next attempt, where we are waiting.
    pub(crate) waiting: Option<Duration>,
    /// What a person has to mend.
    pub(crate) trouble: Option<Trouble>,
}

impl Link {
    pub(crate) fn new(wanted: usize, pace: Pace) -> Self {
        Self { pace, wanted, conns: BTreeMap::new(), next: 1, failures: 0, wait: Time::ZERO, end: None }
    }

    /// Takes an event and says what to do. `roll` is a random number in 0..1, for the jitter.
    pub(crate) fn on(&mut self, event: Event, now: Time, roll: f64) -> Vec<Action> {
        let mut actions = self.take(event, now, roll);
        actions.extend(self.keep_time(now, roll));
        actions.extend(self.fill(now));
        actions
    }

    /// When to say [`Event::Tick`] at the latest.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let timers = self.conns.values().map(|phase| match phase {
            Phase::Opening { until } | Phase::Closing { until } => *until,
            Phase::Live { pulse, .. } => pulse.next_ping.min(pulse.pong + self.pace.dead),
            Phase::Draining { until, pulse } => pulse.next_ping.min(pulse.pong + self.pace.dead).min(*until),
        });
        timers.chain((self.missing() > 0).then_some(self.wait)).min()
    }

    pub(crate) fn status(&self, now: Time) -> Status {
        let pulses = || self.conns.values().filter_map(Phase::pulse);
        let trouble = match &self.end {
            Some(End::Trouble(trouble)) => Some(trouble.clone()),
            _ => None,
        };
        Status {
            live: pulses().count(),
            pulse: pulses().map(|pulse| now.saturating_sub(pulse.pong)).min(),
            waiting: (self.missing() > 0).then(|| self.wait.saturating_sub(now)),
            trouble,
        }
    }

    /// Whether nothing is left after a shutdown.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.end, Some(End::Shutdown)) && self.conns.is_empty()
    }

    fn take(&mut self, event: Event, now: Time, roll: f64) -> Vec<Action> {
        match event {
            Event::Hello(conn) => self.hello(conn, now),
            Event::Pong(conn) => self.pong(conn, now),
            Event::Disconnect(_, Reason::LinkDisabled) => {
                return self.end(End::Trouble(Trouble::link_disabled()), now);
            }
            Event::Disconnect(conn, reason) => return self.disconnect(conn, reason, now, roll),
            Event::Failed(conn, after) => self.failed(conn, after, now, roll),
            Event::Refused(conn, trouble) => {
                self.conns.remove(&conn);
                return self.end(End::Trouble(trouble), now);
            }
            Event::Closed(conn) => self.lost(conn, now, roll),
            Event::Tick => {}
            Event::Shutdown => return self.end(End::Shutdown, now),
        }
        Vec::new()
    }

    fn hello(&mut self, conn: Conn, now: Time) {
        if let Some(phase @ Phase::Opening { .. }) = self.conns.get_mut(&conn) {
            let pulse = Pulse { pong: now, next_ping: now + self.pace.ping };
            *phase = Phase::Live { since: now, failures: self.failures, pulse };
            self.failures = 0;
            self.wait = now;
        }
    }

    fn pong(&mut self, conn: Conn, now: Time) {
        if let Some(Phase::Live { pulse, .. } | Phase::Draining { pulse, .. }) = self.conns.get_mut(&conn) {
            pulse.pong = now;
        }
    }

    fn disconnect(&mut self, conn: Conn, reason: Reason, now: Time, roll: f64) -> Vec<Action> {
        match (self.conns.get(&conn).copied(), reason) {
            // Closed first: a new connection would only make the crowd larger.
            (Some(Phase::Opening { .. } | Phase::Live { .. }), Reason::TooMany) => {
                self.failures = self.failures.max(CROWD);
                self.back_off(None, now, roll);
                self.close(conn, now)
            }
            (Some(Phase::Live { pulse, .. }), _) => {
                let until = now + self.pace.drain;
                self.conns.insert(conn, Phase::Draining { until, pulse });
                Vec::new()
            }
            (Some(Phase::Opening { .. }), _) => {
                self.back_off(None, now, roll);
                self.close(conn, now)
            }
            _ => Vec::new(),
        }
    }

    fn failed(&mut self, conn: Conn, after: Option<Duration>, now: Time, roll: f64) {
        if self.conns.remove(&conn).is_some() {
            self.back_off(after, now, roll);
        }
    }

    /// A connection is gone. One that was draining or closing was expected to go.
    fn lost(&mut self, conn: Conn, now: Time, roll: f64) {
        match self.conns.remove(&conn) {
            Some(Phase::Opening { .. }) => self.back_off(None, now, roll),
            Some(Phase::Live { since, failures, .. }) => {
                if now.saturating_sub(since) < STABLE {
                    self.failures = self.failures.max(failures);
                }
                self.back_off(None, now, roll);
            }
            _ => {}
        }
    }

    /// Doubles the wait with every failure, keeps between half and all of it, and never goes below what Slack asked for.
    fn back_off(&mut self, after: Option<Duration>, now: Time, roll: f64) {
        let doubled = self.pace.backoff.saturating_mul(1 << self.failures.min(16));
        let wait = doubled.min(self.pace.backoff_max).mul_f64(0.5 + 0.5 * roll.clamp(0.0, 1.0));
        self.failures = self.failures.saturating_add(1);
        self.wait = self.wait.max(now + wait.max(after.unwrap_or_default()));
    }

    fn close(&mut self, conn: Conn, now: Time) -> Vec<Action> {
        let until = now + self.pace.close;
        self.conns.insert(conn, Phase::Closing { until });
        vec![Action::Close(conn)]
    }

    fn end(&mut self, end: End, now: Time) -> Vec<Action> {
        self.end = Some(end);
        let open: Vec<Conn> = self.conns.keys().copied().collect();
        open.into_iter().flat_map(|conn| self.finish(conn, now)).collect()
    }

    fn finish(&mut self, conn: Conn, now: Time) -> Vec<Action> {
        match self.conns.get(&conn) {
            Some(Phase::Opening { .. }) => {
                self.conns.remove(&conn);
                vec![Action::Drop(conn)]
            }
            Some(Phase::Live { .. } | Phase::Draining { .. }) => self.close(conn, now),
            Some(Phase::Closing { .. }) | None => Vec::new(),
        }
    }

    /// What the time demands of each connection.
    fn keep_time(&mut self, now: Time, roll: f64) -> Vec<Action> {
        let open: Vec<Conn> = self.conns.keys().copied().collect();
        open.into_iter().filter_map(|conn| self.check(conn, now, roll)).collect()
    }

    fn check(&mut self, conn: Conn, now: Time, roll: f64) -> Option<Action> {
        let (dead, ping) = (self.pace.dead, self.pace.ping);
        match self.conns.get_mut(&conn)? {
            Phase::Opening { until } | Phase::Closing { until } if now >= *until => self.drop(conn, now, roll),
            Phase::Live { pulse, .. } | Phase::Draining { pulse, .. } if now >= pulse.pong + dead => {
                self.drop(conn, now, roll)
            }
            Phase::Draining { until, .. } if now >= *until => self.close(conn, now).pop(),
            Phase::Live { pulse, .. } | Phase::Draining { pulse, .. } if now >= pulse.next_ping => {
                pulse.next_ping = now + ping;
                Some(Action::Ping(conn))
            }
            _ => None,
        }
    }

    fn drop(&mut self, conn: Conn, now: Time, roll: f64) -> Option<Action> {
        self.lost(conn, now, roll);
        Some(Action::Drop(conn))
    }

    fn fill(&mut self, now: Time) -> Vec<Action> {
        if now < self.wait {
            return Vec::new();
        }
        let opened = (0..self.missing()).map(|_| {
            let conn = self.next;
            self.next += 1;
            self.conns.insert(conn, Phase::Opening { until: now + self.pace.open });
            Action::Open(conn)
        });
        opened.collect()
    }

    /// How many to open. After a failure one at a time: the first that gets through speaks for the others.
    fn missing(&self) -> usize {
        if self.end.is_some() {
            return 0;
        }
        let opening = self.count(|phase| matches!(phase, Phase::Opening { .. }));
        let live = self.count(|phase| matches!(phase, Phase::Live { .. }));
        let missing = self.wanted.saturating_sub(opening + live);
        if self.failures > 0 { missing.min(1_usize.saturating_sub(opening)) } else { missing }
    }

    fn count(&self, which: impl Fn(&Phase) -> bool) -> usize {
        self.conns.values().filter(|phase| which(phase)).count()
    }
}

impl Phase {
    fn pulse(&self) -> Option<Pulse> {
        match self {
            Self::Live { pulse, .. } | Self::Draining { pulse, .. } => Some(*pulse),
            Self::Opening { .. } | Self::Closing { .. } => None,
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
