//! The `clock` tool: what time it is somewhere, and what time it is there when it is such a time here.

mod places;
mod when;

use jiff::Timestamp;
use jiff::Zoned;
use serde::{Deserialize, Serialize};
use tool::Error;

/// What the model asks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    zone: String,
    at: Option<String>,
    from: Option<String>,
}

/// A moment as people in the zone would say it, and as a program would.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Output {
    /// The sentence a person wants: weekday, date, time, abbreviation, offset.
    text: String,
    zone: String,
    time: String,
    date: String,
    weekday: String,
    clock: String,
    utc_offset: String,
    utc: String,
    unix_seconds: i64,
    /// The moment that was converted, in the zone it was given in.
    #[serde(skip_serializing_if = "Option::is_none")]
    converted_from: Option<String>,
    /// What was assumed, where the question left a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

fn run(arguments: Arguments) -> Result<Output, Error> {
    let millis =
        i64::try_from(tool::now_millis()).map_err(|_| Error::failed("the host's clock is out of range"))?;
    let now =
        Timestamp::from_millisecond(millis).map_err(|_| Error::failed("the host's clock is out of range"))?;
    answer(&arguments, now)
}

/// The answer at a given now; no clock in it.
pub fn answer(arguments: &Arguments, now: Timestamp) -> Result<Output, Error> {
    let place = places::find(&arguments.zone)?;
    let from = arguments.from.as_deref().map(places::find).transpose()?;
    let Some(at) = &arguments.at else {
        return Ok(describe(&now.to_zoned(place.zone), &place.name, None, None));
    };
    let moment = when::read(at, from.as_ref().map(|place| &place.zone), now)?;
    let source = from.map_or_else(String::new, |place| format!(" ({})", place.name));
    let converted_from = format!("{}{source}", sentence(&moment.zoned));
    let there = moment.zoned.with_time_zone(place.zone);
    Ok(describe(&there, &place.name, Some(converted_from), moment.note))
}

fn describe(zoned: &Zoned, zone: &str, converted_from: Option<String>, note: Option<String>) -> Output {
    Output {
        text: sentence(zoned),
        zone: zone.to_owned(),
        time: zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        date: zoned.strftime("%Y-%m-%d").to_string(),
        weekday: zoned.strftime("%A").to_string(),
        clock: zoned.strftime("%H:%M:%S").to_string(),
        utc_offset: zoned.strftime("%:z").to_string(),
        utc: zoned.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        unix_seconds: zoned.timestamp().as_second(),
        converted_from,
        note,
    }
}

fn sentence(zoned: &Zoned) -> String {
    let said = zoned.strftime("%A, %-d %B %Y, %H:%M:%S");
    let offset = zoned.strftime("UTC%:z");
    let abbreviation = zoned.strftime("%Z").to_string();
    // Zones without letters of their own are abbreviated by their offset, which is already said.
    if abbreviation.chars().all(|letter| letter.is_ascii_alphabetic()) {
        format!("{said} {abbreviation} ({offset})")
    } else {
        format!("{said} ({offset})")
    }
}

tool::export!(run);

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(zone: &str, at: Option<&str>, from: Option<&str>) -> Result<Output, Error> {
        let now: Timestamp = "2026-11-20T23:30:00Z".parse().unwrap();
        let arguments = Arguments {
            zone: zone.into(),
            at: at.map(Into::into),
            from: from.map(Into::into),
        };
        answer(&arguments, now)
    }

    #[test]
    fn now_in_a_zone_and_in_a_city_is_the_same_answer() {
        let tokyo = ask("Asia/Tokyo", None, None).unwrap();
        assert_eq!(tokyo.text, "Saturday, 21 November 2026, 08:30:00 JST (UTC+09:00)");
        assert_eq!(tokyo.time, "2026-11-21T08:30:00+09:00");
        for name in ["Tokyo", "tokyo", " TOKYO ", "asia/tokyo", "Tokyo, Japan"] {
            assert_eq!(ask(name, None, None).unwrap(), tokyo, "{name}");
        }
    }

    #[test]
    fn cities_that_name_no_zone_are_known() {
        for (city, zone) in [
            ("San Francisco", "America/Los_Angeles"),
            ("Mumbai", "Asia/Kolkata"),
            ("Beijing", "Asia/Shanghai"),
            ("new york city", "America/New_York"),
            ("São Paulo", "America/Sao_Paulo"),
            ("UTC", "UTC"),
            ("PST", "America/Los_Angeles"),
        ] {
            assert_eq!(ask(city, None, None).unwrap().zone, zone, "{city}");
        }
    }

    #[test]
    fn a_fixed_offset_is_a_zone() {
        assert_eq!(ask("+05:30", None, None).unwrap().clock, "05:00:00");
        assert_eq!(ask("UTC-3", None, None).unwrap().clock, "20:30:00");
    }

    #[test]
    fn an_unknown_zone_is_answered_with_near_ones() {
        let said = ask("Asia/Tokio", None, None).unwrap_err().to_string();
        assert!(said.contains("Asia/Tokyo"), "{said}");
        let said = ask("Berlim", None, None).unwrap_err().to_string();
        assert!(said.contains("Europe/Berlin"), "{said}");
        let said = ask("zzzzzzzzzz", None, None).unwrap_err().to_string();
        assert!(said.contains("IANA"), "{said}");
    }

    #[test]
    fn a_time_is_converted() {
        let output = ask("Tokyo", Some("2026-07-01T15:00"), Some("New York")).unwrap();
        assert_eq!(output.time, "2026-07-02T04:00:00+09:00");
        assert_eq!(
            ask("Berlin", Some("2026-07-01T15:00:00Z"), None).unwrap().clock,
            "17:00:00"
        );
        // It is still the 20th in New York.
        assert_eq!(
            ask("UTC", Some("9:05"), Some("New York")).unwrap().time,
            "2026-11-20T14:05:00+00:00"
        );
        assert_eq!(
            ask("UTC", Some("3:30 pm"), Some("London")).unwrap().clock,
            "15:30:00"
        );
    }

    #[test]
    fn a_time_without_offset_needs_a_zone_to_be_read_in() {
        let said = ask("Tokyo", Some("2026-07-01T15:00"), None)
            .unwrap_err()
            .to_string();
        assert!(said.contains("`from`"), "{said}");
        let said = ask("Tokyo", Some("tomorrow"), Some("UTC"))
            .unwrap_err()
            .to_string();
        assert!(said.contains("2026-11-20T15:00"), "{said}");
    }

    #[test]
    fn a_local_time_that_exists_twice_or_never_is_noted() {
        let never = ask("UTC", Some("2026-03-29T02:30"), Some("Berlin")).unwrap();
        assert_eq!((never.clock.as_str(), never.note.is_some()), ("01:30:00", true));
        let twice = ask("UTC", Some("2026-10-25T02:30"), Some("Berlin")).unwrap();
        assert_eq!((twice.clock.as_str(), twice.note.is_some()), ("00:30:00", true));
    }
}
