//! What can go wrong between us and a provider: one class to branch on, the provider's words for the log, and the words for a person.

use std::time::Duration;

use proto::content::mask_secrets;
use proto::{Refusal, RefusalCode};

/// Longest part of a provider's own words that is passed on, in characters: a sentence or two; some servers answer with a web page.
const MAX_WORDS: usize = 240;

/// Why a provider gave no whole answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {detail}")]
pub struct Failure {
    /// What kind.
    pub class: Class,
    /// The provider's own words, bounded and with credentials masked.
    pub detail: String,
    /// The provider's own verdict on asking again (`x-should-retry`), which goes before ours.
    pub retry: Option<bool>,
    /// How long the provider wants to be left alone.
    pub retry_after: Option<Duration>,
}

/// The kinds of failure. What is said to a person and whether asking again can help follows from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The key is wrong, revoked or expired.
    KeyRejected,
    /// The account has no credit left or hit a spend limit: waiting does not help.
    NoCredit,
    /// The key may not use this model or feature.
    NoAccess,
    /// Too many requests or tokens per minute.
    RateLimited,
    /// The provider has more to do than it can.
    Overloaded,
    /// The provider does not know the model's id, or the base URL is wrong.
    UnknownModel,
    /// The conversation does not fit the model or the provider's size limit.
    TooLong,
    /// The provider refused the request itself.
    BadRequest,
    /// The provider's content filter refused.
    Filtered,
    /// The provider failed.
    Server,
    /// No connection.
    Unreachable,
    /// Connected, then silence.
    Silent,
    /// The stream ended before the answer did.
    Truncated,
    /// The stream made no sense.
    Malformed,
    /// The answer was larger than any answer should be.
    TooLarge,
    /// The time for the whole request is over.
    Deadline,
    /// The answer could not be passed on to whoever asked.
    Undeliverable,
}

impl Class {
    /// What an HTTP status means where the body says nothing better; all providers use the same numbers.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Self::KeyRejected,
            402 => Self::NoCredit,
            403 => Self::NoAccess,
            404 => Self::UnknownModel,
            413 => Self::TooLong,
            429 => Self::RateLimited,
            503 | 529 => Self::Overloaded,
            // 408 and 409 are the provider's own haste; its own client libraries ask again.
            408 | 409 | 500.. => Self::Server,
            _ => Self::BadRequest,
        }
    }

    /// The word in records and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeyRejected => "key rejected",
            Self::NoCredit => "no credit",
            Self::NoAccess => "no access",
            Self::RateLimited => "rate limited",
            Self::Overloaded => "overloaded",
            Self::UnknownModel => "unknown model",
            Self::TooLong => "too long",
            Self::BadRequest => "bad request",
            Self::Filtered => "filtered",
            Self::Server => "provider failed",
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed answer",
            Self::TooLarge => "answer too large",
            Self::Deadline => "deadline passed",
            Self::Undeliverable => "undeliverable",
        }
    }

    /// Whether the same request may well succeed a moment later. Silence is not among them: the person has waited long already.
    fn transient(self) -> bool {
        matches!(self, Self::RateLimited | Self::Overloaded | Self::Server | Self::Unreachable | Self::Truncated)
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Failure {
    /// A failure with the words that came with it.
    pub fn new(class: Class, detail: impl std::fmt::Display) -> Self {
        Self { class, detail: words(&detail.to_string()), retry: None, retry_after: None }
    }

    /// Whether one more try before any output is worth it.
    pub fn may_retry(&self) -> bool {
        self.retry.unwrap_or_else(|| self.class.transient())
    }

    /// What a person is told. `model` and `provider` are configured names.
    pub fn refusal(&self, model: &str, provider: &str) -> Refusal {
        let said = if self.detail.is_empty() { "no reason given" } else { &self.detail };
        let (code, reason) = match self.class {
            Class::KeyRejected => (
                RefusalCode::Upstream,
                format!(
                    "{provider} rejected its API key: an administrator has to store a valid one{}",
                    place(provider)
                ),
            ),
            Class::NoCredit => (
                RefusalCode::Upstream,
                format!(
                    "the {provider} account is out of credit or at its spend limit: an administrator has to raise it"
                ),
            ),
            Class::NoAccess => {
                (RefusalCode::Upstream, format!("{provider} does not let this account use the model `{model}`: {said}"))
            }
            Class::RateLimited => {
                (RefusalCode::Busy, format!("{provider} limits how much this account may ask{}", self.when()))
            }
            Class::Overloaded => (RefusalCode::Busy, format!("{provider} is overloaded right now{}", self.when())),
            Class::UnknownModel => (
                RefusalCode::NotFound,
                format!(
                    "{provider} does not know the model configured as `{model}`: an administrator has to \
                     correct its id or base_url in llm-proxy.toml ({said})"
                ),
            ),
            Class::TooLong => (
                RefusalCode::TooLarge,
                format!("the conversation is too long for the model `{model}`: start a new one"),
            ),
            Class::BadRequest => (RefusalCode::Invalid, format!("{provider} refused the request: {said}")),
            Class::Filtered => (RefusalCode::Invalid, format!("the content filter of {provider} refused this")),
            Class::Server => (RefusalCode::Upstream, format!("{provider} failed{}", self.when())),
            Class::Unreachable => (
                RefusalCode::Upstream,
                format!("{provider} cannot be reached: check the network and base_url ({said})"),
            ),
            Class::Silent => (RefusalCode::Upstream, format!("{provider} stopped answering: ask again ({said})")),
            Class::Truncated => {
                (RefusalCode::Upstream, format!("the answer of {provider} broke off before its end: ask again"))
            }
            Class::Malformed => (
                RefusalCode::Upstream,
                format!("{provider} answered in a form that is not its documented one ({said})"),
            ),
            Class::TooLarge => (RefusalCode::TooLarge, format!("the answer of {provider} is too large ({said})")),
            Class::Deadline => (
                RefusalCode::Deadline,
                format!("the model `{model}` was not done in the time that one request may take"),
            ),
            Class::Undeliverable => {
                (RefusalCode::Unavailable, format!("the answer of {provider} could not be passed on ({said})"))
            }
        };
        Refusal::new(code, reason)
    }

    fn when(&self) -> String {
        match self.retry_after {
            Some(wait) => format!(": try again in {} s", wait.as_secs().max(1)),
            None => ": try again in a minute".to_owned(),
        }
    }
}

/// Where the key of a provider is stored: by a command for the built-in ones.
fn place(provider: &str) -> String {
    match provider {
        "openai" | "anthropic" => format!(" (`./nachos secret set llm-proxy {provider}-api-key`)"),
        _ => " in the key_file that llm-proxy.toml names for it".to_owned(),
    }
}

/// One bounded line without what looks like a credential: OpenAI quotes the key that it rejects.
fn words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = mask_secrets(&line).chars().take(MAX_WORDS).collect();
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_key_says_what_to_do_and_never_the_key() {
        let said = "Incorrect API key provided: sk-proj-abcdefghijklmnop. You can find your API key at …";
        let failure = Failure::new(Class::KeyRejected, said);
        assert!(!failure.to_string().contains("abcdef"), "{failure}");
        let refusal = failure.refusal("gpt", "openai");
        assert_eq!(refusal.code, RefusalCode::Upstream, "asking again does not help");
        assert!(refusal.reason.contains("./nachos secret set llm-proxy openai-api-key"));
        assert!(!refusal.reason.contains("abcdef"));
    }

    #[test]
    fn a_web_page_as_error_stays_short() {
        let failure = Failure::new(Class::Server, "<html>\n".repeat(1000));
        assert!(failure.detail.chars().count() <= MAX_WORDS);
    }

    #[test]
    fn what_may_be_asked_again_is_a_table() {
        for (class, again) in [
            (Class::RateLimited, true),
            (Class::Overloaded, true),
            (Class::Server, true),
            (Class::Unreachable, true),
            (Class::Truncated, true),
            (Class::Silent, false),
            (Class::KeyRejected, false),
            (Class::NoCredit, false),
            (Class::BadRequest, false),
            (Class::TooLong, false),
            (Class::Deadline, false),
        ] {
            assert_eq!(Failure::new(class, "").may_retry(), again, "{class}");
        }
        let told = Failure { retry: Some(false), ..Failure::new(Class::Server, "") };
        assert!(!told.may_retry(), "x-should-retry goes first");
    }

    #[test]
    fn a_wait_is_told_in_seconds() {
        let failure = Failure { retry_after: Some(Duration::from_secs(42)), ..Failure::new(Class::RateLimited, "") };
        assert!(failure.refusal("m", "openai").reason.ends_with("try again in 42 s"));
    }
}
