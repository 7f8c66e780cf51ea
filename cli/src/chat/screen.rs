//! How a conversation looks: text as it streams, tools as they run, and in the end the answer, printed once.

use std::io;

use super::event::Event;
use crate::clean::{self, Cleaner};
use crate::failure::{Ending, Failure};
use crate::out::{Out, Paint, Style, cut};

/// Where a conversation is shown.
pub(super) struct Screen {
    out: Out,
    form: Form,
}

enum Form {
    /// One JSON object per event.
    Json,
    /// The final text and nothing else: for a pipe.
    Answers,
    /// Everything, as it happens: for a person.
    Live(Live),
}

impl Screen {
    /// For programs.
    pub(super) fn json(out: Out) -> Self {
        Self { out, form: Form::Json }
    }

    /// For people; where nobody looks, only the answers.
    pub(super) fn human(out: Out, interactive: bool) -> Self {
        let live = interactive || out.is_terminal();
        let form = if live { Form::Live(Live::new(out.paint())) } else { Form::Answers };
        Self { out, form }
    }

    /// Shows what happened.
    pub(super) fn show(&mut self, event: &Event) -> io::Result<()> {
        match &mut self.form {
            Form::Json => self.out.line(&clean::json(&serde_json::to_string(event)?)),
            Form::Live(live) => {
                let text = live.show(event);
                self.out.text(&text)
            }
            Form::Answers => match event {
                Event::Answer { text, .. } | Event::Notice { text, .. } => self.out.line(clean::text(text).trim_end()),
                _ => Ok(()),
            },
        }
    }

    /// Says what went wrong, between two messages.
    pub(super) fn failure(&mut self, failure: &Failure) -> io::Result<()> {
        match &mut self.form {
            Form::Json => self.out.line(&clean::json(&failure.to_json().to_string())),
            Form::Live(live) => {
                let start = live.fresh_line();
                self.out.text(start)?;
                failure.print(&mut self.out)
            }
            Form::Answers => Ok(()),
        }
    }

    /// Tells a person that it is not the screen that hangs.
    pub(super) fn waiting(&mut self) -> io::Result<()> {
        match &mut self.form {
            Form::Live(live) => {
                let text = live.waiting();
                self.out.text(&text)
            }
            Form::Json | Form::Answers => Ok(()),
        }
    }

    /// Before the first line.
    pub(super) fn welcome(&mut self, conversation: &str) -> io::Result<()> {
        let paint = self.out.paint();
        let how = format!("/quit ends, nachos chat --session {} goes on with it", clean::line(conversation));
        self.person(&format!("{}  {}\n", paint.with(Style::Bold, "Nachos"), paint.with(Style::Dim, &how)))
    }

    /// Before each line.
    pub(super) fn prompt(&mut self) -> io::Result<()> {
        let sign = self.out.paint().with(Style::Cyan, "›");
        self.person(&format!("\n{sign} "))
    }

    /// After the end of input, which leaves the cursor behind the prompt.
    pub(super) fn farewell(&mut self) -> io::Result<Ending> {
        self.person("\n").map(|()| Ending::Done)
    }

    /// For a person only; in JSON there is no place for it.
    fn person(&mut self, text: &str) -> io::Result<()> {
        if matches!(self.form, Form::Json) { Ok(()) } else { self.out.text(text) }
    }
}

/// The live view: what is on the current line, and what has streamed so far.
struct Live {
    paint: Paint,
    cleaner: Cleaner,
    /// Text since the last tool; the final text is compared with it.
    streamed: String,
    line: Line,
}

/// Where the cursor is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Start,
    Text,
    Tool(String),
}

impl Live {
    fn new(paint: Paint) -> Self {
        Self { paint, cleaner: Cleaner::default(), streamed: String::new(), line: Line::Start }
    }

    /// What to print for an event.
    fn show(&mut self, event: &Event) -> String {
        match event {
            Event::Sent { .. } => String::new(),
            Event::Text { text } => self.text(text),
            Event::ToolStarted { tool, arguments } => self.tool_started(tool, arguments),
            Event::ToolFinished { tool, ok, summary } => self.tool_finished(tool, *ok, summary),
            Event::Answer { text, .. } => self.whole(text, Style::Plain),
            Event::Notice { text, .. } => self.whole(text, Style::Yellow),
            Event::Late { text, conversation, abandoned } => self.late(text, conversation, *abandoned),
        }
    }

    /// Ends a line that something stands on.
    fn fresh_line(&mut self) -> &'static str {
        let before = std::mem::replace(&mut self.line, Line::Start);
        if before == Line::Start { "" } else { "\n" }
    }

    fn text(&mut self, text: &str) -> String {
        let start = if matches!(self.line, Line::Tool(_)) { self.fresh_line() } else { "" };
        let clean = self.cleaner.push(text);
        self.streamed.push_str(&clean);
        if let Some(last) = clean.chars().next_back() {
            self.line = if last == '\n' { Line::Start } else { Line::Text };
        }
        format!("{start}{clean}")
    }

    fn tool_started(&mut self, tool: &str, arguments: &str) -> String {
        let start = self.fresh_line();
        self.streamed.clear();
        self.line = Line::Tool(tool.to_owned());
        let text = format!("⚙ {} {} …", clean::line(tool), clean::line(arguments));
        // Room for the outcome behind it.
        let room = self.paint.width.map_or(usize::MAX, |width| width.saturating_sub(24).max(20));
        format!("{start}{}", self.paint.with(Style::Dim, &cut(&text, room)))
    }

    fn tool_finished(&mut self, tool: &str, ok: bool, summary: &str) -> String {
        let start = if self.line == Line::Tool(tool.to_owned()) {
            String::new()
        } else {
            let name = self.paint.with(Style::Dim, &format!("⚙ {} …", clean::line(tool)));
            format!("{}{name}", self.fresh_line())
        };
        self.line = Line::Start;
        let outcome = if ok {
            self.paint.with(Style::Green, "ok")
        } else {
            self.paint.with(Style::Red, &format!("failed: {}", clean::line(summary)))
        };
        format!("{start} {outcome}\n")
    }

    /// The final text counts. What of it stands there already is not printed again.
    fn whole(&mut self, text: &str, style: Style) -> String {
        let clean = clean::text(text);
        let (whole, streamed) = (clean.trim(), self.streamed.trim());
        let rest = whole.strip_prefix(streamed).filter(|_| style == Style::Plain);
        let shown = match rest {
            Some("") => self.fresh_line().to_owned(),
            Some(rest) => format!("{rest}\n"),
            None => format!("{}{}\n", self.fresh_line(), self.paint.with(style, whole)),
        };
        *self = Self::new(self.paint);
        shown
    }

    fn late(&mut self, text: &str, conversation: &str, abandoned: bool) -> String {
        let from = if abandoned {
            format!("a late answer in {}, which nobody waited for:", clean::line(conversation))
        } else {
            "the answer to an earlier message:".to_owned()
        };
        let start = self.fresh_line();
        format!("{start}{}\n{}\n\n", self.paint.with(Style::Dim, &from), clean::text(text).trim())
    }

    fn waiting(&mut self) -> String {
        let start = self.fresh_line();
        format!(
            "{start}{}\n",
            self.paint.with(Style::Dim, "still waiting; nachos doctor tells whether something is wrong")
        )
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use uuid::Uuid;

    use super::*;

    fn check(events: &[Event], expected: &Expect) {
        let mut live = Live::new(Paint::PLAIN);
        let shown: String = events.iter().map(|event| live.show(event)).collect();
        expected.assert_eq(&shown);
    }

    fn text(text: &str) -> Event {
        Event::Text { text: text.into() }
    }

    fn started(tool: &str) -> Event {
        Event::ToolStarted { tool: tool.into(), arguments: r#"{"zone":"Asia/Tokyo"}"#.into() }
    }

    fn finished(tool: &str, ok: bool) -> Event {
        Event::ToolFinished { tool: tool.into(), ok, summary: "no such zone".into() }
    }

    fn answer(text: &str) -> Event {
        Event::Answer {
            text: text.into(),
            conversation: "c".into(),
            session: "s".into(),
            turn: Uuid::nil(),
            trace: "t".into(),
        }
    }

    #[test]
    fn a_streamed_answer_is_printed_once() {
        let events = [
            text("Let me look."),
            started("clock"),
            finished("clock", true),
            text("It is "),
            text("14:03."),
            answer("It is 14:03."),
        ];
        check(
            &events,
            &expect![[r#"
                Let me look.
                ⚙ clock {"zone":"Asia/Tokyo"} … ok
                It is 14:03.
            "#]],
        );
    }

    #[test]
    fn what_got_lost_while_streaming_is_made_up_for() {
        check(
            &[text("It is "), answer("It is 14:03.")],
            &expect![[r#"
            It is  14:03.
        "#]],
        );
        check(&[text("It 14"), answer("It is 14:03.")], &expect![["It 14\nIt is 14:03.\n"]]);
        check(&[answer("It is 14:03.")], &expect![["It is 14:03.\n"]]);
        check(
            &[started("clock"), answer("Done.")],
            &expect![[r#"
            ⚙ clock {"zone":"Asia/Tokyo"} …Done.
        "#]],
        );
    }

    #[test]
    fn a_tool_that_failed_says_why() {
        check(
            &[started("clock"), finished("clock", false), finished("calc", true), answer("Sorry.")],
            &expect![[r#"
                ⚙ clock {"zone":"Asia/Tokyo"} … failed: no such zone
                ⚙ calc … ok
                Sorry.
            "#]],
        );
    }

    #[test]
    fn nothing_that_a_model_says_steers_the_terminal() {
        let evil = [text("a\u{1b}"), text("[2Jb"), answer("a\u{1b}[2Jb\u{7}"), answer("\u{1b}]52;c;cm0=\u{7}")];
        check(&evil, &expect![["ab\n]52;c;cm0=\n"]]);
    }

    #[test]
    fn an_answer_that_comes_late_says_so() {
        let late = |abandoned| Event::Late { text: "42".into(), conversation: "c9".into(), abandoned };
        check(
            &[late(false), late(true), text("now"), answer("now")],
            &expect![[r"
                the answer to an earlier message:
                42

                a late answer in c9, which nobody waited for:
                42

                now
            "]],
        );
    }
}
