//! What the audit record knows of a text: a salted digest always; beside the record, where it can be erased, a redacted preview by
//! default, and everything only when told.
//!
//! The digest is an HMAC under a random salt. Without the salt nobody can find out a short text by trying; erasing salt and text
//! leaves a digest that says nothing any more, while the record that holds it stays as it was sealed.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use uuid::Uuid;

use crate::canonical::canonical;

/// Longest preview in characters: enough to recognise what was said, little enough that a record stays small.
pub const MAX_PREVIEW: usize = 200;

/// Largest content kept in full, in bytes: an audit record must stay well under the stream's message limit of 64 KiB.
pub const MAX_FULL: usize = 32 * 1024;

/// The setting `content` of every component that records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentMode {
    /// Digest and size only.
    Digest,
    /// Digest, size and a short preview with secrets masked.
    #[default]
    Redacted,
    /// Digest, size and the whole text, up to [`MAX_FULL`] bytes.
    Full,
}

/// The random key of a text's digest: 122 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Salt(Uuid);

impl Salt {
    /// A new one.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// `hmac-sha256:<hex>`: HMAC-SHA256 (RFC 2104) with the salt's 16 bytes as key over the text's bytes.
    pub fn digest(self, text: &str) -> String {
        let mut mac =
            <Hmac<Sha256>>::new_from_slice(self.0.as_bytes()).unwrap_or_else(|_| unreachable!("any length is a key"));
        mac.update(text.as_bytes());
        format!("hmac-sha256:{}", hex::encode(mac.finalize().into_bytes()))
    }
}

/// A text as its recorder describes it. On the way into the stream `salt`, `text` and `redacted` are taken out and kept beside the
/// record ([`crate::audit::Kept`]); the answers of the audit service put them back in where they are still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// [`Salt::digest`] over the text (of JSON: over the canonical form).
    pub digest: String,
    /// Size of the text in bytes.
    pub bytes: u64,
    /// The salt of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Salt>,
    /// Preview or the whole text, as the mode says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// True if `text` is not the whole text as it was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

impl Content {
    /// Describes a text.
    pub fn of_text(text: &str, mode: ContentMode) -> Self {
        Self::salted(text, mode, Salt::random())
    }

    /// Describes a JSON value by its canonical form.
    pub fn of_json(value: &Value, mode: ContentMode) -> Self {
        Self::of_json_salted(value, mode, Salt::random())
    }

    /// As [`Content::of_json`], with the salt of somebody who describes the same value, so that the digests are the same.
    pub fn of_json_salted(value: &Value, mode: ContentMode, salt: Salt) -> Self {
        Self::salted(&canonical(value).unwrap_or_else(|_| value.to_string()), mode, salt)
    }

    fn salted(text: &str, mode: ContentMode, salt: Salt) -> Self {
        let shown = match mode {
            ContentMode::Digest => None,
            ContentMode::Redacted => Some(preview(text)),
            ContentMode::Full => Some(head(text, MAX_FULL).to_owned()),
        };
        let redacted = shown.as_deref().is_none_or(|shown| shown != text);
        Self { digest: salt.digest(text), bytes: text.len() as u64, salt: Some(salt), text: shown, redacted }
    }
}

/// The first [`MAX_PREVIEW`] characters with what looks like a secret masked.
fn preview(text: &str) -> String {
    let masked = mask_secrets(head(text, 8 * MAX_PREVIEW));
    let mut short: String = masked.chars().take(MAX_PREVIEW).collect();
    if short.len() < masked.len() || masked.len() < text.len() && !masked.contains(MASK) {
        short.push('…');
    }
    short
}

fn head(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

/// What stands where a secret stood.
const MASK: &str = "[redacted]";

/// Prefixes that the issuers of keys print on them, so that scanners find them.
const SECRET_PREFIXES: [&str; 15] = [
    "sk-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xapp-",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "AKIA",
    "ASIA",
    "AIza",
    "eyJhbGciOi",
    "SUA",
    "npm_",
];

/// Shortest text after such a prefix that is taken for a key.
const MIN_SECRET: usize = 12;

/// Words after which the next word is a secret.
const SECRET_WORDS: [&str; 8] =
    ["bearer", "password", "passwd", "secret", "token", "api_key", "apikey", "authorization"];

/// Masks words that look like credentials. It errs on the side of masking; the digest still proves the original.
pub fn mask_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_word = false;
    for piece in text.split_inclusive(|c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '=' | ':' | '`' | '<' | '>')
    }) {
        let word = piece.trim_end_matches(|c: char| c.is_whitespace() || "\"',;=:`<>".contains(c));
        let rest = piece.get(word.len()..).unwrap_or_default();
        if word.is_empty() {
            out.push_str(piece);
            continue;
        }
        let lower = word.to_ascii_lowercase();
        let issued =
            SECRET_PREFIXES.iter().any(|prefix| word.starts_with(prefix) && word.len() >= prefix.len() + MIN_SECRET);
        if issued || (after_word && word.len() >= 4 && !SECRET_WORDS.contains(&lower.as_str())) {
            out.push_str(MASK);
        } else {
            out.push_str(word);
        }
        out.push_str(rest);
        after_word = SECRET_WORDS.contains(&lower.trim_start_matches(['-', '{', '(', '[']))
            && (rest.contains(['=', ':', '"']) || lower == "bearer");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_words_are_not() {
        for (text, masked) in [
            ("what time is it in Tokyo?", "what time is it in Tokyo?"),
            ("my token is fine", "my token is fine"),
            ("key sk-abcdefghijklmnop1234 end", "key [redacted] end"),
            ("Authorization: Bearer abc.def.ghi", "Authorization: Bearer [redacted]"),
            ("password=hunter2hunter", "password=[redacted]"),
            (r#"{"password":"hunter2"}"#, r#"{"password":"[redacted]"}"#),
            ("xoxb-1234-5678-abcdefghijkl", "[redacted]"),
        ] {
            assert_eq!(mask_secrets(text), masked);
        }
    }

    #[test]
    fn the_mode_says_how_much_is_kept() {
        let long = "word ".repeat(100);
        let digest_only = Content::of_text(&long, ContentMode::Digest);
        assert_eq!((digest_only.text, digest_only.redacted), (None, true));
        let preview = Content::of_text(&long, ContentMode::Redacted);
        assert!(preview.redacted && preview.text.unwrap().chars().count() == MAX_PREVIEW + 1);
        let full = Content::of_text(&long, ContentMode::Full);
        assert_eq!((full.text.as_deref(), full.redacted), (Some(long.as_str()), false));
        assert_eq!(full.salt.map(|salt| salt.digest(&long)), Some(full.digest.clone()));
        assert_ne!(digest_only.digest, full.digest, "each text has a salt of its own");
    }
}
