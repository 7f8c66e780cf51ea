//! Times as people write and read them.

use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// The local time zone of whoever looks. In a container without zone files it is what `TZ` says in POSIX form, else UTC.
pub(crate) fn zone() -> TimeZone {
    let named = std::env::var("TZ").ok().filter(|name| !name.is_empty());
    let found = match &named {
        Some(name) => TimeZone::posix(name).ok().or_else(|| zone_file(name)),
        None => read_zone("local", Path::new("/etc/localtime")),
    };
    found.unwrap_or(TimeZone::UTC)
}

fn zone_file(name: &str) -> Option<TimeZone> {
    let plain = name.split('/').all(|part| !part.is_empty() && part != "..");
    plain.then(|| read_zone(name, &Path::new("/usr/share/zoneinfo").join(name))).flatten()
}

fn read_zone(name: &str, file: &Path) -> Option<TimeZone> {
    TimeZone::tzif(name, &std::fs::read(file).ok()?).ok()
}

/// When something was, in at most twelve columns: the time of day, before today the date and less of the time.
pub(crate) fn local(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, now) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let form = match (at.date() == now.date(), at.year() == now.year()) {
        (true, _) => "%H:%M:%S%.3f",
        (false, true) => "%m-%d %H:%M",
        (false, false) => "%Y-%m-%d",
    };
    at.strftime(form).to_string()
}

/// How long something has lasted, in the two largest units.
pub(crate) fn lasted(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Microseconds in the unit that people compare in.
pub(crate) fn micros(micros: u64) -> String {
    // Shown, not calculated with: the loss of precision is below what is printed.
    let exact = micros as f64;
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", exact / 1e3),
        _ => format!("{:.1} s", exact / 1e6),
    }
}

/// A point in time: RFC 3339, or how long ago (`90s`, `10m`, `2h`, `3d`).
///
/// # Errors
/// What would have been understood.
pub(crate) fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(ago) = parse_ago(text) {
        return now.checked_sub(ago).map_err(|_| format!("`{text}` is too long ago"));
    }
    text.parse().map_err(|_| {
        format!("`{text}` is no time: give RFC 3339 (2026-11-20T14:00:00Z) or how long ago (90s, 10m, 2h, 3d)")
    })
}

fn parse_ago(text: &str) -> Option<SignedDuration> {
    let unit = text.chars().next_back()?;
    let count: i64 = text.strip_suffix(unit)?.parse().ok().filter(|count| *count >= 0)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    Some(SignedDuration::from_secs(count.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-20T14:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    #[test]
    fn a_time_is_a_date_or_how_long_ago() {
        for (text, time) in [
            ("10m", "2026-11-20T13:50:00Z"),
            ("2h", "2026-11-20T12:00:00Z"),
            ("3d", "2026-11-17T14:00:00Z"),
            ("0s", NOW),
            ("2026-11-20T15:00:00+02:00", "2026-11-20T13:00:00Z"),
        ] {
            assert_eq!(parse(text, now()), Ok(time.parse().unwrap()), "{text}");
        }
        for bad in ["", "m", "-3m", "ten", "10 m", "2026-11-20", "99999999999999999d", "9999999999999d"] {
            assert!(parse(bad, now()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_date_is_shown_where_it_is_not_today() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        for (at, shown) in [
            ("2026-11-20T13:59:59.1234Z", "14:59:59.123"),
            ("2026-07-01T22:30:00Z", "07-02 00:30"),
            ("2025-07-01T22:30:00Z", "2025-07-02"),
        ] {
            assert_eq!(local(at.parse().unwrap(), now(), &berlin), shown);
        }
    }

    #[test]
    fn durations_are_told_in_the_units_people_compare_in() {
        let told = [5, 65, 7_320, 200_000].map(|s| lasted(SignedDuration::from_secs(s)));
        assert_eq!(told, ["5 s", "1 min", "2 h 2 min", "2 d 7 h"]);
        assert_eq!([7, 1_250, 2_500_000].map(micros), ["7 µs", "1.2 ms", "2.5 s"]);
    }

    #[test]
    fn a_zone_is_not_read_from_outside_the_zone_files() {
        assert!(zone_file("../../etc/passwd").is_none());
        assert!(zone_file("/etc/passwd").is_none());
    }
}
