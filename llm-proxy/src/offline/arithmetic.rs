//! Finds an arithmetic expression in a sentence and writes it as the `calc` tool reads it.

/// Longest expression that `calc` takes.
const MAX_EXPRESSION: usize = 1000;

/// What may stand before an expression.
const OPENINGS: [&str; 12] = [
    "what is",
    "what's",
    "whats",
    "calculate",
    "compute",
    "evaluate",
    "how much is",
    "how much are",
    "please",
    "and",
    "hey",
    "is",
];

/// Operators in words.
const OPERATORS: [(&str, &str); 9] = [
    ("plus", "+"),
    ("minus", "-"),
    ("times", "*"),
    ("multiplied by", "*"),
    ("divided by", "/"),
    ("percent", "%"),
    ("to the power of", "^"),
    ("x", "*"),
    ("squared", "^2"),
];

/// Words that `calc` knows.
const FUNCTIONS: [&str; 9] = ["of", "round", "floor", "ceil", "trunc", "sqrt", "abs", "min", "max"];

/// The expression that `text` consists of, once the words around it are off.
pub(super) fn expression(text: &str) -> Option<String> {
    let bare = without_openings(text.trim().trim_end_matches(['=', '.', '!', ' ']));
    let expression = in_signs(bare);
    let fits = (1..=MAX_EXPRESSION).contains(&expression.len());
    (fits && is_arithmetic(&expression)).then_some(expression)
}

fn without_openings(text: &str) -> &str {
    let mut rest = text.trim_matches([' ', ',', ':']);
    while let Some(shorter) = OPENINGS.iter().find_map(|opening| after_opening(rest, opening)) {
        rest = shorter.trim_matches([' ', ',', ':']);
    }
    rest
}

fn after_opening<'a>(text: &'a str, opening: &str) -> Option<&'a str> {
    let start = text.get(..opening.len())?;
    let rest = text.get(opening.len()..)?;
    let whole_word = !rest.starts_with(|c: char| c.is_alphanumeric());
    (start.eq_ignore_ascii_case(opening) && whole_word).then_some(rest)
}

/// Words as signs, and no thousands separators.
fn in_signs(text: &str) -> String {
    let mut words = format!(" {} ", without_separators(text));
    for (word, sign) in OPERATORS {
        let spaced = if sign == "%" || sign == "^2" { format!("{sign} ") } else { format!(" {sign} ") };
        words = words.replace(&format!(" {word} "), &spaced);
    }
    words.trim().to_owned()
}

/// `1,299.90` is one number: a comma between a digit and exactly three digits.
fn without_separators(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let digit = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(char::is_ascii_digit);
    let separates = |at: usize| {
        let three = (1..=3).all(|ahead| digit(at.checked_add(ahead)));
        digit(at.checked_sub(1)) && three && !digit(at.checked_add(4))
    };
    let kept = chars.iter().enumerate().filter(|(at, c)| **c != ',' || !separates(*at));
    kept.map(|(_, c)| *c).collect()
}

/// Digits, something to do with them, and nothing that `calc` does not know.
fn is_arithmetic(text: &str) -> bool {
    let letters = |c: char| c.is_alphabetic();
    let known = |word: &str| word.is_empty() || FUNCTIONS.contains(&word.to_ascii_lowercase().as_str());
    let sign = |c: char| c.is_ascii_digit() || c.is_ascii_whitespace() || ".,+-*/^%()×÷−_".contains(c);
    let does_something = text.contains(['+', '*', '/', '^', '%', '×', '÷', '−', '('])
        || text.trim_start_matches('-').contains('-')
        || text.contains(" of ");
    text.contains(|c: char| c.is_ascii_digit())
        && does_something
        && text.chars().all(|c| letters(c) || sign(c))
        && text.split(|c| !letters(c)).all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_reduced_to_their_arithmetic() {
        for (text, wanted) in [
            ("what is 2+2", Some("2+2")),
            ("and what is 15 percent of 80", Some("15% of 80")),
            ("3 x 4", Some("3 * 4")),
            ("1,000,000 / 8", Some("1000000 / 8")),
            ("max(1,2)", Some("max(1,2)")),
            ("7 squared", Some("7^2")),
            ("what is 42", None),
            ("what is -42", None),
            ("what is love", None),
            ("what is 2 apples + 3", None),
            ("", None),
        ] {
            assert_eq!(expression(text).as_deref(), wanted, "{text}");
        }
    }
}
