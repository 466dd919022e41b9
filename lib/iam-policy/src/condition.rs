//! The condition block: operators, quantifiers, `IfExists`.

use std::{cmp::Ordering, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use ipnet::IpNet;
use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::{
    Context, Effect,
    pattern::{self, Wildcards},
};

/// One operator with one key: `"StringLike": {"aws:username": ["a*", "b*"]}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    operator: Operator,
    quantifier: Quantifier,
    if_exists: bool,
    /// In lower case.
    key: String,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    None,
    ForAllValues,
    ForAnyValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Null,
    Is(Test),
    IsNot(Test),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    StringEquals,
    StringEqualsIgnoreCase,
    StringLike,
    Numeric(Comparison),
    Date(Comparison),
    Bool,
    Binary,
    IpAddress,
    Arn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equals,
    LessThan,
    LessThanEquals,
    GreaterThan,
    GreaterThanEquals,
}

impl Condition {
    /// `None`: there is no such operator.
    pub(crate) fn new(operator: &str, key: &str, values: Vec<String>) -> Option<Self> {
        let (quantifier, name) = match operator.split_once(':') {
            None => (Quantifier::None, operator),
            Some((prefix, name)) if prefix.eq_ignore_ascii_case("ForAllValues") => {
                (Quantifier::ForAllValues, name)
            }
            Some((prefix, name)) if prefix.eq_ignore_ascii_case("ForAnyValue") => {
                (Quantifier::ForAnyValue, name)
            }
            Some(_) => return None,
        };
        let lower = name.to_ascii_lowercase();
        let (name, if_exists) = match lower.strip_suffix("ifexists") {
            Some(name) => (name, true),
            None => (lower.as_str(), false),
        };
        let operator = operator_named(name)?;
        if operator == Operator::Null && if_exists {
            return None;
        }
        Some(Self { operator, quantifier, if_exists, key: key.to_ascii_lowercase(), values })
    }

    /// How many values a request's are compared with.
    pub(crate) fn patterns(&self) -> usize {
        self.values.len().max(1)
    }

    /// The keys that the condition reads: its own, and those of variables in its values.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let in_values = self.values.iter().flat_map(|it| pattern::variables(it));
        std::iter::once(self.key.as_str()).chain(in_values)
    }

    /// Whether the condition holds in a statement with this effect. `variables` says whether the
    /// policy's version has them.
    pub(crate) fn holds(&self, context: &Context, variables: bool, effect: Effect) -> bool {
        let variables = variables.then_some(context);
        let found = context.get(&self.key);
        let (test, is_negated) = match self.operator {
            Operator::Null => {
                let is_missing = found.is_none_or(<[_]>::is_empty);
                return self.values.iter().any(|it| it.eq_ignore_ascii_case("true") == is_missing);
            }
            Operator::Is(test) => (test, false),
            Operator::IsNot(test) => (test, true),
        };
        let Some(found) = found.filter(|it| !it.is_empty()) else {
            return match self.quantifier {
                Quantifier::ForAllValues => true,
                Quantifier::ForAnyValue => self.if_exists,
                Quantifier::None => self.if_exists || is_negated,
            };
        };
        let mut is_resolved = true;
        let mut listed = |value: &String| {
            self.values.iter().any(|wanted| {
                test.matches(wanted, value, variables).unwrap_or_else(|| {
                    is_resolved = false;
                    false
                })
            })
        };
        let holds = match (self.quantifier, is_negated) {
            (Quantifier::None, false) => found.iter().any(&mut listed),
            (Quantifier::None, true) => !found.iter().any(&mut listed),
            (Quantifier::ForAllValues, _) => found.iter().all(|it| listed(it) != is_negated),
            (Quantifier::ForAnyValue, _) => found.iter().any(|it| listed(it) != is_negated),
        };
        // An unknown variable must not turn a negated test into a grant, nor lift a denial.
        if is_negated && !is_resolved { effect == Effect::Deny } else { holds }
    }
}

fn operator_named(lower: &str) -> Option<Operator> {
    use Comparison::{Equals, GreaterThan, GreaterThanEquals, LessThan, LessThanEquals};
    let comparison = |name: &str| match name {
        "equals" => Some(Equals),
        "lessthan" => Some(LessThan),
        "lessthanequals" => Some(LessThanEquals),
        "greaterthan" => Some(GreaterThan),
        "greaterthanequals" => Some(GreaterThanEquals),
        _ => None,
    };
    Some(match lower {
        "null" => Operator::Null,
        "stringequals" => Operator::Is(Test::StringEquals),
        "stringnotequals" => Operator::IsNot(Test::StringEquals),
        "stringequalsignorecase" => Operator::Is(Test::StringEqualsIgnoreCase),
        "stringnotequalsignorecase" => Operator::IsNot(Test::StringEqualsIgnoreCase),
        "stringlike" => Operator::Is(Test::StringLike),
        "stringnotlike" => Operator::IsNot(Test::StringLike),
        "numericnotequals" => Operator::IsNot(Test::Numeric(Equals)),
        "datenotequals" => Operator::IsNot(Test::Date(Equals)),
        "bool" => Operator::Is(Test::Bool),
        "binaryequals" => Operator::Is(Test::Binary),
        "ipaddress" => Operator::Is(Test::IpAddress),
        "notipaddress" => Operator::IsNot(Test::IpAddress),
        "arnequals" | "arnlike" => Operator::Is(Test::Arn),
        "arnnotequals" | "arnnotlike" => Operator::IsNot(Test::Arn),
        other => match (other.strip_prefix("numeric"), other.strip_prefix("date")) {
            (Some(name), _) => Operator::Is(Test::Numeric(comparison(name)?)),
            (_, Some(name)) => Operator::Is(Test::Date(comparison(name)?)),
            _ => return None,
        },
    })
}

impl Test {
    /// `None`: a variable in `wanted` has no value.
    fn matches(self, wanted: &str, value: &str, variables: Option<&Context>) -> Option<bool> {
        match self {
            Self::StringEquals => pattern::matches(wanted, value, Wildcards::Literal, variables),
            Self::StringEqualsIgnoreCase => {
                // Values that variables bring in may differ in case as well.
                Some(pattern::text(wanted, variables)?.to_lowercase() == value.to_lowercase())
            }
            Self::StringLike => pattern::matches(wanted, value, Wildcards::Glob, variables),
            Self::Arn => pattern::arn(wanted, value, variables),
            Self::Numeric(comparison) => {
                let ordering = number(value).zip(number(wanted));
                Some(ordering.is_some_and(|(a, b)| comparison.accepts(a.partial_cmp(&b))))
            }
            Self::Date(comparison) => {
                let ordering = date(value).zip(date(wanted));
                Some(ordering.is_some_and(|(a, b)| comparison.accepts(Some(a.cmp(&b)))))
            }
            Self::Bool => Some(wanted.eq_ignore_ascii_case(value)),
            Self::Binary => {
                let (a, b) = (STANDARD.decode(wanted), STANDARD.decode(value));
                Some(a.is_ok() && a == b)
            }
            Self::IpAddress => Some(in_network(wanted, value)),
        }
    }
}

impl Comparison {
    fn accepts(self, ordering: Option<Ordering>) -> bool {
        match self {
            Self::Equals => ordering == Some(Ordering::Equal),
            Self::LessThan => ordering == Some(Ordering::Less),
            Self::LessThanEquals => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Self::GreaterThan => ordering == Some(Ordering::Greater),
            Self::GreaterThanEquals => {
                matches!(ordering, Some(Ordering::Greater | Ordering::Equal))
            }
        }
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|it| it.is_finite())
}

/// ISO 8601 (a date or a time) or seconds since 1970.
fn date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).ok();
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let day = text.parse::<Date>().ok()?;
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn in_network(network: &str, address: &str) -> bool {
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    match (network.parse::<IpNet>(), network.parse::<IpAddr>()) {
        (Ok(network), _) => network.contains(&address),
        (_, Ok(single)) => single == address,
        _ => false,
    }
}
