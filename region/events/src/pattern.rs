//! Event patterns: which events a rule is about. Pure.
//!
//! A field that a pattern names must be there and match one of the listed values; fields that it does
//! not name do not matter. Of a list in the event one element that matches is enough.
//!
//! Source: EventBridge user guide, "Comparison operators for use in event patterns".

mod parse;

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

/// A checked pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    fields: Vec<(String, Field)>,
    /// Of each group one must match (`$or`).
    groups: Vec<Vec<Pattern>>,
}

/// Why it is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("Filter is not an object")]
    NotAnObject,
    #[error("Empty objects are not allowed")]
    Empty,
    #[error("\"{field}\" must be an object or an array")]
    NotAList { field: String },
    #[error("Empty arrays are not allowed")]
    EmptyList,
    #[error("Unrecognized match type {name}")]
    UnknownMatcher { name: String },
    #[error("Value of {matcher} is not valid")]
    BadValue { matcher: &'static str },
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Nested(Pattern),
    Leaf(Vec<Matcher>),
}

#[derive(Clone, Debug, PartialEq)]
enum Matcher {
    Equals(Value),
    EqualsIgnoreCase(String),
    Prefix {
        text: String,
        ignores_case: bool,
    },
    Suffix {
        text: String,
        ignores_case: bool,
    },
    /// The parts between the asterisks.
    Wildcard(Vec<String>),
    /// None of these.
    AnythingBut(Vec<Matcher>),
    /// All of these.
    Numeric(Vec<(Comparison, f64)>),
    Cidr(IpNet),
    Exists(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        parse::pattern(text)
    }

    pub fn matches(&self, event: &Value) -> bool {
        self.holds(Some(event))
    }

    /// The values that a field of the first level must have exactly, for conditions on them.
    pub fn listed(&self, field: &str) -> Vec<String> {
        let leaf = self.fields.iter().find(|(name, _)| name == field).map(|(_, it)| it);
        let Some(Field::Leaf(matchers)) = leaf else { return Vec::new() };
        let text = |it: &Matcher| match it {
            Matcher::Equals(value) => value.as_str().map(str::to_owned),
            _ => None,
        };
        matchers.iter().filter_map(text).collect()
    }

    fn holds(&self, event: Option<&Value>) -> bool {
        let fields = self.fields.iter().all(|(name, field)| {
            let value = event.and_then(|it| it.get(name));
            match field {
                Field::Leaf(matchers) => matchers.iter().any(|it| it.takes_field(value)),
                Field::Nested(pattern) => match value {
                    Some(Value::Array(items)) => items.iter().any(|it| pattern.holds(Some(it))),
                    value => pattern.holds(value),
                },
            }
        });
        fields && self.groups.iter().all(|of| of.iter().any(|it| it.holds(event)))
    }
}

impl Matcher {
    fn takes_field(&self, value: Option<&Value>) -> bool {
        // What has fields of its own is no leaf.
        let value = value.filter(|it| !it.is_object());
        let is_there = value.is_some_and(|it| it.as_array().is_none_or(|it| !it.is_empty()));
        match (self, value) {
            (Self::Exists(wanted), _) => *wanted == is_there,
            (_, None) => false,
            (_, Some(Value::Array(items))) => items.iter().any(|it| self.takes(it)),
            (_, Some(value)) => self.takes(value),
        }
    }

    fn takes(&self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            Self::Equals(wanted) => value == wanted,
            Self::EqualsIgnoreCase(wanted) => {
                text.is_some_and(|it| it.to_lowercase() == wanted.to_lowercase())
            }
            Self::Prefix { text: wanted, ignores_case } => {
                text.is_some_and(|it| with_case(it, wanted, *ignores_case, |a, b| a.starts_with(b)))
            }
            Self::Suffix { text: wanted, ignores_case } => {
                text.is_some_and(|it| with_case(it, wanted, *ignores_case, |a, b| a.ends_with(b)))
            }
            Self::Wildcard(parts) => text.is_some_and(|it| is_like(it, parts)),
            Self::AnythingBut(excluded) => !excluded.iter().any(|it| it.takes(value)),
            Self::Numeric(comparisons) => value
                .as_f64()
                .is_some_and(|it| comparisons.iter().all(|(by, than)| by.holds(it, *than))),
            Self::Cidr(network) => text
                .and_then(|it| it.parse::<IpAddr>().ok())
                .is_some_and(|it| network.contains(&it)),
            Self::Exists(wanted) => *wanted,
        }
    }
}

fn with_case(
    value: &str,
    wanted: &str,
    ignores_case: bool,
    test: impl Fn(&str, &str) -> bool,
) -> bool {
    match ignores_case {
        true => test(&value.to_lowercase(), &wanted.to_lowercase()),
        false => test(value, wanted),
    }
}

/// The first part begins the text, the last one ends it, and the others are between in their order.
fn is_like(text: &str, parts: &[String]) -> bool {
    let [first, between @ .., last] = parts else {
        return parts.first().is_some_and(|only| text == only);
    };
    let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
    for part in between {
        let Some(at) = rest.find(part.as_str()) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last.as_str())
}

impl Comparison {
    fn holds(self, value: f64, than: f64) -> bool {
        match self {
            Self::Equal => value.total_cmp(&than).is_eq() || value == than,
            Self::Less => value < than,
            Self::LessOrEqual => value <= than,
            Self::Greater => value > than,
            Self::GreaterOrEqual => value >= than,
        }
    }
}

#[cfg(test)]
mod tests;
