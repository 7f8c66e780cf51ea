//! Text of models, tools and strangers, made fit for a page: markup is escaped, and characters that nobody sees but that change what is
//! seen are shown by their numbers.

use maud::{Escaper, Render};

/// A text on one line: line breaks and tabs are shown as signs.
pub(crate) struct Line<'a>(pub(crate) &'a str);

/// A text that keeps its lines, for `pre`.
pub(crate) struct Block<'a>(pub(crate) &'a str);

impl Render for Line<'_> {
    fn render_to(&self, out: &mut String) {
        write(out, self.0, |c| match c {
            '\n' => Some(" ⏎ "),
            '\t' => Some(" ⇥ "),
            _ => None,
        });
    }
}

impl Render for Block<'_> {
    fn render_to(&self, out: &mut String) {
        write(out, self.0, |c| match c {
            '\n' => Some("\n"),
            '\t' => Some("\t"),
            _ => None,
        });
    }
}

/// Each text is isolated (`bdi`): letters written from right to left must not pull their neighbours along.
fn write(out: &mut String, text: &str, known: fn(char) -> Option<&'static str>) {
    use std::fmt::Write as _;
    out.push_str("<bdi>");
    for c in text.chars() {
        if let Some(sign) = known(c) {
            out.push_str(sign);
        } else if unseen(c) {
            out.push_str(&format!("<span class=\"unseen\">U+{:04X}</span>", u32::from(c)));
        } else {
            // Writing to a String does not fail.
            let _ = Escaper::new(out).write_char(c);
        }
    }
    out.push_str("</bdi>");
}

/// Whether a character steers or hides instead of showing itself. The joiners of emoji and of Persian are not among them.
fn unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        Line(text).render().into_string()
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(
            line(r#"<script>alert("x")</script> & 'y'"#),
            r#"<bdi>&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; 'y'</bdi>"#
        );
    }

    #[test]
    fn what_nobody_sees_is_shown() {
        assert_eq!(line("rm \u{202e}fr"), r#"<bdi>rm <span class="unseen">U+202E</span>fr</bdi>"#);
        assert_eq!(line("\u{1b}[2J"), r#"<bdi><span class="unseen">U+001B</span>[2J</bdi>"#);
        assert_eq!(line("a\u{200b}b\u{e0041}").matches("unseen").count(), 2);
        assert_eq!(line("👩‍💻 äöü 東京"), "<bdi>👩‍💻 äöü 東京</bdi>");
    }

    #[test]
    fn a_block_keeps_its_lines_and_a_line_is_one() {
        assert_eq!(Block("a\n\tb\r").render().into_string(), "<bdi>a\n\tb<span class=\"unseen\">U+000D</span></bdi>");
        assert_eq!(line("a\nb"), "<bdi>a ⏎ b</bdi>");
    }
}
