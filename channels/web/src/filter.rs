//! The filters of the timeline: a form whose fields are the address, so that what somebody looks at can be sent to somebody else.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proto::audit::{FACTS, Filter};
use url::form_urlencoded;
use uuid::Uuid;

/// Longest value of a field in characters; everything that can be looked for is shorter.
const MAX_VALUE: usize = 200;

/// Most types in one filter.
const MAX_TYPES: usize = 20;

/// The type under which audit files what is no record.
pub(crate) const UNREADABLE: &str = "unreadable";

/// A field of the form: its name in the address, its label, and an example.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) example: &'static str,
}

const fn field(name: &'static str, label: &'static str, example: &'static str) -> Field {
    Field { name, label, example }
}

/// All of them, in the order of the form.
pub(crate) const FIELDS: [Field; 13] = [
    field("type", "Type", "tool.* policy.decided"),
    field("outcome", "Outcome", "deny"),
    field("component", "Component", "gateway"),
    field("principal", "Principal", "slack/T1/*"),
    field("session", "Session", "id"),
    field("channel", "Channel", "slack"),
    field("tool", "Tool", "clock"),
    field("policy", "Policy", "owners-use-tools"),
    field("turn", "Turn", "id"),
    field("trace", "Trace", "first hex digits"),
    field("since", "Since", "2h, 3d or 2026-11-20T14:00Z"),
    field("until", "Until", "10m or 2026-11-20T15:00Z"),
    // Not in the form, but part of the address: the page before this number.
    field("before", "Before number", "120"),
];

/// What was asked for, as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Form(BTreeMap<&'static str, String>);

impl Form {
    /// Reads the query of an address; what it does not know is ignored. A repeated field adds up.
    pub(crate) fn parse(query: &str) -> Self {
        let mut values: BTreeMap<&'static str, String> = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value: String = value.trim().chars().take(MAX_VALUE).collect();
            let Some(field) = FIELDS.iter().find(|field| field.name == name).filter(|_| !value.is_empty()) else {
                continue;
            };
            let all = values.entry(field.name).or_default();
            if !all.is_empty() {
                all.push(' ');
            }
            all.push_str(&value);
        }
        Self(values)
    }

    /// A form with one field set.
    pub(crate) fn of(name: &'static str, value: &str) -> Self {
        Self(BTreeMap::from([(name, value.to_owned())]))
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The same with another value of a field; without it if the value is empty.
    pub(crate) fn with(&self, name: &'static str, value: &str) -> Self {
        let mut values = self.0.clone();
        values.remove(name);
        if !value.is_empty() {
            values.insert(name, value.to_owned());
        }
        Self(values)
    }

    /// How many filters are set.
    pub(crate) fn active(&self) -> usize {
        self.0.keys().filter(|name| **name != "before").count()
    }

    /// The address of a page with these fields.
    pub(crate) fn address(&self, path: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.0);
        let query = query.finish();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }

    /// What it means; or everything that makes no sense, because a filter that finds nothing by mistake would look like peace.
    pub(crate) fn filter(&self, now: Timestamp) -> Result<Filter, Vec<String>> {
        let mut wrong = Vec::new();
        let text = |name: &str| self.0.get(name).cloned();
        let mut checked = |name: &str, check: &dyn Fn(&str) -> Result<(), String>| {
            let value = text(name)?;
            check(&value).map_err(|why| wrong.push(why)).ok().map(|()| value)
        };
        let trace = checked("trace", &is_hex);
        let turn = checked("turn", &|turn| turn.parse::<Uuid>().map(drop).map_err(|_| format!("`{turn}` is no turn")));
        let before = checked("before", &|n| n.parse::<u64>().map(drop).map_err(|_| format!("`{n}` is no number")));
        let since = checked("since", &|time| parse_time(time, now).map(drop));
        let until = checked("until", &|time| parse_time(time, now).map(drop));
        let types = checked("type", &are_types);
        let filter = Filter {
            types: types.as_deref().map(split).into_iter().flatten().map(str::to_owned).collect(),
            session: text("session"),
            turn: turn.and_then(|turn| turn.parse().ok()),
            trace,
            principal: text("principal"),
            channel: text("channel"),
            tool: text("tool"),
            outcome: text("outcome"),
            component: text("component"),
            policy: text("policy"),
            since: since.and_then(|time| parse_time(&time, now).ok()),
            until: until.and_then(|time| parse_time(&time, now).ok()),
            before: before.and_then(|number| number.parse().ok()),
        };
        if wrong.is_empty() { Ok(filter) } else { Err(wrong) }
    }
}

fn split(types: &str) -> impl Iterator<Item = &str> {
    types.split([' ', ',']).filter(|wanted| !wanted.is_empty()).take(MAX_TYPES)
}

fn are_types(types: &str) -> Result<(), String> {
    let known = |wanted: &str| match wanted.strip_suffix('*') {
        Some(prefix) => FACTS.iter().chain(&[UNREADABLE]).any(|fact| fact.starts_with(prefix)),
        None => FACTS.contains(&wanted) || wanted == UNREADABLE,
    };
    match split(types).find(|wanted| !known(wanted)) {
        Some(unknown) => Err(format!("there are no records of type `{unknown}`")),
        None => Ok(()),
    }
}

fn is_hex(trace: &str) -> Result<(), String> {
    let fits = (1..=32).contains(&trace.len()) && trace.bytes().all(|b| b.is_ascii_hexdigit());
    if fits { Ok(()) } else { Err(format!("`{trace}` is no trace: give its hex digits, all 32 or the first few")) }
}

/// RFC 3339, seconds may be missing, or how long ago.
fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let no_time = || format!("`{text}` is no time: give 2026-11-20T14:00Z or how long ago (90s, 10m, 2h, 3d)");
    match parse_ago(text) {
        Some(ago) => now.checked_sub(ago).map_err(|_| no_time()),
        None => text.parse().map_err(|_| no_time()),
    }
}

fn parse_ago(text: &str) -> Option<SignedDuration> {
    let unit = text.chars().next_back()?;
    let count: i64 = text.strip_suffix(unit)?.trim_end().parse().ok().filter(|count| *count >= 0)?;
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

    fn now() -> Timestamp {
        "2026-11-20T14:00:00Z".parse().unwrap()
    }

    #[test]
    fn an_address_says_what_is_looked_for_and_comes_back_as_it_was() {
        let query = "type=tool.*&type=policy.decided&outcome=deny&principal=cli%2Fann+b&since=2h&nonsense=1&tool=";
        let form = Form::parse(query);
        let filter = form.filter(now()).unwrap();
        assert_eq!(filter.types, ["tool.*", "policy.decided"]);
        assert_eq!(filter.principal.as_deref(), Some("cli/ann b"));
        assert_eq!(filter.since, Some("2026-11-20T12:00:00Z".parse().unwrap()));
        assert_eq!((filter.tool, form.active()), (None, 4));
        let address = form.address("/");
        assert_eq!(Form::parse(address.split_once('?').unwrap().1), form, "{address}");
        assert_eq!(form.with("before", "12").filter(now()).unwrap().before, Some(12));
        assert_eq!(Form::default().address("/"), "/");
    }

    #[test]
    fn what_could_find_nothing_is_said() {
        for bad in ["type=tol.*", "trace=xyz", "since=yesterday", "turn=7", "before=x", "until=-3m"] {
            assert_eq!(Form::parse(bad).filter(now()).map_err(|wrong| wrong.len()), Err(1), "{bad}");
        }
        let both = Form::parse("trace=%22&since=never").filter(now()).unwrap_err();
        assert_eq!(both.len(), 2, "{both:?}");
    }
}
