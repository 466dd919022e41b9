//! How large the values of a schema's places can be, and how often a place can be there: what rules
//! are estimated by.
//!
//! Upstream: `SchemaDeclType` of k8s.io/apiserver/pkg/cel/common, and `CELSchemaContext` of
//! pkg/apis/apiextensions/validation.

use std::collections::BTreeMap;

use super::types::escaped;
use crate::{
    cel::Bound,
    schema::structural::{Node, Others},
};

/// Of a request, in bytes.
const LARGEST: u64 = 3 << 20;
/// What JSON puts around a text, a list or a map.
const AROUND: u64 = 2;
const DURATION: (u64, u64) = (3, 32);
const DATE: (u64, u64) = (12, 12);
const DATE_TIME: (u64, u64) = (21, 32);
/// A letter has so many bytes at most.
const LETTER: u64 = 4;

/// The bound of a place; `None`: expressions do not see it.
pub(super) fn bound_of(node: &Node, is_resource: bool) -> Option<Bound> {
    let of = |least_bytes: u64, most: u64| Some(Bound { least_bytes, most, ..Bound::default() });
    if node.is_int_or_string {
        return of(1, text(node, LETTER));
    }
    match (node.kind.as_str(), node.format.as_str()) {
        ("array", _) => {
            let items = node.items.as_deref()?;
            let each = bound_of(items, items.is_embedded)?;
            let room = (LARGEST - AROUND) / (each.least_bytes + 1);
            Some(many(each, count(node.limits.items.most, room), false))
        }
        ("object", _) => match node.other() {
            Some(other) => {
                let each = bound_of(other, other.is_embedded)?;
                // With a key, its marks, and what separates.
                let room = (LARGEST - AROUND) / (each.least_bytes + 6);
                Some(many(each, count(node.limits.properties.most, room), true))
            }
            None => Some(object(node, is_resource)),
        },
        ("string", "byte") => of(AROUND, text(node, 1)),
        ("string", "duration") => of(DURATION.0, DURATION.1),
        ("string", "date") => of(DATE.0, DATE.1),
        ("string", "date-time") => of(DATE_TIME.0, DATE_TIME.1),
        ("string", _) => of(AROUND, of_text(node)),
        ("boolean", _) => of(4, 0),
        ("number" | "integer", _) => of(1, 0),
        _ => None,
    }
}

fn many(each: Bound, most: u64, is_map: bool) -> Bound {
    let each = Some(Box::new(each));
    Bound { most, least_bytes: AROUND, each, is_map, fields: BTreeMap::new() }
}

fn count(given: Option<usize>, room: u64) -> u64 {
    given.map_or(room, |it| it as u64)
}

fn text(node: &Node, letter: u64) -> u64 {
    let given = node.limits.length.most.map(|it| (it as u64).saturating_mul(letter));
    given.unwrap_or(LARGEST - AROUND)
}

/// Of several texts, the longest.
fn of_text(node: &Node) -> u64 {
    match &node.choices {
        Some(all) if node.limits.length.most.is_none() => {
            let lengths = all.iter().filter_map(|it| it.as_str()).map(str::len);
            lengths.max().unwrap_or_default() as u64
        }
        _ => text(node, LETTER),
    }
}

fn object(node: &Node, is_resource: bool) -> Bound {
    let (mut fields, mut least_bytes) = (BTreeMap::new(), AROUND);
    let mut add = |name: &str, bound: Bound, is_needed: bool| {
        if is_needed {
            least_bytes += name.len() as u64 + bound.least_bytes + 4;
        }
        if let Some(name) = escaped(name) {
            fields.insert(name.into_owned(), bound);
        }
    };
    let is_required = |name: &str| node.required.iter().any(|it| it == name);
    let is_own = is_resource && !says_identity(node);
    for (name, place) in &node.fields {
        if is_own && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(bound) = bound_of(place, place.is_embedded) {
            add(name, bound, is_required(name) && place.default.is_none());
        }
    }
    if is_own {
        let text = || Bound { most: LARGEST - AROUND, least_bytes: AROUND, ..Bound::default() };
        let names = ["name", "generateName"].map(|it| (it.to_owned(), text()));
        let metadata = Bound { least_bytes: AROUND, fields: names.into(), ..Bound::default() };
        for (name, bound) in [("apiVersion", text()), ("kind", text()), ("metadata", metadata)] {
            add(name, bound, is_required(name));
        }
    }
    Bound { least_bytes, fields, ..Bound::default() }
}

/// Whether a schema has all that each object has anyway.
fn says_identity(node: &Node) -> bool {
    let is =
        |of: &Node, name: &str, kind: &str| of.fields.get(name).is_some_and(|it| it.kind == kind);
    is(node, "kind", "string")
        && is(node, "apiVersion", "string")
        && is(node, "metadata", "object")
        && node
            .fields
            .get("metadata")
            .is_some_and(|it| is(it, "name", "string") && is(it, "generateName", "string"))
}

/// How often what is right below a place can be there, for each time that the place is; `None`:
/// without end.
pub(super) fn times(node: &Node) -> Option<u64> {
    let given = match node.kind.as_str() {
        "array" => node.limits.items.most,
        "object" if !matches!(node.others, Others::None) => node.limits.properties.most,
        _ => Some(1),
    };
    given.map(|it| it as u64)
}

/// How often a value can be there in one request.
pub(super) fn most_often(bound: &Bound) -> u64 {
    LARGEST / (bound.least_bytes + 1)
}
