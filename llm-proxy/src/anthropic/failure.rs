//! Anthropic's errors as ours. The error code goes before the type and the type before the status; the message decides only where
//! Anthropic says the same with nothing else.

use serde_json::Value;

use crate::error::{Class, Failure};

/// The failure that an HTTP status other than 2xx and its body tell.
pub fn from_status(status: u16, body: &str) -> Failure {
    let parsed: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    match parsed.get("error") {
        Some(error) => classify(error, Some(status)),
        None => Failure::new(Class::of_status(status), body),
    }
}

/// The failure that an `error` event inside a stream tells.
pub fn from_error(error: &Value) -> Failure {
    classify(error, None)
}

fn classify(error: &Value, status: Option<u16>) -> Failure {
    let word = |value: &Value, field| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let message = word(error, "message").unwrap_or_default();
    let code = error.get("details").and_then(|details| word(details, "error_code"));
    let class = code
        .as_deref()
        .and_then(by_code)
        .or_else(|| by_message(&message))
        .or_else(|| word(error, "type").as_deref().and_then(by_type))
        .unwrap_or_else(|| status.map_or(Class::Server, Class::of_status));
    Failure::new(class, message)
}

fn by_code(code: &str) -> Option<Class> {
    match code {
        // A 429 without `retry-after`: it lasts until somebody raises the limit.
        "enforced_spend_limit_reached" => Some(Class::NoCredit),
        "ramp_limit_exceeded" => Some(Class::RateLimited),
        _ => None,
    }
}

/// Three cases that come as a plain `invalid_request_error` with nothing else to tell them by.
fn by_message(message: &str) -> Option<Class> {
    if message.starts_with("prompt is too long") || message.contains("exceed context limit") {
        Some(Class::TooLong)
    } else if message.contains("credit balance is too low") {
        Some(Class::NoCredit)
    } else if message.contains("blocked by content filtering policy") {
        Some(Class::Filtered)
    } else {
        None
    }
}

fn by_type(kind: &str) -> Option<Class> {
    Some(match kind {
        "authentication_error" => Class::KeyRejected,
        "billing_error" => Class::NoCredit,
        "permission_error" => Class::NoAccess,
        "not_found_error" => Class::UnknownModel,
        "request_too_large" => Class::TooLong,
        "rate_limit_error" => Class::RateLimited,
        "overloaded_error" => Class::Overloaded,
        "invalid_request_error" => Class::BadRequest,
        "api_error" | "timeout_error" | "conflict_error" => Class::Server,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, kind: &str, message: &str) -> Class {
        let error =
            serde_json::json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "r"});
        from_status(status, &error.to_string()).class
    }

    #[test]
    fn types_are_told_apart() {
        assert_eq!(class(401, "authentication_error", "invalid x-api-key"), Class::KeyRejected);
        assert_eq!(class(429, "rate_limit_error", "slow"), Class::RateLimited);
        assert_eq!(class(529, "overloaded_error", "Overloaded"), Class::Overloaded);
        assert_eq!(class(404, "not_found_error", "model: x"), Class::UnknownModel);
        assert_eq!(class(500, "api_error", "oops"), Class::Server);
        assert_eq!(class(418, "new_error", "?"), Class::BadRequest);
        assert_eq!(class(400, "invalid_request_error", "messages: no"), Class::BadRequest);
        let long = "prompt is too long: 210000 tokens > 200000 maximum";
        assert_eq!(class(400, "invalid_request_error", long), Class::TooLong);
        assert_eq!(class(400, "invalid_request_error", "Your credit balance is too low to …"), Class::NoCredit);
        assert_eq!(from_status(502, "<html>").class, Class::Server);
    }

    #[test]
    fn a_spend_limit_is_not_a_rate_limit() {
        let error = serde_json::json!({"error": {
            "type": "rate_limit_error", "message": "no", "details": {"error_code": "enforced_spend_limit_reached"}
        }});
        let failure = from_status(429, &error.to_string());
        assert_eq!((failure.class, failure.may_retry()), (Class::NoCredit, false));
    }

    #[test]
    fn an_error_inside_a_stream_has_no_status() {
        assert_eq!(from_error(&serde_json::json!({"type": "overloaded_error"})).class, Class::Overloaded);
        assert_eq!(from_error(&serde_json::json!({})).class, Class::Server);
    }
}
