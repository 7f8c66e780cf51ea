//! Computes a tree.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};
use tool::Error;

use crate::number::{self, Number};
use crate::parse::{Operator, Tree};

/// Size of a numerator or denominator: over a thousand digits. Without it "9^9^9" would run until the host ends it.
const MAX_BITS: u64 = 4096;

/// More digits than a result ever has.
const MAX_ROUND_DIGITS: i32 = 400;

/// Computes the tree, refusing what grows beyond bounds.
pub(crate) fn evaluate(tree: &Tree) -> Result<Number, Error> {
    let value = match tree {
        Tree::Number(value) => Number::exact(value.clone()),
        Tree::Negate(inner) => evaluate(inner)?.map(|value| -value),
        Tree::Percent(inner) => evaluate(inner)?.map(|value| value / BigInt::from(100)),
        Tree::Chain(first, more) => chain(evaluate(first)?, more)?,
        Tree::Power(base, exponent) => power(&evaluate(base)?, &evaluate(exponent)?)?,
        Tree::Call(name, arguments) => {
            let arguments = arguments.iter().map(evaluate).collect::<Result<Vec<_>, _>>()?;
            call(name, &arguments)?
        }
    };
    bounded(value)
}

fn bounded(number: Number) -> Result<Number, Error> {
    if number.value.numer().bits() > MAX_BITS || number.value.denom().bits() > MAX_BITS {
        return Err(too_large());
    }
    Ok(number)
}

fn too_large() -> Error {
    Error::invalid("a number in this calculation gets too large (more than about 1200 digits)")
}

fn chain(first: Number, more: &[(Operator, Tree)]) -> Result<Number, Error> {
    let mut total = first;
    for (operator, tree) in more {
        total = bounded(join(total, *operator, evaluate(tree)?)?)?;
    }
    Ok(total)
}

fn join(left: Number, operator: Operator, right: Number) -> Result<Number, Error> {
    if matches!(operator, Operator::Divide | Operator::Remainder) && right.value.is_zero() {
        return Err(Error::invalid("division by zero"));
    }
    let exact = left.exact && right.exact;
    let (left, right) = (left.value, right.value);
    let value = match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        // The sign follows the dividend, as in most programming languages.
        Operator::Remainder => left % right,
    };
    Ok(Number { value, exact })
}

fn power(base: &Number, exponent: &Number) -> Result<Number, Error> {
    if exponent.value == BigRational::new(BigInt::one(), BigInt::from(2)) {
        return root(base);
    }
    if !exponent.value.is_integer() {
        return Err(Error::invalid(
            "an exponent must be a whole number (or 0.5 for a square root)",
        ));
    }
    if exponent.value.is_negative() && base.value.is_zero() {
        return Err(Error::invalid("division by zero (zero to a negative power)"));
    }
    let size = base.value.numer().bits().max(base.value.denom().bits());
    let trivial = base.value.abs().is_one() || base.value.is_zero();
    let times = if trivial {
        parity(&exponent.value)
    } else {
        exponent.value.to_integer().to_i32().ok_or_else(too_large)?
    };
    // Judged before it is computed: afterwards the time and the memory are already spent.
    if size
        .saturating_sub(1)
        .saturating_mul(u64::from(times.unsigned_abs()))
        > MAX_BITS
    {
        return Err(too_large());
    }
    Ok(Number {
        value: base.value.pow(times),
        exact: base.exact && exponent.exact,
    })
}

/// For a base of 1, -1 or 0 only this much of the exponent matters.
fn parity(exponent: &BigRational) -> i32 {
    match (exponent.is_zero(), exponent.to_integer().bit(0)) {
        (true, _) => 0,
        (_, true) => 1,
        (_, false) => 2,
    }
}

fn root(number: &Number) -> Result<Number, Error> {
    if number.value.is_negative() {
        return Err(Error::invalid(
            "the square root of a negative number is not a real number",
        ));
    }
    Ok(number::square_root(number))
}

fn call(name: &str, arguments: &[Number]) -> Result<Number, Error> {
    match (name, arguments) {
        ("round", [number]) => Ok(number.map_ref(BigRational::round)),
        ("round", [number, digits]) => round(number, digits),
        ("floor", [number]) => Ok(number.map_ref(BigRational::floor)),
        ("ceil", [number]) => Ok(number.map_ref(BigRational::ceil)),
        ("trunc", [number]) => Ok(number.map_ref(BigRational::trunc)),
        ("abs", [number]) => Ok(number.map_ref(BigRational::abs)),
        ("sqrt", [number]) => root(number),
        ("min", [first, more @ ..]) => Ok(extreme(first, more, |new, old| new < old)),
        ("max", [first, more @ ..]) => Ok(extreme(first, more, |new, old| new > old)),
        ("round" | "floor" | "ceil" | "trunc" | "abs" | "sqrt" | "min" | "max", _) => Err(Error::invalid(
            format!("{name} does not take {} arguments", arguments.len()),
        )),
        _ => Err(Error::invalid(format!(
            "there is no function {name}; there are round, floor, ceil, trunc, sqrt, abs, min and max"
        ))),
    }
}

fn round(number: &Number, digits: &Number) -> Result<Number, Error> {
    let digits = Some(&digits.value)
        .filter(|digits| digits.is_integer())
        .and_then(|digits| digits.to_integer().to_i32());
    let digits = digits
        .filter(|digits| digits.abs() <= MAX_ROUND_DIGITS)
        .ok_or_else(|| {
            Error::invalid(format!(
                "round takes a whole number of digits between -{MAX_ROUND_DIGITS} and {MAX_ROUND_DIGITS}"
            ))
        })?;
    let scale = BigRational::from_integer(BigInt::from(10)).pow(digits);
    Ok(number.map_ref(|value| (value * &scale).round() / &scale))
}

fn extreme(first: &Number, more: &[Number], better: fn(&BigRational, &BigRational) -> bool) -> Number {
    let best = more.iter().fold(first, |best, next| {
        if better(&next.value, &best.value) {
            next
        } else {
            best
        }
    });
    // An inexact loser may have lost only by its rounding.
    let exact = first.exact && more.iter().all(|number| number.exact);
    Number {
        value: best.value.clone(),
        exact,
    }
}
