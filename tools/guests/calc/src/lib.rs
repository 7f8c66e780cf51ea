//! The `calc` tool: arithmetic as people mean it. Numbers are fractions of big integers, so 0.1 + 0.2 is 0.3 and
//! 1/3*3 is 1; only roots and endless decimals are rounded, and then the answer says so.

mod evaluate;
mod number;
mod parse;
mod token;

use serde::{Deserialize, Serialize};
use tool::Error;

/// Longer expressions are not what a person or a model asks for, and every stage is linear in this or worse.
const MAX_EXPRESSION: usize = 1000;

/// What the model asks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    expression: String,
}

/// The value, and whether it is the whole value.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Output {
    expression: String,
    /// A plain decimal number.
    result: String,
    /// False when `result` is rounded.
    exact: bool,
    /// The exact value as a fraction, when it is short and has no finite decimal form.
    #[serde(skip_serializing_if = "Option::is_none")]
    fraction: Option<String>,
}

fn run(arguments: Arguments) -> Result<Output, Error> {
    let expression = arguments.expression.trim();
    if expression.is_empty() {
        return Err(Error::invalid("the expression is empty"));
    }
    if expression.chars().count() > MAX_EXPRESSION {
        return Err(Error::invalid(format!(
            "the expression is longer than {MAX_EXPRESSION} characters"
        )));
    }
    let tree = parse::parse(&token::tokens(expression)?)?;
    let value = evaluate::evaluate(&tree)?;
    let (result, complete) = number::decimal(&value);
    Ok(Output {
        expression: expression.to_owned(),
        result,
        exact: value.exact && complete,
        fraction: if complete { None } else { number::fraction(&value) },
    })
}

tool::export!(run);

#[cfg(test)]
mod tests {
    use super::*;

    fn calc(expression: &str) -> Result<Output, Error> {
        run(Arguments {
            expression: expression.into(),
        })
    }

    fn result(expression: &str) -> String {
        calc(expression)
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
            .result
    }

    fn error(expression: &str) -> String {
        calc(expression).expect_err(expression).to_string()
    }

    #[test]
    fn arithmetic_is_exact_and_binds_as_on_paper() {
        for (expression, expected) in [
            ("12.5% of 840", "105"),
            ("0.1 + 0.2", "0.3"),
            ("1/3*3", "1"),
            ("2 + 3 * 4", "14"),
            ("(2 + 3) * 4", "20"),
            ("-2^2", "-4"),
            ("(-2)^2", "4"),
            ("2^3^2", "512"),
            ("2^-2", "0.25"),
            ("2**10", "1024"),
            ("10 - 4 - 3", "3"),
            ("17 % 5", "2"),
            ("-17 % 5", "-2"),
            ("50% - 3", "-2.5"),
            ("200 * 10%", "20"),
            ("(20+5)% of 80", "20"),
            ("--5", "5"),
            ("6 × 7 ÷ 2 − 1", "20"),
            ("1e3 + 2.5E-1", "1000.25"),
            (".5 + 5.", "5.5"),
            ("1_000_000 / 8", "125000"),
            (
                "99999999999999999999 * 99999999999999999999",
                "9999999999999999999800000000000000000001",
            ),
            ("1299.90 - 15% * 1299.90", "1104.915"),
            ("5 * -3", "-15"),
            ("0 * -1", "0"),
        ] {
            let output = calc(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
            assert_eq!(
                (output.result.as_str(), output.exact),
                (expected, true),
                "{expression}"
            );
        }
    }

    #[test]
    fn functions() {
        for (expression, expected) in [
            ("round(2.345, 2)", "2.35"),
            ("round(-2.5)", "-3"),
            ("round(1234, -2)", "1200"),
            ("floor(-1.5)", "-2"),
            ("ceil(1.2)", "2"),
            ("trunc(-1.7)", "-1"),
            ("sqrt(144)", "12"),
            ("sqrt(0.25)", "0.5"),
            ("4^0.5", "2"),
            ("abs(-7.25)", "7.25"),
            ("min(3, 1, 2)", "1"),
            ("MAX(3, 1, 2)", "3"),
        ] {
            assert_eq!(result(expression), expected, "{expression}");
        }
    }

    #[test]
    fn a_rounded_answer_says_so() {
        let third = calc("1/3").unwrap();
        assert_eq!((third.exact, third.fraction.as_deref()), (false, Some("1/3")));
        assert_eq!(third.result, "0.3333333333333333333333333333333333");
        assert_eq!(result("2/3"), "0.6666666666666666666666666666666667");
        assert_eq!(result("200/3"), "66.66666666666666666666666666666667");
        let root = calc("sqrt(2)").unwrap();
        assert_eq!((root.exact, root.fraction), (false, None));
        assert_eq!(root.result, "1.414213562373095048801688724209698");
        assert!(!calc("round(sqrt(2), 3)").unwrap().exact);
        assert_eq!(result("round(sqrt(2), 3)"), "1.414");
    }

    #[test]
    fn what_cannot_be_computed_is_said_in_words() {
        for (expression, part) in [
            ("1/0", "division by zero"),
            ("5 % 0", "division by zero"),
            ("0^-1", "division by zero"),
            ("sqrt(-1)", "negative"),
            ("9^9^9", "too large"),
            ("2^100000", "too large"),
            ("1e999999", "exponent"),
            ("2^0.3", "whole number"),
            ("2 +", "ends"),
            ("(1 + 2", "`)`"),
            ("1 + 2)", "`)`"),
            ("2 3", "operator"),
            ("foo(1)", "foo"),
            ("min()", "min"),
            ("abs(1, 2)", "abs"),
            ("1,000 + 1", "comma"),
            ("2 $ 3", "`$`"),
            ("1.2.3", "1.2.3"),
            ("", "empty"),
        ] {
            let said = error(expression);
            assert!(said.contains(part), "{expression}: {said}");
        }
    }

    #[test]
    fn size_and_depth_are_bounded() {
        assert!(error(&"1+".repeat(600)).contains("1000 characters"));
        assert!(error(&format!("{}1{}", "(".repeat(200), ")".repeat(200))).contains("deep"));
        assert!(error(&"-".repeat(900)).contains("deep"));
        assert!(error(&["2"; 300].join("^")).contains("deep"));
        assert_eq!(result(&["1"; 400].join("+")), "400");
    }
}
