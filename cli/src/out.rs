//! Where everything is printed: the one place that decides about colours and width.

use std::io::{self, IsTerminal as _, Write};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Not at all.
    Plain,
    /// A name or heading.
    Bold,
    /// Secondary.
    Dim,
    /// Wrong, denied, refused.
    Red,
    /// Well, allowed.
    Green,
    /// Waits for somebody.
    Yellow,
    /// A kind of record.
    Cyan,
}

/// What the place that is printed to can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint {
    /// Whether it shows colours.
    pub(crate) colour: bool,
    /// Its width in columns; `None` for a file or a pipe, where nothing is cut.
    pub(crate) width: Option<usize>,
}

impl Paint {
    /// For tests.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { colour: false, width: None };

    /// `text` in `style`.
    pub(crate) fn with(self, style: Style, text: &str) -> String {
        let code = match style {
            _ if !self.colour || text.is_empty() => return text.to_owned(),
            Style::Plain => return text.to_owned(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "31",
            Style::Green => "32",
            Style::Yellow => "33",
            Style::Cyan => "36",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Something to print to.
pub(crate) struct Out {
    writer: Box<dyn Write + Send>,
    paint: Paint,
    terminal: bool,
}

impl Out {
    /// Standard output.
    pub(crate) fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        Self { writer: Box::new(io::stdout()), paint: paint(terminal), terminal }
    }

    /// Standard error.
    pub(crate) fn stderr() -> Self {
        let terminal = io::stderr().is_terminal();
        Self { writer: Box::new(io::stderr()), paint: paint(terminal), terminal }
    }

    /// What it can show.
    pub(crate) fn paint(&self) -> Paint {
        self.paint
    }

    /// Whether a person looks at it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Prints a line.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        self.text(&format!("{line}\n"))
    }

    /// Prints without a line's end, at once.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())?;
        self.writer.flush()
    }
}

/// Colours only on a terminal that does them and whose owner did not object (no-color.org).
fn paint(terminal: bool) -> Paint {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    Paint { colour: terminal && !set("NO_COLOR") && !dumb, width: width.filter(|width| terminal && *width > 0) }
}

/// `text`, filled up with blanks to `width` columns.
pub(crate) fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// `text`, cut to `width` columns.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.push('…');
    short
}

/// Rows of cells as aligned columns, the last one cut to the width of the terminal. Styles do not count as width.
pub(crate) fn table(paint: Paint, rows: &[Vec<(Style, String)>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > column + 1);
        cells.filter_map(|row| row.get(column)).map(|(_, text)| text.width()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(wide).collect();
    rows.iter().map(|row| row_line(paint, row, &widths)).collect()
}

fn row_line(paint: Paint, row: &[(Style, String)], widths: &[usize]) -> String {
    let mut line = String::new();
    let mut used = 0;
    for (column, ((style, text), width)) in row.iter().zip(widths).enumerate() {
        if column + 1 == row.len() {
            let room = paint.width.map_or(usize::MAX, |all| all.saturating_sub(used).max(1));
            line.push_str(&paint.with(*style, &cut(text, room)));
        } else {
            line.push_str(&paint.with(*style, text));
            line.push_str(&" ".repeat(width.saturating_sub(text.width()) + 2));
            used += width + 2;
        }
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_fits_its_columns() {
        assert_eq!(cut("東京の時間", 5), "東京…");
        assert_eq!(cut("東京の時間", 10), "東京の時間");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(pad("東京", 6), "東京  ");
    }

    #[test]
    fn columns_are_aligned_and_the_last_is_cut() {
        let row = |a: &str, b: &str| vec![(Style::Bold, a.to_owned()), (Style::Plain, b.to_owned())];
        let rows = [row("a", "first"), row("東京", "second and more"), vec![(Style::Red, "alone and long".to_owned())]];
        let narrow = Paint { colour: false, width: Some(12) };
        assert_eq!(table(narrow, &rows), ["a     first", "東京  secon…", "alone and l…"]);
    }

    #[test]
    fn colours_are_only_where_they_are_shown() {
        assert_eq!(Paint::PLAIN.with(Style::Red, "x"), "x");
        let colour = Paint { colour: true, width: None };
        assert_eq!(colour.with(Style::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
