//! How a tool's arguments look to a policy: the type of each argument, taken from the manifests, and the values in Cedar's form.
//!
//! Cedar checks every policy against these types when it is loaded. All tools share one record of arguments, so a name that two tools
//! declare with different types is text for all of them.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::RestrictedExpression;
use proto::Name;
use proto::canonical::canonical;
use proto::tool::Manifest;
use serde_json::Value;

/// The type of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArgumentType {
    /// JSON string.
    Text,
    /// JSON boolean.
    Bool,
    /// Integer of 64 bits.
    Long,
    /// Number with at most four digits after the point; Cedar has no floating point.
    Decimal,
    /// Array of strings; order and repetitions are not seen by policies.
    Texts,
    /// Anything else, as canonical JSON text; a string stands for itself.
    Json,
}

impl ArgumentType {
    /// The type that a JSON Schema of one property declares.
    fn of_schema(schema: &Value) -> Self {
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => Self::Text,
            Some("boolean") => Self::Bool,
            Some("integer") => Self::Long,
            Some("number") => Self::Decimal,
            Some("array") if schema.pointer("/items/type").is_some_and(|t| t == "string") => Self::Texts,
            None if only_words(schema) => Self::Text,
            _ => Self::Json,
        }
    }

    /// The word in a Cedar schema.
    pub(crate) fn cedar(self) -> &'static str {
        match self {
            Self::Text | Self::Json => "String",
            Self::Bool => "Bool",
            Self::Long => "Long",
            Self::Decimal => "decimal",
            Self::Texts => "Set<String>",
        }
    }

    /// What a value must be, for a person.
    fn words(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Bool => "true or false",
            Self::Long => "an integer of at most 64 bits",
            Self::Decimal => "a number with at most four digits after the point",
            Self::Texts => "a list of texts",
            Self::Json => "JSON",
        }
    }

    /// The value in Cedar's form, if it is of this type.
    fn express(self, value: &Value) -> Option<RestrictedExpression> {
        match (self, value) {
            (Self::Text, Value::String(text)) => Some(RestrictedExpression::new_string(text.clone())),
            (Self::Bool, Value::Bool(truth)) => Some(RestrictedExpression::new_bool(*truth)),
            (Self::Long, Value::Number(_)) => plain(value).parse().ok().map(RestrictedExpression::new_long),
            (Self::Decimal, Value::Number(_)) => decimal(&plain(value)).map(RestrictedExpression::new_decimal),
            (Self::Texts, Value::Array(items)) => {
                let texts: Option<Vec<_>> = items.iter().map(|item| Self::Text.express(item)).collect();
                texts.map(RestrictedExpression::new_set)
            }
            (Self::Json, value) => Some(RestrictedExpression::new_string(plain(value))),
            _ => None,
        }
    }
}

/// Whether a schema without a type allows strings only, by listing them.
fn only_words(schema: &Value) -> bool {
    let listed = schema.get("enum").and_then(Value::as_array);
    listed.is_some_and(|words| !words.is_empty() && words.iter().all(Value::is_string))
}

/// A string as it is, everything else as canonical JSON. A string keeps its form so that a policy about an argument that is text in
/// one tool still means the same when another tool declares that name with another type.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => canonical(other).unwrap_or_else(|_| other.to_string()),
    }
}

/// The canonical number as Cedar reads decimals: always with a point, at most four digits after it.
fn decimal(number: &str) -> Option<String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let exact = fraction.len() <= 4 && digits.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    let text = format!("{whole}.{fraction}");
    (exact && fits_decimal(digits, fraction)).then_some(text)
}

/// Cedar keeps a decimal as 64-bit count of ten-thousandths.
fn fits_decimal(digits: &str, fraction: &str) -> bool {
    format!("{digits}{fraction:0<4}").parse::<i64>().is_ok()
}

/// The arguments that a manifest declares.
fn declared(manifest: &Manifest) -> impl Iterator<Item = (&String, ArgumentType)> {
    let properties = manifest.parameters.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, schema)| (name, ArgumentType::of_schema(schema)))
}

/// The arguments of all tools together.
#[derive(Debug, Clone, Default)]
pub(crate) struct ArgumentTypes {
    merged: BTreeMap<String, ArgumentType>,
    by_tool: BTreeMap<Name, BTreeMap<String, ArgumentType>>,
}

impl ArgumentTypes {
    /// Of these tools.
    pub(crate) fn of<'a>(manifests: impl IntoIterator<Item = &'a Manifest>) -> Self {
        let mut all = Self::default();
        for manifest in manifests {
            let own: BTreeMap<_, _> = declared(manifest).map(|(name, kind)| (name.clone(), kind)).collect();
            for (name, kind) in &own {
                let merged = all.merged.entry(name.clone()).or_insert(*kind);
                if merged != kind {
                    *merged = ArgumentType::Json;
                }
            }
            all.by_tool.insert(manifest.name.clone(), own);
        }
        all
    }

    /// Name and type of every argument, for the schema.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, ArgumentType)> {
        self.merged.iter().map(|(name, kind)| (name.as_str(), *kind))
    }

    /// The arguments that tools declare with different types.
    pub(crate) fn conflicts(&self) -> BTreeSet<&str> {
        let all = self.by_tool.values().flatten();
        all.filter(|(name, kind)| self.merged.get(*name) != Some(kind)).map(|(name, _)| name.as_str()).collect()
    }

    /// One call's arguments as a Cedar record, or why they are none, in words for the model.
    pub(crate) fn express(&self, tool: &Name, arguments: &Value) -> Result<RestrictedExpression, String> {
        canonical(arguments).map_err(|error| error.to_string())?;
        let fields = arguments.as_object().ok_or("the arguments of a tool must be a JSON object")?;
        let own = self.by_tool.get(tool).ok_or_else(|| format!("there is no tool `{tool}`"))?;
        let mut record = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let kind = own.get(name).ok_or_else(|| format!("the tool `{tool}` declares no argument `{name}`"))?;
            let exact = kind.express(value);
            let exact = exact.ok_or_else(|| format!("the argument `{name}` of `{tool}` must be {}", kind.words()))?;
            let common = self.merged.get(name) == Some(kind);
            let value = if common { exact } else { RestrictedExpression::new_string(plain(value)) };
            record.push((name.clone(), value));
        }
        RestrictedExpression::new_record(record).map_err(|_| "the arguments name one argument twice".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(name: &str, properties: Value) -> Manifest {
        serde_json::from_value(json!({
            "name": name, "family": "wasm", "description": "d",
            "parameters": {"type": "object", "properties": properties},
        }))
        .unwrap()
    }

    fn seen(types: &ArgumentTypes, tool: &str, arguments: Value) -> String {
        match types.express(&tool.parse().unwrap(), &arguments) {
            Ok(record) => {
                let context = cedar_policy::Context::from_pairs([("a".to_owned(), record)]).unwrap();
                context.get("a").unwrap().to_string()
            }
            Err(reason) => reason,
        }
    }

    #[test]
    fn every_json_type_has_its_cedar_type() {
        let one = manifest(
            "t",
            json!({
                "text": {"type": "string"}, "word": {"enum": ["a", "b"]}, "on": {"type": "boolean"}, "n": {"type": "integer"},
                "price": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}},
                "ids": {"type": "array", "items": {"type": "integer"}}, "maybe": {"type": ["string", "null"]}, "any": {},
            }),
        );
        let types = ArgumentTypes::of([&one]);
        let cedar: Vec<_> = types.iter().map(|(name, kind)| format!("{name}: {}", kind.cedar())).collect();
        let expected = "any: String, ids: String, maybe: String, n: Long, on: Bool, price: decimal, tags: Set<String>, text: String, word: String";
        assert_eq!(cedar.join(", "), expected);
        for (arguments, expected) in [
            (json!({"text": "hi"}), r#"{"text": "hi"}"#),
            (json!({"n": 7}), r#"{"n": 7}"#),
            (json!({"n": 7.0}), r#"{"n": 7}"#),
            (json!({"price": 12.5}), r#"{"price": decimal("12.5")}"#),
            (json!({"price": 3}), r#"{"price": decimal("3.0")}"#),
            (json!({"price": -0.25}), r#"{"price": decimal("-0.25")}"#),
            (json!({"tags": ["a"]}), r#"{"tags": ["a"]}"#),
            (json!({"ids": [2, 1]}), r#"{"ids": "[2,1]"}"#),
            (json!({"maybe": null}), r#"{"maybe": "null"}"#),
            (json!({"any": {"b": 1, "a": 2}}), r#"{"any": "{\"a\":2,\"b\":1}"}"#),
        ] {
            assert_eq!(seen(&types, "t", arguments), expected);
        }
    }

    #[test]
    fn what_does_not_fit_exactly_is_refused_in_words() {
        let one =
            manifest("t", json!({"n": {"type": "integer"}, "price": {"type": "number"}, "text": {"type": "string"}}));
        let types = ArgumentTypes::of([&one]);
        let number = "the argument `price` of `t` must be a number with at most four digits after the point";
        for (arguments, expected) in [
            (json!({"price": 0.00001}), number),
            (json!({"price": 1.23456}), number),
            (json!({"price": 1e300}), number),
            (json!({"price": 9_000_000_000_000_000.0}), number),
            (json!({"price": "12"}), number),
            (json!({"n": 1.5}), "the argument `n` of `t` must be an integer of at most 64 bits"),
            (json!({"text": null}), "the argument `text` of `t` must be text"),
            (json!({"text": 5}), "the argument `text` of `t` must be text"),
            (json!({"txet": "x"}), "the tool `t` declares no argument `txet`"),
            (json!(["text"]), "the arguments of a tool must be a JSON object"),
            (json!({"n": u64::MAX}), "an integer beyond ±9007199254740991 has no exact JSON form: send it as text"),
        ] {
            assert_eq!(seen(&types, "t", arguments), expected);
        }
        assert_eq!(seen(&types, "other", json!({})), "there is no tool `other`");
    }

    #[test]
    fn an_argument_with_two_types_is_text_for_everybody() {
        let one = manifest("one", json!({"to": {"type": "string"}}));
        let two = manifest("two", json!({"to": {"type": "array", "items": {"type": "string"}}}));
        let types = ArgumentTypes::of([&one, &two]);
        assert_eq!(types.conflicts(), BTreeSet::from(["to"]));
        assert_eq!(seen(&types, "one", json!({"to": "a"})), r#"{"to": "a"}"#);
        assert_eq!(seen(&types, "two", json!({"to": ["b", "a"]})), r#"{"to": "[\"b\",\"a\"]"}"#);
        assert_eq!(seen(&types, "two", json!({"to": 1})), "the argument `to` of `two` must be a list of texts");
    }
}
