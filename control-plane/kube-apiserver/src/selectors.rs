//! Label and field selectors.
//!
//! Upstream: k8s.io/apimachinery/pkg/labels and pkg/fields; the wording of parse errors follows it
//! where tools match on it.

use std::{cmp::Ordering, collections::BTreeMap, fmt};

use serde_json::Value;

/// A parsed `labelSelector`, or a `LabelSelector` object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric \
     characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
     'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Greater,
    Less,
}

impl Labels {
    /// Parses `a=b,c!=d,e in (f, g),h notin (i),j,!k,l>1`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        if text.trim().is_empty() {
            return Ok(Self(requirements));
        }
        let terms = split_terms(text)?;
        for (index, term) in terms.iter().enumerate() {
            let term = term.trim();
            if term.is_empty() {
                return Err(nothing_at(index, terms.len()));
            }
            let parsed = requirement(term).and_then(Requirement::checked);
            let named = |why| format!("unable to parse requirement: {why}");
            requirements.push(parsed.map_err(named)?);
        }
        Ok(Self(requirements))
    }

    /// Of a `LabelSelector` object. One without any requirement selects everything.
    pub fn of(selector: &Value) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let values = vec![value.as_str().unwrap_or_default().to_owned()];
            requirements.push(Requirement { key: key.clone(), operator: Operator::In, values });
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("\"{other}\" is not a valid label selector operator")),
            };
            let values = expression["values"].as_array().into_iter().flatten();
            let values = values.filter_map(|it| it.as_str().map(str::to_owned)).collect();
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement { key, operator, values });
        }
        Ok(Self(requirements))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|it| it.matches(labels.get(&it.key).map(String::as_str)))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, it) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let (key, values) = (&it.key, it.values.join(","));
            match it.operator {
                Operator::In if it.values.len() == 1 => write!(f, "{comma}{key}={values}")?,
                Operator::In => write!(f, "{comma}{key} in ({values})")?,
                // An empty pair of brackets is no set.
                Operator::NotIn if values.is_empty() => write!(f, "{comma}{key}!=")?,
                Operator::NotIn => write!(f, "{comma}{key} notin ({values})")?,
                Operator::Exists => write!(f, "{comma}{key}")?,
                Operator::DoesNotExist => write!(f, "{comma}!{key}")?,
                Operator::Greater => write!(f, "{comma}{key}>{values}")?,
                Operator::Less => write!(f, "{comma}{key}<{values}")?,
            }
        }
        Ok(())
    }
}

impl Requirement {
    fn checked(self) -> Result<Self, String> {
        let Self { key, operator, values } = &self;
        if !is_label_key(key) {
            return Err(format!(
                "<nil>: Invalid value: \"{key}\": \
                                    name part must consist of alphanumeric characters, '-', '_' \
                                    or '.', and must start and end with an alphanumeric character"
            ));
        }
        let is_set = matches!(operator, Operator::In | Operator::NotIn);
        if is_set && values.is_empty() {
            let why = "for 'in', 'notin' operators, values set can't be empty";
            return Err(format!("values: Invalid value: []: {why}"));
        }
        let is_number = |it: &String| it.parse::<i64>().is_ok();
        let must_be_number = matches!(operator, Operator::Greater | Operator::Less);
        for (index, value) in values.iter().enumerate() {
            if must_be_number && !is_number(value) {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                return Err(format!("values[{index}]: Invalid value: \"{value}\": {why}"));
            }
            if !value.is_empty() && !is_label_name(value) {
                return Err(format!(
                    "values[{index}][{key}]: Invalid value: \"{value}\": {LABEL_VALUE}"
                ));
            }
        }
        Ok(self)
    }

    fn matches(&self, found: Option<&str>) -> bool {
        let is_among = |value: &str| self.values.iter().any(|it| it == value);
        let compare = |value: &str| {
            let wanted = self.values.first()?.parse::<i64>().ok()?;
            Some(value.parse::<i64>().ok()?.cmp(&wanted))
        };
        match (self.operator, found) {
            (Operator::In, found) => found.is_some_and(is_among),
            (Operator::NotIn, found) => !found.is_some_and(is_among),
            (Operator::Exists, found) => found.is_some(),
            (Operator::DoesNotExist, found) => found.is_none(),
            (Operator::Greater, found) => found.and_then(compare).is_some_and(Ordering::is_gt),
            (Operator::Less, found) => found.and_then(compare).is_some_and(Ordering::is_lt),
        }
    }
}

/// Two commas, or one at an end.
fn nothing_at(index: usize, terms: usize) -> String {
    match index {
        0 => "found ',', expected: !, identifier, or 'end of string'".into(),
        _ if index + 1 == terms => "found '', expected: identifier after ','".into(),
        _ => "found ',', expected: identifier after ','".into(),
    }
}

/// Splits at commas that are not within parentheses.
fn split_terms(text: &str) -> Result<Vec<&str>, String> {
    let (mut depth, mut start) = (0_usize, 0);
    let mut terms = Vec::new();
    for (at, it) in text.char_indices() {
        match it {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1).ok_or("found ')' without '('")?,
            ',' if depth == 0 => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err("found '(' without ')'".into());
    }
    terms.push(&text[start..]);
    Ok(terms)
}

fn requirement(term: &str) -> Result<Requirement, String> {
    let make = |key: &str, operator, values: Vec<String>| Requirement {
        key: key.trim().to_owned(),
        operator,
        values,
    };
    if let Some(open) = term.find('(') {
        let head: Vec<&str> = term[..open].split_whitespace().collect();
        let values = term[open + 1..].trim_end().trim_end_matches(')');
        let values = match values.trim() {
            "" => Vec::new(),
            values => values.split(',').map(|it| it.trim().to_owned()).collect(),
        };
        return match head.as_slice() {
            [key, "in"] => Ok(make(key, Operator::In, values)),
            [key, "notin"] => Ok(make(key, Operator::NotIn, values)),
            _ => Err(format!("found '{}', expected: in, notin", head.join(" "))),
        };
    }
    if let Some(key) = term.strip_prefix('!') {
        return Ok(make(key, Operator::DoesNotExist, Vec::new()));
    }
    for (sign, operator) in [
        ("!=", Operator::NotIn),
        ("==", Operator::In),
        ("=", Operator::In),
        (">", Operator::Greater),
        ("<", Operator::Less),
    ] {
        if let Some((key, value)) = term.split_once(sign) {
            return Ok(make(key, operator, vec![value.trim().to_owned()]));
        }
    }
    if term.contains(char::is_whitespace) {
        return Err(format!("found '{term}', expected: ',' or 'end of string'"));
    }
    Ok(make(term, Operator::Exists, Vec::new()))
}

fn is_label_key(key: &str) -> bool {
    let name = match key.split_once('/') {
        Some(("", _)) => return false,
        Some((_, name)) => name,
        None => key,
    };
    is_label_name(name)
}

/// The name of a label, and its value if it is not empty.
fn is_label_name(name: &str) -> bool {
    let is_edge = |it: char| it.is_ascii_alphanumeric();
    let is_inner = |it: char| is_edge(it) || matches!(it, '-' | '_' | '.');
    !name.is_empty()
        && name.len() <= 63
        && name.starts_with(is_edge)
        && name.ends_with(is_edge)
        && name.chars().all(is_inner)
}

/// A parsed `fieldSelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<FieldTerm>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTerm {
    field: String,
    is_equal: bool,
    value: String,
}

impl Fields {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for term in split_fields(text).into_iter().filter(|it| !it.is_empty()) {
            let Some((field, is_equal, value)) = split_field(term) else {
                return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
            };
            terms.push(FieldTerm { field: field.into(), is_equal, value: unescape(value)? });
        }
        Ok(Self(terms))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|it| it.field.as_str())
    }

    /// The name that all selected objects have, if the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|it| it.is_equal && it.field == field).map(|it| it.value.as_str())
    }

    /// The same, of what has this value in this field only.
    pub fn with(mut self, field: &str, value: &str) -> Self {
        self.0.push(FieldTerm { field: field.into(), is_equal: true, value: value.into() });
        self
    }

    pub fn matches<'a>(&self, value_of: impl Fn(&str) -> &'a str) -> bool {
        self.0.iter().all(|it| (value_of(&it.field) == it.value) == it.is_equal)
    }
}

/// Splits at commas that no backslash is before.
fn split_fields(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut is_escaped) = (Vec::new(), 0, false);
    for (at, it) in text.char_indices() {
        if it == ',' && !is_escaped {
            terms.push(&text[start..at]);
            start = at + 1;
        }
        is_escaped = it == '\\' && !is_escaped;
    }
    terms.push(&text[start..]);
    terms
}

/// At the first operator: field, whether it must be equal, and the value as it is written.
fn split_field(term: &str) -> Option<(&str, bool, &str)> {
    term.char_indices().find_map(|(at, _)| {
        let (field, rest) = term.split_at(at);
        let operators = [("!=", false), ("==", true), ("=", true)];
        operators.iter().find_map(|(sign, is_equal)| {
            rest.strip_prefix(sign).map(|value| (field, *is_equal, value))
        })
    })
}

/// A backslash, a comma and an equals sign stand after a backslash, and nothing else does.
fn unescape(text: &str) -> Result<String, String> {
    let wrong = |sequence: &str| {
        Err(format!("invalid field selector: invalid escape sequence: {sequence}"))
    };
    let (mut value, mut letters) = (String::with_capacity(text.len()), text.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(next @ ('\\' | ',' | '=')) => value.push(next),
                Some(next) => return wrong(&format!("\\{next}")),
                None => return wrong("\\"),
            },
            ',' | '=' => {
                let number = u32::from(letter);
                let what = "unescaped character in value";
                return Err(format!("invalid field selector: {what}: {number}"));
            }
            letter => value.push(letter),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Labels::parse(selector).unwrap().matches(&labels)
    }

    #[test]
    fn set_based_and_equality_based_requirements_combine() {
        let web = [("app", "web"), ("tier", "front"), ("n", "5")];
        let cases = [
            ("app=web,tier in (front, back)", true),
            ("app==web", true),
            ("app!=web", false),
            ("missing!=web", true),
            ("missing notin (a)", true),
            ("tier notin (front)", false),
            ("app,!missing", true),
            ("!app", false),
            ("n>4,n<6", true),
            ("n>5", false),
            ("", true),
        ];
        for (selector, expected) in cases {
            assert_eq!(selects(selector, &web), expected, "{selector}");
        }
    }

    #[test]
    fn what_cannot_be_parsed_is_refused() {
        for bad in ["a in (b", "a b", "a in b)", "=x", "a on (b)", "a,", ",a", "a,,b", ","] {
            assert!(Labels::parse(bad).is_err(), "{bad}");
        }
        let why = |text: &str| {
            let why = Labels::parse(text).unwrap_err();
            why.strip_prefix("unable to parse requirement: ").unwrap().to_owned()
        };
        assert!(why("a in (=x)").starts_with("values[0][a]: Invalid value: \"=x\": a valid label"));
        assert!(why("a in ()").contains("values set can't be empty"));
        assert_eq!(
            why("n>x"),
            "values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"
        );
        assert!(Labels::parse("a=,b in (,x)").is_ok(), "an empty value is one");
        assert!(Fields::parse("metadata.name").is_err());
    }

    #[test]
    fn an_empty_selector_object_selects_everything() {
        let labels = BTreeMap::new();
        assert!(Labels::of(&json!({})).unwrap().matches(&labels));
        let one = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
        assert!(!Labels::of(&one).unwrap().matches(&labels));
    }

    #[test]
    fn field_terms_must_all_hold() {
        let fields = Fields::parse("spec.nodeName=n1,status.phase!=Failed").unwrap();
        let value = |field: &str| if field == "spec.nodeName" { "n1" } else { "Running" };
        assert!(fields.matches(value));
        assert_eq!(fields.exact("spec.nodeName"), Some("n1"));
    }

    #[test]
    fn what_separates_is_escaped_in_a_fields_value() {
        let fields = Fields::parse(r"metadata.name=a\,b\=c\\,metadata.namespace==x").unwrap();
        assert_eq!(fields.exact("metadata.name"), Some(r"a,b=c\"));
        assert_eq!(fields.exact("metadata.namespace"), Some("x"));
        for bad in [r"a=b\c", r"a=b\", "a=b=c", "a=b!=c"] {
            let why = Fields::parse(bad).unwrap_err();
            assert!(why.starts_with("invalid field selector: "), "{bad}: {why}");
        }
    }
}
