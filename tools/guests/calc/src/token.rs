//! Cuts an expression into numbers, names and signs.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::pow::Pow;
use tool::Error;

/// 1e400 is beyond every quantity there is; without a bound "1e999999999" alone would fill the memory.
const MAX_EXPONENT: u32 = 400;

/// The smallest meaningful piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Number(BigRational),
    Name(String),
    /// One of `+ - * / % ^ ( ) ,`.
    Sign(char),
}

/// All pieces of the expression.
pub(crate) fn tokens(expression: &str) -> Result<Vec<Token>, Error> {
    let mut tokens = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '0'..='9' | '.' => number_length(rest),
            _ if first.is_alphabetic() => rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len()),
            '*' if rest.starts_with("**") => 2,
            _ => first.len_utf8(),
        };
        let (piece, after) = rest.split_at(length);
        rest = after;
        match first {
            _ if first.is_whitespace() => {}
            '0'..='9' | '.' => tokens.push(Token::Number(number(piece)?)),
            _ if first.is_alphabetic() => tokens.push(Token::Name(piece.to_lowercase())),
            _ => tokens.push(Token::Sign(sign(piece)?)),
        }
    }
    Ok(tokens)
}

fn sign(piece: &str) -> Result<char, Error> {
    Ok(match piece {
        "**" => '^',
        "×" | "·" | "∙" => '*',
        "÷" | ":" => '/',
        "−" | "–" => '-',
        "[" => '(',
        "]" => ')',
        "+" | "-" | "*" | "/" | "%" | "^" | "(" | ")" | "," => piece.chars().next().unwrap_or(' '),
        other => return Err(Error::invalid(format!("`{other}` is not part of an expression"))),
    })
}

fn number_length(text: &str) -> usize {
    let mut length = 0;
    let mut before = ' ';
    for letter in text.chars() {
        let exponent = matches!(letter, 'e' | 'E') && before.is_ascii_digit();
        let signed = matches!(letter, '+' | '-') && matches!(before, 'e' | 'E');
        if !(letter.is_ascii_digit() || matches!(letter, '.' | '_') || exponent || signed) {
            break;
        }
        before = letter;
        length += letter.len_utf8();
    }
    length
}

fn number(piece: &str) -> Result<BigRational, Error> {
    let bad = || Error::invalid(format!("`{piece}` is not a number; write it like 1234.5"));
    let plain = piece.replace('_', "").to_ascii_lowercase();
    let (mantissa, exponent) = match plain.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().map_err(|_| bad())?),
        None => (plain.as_str(), 0),
    };
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: BigInt = format!("{whole}{decimals}").parse().map_err(|_| bad())?;
    let exponent = exponent.saturating_sub(i64::try_from(decimals.len()).map_err(|_| bad())?);
    let power = u32::try_from(exponent.unsigned_abs())
        .ok()
        .filter(|power| *power <= MAX_EXPONENT);
    let power = power
        .ok_or_else(|| Error::invalid(format!("the exponent of `{piece}` is beyond ±{MAX_EXPONENT}")))?;
    let scale: BigInt = BigInt::from(10).pow(power);
    Ok(if exponent < 0 {
        BigRational::new(digits, scale)
    } else {
        BigRational::from_integer(digits * scale)
    })
}
