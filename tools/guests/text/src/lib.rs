//! The `text` tool: exact work on text that a model does badly in its head.

mod pattern;

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use similar::TextDiff;
use tool::Error;

/// Text beyond this does not come from a person or a model, and diff is worse than linear in it.
const MAX_TEXT: usize = 1 << 20;

/// The diff is cut here: the result has a bound of its own, and the reader has one too.
const MAX_DIFF: usize = 32 * 1024;

/// What the model asks.
#[derive(Debug, Deserialize)]
#[serde(tag = "operation", rename_all = "lowercase", deny_unknown_fields)]
pub enum Arguments {
    /// Characters, words, lines, bytes.
    Count {
        /// What to count.
        text: String,
    },
    /// A digest of the UTF-8 bytes.
    Hash {
        /// What to digest.
        text: String,
        /// With which function.
        #[serde(default)]
        algorithm: Algorithm,
    },
    /// A unified diff.
    Diff {
        /// The old text.
        text: String,
        /// The new text.
        other: String,
    },
    /// All matches of a regular expression.
    Find {
        /// Where to look.
        text: String,
        /// The regular expression.
        pattern: String,
    },
    /// The text with all matches replaced.
    Replace {
        /// Where to look.
        text: String,
        /// The regular expression.
        pattern: String,
        /// What to put in; `$1` is the first group.
        replacement: String,
    },
}

/// A digest function.
#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// The one to use.
    #[default]
    Sha256,
    /// The longer one.
    Sha512,
    /// Broken; for old checksums.
    Sha1,
    /// Broken; for old checksums.
    Md5,
}

/// The answer to the operation that was asked.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Output {
    /// See [`Arguments::Count`].
    Count {
        /// Unicode scalar values.
        characters: usize,
        /// The same without white space.
        characters_without_spaces: usize,
        /// Runs of anything but white space.
        words: usize,
        /// A last line without an end counts.
        lines: usize,
        /// In UTF-8.
        bytes: usize,
    },
    /// See [`Arguments::Hash`].
    Hash {
        /// The function used.
        algorithm: Algorithm,
        /// The digest in hexadecimal.
        hex: String,
        /// Of how many bytes.
        bytes: usize,
    },
    /// See [`Arguments::Diff`].
    Diff {
        /// No difference at all.
        identical: bool,
        /// Lines only in the new text.
        added: usize,
        /// Lines only in the old text.
        removed: usize,
        /// The unified diff.
        unified: String,
        /// It was longer than is shown.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        truncated: bool,
    },
    /// See [`Arguments::Find`].
    Find(pattern::Found),
    /// See [`Arguments::Replace`].
    Replace(pattern::Replaced),
}

fn run(arguments: Arguments) -> Result<Output, Error> {
    match arguments {
        Arguments::Count { text } => bounded(&text).map(|()| count(&text)),
        Arguments::Hash { text, algorithm } => bounded(&text).map(|()| hash(&text, algorithm)),
        Arguments::Diff { text, other } => {
            bounded(&text)?;
            bounded(&other)?;
            Ok(diff(&text, &other))
        }
        Arguments::Find { text, pattern } => {
            bounded(&text)?;
            pattern::find(&text, &pattern).map(Output::Find)
        }
        Arguments::Replace {
            text,
            pattern,
            replacement,
        } => {
            bounded(&text)?;
            pattern::replace(&text, &pattern, &replacement).map(Output::Replace)
        }
    }
}

fn bounded(text: &str) -> Result<(), Error> {
    if text.len() <= MAX_TEXT {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the text is longer than {MAX_TEXT} bytes"
    )))
}

fn count(text: &str) -> Output {
    Output::Count {
        characters: text.chars().count(),
        characters_without_spaces: text.chars().filter(|letter| !letter.is_whitespace()).count(),
        words: text.split_whitespace().count(),
        lines: text.lines().count(),
        bytes: text.len(),
    }
}

fn hash(text: &str, algorithm: Algorithm) -> Output {
    let hex = match algorithm {
        Algorithm::Sha256 => hex::encode(Sha256::digest(text)),
        Algorithm::Sha512 => hex::encode(Sha512::digest(text)),
        Algorithm::Sha1 => hex::encode(Sha1::digest(text)),
        Algorithm::Md5 => hex::encode(Md5::digest(text)),
    };
    Output::Hash {
        algorithm,
        hex,
        bytes: text.len(),
    }
}

fn diff(old: &str, new: &str) -> Output {
    let diff = TextDiff::from_lines(old, new);
    let changes = |tag| {
        diff.iter_all_changes()
            .filter(|change| change.tag() == tag)
            .count()
    };
    let mut unified = diff
        .unified_diff()
        .context_radius(3)
        .header("old", "new")
        .to_string();
    let truncated = unified.len() > MAX_DIFF;
    unified.truncate(unified.floor_char_boundary(MAX_DIFF));
    Output::Diff {
        identical: old == new,
        added: changes(similar::ChangeTag::Insert),
        removed: changes(similar::ChangeTag::Delete),
        unified,
        truncated,
    }
}

tool::export!(run);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn text(arguments: Value) -> Result<Value, Error> {
        let arguments =
            serde_json::from_value(arguments).map_err(|error| Error::invalid(error.to_string()))?;
        run(arguments).map(|output| serde_json::to_value(output).unwrap())
    }

    #[test]
    fn counts_what_people_count() {
        assert_eq!(
            text(json!({"operation": "count", "text": "Grüße aus Köln\nzweite Zeile"})).unwrap(),
            json!({"characters": 27, "characters_without_spaces": 23, "words": 5, "lines": 2, "bytes": 30})
        );
        assert_eq!(
            text(json!({"operation": "count", "text": ""})).unwrap()["lines"],
            0
        );
    }

    #[test]
    fn hashes_known_vectors() {
        for (algorithm, hex) in [
            (
                "sha256",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            ("md5", "900150983cd24fb0d6963f7d28e17f72"),
        ] {
            assert_eq!(
                text(json!({"operation": "hash", "text": "abc", "algorithm": algorithm})).unwrap(),
                json!({"algorithm": algorithm, "hex": hex, "bytes": 3})
            );
        }
        assert_eq!(
            text(json!({"operation": "hash", "text": "abc"})).unwrap()["algorithm"],
            "sha256"
        );
        let long = text(json!({"operation": "hash", "text": "abc", "algorithm": "sha512"})).unwrap();
        assert!(long["hex"].as_str().unwrap().starts_with("ddaf35a193617aba"));
    }

    #[test]
    fn a_diff_is_unified() {
        let output =
            text(json!({"operation": "diff", "text": "a\nb\nc\n", "other": "a\nB\nc\nd\n"})).unwrap();
        assert_eq!(
            output,
            json!({"identical": false, "added": 2, "removed": 1,
                   "unified": "--- old\n+++ new\n@@ -1,3 +1,4 @@\n a\n-b\n+B\n c\n+d\n"})
        );
        let same = text(json!({"operation": "diff", "text": "a\n", "other": "a\n"})).unwrap();
        assert_eq!(
            same,
            json!({"identical": true, "added": 0, "removed": 0, "unified": ""})
        );
    }

    #[test]
    fn a_long_diff_is_cut_and_says_so() {
        let old: String = (0..10_000).map(|line| format!("old {line}\n")).collect();
        let output = text(json!({"operation": "diff", "text": old, "other": "new\n"})).unwrap();
        assert_eq!(output["truncated"], true);
        assert!(output["unified"].as_str().unwrap().len() <= MAX_DIFF);
    }

    #[test]
    fn finds_and_replaces() {
        assert_eq!(
            text(json!({"operation": "find", "text": "ä tel: 030-12, fax: 040-34", "pattern": r"(?P<area>\d+)-(\d+)"})).unwrap(),
            json!({"total": 2, "matches": [
                {"match": "030-12", "start": 7, "line": 1, "groups": {"area": "030", "2": "12"}},
                {"match": "040-34", "start": 20, "line": 1, "groups": {"area": "040", "2": "34"}},
            ]})
        );
        assert_eq!(
            text(json!({"operation": "replace", "text": "a1 b2", "pattern": r"(\w)(\d)", "replacement": "$2$1"})).unwrap(),
            json!({"replaced": 2, "text": "1a 2b"})
        );
    }

    #[test]
    fn a_bad_question_is_answered_with_what_to_change() {
        for (arguments, part) in [
            (
                json!({"operation": "find", "text": "x", "pattern": "("}),
                "unclosed group",
            ),
            (
                json!({"operation": "find", "text": "x", "pattern": "(a{1000}){1000}"}),
                "too large",
            ),
            (json!({"operation": "diff", "text": "x"}), "other"),
            (
                json!({"operation": "count", "text": "x", "colour": "red"}),
                "colour",
            ),
            (json!({"operation": "translate", "text": "x"}), "translate"),
            (
                json!({"operation": "count", "text": "x".repeat(MAX_TEXT + 1)}),
                "longer",
            ),
        ] {
            let said = text(arguments.clone()).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }
}
