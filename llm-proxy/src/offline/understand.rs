//! What a person wants, as far as a demo can tell: patterns over words, no grammar.

use serde_json::{Value, json};

use super::arithmetic;

/// Something that the demo model can do, or talk about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// The time somewhere.
    Time { place: String },
    /// A time of one place in another.
    Convert { at: String, from: String, to: String },
    /// Arithmetic.
    Calculate { expression: String },
    /// A digest.
    Hash { text: String, algorithm: Option<&'static str> },
    /// Words and characters.
    Count { text: String },
    /// The difference of two texts.
    Compare { old: String, new: String },
    /// What can you do, hello, thanks.
    Help,
}

impl Wish {
    /// The tool for it, and its arguments.
    pub(super) fn call(&self) -> Option<(&'static str, Value)> {
        Some(match self {
            Self::Time { place } => ("clock", json!({"zone": place})),
            Self::Convert { at, from, to } => ("clock", json!({"zone": to, "at": at, "from": from})),
            Self::Calculate { expression } => ("calc", json!({"expression": expression})),
            Self::Hash { text, algorithm: None } => ("text", json!({"operation": "hash", "text": text})),
            Self::Hash { text, algorithm } => {
                ("text", json!({"operation": "hash", "text": text, "algorithm": algorithm}))
            }
            Self::Count { text } => ("text", json!({"operation": "count", "text": text})),
            // The tool compares lines.
            Self::Compare { old, new } => {
                ("text", json!({"operation": "diff", "text": format!("{old}\n"), "other": format!("{new}\n")}))
            }
            Self::Help => return None,
        })
    }
}

/// Everything that `message` asks for. What is asked about a text of the person's own is the only wish: the text may contain anything.
pub(super) fn wishes(message: &str) -> Vec<Wish> {
    let message = message.trim();
    if let Some(wish) = about_text(message) {
        return vec![wish];
    }
    let mut wishes: Vec<Wish> = questions(message).flat_map(question).collect();
    if wishes.is_empty() && is_help(message) {
        wishes.push(Wish::Help);
    }
    wishes
}

/// `needle`, which is lower case, without regard to case and between words, as a byte position. Lowercasing only ASCII keeps positions.
fn find(text: &str, needle: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    let between = |at: usize| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + needle.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    };
    lower.match_indices(needle).map(|(at, _)| at).find(|at| between(*at))
}

/// What stands before and after the first of `needles` that occurs.
fn around<'a>(text: &'a str, needles: &[&str]) -> Option<(&'a str, &'a str)> {
    needles.iter().find_map(|needle| {
        let at = find(text, needle)?;
        Some((text.get(..at)?, text.get(at + needle.len()..)?))
    })
}

fn after<'a>(text: &'a str, needles: &[&str]) -> Option<&'a str> {
    around(text, needles).map(|(_, after)| after)
}

fn questions(message: &str) -> impl Iterator<Item = &str> {
    message.split(['?', '\n', ';']).flat_map(|part| match around(part, &["and what", "and how", "and when"]) {
        Some((first, second)) => vec![first, second],
        None => vec![part],
    })
}

fn question(text: &str) -> Vec<Wish> {
    if let Some(wish) = convert(text) {
        return vec![wish];
    }
    if asks_time(text) {
        return places(text).into_iter().map(|place| Wish::Time { place }).collect();
    }
    arithmetic::expression(text).map(|expression| Wish::Calculate { expression }).into_iter().collect()
}

fn asks_time(text: &str) -> bool {
    let words = [
        "what time",
        "the time",
        "current time",
        "local time",
        "time in",
        "time is it",
        "date in",
        "what day",
        "what date",
        "the date",
        "what's the time",
        "clock in",
    ];
    words.iter().any(|words| find(text, words).is_some())
}

/// "in Tokyo and London" are two places; without any it is UTC.
fn places(text: &str) -> Vec<String> {
    let named = after(text, &["in", "for", "at"]).map(place_names).unwrap_or_default();
    if named.is_empty() { vec!["UTC".to_owned()] } else { named }
}

fn place_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((first, others)) = around(rest, &["and", "or"]) {
        names.push(place(first));
        rest = others;
    }
    names.push(place(rest));
    names.retain(|name| !name.is_empty() && name.len() <= 64);
    names
}

/// A place's name without the small words around it.
fn place(text: &str) -> String {
    let trim: &[char] = &[' ', '.', '!', ',', '"', '\'', ':'];
    let mut name = text.trim_matches(trim);
    for word in ["right now", "now", "please", "today", "at the moment", "currently", "thanks", "in", "the city of"] {
        let lower = name.to_ascii_lowercase();
        if let Some(start) = lower.strip_suffix(word).filter(|start| start.is_empty() || start.ends_with(' ')) {
            name = name.get(..start.len()).unwrap_or_default().trim_matches(trim);
        }
        if lower.starts_with(&format!("{word} ")) {
            name = name.get(word.len()..).unwrap_or_default().trim_matches(trim);
        }
    }
    name.to_owned()
}

/// "… in Tokyo when it is 15:00 in Berlin", "convert 3 pm from London to Tokyo", "when it is 9:00 in Paris what time is it in Rome".
fn convert(text: &str) -> Option<Wish> {
    if let Some((at, rest)) = after(text, &["convert"]).and_then(|rest| around(rest, &["from", "in"])) {
        let (from, to) = around(rest, &["to", "into"])?;
        return conversion(at, from, to);
    }
    let (before, given) = around(text, &["when it is", "when it's", "if it is", "if it's"])?;
    let (at, from) = around(given, &["in"])?;
    match after(before, &["in"]) {
        Some(to) => conversion(at, from, to),
        None => {
            let (from, question) = around(from, &["what time", "what's the time"])?;
            conversion(at, from, after(question, &["in"])?)
        }
    }
}

fn conversion(at: &str, from: &str, to: &str) -> Option<Wish> {
    let at = place(at);
    let is_time = at.starts_with(|c: char| c.is_ascii_digit());
    let (from, to) = (place(from), place(to));
    (is_time && !from.is_empty() && !to.is_empty()).then_some(Wish::Convert { at, from, to })
}

/// Wishes about a text that the message itself holds.
fn about_text(message: &str) -> Option<Wish> {
    hash(message).or_else(|| count(message)).or_else(|| compare(message))
}

const ALGORITHMS: [(&str, &str); 8] = [
    ("sha-256", "sha256"),
    ("sha256", "sha256"),
    ("sha-512", "sha512"),
    ("sha512", "sha512"),
    ("sha-1", "sha1"),
    ("sha1", "sha1"),
    ("md5", "md5"),
    ("checksum", "sha256"),
];

fn hash(message: &str) -> Option<Wish> {
    let named = ALGORITHMS.iter().find(|(word, _)| find(message, word).is_some());
    let subject = match (after(message, &["hash"]), named) {
        (Some(rest), _) => rest,
        (None, Some((word, _))) => after(message, &[word])?,
        (None, None) => return None,
    };
    let mut text = subject_of(subject);
    if let Some((word, _)) = named {
        text = without_algorithm(text, word);
    }
    let algorithm = named.map(|(_, name)| *name).filter(|name| *name != "sha256");
    (!text.is_empty()).then(|| Wish::Hash { text: unquoted(text).to_owned(), algorithm })
}

/// "abc with sha512" is about "abc".
fn without_algorithm<'a>(text: &'a str, algorithm: &str) -> &'a str {
    let phrases = ["with", "using", "as"].map(|word| format!(" {word} {algorithm}"));
    let lower = text.to_ascii_lowercase();
    let phrase = phrases.iter().find(|phrase| lower.ends_with(phrase.as_str()));
    phrase.and_then(|phrase| text.get(..text.len() - phrase.len())).unwrap_or(text)
}

fn count(message: &str) -> Option<Wish> {
    let starts =
        ["count", "how many words", "how many characters", "how many letters", "how many lines", "how long is"];
    let rest = after(message, &starts)?;
    let text = subject_of(after(rest, &["in", "of"]).unwrap_or(rest));
    (!text.is_empty()).then(|| Wish::Count { text: unquoted(text).to_owned() })
}

fn compare(message: &str) -> Option<Wish> {
    let rest = after(message, &["compare", "diff", "difference between"])?;
    let (old, new) = quoted_pair(rest).or_else(|| around(rest, &["with", "and", "to", "vs"]))?;
    let (old, new) = (unquoted(subject_of(old)), unquoted(subject_of(new)));
    (!old.is_empty() && !new.is_empty()).then(|| Wish::Compare { old: old.to_owned(), new: new.to_owned() })
}

/// Two texts in quotes.
fn quoted_pair(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().find(|c| matches!(c, '"' | '\'' | '`'))?;
    let mut parts = text.split(quote);
    let (_, old, _, new) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some((old, new))
}

/// What is meant, without "this text:" and the like before it. After a colon everything counts as it stands.
fn subject_of(text: &str) -> &str {
    let mut rest = text.trim();
    for word in [
        "are in",
        "are there in",
        "this",
        "the text",
        "text",
        "of",
        "for",
        "in",
        "the following",
        "the string",
        "string",
    ] {
        let lower = rest.to_ascii_lowercase();
        let is_word = |after: &str| after.is_empty() || after.starts_with([' ', ':', '\n']);
        if lower.strip_prefix(word).is_some_and(is_word) {
            rest = rest.get(word.len()..).unwrap_or_default().trim_start();
        }
        if let Some(exact) = rest.strip_prefix(':') {
            return exact.trim();
        }
    }
    rest
}

fn unquoted(text: &str) -> &str {
    let quotes = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”')];
    let inner = |(open, close)| text.strip_prefix(open)?.strip_suffix(close);
    quotes.into_iter().find_map(inner).unwrap_or(text)
}

fn is_help(message: &str) -> bool {
    let words = ["what can you", "help", "who are you", "what are you", "hello", "hi", "hey", "thanks", "thank you"];
    words.iter().any(|word| find(message, word).is_some())
}
