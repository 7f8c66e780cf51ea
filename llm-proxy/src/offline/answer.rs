//! What the demo model says.

use serde_json::Value;

use super::understand::Wish;

/// Longest part of a result that is quoted, in characters: a diff of a page still shows.
const MAX_QUOTE: usize = 4000;

/// What it says about itself.
const ABOUT: &str = "I am the built-in demo model: a few fixed rules, so that Nachos can show its work before a real model is \
connected. I can tell the time (“what time is it in Tokyo?”), calculate (“what is 12.5% of 840?”), hash (“hash this: hello”), count \
words (“count words in …”) and compare two texts (“compare \"a\" with \"b\"”).";

/// What to do about it.
const CONNECT: &str = "To connect a real model, store a key: `./nachos secret set llm-proxy openai-api-key` or `./nachos secret set \
llm-proxy anthropic-api-key`; docs/models.md tells about local and other models.";

/// What came of a call.
pub(super) struct Outcome<'a> {
    pub(super) tool: &'a str,
    pub(super) arguments: Option<&'a Value>,
    pub(super) text: &'a str,
    pub(super) is_error: bool,
}

/// A sentence for each outcome.
pub(super) fn from_outcomes(outcomes: &[Outcome<'_>]) -> String {
    outcomes.iter().map(sentence).collect::<Vec<_>>().join("\n")
}

/// What is said when there is nothing to call.
pub(super) fn without_tools(question: &str, wishes: &[Wish]) -> String {
    let missing = wishes.iter().find_map(Wish::call).map(|(tool, _)| tool);
    match (missing, wishes.is_empty()) {
        (Some(tool), _) => format!(
            "For that I would use the tool `{tool}`, but it is not offered to me here: it is not installed, or policy does not \
             permit it to you (`nachos tools` and `nachos policy check` tell which)."
        ),
        (None, false) => format!("Hello! {ABOUT}\n\n{CONNECT}"),
        (None, true) if question.trim().is_empty() => format!("{ABOUT}\n\n{CONNECT}"),
        (None, true) => format!("I do not understand that. {ABOUT}\n\n{CONNECT}"),
    }
}

fn sentence(outcome: &Outcome<'_>) -> String {
    if outcome.is_error {
        return format!("I asked the tool `{}`, but it gave no result: {}", outcome.tool, quote(outcome.text));
    }
    let told = json_in(outcome.text).and_then(|result| match outcome.tool {
        "clock" => time(&result, outcome.arguments),
        "calc" => value(&result),
        "text" => about_text(&result),
        _ => None,
    });
    told.unwrap_or_else(|| format!("The tool `{}` answered: {}", outcome.tool, quote(outcome.text)))
}

/// The result may stand in a wrapping that labels it.
fn json_in(text: &str) -> Option<Value> {
    let (from, to) = (text.find('{')?, text.rfind('}')?);
    serde_json::from_str(text.get(from..=to)?).ok()
}

fn word<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

fn number(value: &Value, field: &str) -> Option<u64> {
    value.get(field).and_then(Value::as_u64)
}

fn time(result: &Value, arguments: Option<&Value>) -> Option<String> {
    let asked = arguments.and_then(|arguments| word(arguments, "zone"));
    let place = asked.or_else(|| word(result, "zone"))?;
    let text = word(result, "text").or_else(|| word(result, "time"))?;
    let note = word(result, "note").map(|note| format!(" ({note})")).unwrap_or_default();
    Some(match word(result, "converted_from") {
        Some(from) => format!("{from} is {text} in {place}{note}."),
        None => format!("In {place} it is {text}{note}."),
    })
}

fn value(result: &Value) -> Option<String> {
    let (expression, value) = (word(result, "expression")?, word(result, "result")?);
    if result.get("exact").and_then(Value::as_bool) != Some(false) {
        return Some(format!("{expression} = {value}."));
    }
    let exactly = word(result, "fraction").map(|fraction| format!("; exactly {fraction}")).unwrap_or_default();
    Some(format!("{expression} ≈ {value} (rounded{exactly})."))
}

fn about_text(result: &Value) -> Option<String> {
    digest(result).or_else(|| counts(result)).or_else(|| difference(result))
}

fn digest(result: &Value) -> Option<String> {
    let (algorithm, hex) = (word(result, "algorithm")?, word(result, "hex")?);
    Some(format!("The {algorithm} of these {} is `{hex}`.", many(number(result, "bytes")?, "byte")))
}

fn counts(result: &Value) -> Option<String> {
    let words = many(number(result, "words")?, "word");
    let characters = many(number(result, "characters")?, "character");
    let lines = many(number(result, "lines")?, "line");
    let bare = number(result, "characters_without_spaces")?;
    Some(format!("That is {words}, {characters} ({bare} without spaces) and {lines}."))
}

fn difference(result: &Value) -> Option<String> {
    if result.get("identical").and_then(Value::as_bool)? {
        return Some("The two texts are identical.".to_owned());
    }
    let (added, removed) = (number(result, "added")?, number(result, "removed")?);
    let unified = quote(word(result, "unified")?);
    let (added, removed) = (many(added, "line"), many(removed, "line"));
    Some(format!("{added} added, {removed} removed:\n```\n{}\n```", unified.trim_end()))
}

fn many(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn quote(text: &str) -> String {
    let mut quote: String = text.chars().take(MAX_QUOTE).collect();
    if quote.len() < text.len() {
        quote.push('…');
    }
    quote
}
