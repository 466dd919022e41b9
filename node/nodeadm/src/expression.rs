//! `maxPodsExpression`: arithmetic on what an instance type can have.
//!
//! Upstream evaluates CEL; what people write are sums and products of `default_enis`,
//! `ips_per_eni` and `max_pods`, which is all that this understands.
//! Deviation: no functions, comparisons or conditions.

use std::{iter::Peekable, str::Chars};

/// An expression that cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{expression}` cannot be evaluated: {reason}")]
pub struct ExpressionError {
    pub expression: String,
    pub reason: String,
}

/// The variables of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variables {
    pub(crate) default_enis: i64,
    pub(crate) ips_per_eni: i64,
    pub(crate) max_pods: i64,
}

/// How deep parentheses may be.
const DEPTH: u32 = 32;

pub(crate) fn evaluate(expression: &str, variables: Variables) -> Result<i64, ExpressionError> {
    let mut parser = Parser { rest: expression.chars().peekable(), variables, depth: 0 };
    let failed = |reason: String| ExpressionError { expression: expression.to_owned(), reason };
    let value = parser.sum().map_err(&failed)?;
    match parser.next_mark() {
        None => Ok(value),
        Some(mark) => Err(failed(format!("`{mark}` is not expected"))),
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    variables: Variables,
    depth: u32,
}

impl Parser<'_> {
    fn sum(&mut self) -> Result<i64, String> {
        let mut value = self.product()?;
        loop {
            value = match self.next_mark() {
                Some('+') => value.checked_add(self.take().product()?),
                Some('-') => value.checked_sub(self.take().product()?),
                _ => return Ok(value),
            }
            .ok_or("it is too large")?;
        }
    }

    fn product(&mut self) -> Result<i64, String> {
        let mut value = self.atom()?;
        loop {
            value = match self.next_mark() {
                Some('*') => value.checked_mul(self.take().atom()?).ok_or("it is too large")?,
                Some('/') => value.checked_div(self.take().atom()?).ok_or("it divides by zero")?,
                _ => return Ok(value),
            };
        }
    }

    fn atom(&mut self) -> Result<i64, String> {
        match self.next_mark() {
            Some('(') => {
                self.depth += 1;
                if self.depth > DEPTH {
                    return Err("it is nested too deep".to_owned());
                }
                let value = self.take().sum()?;
                match self.next_mark() {
                    Some(')') => {
                        self.take().depth -= 1;
                        Ok(value)
                    }
                    _ => Err("`)` is missing".to_owned()),
                }
            }
            Some(char) if char.is_ascii_alphanumeric() || char == '_' => {
                let word = self.word();
                match word.as_str() {
                    "default_enis" => Ok(self.variables.default_enis),
                    "ips_per_eni" => Ok(self.variables.ips_per_eni),
                    "max_pods" => Ok(self.variables.max_pods),
                    number => number.parse().map_err(|_| format!("`{number}` is not known")),
                }
            }
            Some(mark) => Err(format!("`{mark}` is not expected")),
            None => Err("it ends too early".to_owned()),
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(char) = self.rest.next_if(|it| it.is_ascii_alphanumeric() || *it == '_') {
            word.push(char);
        }
        word
    }

    fn next_mark(&mut self) -> Option<char> {
        while self.rest.next_if(|it| it.is_whitespace()).is_some() {}
        self.rest.peek().copied()
    }

    fn take(&mut self) -> &mut Self {
        self.rest.next();
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const M5_LARGE: Variables = Variables { default_enis: 3, ips_per_eni: 10, max_pods: 29 };

    #[test]
    fn the_formula_of_custom_networking_is_understood() {
        let formula = "(default_enis - 1) * (ips_per_eni - 1) + 2";
        assert_eq!(evaluate(formula, M5_LARGE), Ok(20));
        assert_eq!(evaluate("max_pods/2-1*3", M5_LARGE), Ok(11));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (text, reason) in [
            ("", "ends too early"),
            ("1 +", "ends too early"),
            ("(1", "`)` is missing"),
            ("pods", "`pods` is not known"),
            ("1 / 0", "divides by zero"),
            ("1 2", "`2` is not expected"),
            ("max(1, 2)", "`max` is not known"),
            ("9223372036854775807 + 1", "too large"),
        ] {
            let error = evaluate(text, M5_LARGE).unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
        assert!(evaluate(&"(".repeat(10_000), M5_LARGE).is_err());
    }

    proptest! {
        #[test]
        fn no_expression_panics(text in "[0-9a-z_+*/() -]{0,60}") {
            let _outcome = evaluate(&text, M5_LARGE);
        }
    }
}
