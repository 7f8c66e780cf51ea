//! Find and replace with regular expressions that take linear time, whatever the pattern.

use std::collections::BTreeMap;

use regex::{Captures, Regex, RegexBuilder};
use serde::Serialize;
use tool::Error;

/// A compiled pattern beyond this is an attack on memory ("(a{1000}){1000}"), not a question.
const MAX_COMPILED: usize = 1 << 20;

/// Matches beyond this are counted and not listed: nobody reads them, and the result has a bound.
const MAX_LISTED: usize = 100;

/// A match is cut here for the same reason.
const MAX_SHOWN: usize = 200;

/// The answer to find.
#[derive(Debug, Serialize)]
pub struct Found {
    total: usize,
    matches: Vec<Match>,
    /// There are more than are listed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct Match {
    r#match: String,
    /// In characters from the start of the text.
    start: usize,
    line: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    groups: BTreeMap<String, String>,
}

/// The answer to replace.
#[derive(Debug, Serialize)]
pub struct Replaced {
    replaced: usize,
    text: String,
}

/// All matches, the first [`MAX_LISTED`] of them in full.
pub(crate) fn find(text: &str, pattern: &str) -> Result<Found, Error> {
    let regex = compile(pattern)?;
    let total = regex.find_iter(text).count();
    let mut place = Place {
        text,
        byte: 0,
        character: 0,
        line: 1,
    };
    let matches = regex
        .captures_iter(text)
        .take(MAX_LISTED)
        .map(|captures| describe(&regex, &captures, &mut place))
        .collect();
    Ok(Found {
        total,
        matches,
        truncated: total > MAX_LISTED,
    })
}

/// The text with all matches replaced.
pub(crate) fn replace(text: &str, pattern: &str, replacement: &str) -> Result<Replaced, Error> {
    let regex = compile(pattern)?;
    let mut replaced = 0;
    let text = regex.replace_all(text, |captures: &Captures<'_>| {
        replaced += 1;
        let mut put_in = String::new();
        captures.expand(replacement, &mut put_in);
        put_in
    });
    let text = text.into_owned();
    Ok(Replaced { replaced, text })
}

fn compile(pattern: &str) -> Result<Regex, Error> {
    let compiled = RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build();
    compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            Error::invalid("the pattern is too large once its repetitions are written out")
        }
        other => Error::invalid(format!("the pattern is not a regular expression: {other}")),
    })
}

fn describe(regex: &Regex, captures: &Captures<'_>, place: &mut Place<'_>) -> Match {
    let groups = regex
        .capture_names()
        .enumerate()
        .skip(1)
        .filter_map(|(number, name)| {
            let name = name.map_or_else(|| number.to_string(), ToOwned::to_owned);
            Some((name, shown(captures.get(number)?.as_str())))
        });
    let groups = groups.collect();
    let whole = captures.get_match();
    place.advance(whole.start());
    Match {
        r#match: shown(whole.as_str()),
        start: place.character,
        line: place.line,
        groups,
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Where a byte is in characters and lines, counted on from the last match, so that all matches together are linear.
struct Place<'a> {
    text: &'a str,
    byte: usize,
    character: usize,
    line: usize,
}

impl Place<'_> {
    fn advance(&mut self, to: usize) {
        let passed = self.text.get(self.byte..to).unwrap_or_default();
        self.character += passed.chars().count();
        self.line += passed.matches('\n').count();
        self.byte = to;
    }
}
