//! Text of models, tools and other people, made fit for a terminal: what would steer it is taken out.
//!
//! A model's answer may repeat what a stranger wrote. Escape sequences could move the cursor over what was printed before, set the
//! clipboard or the title; bidirectional controls could make a command read as another.

/// Longest control sequence that is swallowed whole (`ESC [ … letter`). A longer one is no sequence but an attempt to hide text.
const MAX_SEQUENCE: u8 = 32;

/// Cleans a text that comes in pieces: a sequence cut in two is still one.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    Sequence(u8),
}

impl Cleaner {
    /// The next piece without what steers.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        piece.chars().filter(|c| self.keeps(*c)).collect()
    }

    fn keeps(&mut self, c: char) -> bool {
        let (state, keep) = match (self.state, c) {
            (_, '\u{1b}') => (State::Escape, false),
            (State::Escape, '[') | (_, '\u{9b}') => (State::Sequence(0), false),
            (State::Sequence(n), ' '..='?') if n < MAX_SEQUENCE => (State::Sequence(n + 1), false),
            (State::Sequence(n), '@'..='~') if n < MAX_SEQUENCE => (State::Text, false),
            _ => (State::Text, !steers(c)),
        };
        self.state = state;
        keep
    }
}

/// A whole text, lines kept.
pub(crate) fn text(text: &str) -> String {
    Cleaner::default().push(text)
}

/// A whole text on one line.
pub(crate) fn line(one: &str) -> String {
    let words: Vec<String> = one.split_whitespace().map(text).collect();
    words.join(" ")
}

/// JSON that a terminal may show: what steers is written as an escape of JSON's own, so that nothing is lost.
pub(crate) fn json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if steers(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

fn steers(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_taken_out() {
        for (raw, clean) in [
            ("plain äöü 東京 👍🏽\n\ttext", "plain äöü 東京 👍🏽\n\ttext"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{9b}2Jgone", "gone"),
            ("\u{1b}]0;title\u{7}", "]0;title"),
            ("\u{1b}c", "c"),
            ("over\rwritten\r\n", "overwritten\n"),
            ("rm \u{202e}fr-", "rm fr-"),
            ("\u{1b}\u{1b}[1mx", "x"),
        ] {
            assert_eq!(text(raw), clean);
        }
    }

    #[test]
    fn a_sequence_cut_in_two_is_still_one() {
        let mut cleaner = Cleaner::default();
        let pieces = ["a\u{1b}", "[3", "1mb", "\u{1b}[0m"].map(|piece| cleaner.push(piece));
        assert_eq!(pieces.concat(), "ab");
    }

    #[test]
    fn a_sequence_without_an_end_hides_nothing() {
        let digits = "1".repeat(100);
        assert!(text(&format!("\u{1b}[{digits}visible")).ends_with("visible"));
        assert_eq!(text("\u{1b}[東京"), "東京");
    }

    #[test]
    fn json_keeps_everything_and_steers_nothing() {
        let raw = serde_json::to_string("a\u{9b}2J\u{202e}").unwrap();
        let shown = json(&raw);
        assert_eq!(shown, r#""a\u009b2J\u202e""#);
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), "a\u{9b}2J\u{202e}");
    }

    #[test]
    fn a_cell_is_one_line() {
        assert_eq!(line(" a\nb\t\u{1b}[1mc "), "a b c");
    }
}
