//! Reads the moment that a conversion starts from.

use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, Zoned};
use tool::Error;

/// A moment, and what was assumed to get it.
pub(crate) struct Moment {
    pub(crate) zoned: Zoned,
    pub(crate) note: Option<String>,
}

/// Reads `at`: a moment with its own offset, or a local time in `from`.
pub(crate) fn read(at: &str, from: Option<&TimeZone>, now: Timestamp) -> Result<Moment, Error> {
    let at = at.trim();
    if let Ok(timestamp) = at.parse::<Timestamp>() {
        let zone = from.cloned().unwrap_or(TimeZone::UTC);
        return Ok(Moment {
            zoned: timestamp.to_zoned(zone),
            note: None,
        });
    }
    let local = local(at, from, now).ok_or_else(|| {
        Error::invalid(format!(
            "`at` is not a time: {at:?}. Write it as 2026-11-20T15:00 or 15:00 together with `from`, or with an offset \
             as 2026-11-20T15:00:00Z"
        ))
    })?;
    let Some(zone) = from else {
        return Err(Error::invalid(
            "`at` has no offset, so `from` must name the zone or city in which it is written",
        ));
    };
    in_zone(local, zone)
}

fn local(at: &str, from: Option<&TimeZone>, now: Timestamp) -> Option<DateTime> {
    if let Ok(local) = at.parse::<DateTime>() {
        return Some(local);
    }
    let zone = from.cloned().unwrap_or(TimeZone::UTC);
    Some(now.to_zoned(zone).date().to_datetime(time_of_day(at)?))
}

/// "15:00", "9:05:30", "3 pm", "3:30pm".
fn time_of_day(text: &str) -> Option<Time> {
    let lower = text.to_ascii_lowercase();
    let (digits, half) = match (lower.strip_suffix("am"), lower.strip_suffix("pm")) {
        (Some(digits), _) => (digits, Some(0)),
        (_, Some(digits)) => (digits, Some(12)),
        _ => (lower.as_str(), None),
    };
    let mut parts = digits.trim().split(':').map(|part| part.parse::<i8>().ok());
    let hour = parts.next()??;
    // "15" alone is more likely a day than an hour, so a bare number counts only with am or pm.
    let minute = match (parts.next(), half) {
        (Some(minute), _) => minute?,
        (None, Some(_)) => 0,
        (None, None) => return None,
    };
    let second = parts.next().unwrap_or(Some(0))?;
    let hour = match half {
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(half) => hour % 12 + half,
        None => hour,
    };
    if parts.next().is_some() {
        return None;
    }
    Time::new(hour, minute, second, 0).ok()
}

/// A local time may exist twice or never where clocks change. The reading is jiff's "compatible" one, as calendars do it.
fn in_zone(local: DateTime, zone: &TimeZone) -> Result<Moment, Error> {
    let ambiguous = zone.to_ambiguous_zoned(local);
    let note = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => None,
        AmbiguousOffset::Gap { .. } => Some(format!(
            "{local} does not exist there: clocks skip it; the time after the gap was taken"
        )),
        AmbiguousOffset::Fold { .. } => Some(format!(
            "{local} happens twice there: clocks go back; the first one was taken"
        )),
    };
    let zoned = ambiguous
        .compatible()
        .map_err(|_| Error::invalid(format!("{local} is out of range")))?;
    Ok(Moment { zoned, note })
}
