//! Canonical JSON and the digests taken over it.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The canonical form of `value` after RFC 8785 (JCS): what two components hash to learn whether they mean the same arguments.
///
/// # Errors
/// [`NotCanonical`] when the value has no exact canonical form.
pub fn canonical(value: &Value) -> Result<String, NotCanonical> {
    exact(value)?;
    serde_json_canonicalizer::to_string(value).map_err(|_| NotCanonical)
}

/// Largest integer that RFC 8785 keeps exact: 2^53 - 1 (I-JSON, RFC 7493 section 2.2).
const MAX_EXACT: u64 = (1 << 53) - 1;

/// The value holds a number that the canonical form would round: two different values would get one digest, and a permit for one
/// would open the other.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an integer beyond ±9007199254740991 has no exact JSON form: send it as text")]
pub struct NotCanonical;

fn exact(value: &Value) -> Result<(), NotCanonical> {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(n), _) if n.unsigned_abs() > MAX_EXACT => Err(NotCanonical),
            (None, Some(_)) => Err(NotCanonical),
            _ => Ok(()),
        },
        Value::Array(items) => items.iter().try_for_each(exact),
        Value::Object(fields) => fields.values().try_for_each(exact),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

/// `sha256:<hex>` over the canonical form of `value`.
///
/// # Errors
/// As [`canonical`].
pub fn digest_of_json(value: &Value) -> Result<String, NotCanonical> {
    Ok(digest(canonical(value)?.as_bytes()))
}

/// `sha256:<hex>` over raw bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The first 32 hex digits of SHA-256 over the parts, each framed by its length, so that (`a`,`bc`) and (`ab`,`c`) differ: a token
/// for a subject made from text of any shape.
pub fn token(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut text = hex::encode(hash.finalize());
    text.truncate(32);
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn order_and_spacing_do_not_change_a_digest() {
        let one: Value = serde_json::from_str(r#"{"b": 1.0, "a": [true, "ä"]}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"a":[true,"\u00e4"],"b":1}"#).unwrap();
        assert_eq!(digest_of_json(&one).unwrap(), digest_of_json(&two).unwrap());
        assert_ne!(digest_of_json(&one).unwrap(), digest_of_json(&json!({"b": 2})).unwrap());
        assert_eq!(canonical(&one).unwrap(), r#"{"a":[true,"ä"],"b":1}"#);
    }

    #[test]
    fn numbers_that_would_be_rounded_are_refused() {
        assert_eq!(canonical(&json!({"n": [9_007_199_254_740_993_u64]})), Err(NotCanonical));
        assert_eq!(canonical(&json!(u64::MAX)), Err(NotCanonical));
        assert_eq!(canonical(&json!(-9_007_199_254_740_993_i64)), Err(NotCanonical));
        assert!(canonical(&json!([9_007_199_254_740_991_u64, 0.1, -5])).is_ok());
    }

    #[test]
    fn a_token_frames_its_parts() {
        assert_ne!(token(&["a", "bc"]), token(&["ab", "c"]));
        assert!(token(&["*", ">"]).parse::<crate::Name>().is_ok());
    }
}
