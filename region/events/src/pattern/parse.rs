//! Reads patterns, and says what is wrong with them.

use serde_json::{Map, Value};

use super::{Comparison, Field, Matcher, Pattern, PatternError};

pub(super) fn pattern(text: &str) -> Result<Pattern, PatternError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => object(&fields),
        _ => Err(PatternError::NotAnObject),
    }
}

fn object(given: &Map<String, Value>) -> Result<Pattern, PatternError> {
    if given.is_empty() {
        return Err(PatternError::Empty);
    }
    let (mut fields, mut groups) = (Vec::new(), Vec::new());
    for (name, value) in given {
        match value {
            Value::Array(items) if name == "$or" => {
                let of = items.iter().map(|it| match it {
                    Value::Object(fields) => object(fields),
                    _ => Err(PatternError::NotAnObject),
                });
                let of = of.collect::<Result<Vec<_>, _>>()?;
                if of.len() < 2 {
                    return Err(PatternError::BadValue { matcher: "$or" });
                }
                groups.push(of);
            }
            Value::Array(items) => fields.push((name.clone(), Field::Leaf(leaf(items)?))),
            Value::Object(inner) => fields.push((name.clone(), Field::Nested(object(inner)?))),
            _ => return Err(PatternError::NotAList { field: name.clone() }),
        }
    }
    Ok(Pattern { fields, groups })
}

fn leaf(items: &[Value]) -> Result<Vec<Matcher>, PatternError> {
    if items.is_empty() {
        return Err(PatternError::EmptyList);
    }
    items.iter().map(matcher).collect()
}

fn matcher(item: &Value) -> Result<Matcher, PatternError> {
    match item {
        Value::Object(one) => {
            let mut entries = one.iter();
            let (Some((name, value)), None) = (entries.next(), entries.next()) else {
                return Err(PatternError::BadValue { matcher: "a match expression" });
            };
            named(name, value)
        }
        Value::Array(_) => Err(PatternError::BadValue { matcher: "a list" }),
        scalar => Ok(Matcher::Equals(scalar.clone())),
    }
}

fn named(name: &str, value: &Value) -> Result<Matcher, PatternError> {
    let bad = |matcher| PatternError::BadValue { matcher };
    let text = |matcher| value.as_str().map(str::to_owned).ok_or(bad(matcher));
    match name {
        "exists" => value.as_bool().map(Matcher::Exists).ok_or(bad("exists")),
        "equals-ignore-case" => text("equals-ignore-case").map(Matcher::EqualsIgnoreCase),
        "prefix" => {
            let (text, ignores_case) = cased(value).ok_or(bad("prefix"))?;
            Ok(Matcher::Prefix { text, ignores_case })
        }
        "suffix" => {
            let (text, ignores_case) = cased(value).ok_or(bad("suffix"))?;
            Ok(Matcher::Suffix { text, ignores_case })
        }
        "wildcard" => wildcard(value),
        "cidr" => {
            let network = text("cidr")?.parse().map_err(|_| bad("cidr"))?;
            Ok(Matcher::Cidr(network))
        }
        "numeric" => numeric(value),
        "anything-but" => anything_but(value),
        _ => Err(PatternError::UnknownMatcher { name: name.to_owned() }),
    }
}

/// `"text"` or `{"equals-ignore-case": "text"}`.
fn cased(value: &Value) -> Option<(String, bool)> {
    if let Some(text) = value.as_str() {
        return Some((text.to_owned(), false));
    }
    let one = value.as_object().filter(|it| it.len() == 1)?;
    Some((one.get("equals-ignore-case")?.as_str()?.to_owned(), true))
}

fn wildcard(value: &Value) -> Result<Matcher, PatternError> {
    let bad = || PatternError::BadValue { matcher: "wildcard" };
    let text = value.as_str().ok_or_else(bad)?;
    let (mut parts, mut part) = (Vec::new(), String::new());
    let mut characters = text.chars().peekable();
    while let Some(it) = characters.next() {
        match it {
            '*' if characters.peek() == Some(&'*') => return Err(bad()),
            '*' => parts.push(std::mem::take(&mut part)),
            '\\' => part.push(characters.next().filter(|it| "*\\".contains(*it)).ok_or_else(bad)?),
            it => part.push(it),
        }
    }
    parts.push(part);
    Ok(Matcher::Wildcard(parts))
}

fn numeric(value: &Value) -> Result<Matcher, PatternError> {
    let bad = || PatternError::BadValue { matcher: "numeric" };
    let parts = value.as_array().ok_or_else(bad)?;
    if !matches!(parts.len(), 2 | 4) {
        return Err(bad());
    }
    let comparisons = parts.chunks(2).map(|it| {
        let by = match it.first().and_then(Value::as_str)? {
            "=" => Comparison::Equal,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        Some((by, it.get(1)?.as_f64()?))
    });
    comparisons.collect::<Option<Vec<_>>>().map(Matcher::Numeric).ok_or_else(bad)
}

fn anything_but(value: &Value) -> Result<Matcher, PatternError> {
    let bad = || PatternError::BadValue { matcher: "anything-but" };
    let excluded = match value {
        Value::Object(one) => {
            let mut entries = one.iter();
            let (Some((name, value)), None) = (entries.next(), entries.next()) else {
                return Err(bad());
            };
            let is_fit = ["prefix", "suffix", "equals-ignore-case", "wildcard"];
            if !is_fit.contains(&name.as_str()) {
                return Err(bad());
            }
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            values.iter().map(|it| named(name, it)).collect::<Result<Vec<_>, _>>()?
        }
        Value::Array(items) => {
            let is_scalar = |it: &Value| it.is_string() || it.is_number();
            if !items.iter().all(is_scalar) {
                return Err(bad());
            }
            items.iter().cloned().map(Matcher::Equals).collect()
        }
        Value::String(_) | Value::Number(_) => vec![Matcher::Equals(value.clone())],
        _ => return Err(bad()),
    };
    if excluded.is_empty() { Err(bad()) } else { Ok(Matcher::AnythingBut(excluded)) }
}
