//! A model's Markdown to Slack messages: nobody is called who was not asked for, and long texts are cut where it does not hurt.

/// Longest part in characters. Slack takes 12,000 in markdown blocks, but counts the text after expansion (about 13,200, with
/// about 100 for each heading): this leaves room for 50 headings.
pub(crate) const MAX_PART: usize = 8_000;

/// Longest fallback text in characters: what notifications and old clients show.
const MAX_FALLBACK: usize = 3_000;

/// Stands between `<` and what follows: invisible, and Slack no longer sees a mention.
const JOINER: char = '\u{2060}';

/// What a model must not be able to write: `<!channel>` and its like ring at everybody, `<@U…>` at one.
const CALLS: [&str; 7] = ["<!channel", "<!here", "<!everyone", "<!subteam", "<!group", "<@U", "<@W"];

/// Takes the bell out of mentions; the reader still sees what was written.
pub(crate) fn neutralise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        out.push('<');
        if CALLS.iter().any(|call| starts_with_ignoring_case(tail, call)) {
            out.push(JOINER);
        }
        rest = tail.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn starts_with_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// The text for places without Markdown. Its three special characters are escaped, so nothing in it is a mention or a link.
pub(crate) fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The text that notifications show.
pub(crate) fn fallback(text: &str) -> String {
    plain(&text.chars().take(MAX_FALLBACK).collect::<String>())
}

/// Cuts at block boundaries into parts of at most `limit` characters; never inside a code fence that fits. Always gives one part.
pub(crate) fn split(text: &str, limit: usize) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut part = String::new();
    for block in blocks(text).iter().flat_map(|block| cut(block, limit)) {
        if !part.is_empty() && chars(&part) + 2 + chars(&block) > limit {
            parts.push(std::mem::take(&mut part));
        }
        if !part.is_empty() {
            part.push_str("\n\n");
        }
        part.push_str(&block);
    }
    if !part.is_empty() || parts.is_empty() {
        parts.push(part);
    }
    parts
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// Paragraphs, lists, tables, code fences: what blank lines separate outside fences.
fn blocks(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block = String::new();
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        if fence.is_none() && line.trim().is_empty() {
            finish(&mut found, &mut block);
            continue;
        }
        fence = match (fence, fence_mark(line)) {
            (None, mark) => mark,
            (Some(open), Some(mark)) if closes(open, mark, line) => None,
            (open, _) => open,
        };
        if !block.is_empty() {
            block.push('\n');
        }
        block.push_str(line);
    }
    finish(&mut found, &mut block);
    found
}

fn finish(found: &mut Vec<String>, block: &mut String) {
    if !block.is_empty() {
        found.push(std::mem::take(block));
    }
}

/// The run of backticks or tildes with which a line opens or closes a fence.
fn fence_mark(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let run = line.len() - line.trim_start_matches(mark).len();
    (run >= 3).then(|| line.get(..run)).flatten()
}

/// A fence is closed by at least as many of the same marks, alone on the line.
fn closes(open: &str, mark: &str, line: &str) -> bool {
    mark.starts_with(open) && line.trim().len() == mark.len()
}

/// A block that is too long, in pieces; a fence is closed and opened again.
fn cut(block: &str, limit: usize) -> Vec<String> {
    if chars(block) <= limit {
        return vec![block.to_owned()];
    }
    let first = block.lines().next().unwrap_or_default();
    match fence_mark(first) {
        // An opening line that fills a third of a part names no language.
        Some(mark) if chars(first) * 3 <= limit => cut_fence(block, first, mark, limit),
        _ => cut_lines(block, limit),
    }
}

fn cut_fence(block: &str, opening: &str, mark: &str, limit: usize) -> Vec<String> {
    let inside = block.split_once('\n').map_or("", |(_, rest)| rest);
    let inside = match inside.rsplit_once('\n') {
        Some((body, last)) if fence_mark(last).is_some_and(|end| closes(mark, end, last)) => body,
        _ => inside,
    };
    let room = limit.saturating_sub(chars(opening) + chars(mark) + 2).max(1);
    cut_lines(inside, room).into_iter().map(|piece| format!("{opening}\n{piece}\n{mark}")).collect()
}

/// Whole lines as long as they fit, then words, then characters.
fn cut_lines(text: &str, limit: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while chars(rest) > limit {
        let end = rest.char_indices().nth(limit).map_or(rest.len(), |(at, _)| at);
        let head = rest.get(..end).unwrap_or(rest);
        let at = head.rfind('\n').or_else(|| head.rfind(' ')).filter(|at| *at > 0).unwrap_or(end);
        let (piece, tail) = rest.split_at(at);
        pieces.push(piece.to_owned());
        rest = tail.strip_prefix(['\n', ' ']).unwrap_or(tail);
    }
    if !rest.is_empty() {
        pieces.push(rest.to_owned());
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_cannot_ring_at_anybody() {
        for call in ["<!channel>", "<!here|x>", "<!everyone>", "<!subteam^S1>", "<@U123>", "<@W1|a>", "<!CHANNEL>"] {
            let text = neutralise(&format!("hello {call} there"));
            assert!(!text.contains(call), "{text}");
            assert_eq!(text.replace(JOINER, ""), format!("hello {call} there"));
        }
        for harmless in ["a < b", "<!DOCTYPE html>", "<https://a.b>", "<", "ü<é", "<@"] {
            assert_eq!(neutralise(harmless), harmless);
        }
        assert_eq!(plain("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
    }

    #[test]
    fn a_short_text_is_one_part() {
        assert_eq!(split("a\n\nb", 100), ["a\n\nb"]);
        assert_eq!(split("", 100), [""]);
    }

    #[test]
    fn parts_end_at_block_boundaries() {
        assert_eq!(split("aaaa\n\nbbbb\n\ncccc", 10), ["aaaa\n\nbbbb", "cccc"]);
        let fence = "```\nx\n\ny\n```";
        assert_eq!(split(&format!("aaaa\n\n{fence}\n\nb"), 13), ["aaaa", fence, "b"]);
    }

    #[test]
    fn a_fence_that_is_too_long_is_closed_and_opened_again() {
        let text = "```rust\none\ntwo\nthree\n```";
        let parts = split(text, 24);
        assert_eq!(parts, ["```rust\none\ntwo\n```", "```rust\nthree\n```"]);
    }

    #[test]
    fn a_fence_is_closed_by_its_own_kind_only() {
        let text = "````\n```\n\na\n````\n\nb";
        assert_eq!(blocks(text), ["````\n```\n\na\n````", "b"]);
    }

    #[test]
    fn whatever_the_text_every_part_fits_and_nothing_is_lost() {
        let mut seed = 7_u32;
        let alphabet = ["a", "ä", "日", " ", "\n", "\n\n", "```\n", "`", "~~~", "word "];
        for round in 0..500 {
            let text: String = (0..round)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    alphabet[(seed >> 16) as usize % alphabet.len()]
                })
                .collect();
            let parts = split(&text, 40);
            assert!(parts.iter().all(|part| chars(part) <= 40), "{text:?} -> {parts:?}");
            let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
            // More where the opening line of a fence is repeated.
            assert!(parts.iter().map(|part| letters(part)).sum::<usize>() >= letters(&text), "{text:?}");
        }
    }
}
