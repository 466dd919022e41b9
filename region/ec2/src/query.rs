//! What all `Describe…` operations do alike: ids, filters, pages.
//!
//! A filter names an attribute and lists patterns (`*`, `?`, `\` escapes); an item passes when, for
//! every filter, some value of the attribute matches some pattern.
//! A page token is the id of the last item given, so that pages stay right while items come and go.

use std::collections::BTreeMap;

use aws_ec2::common::Filter;
use aws_wire::Fault;
use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    faults,
    records::Tags,
    state::{Record, Table},
};

/// The common parameters of a `Describe…` request.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    pub ids: &'a [String],
    pub filters: &'a [Filter],
    pub max_results: Option<i64>,
    pub next_token: Option<&'a str>,
}

macro_rules! query_of {
    ($request:expr, $ids:ident) => {
        $crate::query::Query {
            ids: &$request.$ids,
            filters: &$request.filters,
            max_results: $request.max_results,
            next_token: $request.next_token.as_deref(),
        }
    };
}

pub(crate) use query_of;

/// An attribute's values; `None` says that there is no such attribute to filter by.
pub(crate) type Values = Option<Vec<String>>;

/// Runs a query over a table. `attribute` is asked for names other than those of tags.
pub(crate) fn run<'a, T: Record>(
    table: &'a Table<T>,
    query: Query<'_>,
    attribute: impl Fn(&T, &str) -> Values,
) -> Result<(Vec<&'a T>, Option<String>), Fault> {
    if !query.ids.is_empty() && query.max_results.is_some() {
        return Err(faults::combination(
            "The parameter MaxResults cannot be used together with a list of IDs",
        ));
    }
    let mut found = table.named(query.ids)?;
    found = select(found, query.filters, |it| it.tags(), attribute)?;
    page(found, query.max_results, query.next_token, |it| it.id())
}

/// The items that pass all filters. An unknown filter is a fault even when there is no item.
pub(crate) fn select<'a, T: Default>(
    items: Vec<&'a T>,
    filters: &[Filter],
    tags: impl Fn(&'a T) -> &'a Tags,
    attribute: impl Fn(&T, &str) -> Values,
) -> Result<Vec<&'a T>, Fault> {
    check(filters, |name| attribute(&T::default(), name))?;
    let mut found = Vec::new();
    for item in items {
        if passes(filters, tags(item), |name| attribute(item, name))? {
            found.push(item);
        }
    }
    Ok(found)
}

/// Refuses filters that no item has; `attribute` is of an item without content.
pub(crate) fn check(filters: &[Filter], attribute: impl Fn(&str) -> Values) -> Result<(), Fault> {
    passes(filters, no_tags(), attribute).map(drop)
}

/// Whether one item passes all filters.
pub(crate) fn passes(
    filters: &[Filter],
    tags: &Tags,
    attribute: impl Fn(&str) -> Values,
) -> Result<bool, Fault> {
    let mut passes = true;
    for filter in filters {
        let name = filter.name.as_deref().ok_or_else(|| faults::missing("Filter.Name"))?;
        let values = match tag_values(tags, name) {
            Some(values) => values,
            None => attribute(name)
                .ok_or_else(|| faults::invalid(format!("The filter '{name}' is invalid")))?,
        };
        passes &= values.iter().any(|value| filter.values.iter().any(|it| glob(it, value)));
    }
    Ok(passes)
}

fn tag_values(tags: &Tags, name: &str) -> Values {
    match name {
        "tag-key" => Some(tags.keys().cloned().collect()),
        "tag-value" => Some(tags.values().cloned().collect()),
        _ => name.strip_prefix("tag:").map(|key| tags.get(key).cloned().into_iter().collect()),
    }
}

/// Whether `text` matches `pattern`.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where to go on after the last `*` when what follows it does not match.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('\\') if pattern.get(p + 1) == Some(&text[t]) => Some(2),
            Some(it) if *it == text[t] => Some(1),
            _ => None,
        };
        match (step, retry) {
            (Some(step), _) => (p, t) = (p + step, t + 1),
            (None, Some((after, from))) => {
                (p, t) = (after, from + 1);
                retry = Some((after, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|it| *it == '*')
}

/// One page of `items`, which come ordered by `key`, and the token of the next one.
pub(crate) fn page<T>(
    items: Vec<T>,
    max_results: Option<i64>,
    next_token: Option<&str>,
    key: impl Fn(&T) -> &str,
) -> Result<(Vec<T>, Option<String>), Fault> {
    let after = next_token.map(decode_token).transpose()?;
    let mut rest: Vec<T> =
        items.into_iter().filter(|it| after.as_deref().is_none_or(|last| key(it) > last)).collect();
    let limit = match max_results {
        None => return Ok((rest, None)),
        Some(max) => usize::try_from(max).ok().filter(|it| *it > 0),
    };
    let Some(limit) = limit else {
        return Err(faults::invalid(format!(
            "Value ( {} ) for parameter maxResults is invalid. Expecting a positive number.",
            max_results.unwrap_or_default()
        )));
    };
    if rest.len() <= limit {
        return Ok((rest, None));
    }
    rest.truncate(limit);
    let token = rest.last().map(|it| BASE64_STANDARD.encode(key(it)));
    Ok((rest, token))
}

fn decode_token(token: &str) -> Result<String, Fault> {
    BASE64_STANDARD
        .decode(token)
        .ok()
        .and_then(|it| String::from_utf8(it).ok())
        .ok_or_else(|| Fault::new("InvalidNextToken", format!("The token '{token}' is invalid")))
}

/// A value of an attribute that always has one.
pub(crate) fn one(value: impl ToString) -> Values {
    Some(vec![value.to_string()])
}

/// The value of an attribute that may have none.
pub(crate) fn maybe(value: Option<impl ToString>) -> Values {
    Some(value.map(|it| it.to_string()).into_iter().collect())
}

/// The values of an attribute with many.
pub(crate) fn many<V: ToString>(values: impl IntoIterator<Item = V>) -> Values {
    Some(values.into_iter().map(|it| it.to_string()).collect())
}

/// Filters as a map, for operations whose items are not records.
pub(crate) fn no_tags() -> &'static Tags {
    static NONE: Tags = BTreeMap::new();
    &NONE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(name: &str, values: &[&str]) -> Filter {
        let values = values.iter().map(ToString::to_string).collect();
        Filter { name: Some(name.to_owned()), values }
    }

    #[test]
    fn patterns_match_as_in_ec2() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            (r"a\*c", "a*c", true),
            (r"a\*c", "abc", false),
            ("*amazon-eks*1.36*", "amazon-eks-node-al2023-x86_64-standard-1.36-v1", true),
            ("abc", "abcd", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn all_filters_must_pass_and_unknown_ones_are_refused() {
        let tags = Tags::from([("team".to_owned(), "blue".to_owned())]);
        let attribute = |name: &str| if name == "state" { one("up") } else { None };
        let passes = |filters: &[Filter]| passes(filters, &tags, attribute);
        assert_eq!(passes(&[]), Ok(true));
        assert_eq!(passes(&[filter("tag:team", &["red", "b*"])]), Ok(true));
        assert_eq!(passes(&[filter("tag-key", &["team"]), filter("state", &["down"])]), Ok(false));
        let fault = passes(&[filter("colour", &["x"])]).unwrap_err();
        assert_eq!(fault.code, "InvalidParameterValue");
        assert_eq!(fault.message, "The filter 'colour' is invalid");
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap() {
        let items = || vec!["a", "b", "c", "d", "e"];
        let (first, token) = page(items(), Some(2), None, |it| it).unwrap();
        assert_eq!(first, ["a", "b"]);
        let (second, token) = page(items(), Some(2), token.as_deref(), |it| it).unwrap();
        assert_eq!(second, ["c", "d"]);
        let (third, token) = page(items(), Some(2), token.as_deref(), |it| it).unwrap();
        assert_eq!((third, token), (vec!["e"], None));
        assert!(page(items(), Some(0), None, |it| it).is_err());
        assert!(page(items(), Some(5), Some("!"), |it| it).is_err());
    }
}
