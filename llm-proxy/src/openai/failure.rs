//! OpenAI's errors as ours. Servers that speak its wire fill these fields loosely, so the HTTP status decides where the code says nothing.

use serde_json::Value;

use crate::error::{Class, Failure};

/// The failure that an HTTP status other than 2xx and its body tell.
pub fn from_status(status: u16, body: &str) -> Failure {
    let parsed: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    // Some servers put the error into an array, some leave the `error` object out.
    let outer = parsed.get(0).unwrap_or(&parsed);
    let error = outer.get("error").unwrap_or(outer);
    let class = class_of(error).unwrap_or_else(|| Class::of_status(status));
    Failure::new(class, message(error).unwrap_or(body))
}

/// The failure that an `error` object inside a stream tells.
pub fn from_error(error: &Value) -> Failure {
    let status = error.get("code").or_else(|| error.get("status")).and_then(Value::as_u64);
    let by_number =
        status.and_then(|status| u16::try_from(status).ok()).filter(|status| *status >= 400).map(Class::of_status);
    let class = class_of(error).or(by_number).unwrap_or(Class::Server);
    Failure::new(class, message(error).unwrap_or_default())
}

fn message(error: &Value) -> Option<&str> {
    let inner = error.get("message").or_else(|| error.get("detail"));
    inner.and_then(Value::as_str).or_else(|| error.as_str())
}

/// By `code` first, which is the finer one, then by `type`.
fn class_of(error: &Value) -> Option<Class> {
    let word = |field| error.get(field).and_then(Value::as_str);
    word("code").and_then(class).or_else(|| word("type").and_then(class))
}

fn class(word: &str) -> Option<Class> {
    Some(match word {
        "invalid_api_key" | "authentication_error" | "invalid_authentication" => Class::KeyRejected,
        "insufficient_quota" | "billing_hard_limit_reached" | "billing_not_active" => Class::NoCredit,
        "rate_limit_exceeded" | "rate_limit_error" => Class::RateLimited,
        "model_not_found" | "DeploymentNotFound" => Class::UnknownModel,
        "context_length_exceeded" | "string_above_max_length" => Class::TooLong,
        "content_filter" | "content_policy_violation" => Class::Filtered,
        "server_error" | "internal_server_error" => Class::Server,
        "server_overloaded" | "overloaded_error" | "engine_overloaded" => Class::Overloaded,
        "permission_error" | "permission_denied" | "unsupported_country_region_territory" => Class::NoAccess,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_goes_before_the_status() {
        for (status, body, class) in [
            (
                401,
                r#"{"error":{"message":"no","type":"invalid_request_error","code":"invalid_api_key"}}"#,
                Class::KeyRejected,
            ),
            (
                429,
                r#"{"error":{"message":"no","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                Class::NoCredit,
            ),
            (429, r#"{"error":{"message":"no","type":"requests","code":"rate_limit_exceeded"}}"#, Class::RateLimited),
            (429, "slow down", Class::RateLimited),
            (404, r#"{"error":{"message":"no such model","code":"model_not_found"}}"#, Class::UnknownModel),
            (404, "404 page not found", Class::UnknownModel),
            (400, r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#, Class::TooLong),
            (400, r#"{"error":{"message":"filtered","code":"content_filter","type":null}}"#, Class::Filtered),
            (400, r#"{"error":{"message":"bad","type":"invalid_request_error","code":null}}"#, Class::BadRequest),
            (400, r#"[{"error":{"message":"bad","code":400}}]"#, Class::BadRequest),
            (500, "", Class::Server),
            (502, "<html>", Class::Server),
            (503, "", Class::Overloaded),
        ] {
            assert_eq!(from_status(status, body).class, class, "{status} {body}");
        }
    }

    #[test]
    fn the_words_are_the_providers() {
        for (body, words) in [
            (r#"{"error":{"message":"no such model"}}"#, "no such model"),
            (r#"{"error":"model 'x' not found"}"#, "model 'x' not found"),
            (r#"{"object":"error","message":"bad","type":"BadRequestError"}"#, "bad"),
            ("plain", "plain"),
        ] {
            assert_eq!(from_status(400, body).detail, words);
        }
    }
}
