//! A number, how a root of it is taken, and how it is written.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::pow::Pow;
use num_traits::{One, Signed, Zero};

/// Digits of a rounded result, as many as decimal128 has: more than any measurement, few enough to read.
const SIGNIFICANT: usize = 34;

/// Digits of an irrational root. More than are shown, so that a few operations later the shown ones still hold.
const ROOT_DIGITS: u32 = 60;

/// A fraction longer than this is noise to a reader.
const MAX_FRACTION: usize = 40;

/// A fraction, and whether it is the exact value.
#[derive(Debug, Clone)]
pub(crate) struct Number {
    pub(crate) value: BigRational,
    pub(crate) exact: bool,
}

impl Number {
    pub(crate) fn exact(value: BigRational) -> Self {
        Self { value, exact: true }
    }

    pub(crate) fn map(self, change: impl FnOnce(BigRational) -> BigRational) -> Self {
        Self {
            value: change(self.value),
            exact: self.exact,
        }
    }

    pub(crate) fn map_ref(&self, change: impl FnOnce(&BigRational) -> BigRational) -> Self {
        Self {
            value: change(&self.value),
            exact: self.exact,
        }
    }
}

/// The square root of a number that is not negative: exact for squares, else cut after [`ROOT_DIGITS`] decimals.
pub(crate) fn square_root(number: &Number) -> Number {
    let (numerator, denominator) = (number.value.numer(), number.value.denom());
    let (top, bottom) = (numerator.sqrt(), denominator.sqrt());
    if &(&top * &top) == numerator && &(&bottom * &bottom) == denominator {
        return Number {
            value: BigRational::new(top, bottom),
            exact: number.exact,
        };
    }
    // sqrt(n/d) = sqrt(n*d)/d, with digits taken in before the integer root. Small values need more of them.
    let small = u32::try_from(denominator.bits().saturating_sub(numerator.bits()) / 6).unwrap_or(u32::MAX);
    let scale: BigInt = BigInt::from(10).pow(ROOT_DIGITS.saturating_add(small));
    let root = (numerator * denominator * &scale * &scale).sqrt();
    Number {
        value: BigRational::new(root, denominator * scale),
        exact: false,
    }
}

/// Writes a number as a decimal, and says whether that is all of it.
pub(crate) fn decimal(number: &Number) -> (String, bool) {
    let finite = finite_decimals(number.value.denom());
    // A root has more digits than are true.
    if let (Some(decimals), true) = (finite, number.exact) {
        return (write(&number.value, decimals), true);
    }
    let decimals = decimals_for(&number.value, SIGNIFICANT);
    let rounded = write(&number.value, decimals);
    let zeroes = if decimals > 0 {
        rounded.trim_end_matches('0').trim_end_matches('.')
    } else {
        &rounded
    };
    (zeroes.to_owned(), false)
}

/// The exact fraction, when it is short enough to be of use.
pub(crate) fn fraction(number: &Number) -> Option<String> {
    let text = number.value.to_string();
    (number.exact && text.len() <= MAX_FRACTION).then_some(text)
}

/// How many decimals the value needs when they end: only 2 and 5 may divide the denominator.
fn finite_decimals(denominator: &BigInt) -> Option<usize> {
    let (rest, twos) = divided_out(denominator.clone(), 2);
    let (rest, fives) = divided_out(rest, 5);
    rest.is_one().then_some(twos.max(fives))
}

fn divided_out(mut value: BigInt, divisor: u32) -> (BigInt, usize) {
    let divisor = BigInt::from(divisor);
    let mut times = 0;
    loop {
        let (quotient, remainder) = value.div_rem(&divisor);
        if !remainder.is_zero() {
            return (value, times);
        }
        value = quotient;
        times += 1;
    }
}

/// The number of decimals that shows `significant` digits.
fn decimals_for(value: &BigRational, significant: usize) -> usize {
    let whole = value.trunc().to_integer().abs();
    if !whole.is_zero() {
        return significant.saturating_sub(whole.to_string().len());
    }
    let mut zeroes = 0;
    let mut scaled = value.abs();
    let ten = BigInt::from(10);
    while !scaled.is_zero() && scaled < BigRational::one() {
        scaled *= &ten;
        zeroes += 1;
    }
    significant + zeroes - usize::from(zeroes > 0)
}

/// Writes the value rounded to `decimals`.
fn write(value: &BigRational, decimals: usize) -> String {
    let scale: BigInt = BigInt::from(10).pow(decimals);
    let digits = (value * &scale).round().to_integer();
    let sign = if digits.is_negative() { "-" } else { "" };
    let digits = digits.abs().to_string();
    if decimals == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = decimals + 1);
    let (whole, after) = padded.split_at(padded.len() - decimals);
    format!("{sign}{whole}.{after}")
}
