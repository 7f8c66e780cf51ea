//! Stories of the link, as tables: at which second what happened, and what the machine did about it.

use super::Action::{Close, Drop, Open, Ping};
use super::Event::{Closed, Disconnect, Failed, Hello, Pong, Refused, Shutdown, Tick};
use super::*;

const PACE: Pace = Pace {
    open: Duration::from_secs(30),
    ping: Duration::from_secs(5),
    dead: Duration::from_secs(15),
    drain: Duration::from_secs(30),
    close: Duration::from_secs(2),
    backoff: Duration::from_secs(1),
    backoff_max: Duration::from_secs(30),
};

/// Jitter at its largest, so that the tables show whole seconds.
const ROLL: f64 = 1.0;

fn at(second: f64) -> Time {
    Duration::from_secs_f64(second)
}

fn play(wanted: usize, story: &[(f64, Event, &[Action])]) -> Link {
    let mut link = Link::new(wanted, PACE);
    for (second, event, expected) in story {
        let actions = link.on(event.clone(), at(*second), ROLL);
        assert_eq!(&actions, expected, "at {second} s, {event:?}");
    }
    link
}

#[test]
fn it_opens_as_many_as_wanted() {
    let link = play(2, &[(0.0, Tick, &[Open(1), Open(2)]), (0.5, Hello(1), &[]), (0.6, Hello(2), &[])]);
    assert_eq!(link.status(at(1.0)).live, 2);
    assert_eq!(link.status(at(1.0)).pulse, Some(at(1.0) - at(0.6)));
}

#[test]
fn a_refresh_opens_the_new_one_first_and_reads_the_old_one_until_it_closes() {
    let link = play(
        1,
        &[
            (0.0, Tick, &[Open(1)]),
            (0.5, Hello(1), &[]),
            (3.0, Disconnect(1, Reason::Refresh), &[Open(2)]),
            (3.5, Hello(2), &[]),
            (5.5, Tick, &[Ping(1)]),
            (13.0, Closed(1), &[Ping(2)]),
        ],
    );
    assert_eq!(link.status(at(13.0)).live, 1);
}

#[test]
fn a_draining_connection_that_slack_leaves_open_is_closed_and_then_dropped() {
    play(
        1,
        &[
            (0.0, Tick, &[Open(1)]),
            (0.0, Hello(1), &[]),
            (0.0, Disconnect(1, Reason::Refresh), &[Open(2)]),
            (1.0, Hello(2), &[]),
            (14.0, Pong(1), &[Ping(1), Ping(2)]),
            (14.0, Pong(2), &[]),
            (28.0, Pong(1), &[Ping(1), Ping(2)]),
            (28.0, Pong(2), &[]),
            (30.0, Tick, &[Close(1)]),
            (32.0, Tick, &[Drop(1)]),
        ],
    );
}

#[test]
fn too_many_connections_close_first_and_wait() {
    play(
        1,
        &[
            (0.0, Tick, &[Open(1)]),
            (0.5, Hello(1), &[]),
            (1.0, Disconnect(1, Reason::TooMany), &[Close(1)]),
            (1.2, Closed(1), &[]),
            (8.9, Tick, &[]),
            (9.0, Tick, &[Open(2)]),
            (9.5, Disconnect(2, Reason::TooMany), &[Close(2)]),
            (11.5, Tick, &[Drop(2)]),
            (25.5, Tick, &[Open(3)]),
        ],
    );
}

#[test]
fn a_connection_that_answers_no_ping_is_dropped() {
    play(
        1,
        &[
            (0.0, Tick, &[Open(1)]),
            (0.0, Hello(1), &[]),
            (5.0, Tick, &[Ping(1)]),
            (5.1, Pong(1), &[]),
            (10.0, Tick, &[Ping(1)]),
            (15.0, Tick, &[Ping(1)]),
            (20.1, Tick, &[Drop(1)]),
            (21.1, Tick, &[Open(2)]),
        ],
    );
}

#[test]
fn an_attempt_without_a_hello_has_an_end() {
    play(1, &[(0.0, Tick, &[Open(1)]), (29.0, Tick, &[]), (30.0, Tick, &[Drop(1)]), (31.0, Tick, &[Open(2)])]);
}

#[test]
fn waits_double_up_to_a_limit_and_start_again_after_a_hello() {
    let mut link = Link::new(1, PACE);
    let (mut now, mut waits, mut conn) = (0.0, Vec::new(), 1);
    assert_eq!(link.on(Tick, at(now), ROLL), [Open(1)]);
    for _ in 0..7 {
        assert!(link.on(Failed(conn, None), at(now), ROLL).is_empty());
        let next = link.deadline().unwrap();
        waits.push((next - at(now)).as_secs());
        now = next.as_secs_f64();
        conn += 1;
        assert_eq!(link.on(Tick, at(now), ROLL), [Open(conn)]);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    link.on(Hello(conn), at(now), ROLL);
    let later = at(now) + STABLE;
    link.on(Closed(conn), later, ROLL);
    assert_eq!(link.deadline(), Some(later + at(1.0)));
}

#[test]
fn hello_and_goodbye_again_and_again_is_not_hammered_at() {
    let mut link = Link::new(1, PACE);
    let mut waits = Vec::new();
    let mut now = Time::ZERO;
    for conn in 1..=6 {
        assert_eq!(link.on(Tick, now, ROLL), [Open(conn)]);
        link.on(Hello(conn), now, ROLL);
        link.on(Closed(conn), now, ROLL);
        waits.push((link.deadline().unwrap() - now).as_secs());
        now = link.deadline().unwrap();
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30]);
}

#[test]
fn slack_s_own_waiting_time_is_kept() {
    play(
        1,
        &[
            (0.0, Tick, &[Open(1)]),
            (0.0, Failed(1, Some(Duration::from_secs(45))), &[]),
            (44.0, Tick, &[]),
            (45.0, Tick, &[Open(2)]),
        ],
    );
}

#[test]
fn after_a_failure_one_connection_tries_for_all() {
    play(
        2,
        &[
            (0.0, Tick, &[Open(1), Open(2)]),
            (0.1, Failed(1, None), &[]),
            (0.1, Failed(2, None), &[]),
            (2.1, Tick, &[Open(3)]),
            (2.2, Hello(3), &[Open(4)]),
        ],
    );
}

#[test]
fn what_a_person_must_mend_ends_the_attempts() {
    let story = [
        (Disconnect(1, Reason::LinkDisabled), "Socket Mode"),
        (Refused(2, Trouble::of_code("invalid_auth", None)), "invalid_auth"),
    ];
    for (event, word) in story {
        let mut link = play(2, &[(0.0, Tick, &[Open(1), Open(2)]), (0.1, Hello(1), &[])]);
        let actions = link.on(event, at(1.0), ROLL);
        assert!(actions.contains(&Close(1)), "{actions:?}");
        link.on(Closed(1), at(1.1), ROLL);
        for hour in 1..5 {
            assert!(link.on(Tick, at(f64::from(hour) * 3600.0), ROLL).is_empty());
        }
        let trouble = link.status(at(2.0)).trouble.unwrap();
        assert!(trouble.detail.contains(word), "{trouble:?}");
        assert_eq!(link.deadline(), None);
    }
}

#[test]
fn a_shutdown_closes_everything_and_is_over_in_time() {
    let mut link =
        play(2, &[(0.0, Tick, &[Open(1), Open(2)]), (0.1, Hello(1), &[]), (1.0, Shutdown, &[Close(1), Drop(2)])]);
    assert!(!link.is_over());
    assert_eq!(link.on(Tick, at(3.0), ROLL), [Drop(1)]);
    assert!(link.is_over());
}

#[test]
fn news_of_a_connection_that_is_gone_change_nothing() {
    let story: [(f64, Event, &[Action]); 7] = [
        (0.0, Tick, &[Open(1)]),
        (0.1, Hello(1), &[]),
        (0.2, Hello(9), &[]),
        (0.2, Pong(9), &[]),
        (0.2, Closed(9), &[]),
        (0.2, Failed(9, None), &[]),
        (0.2, Disconnect(9, Reason::TooMany), &[]),
    ];
    assert_eq!(play(1, &story).status(at(0.2)).live, 1);
}
