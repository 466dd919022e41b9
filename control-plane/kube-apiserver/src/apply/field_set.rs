//! Sets of fields, as `managedFields` writes them (`FieldsV1`).
//!
//! A path is a chain of elements: `f:NAME` for a field or map key, `k:{…}` for a list element told
//! apart by keys, `v:…` for an element of a set. A node can be in the set itself, beside or
//! without the nodes below it.
//!
//! Upstream: sigs.k8s.io/structured-merge-diff/fieldpath.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of fields: a tree of path elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// Whether the path to here is in the set.
    pub(crate) is_member: bool,
    pub(crate) below: BTreeMap<String, Self>,
}

impl FieldSet {
    pub(crate) fn leaf() -> Self {
        Self { is_member: true, below: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.is_member && self.below.values().all(Self::is_empty)
    }

    /// The node for one more element.
    pub(crate) fn at(&mut self, element: &str) -> &mut Self {
        self.below.entry(element.to_owned()).or_default()
    }

    pub(crate) fn union(&mut self, other: &Self) {
        self.is_member |= other.is_member;
        for (element, inner) in &other.below {
            self.at(element).union(inner);
        }
    }

    /// Without what is in `other`. A member of `other` takes only itself away, not what is below.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut left = Self { is_member: self.is_member && !other.is_member, ..Self::default() };
        for (element, inner) in &self.below {
            let inner = match other.below.get(element) {
                Some(other) => inner.without(other),
                None => inner.clone(),
            };
            if !inner.is_empty() {
                left.below.insert(element.clone(), inner);
            }
        }
        left
    }

    /// What is in both.
    pub(crate) fn within(&self, other: &Self) -> Self {
        let mut both = Self { is_member: self.is_member && other.is_member, ..Self::default() };
        for (element, inner) in &self.below {
            let Some(other) = other.below.get(element) else { continue };
            let inner = inner.within(other);
            if !inner.is_empty() {
                both.below.insert(element.clone(), inner);
            }
        }
        both
    }

    /// Whether any member is in the set that is written as `json`.
    pub(crate) fn meets(&self, json: &Value) -> bool {
        self.below.iter().any(|(element, inner)| {
            let other = json.get(element);
            other.is_some_and(|other| inner.is_member && is_member(other) || inner.meets(other))
        })
    }

    pub(crate) fn contains(&self, path: &[String]) -> bool {
        match path.split_first() {
            None => self.is_member,
            Some((first, rest)) => self.below.get(first).is_some_and(|it| it.contains(rest)),
        }
    }

    /// Takes a whole branch away.
    pub(crate) fn prune(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => drop(self.below.remove(*last)),
            [first, rest @ ..] => {
                if let Some(inner) = self.below.get_mut(*first) {
                    inner.prune(rest);
                    if inner.is_empty() {
                        self.below.remove(*first);
                    }
                }
            }
        }
    }

    /// All members, as paths.
    pub(crate) fn members(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        self.collect(&mut Vec::new(), &mut found);
        found
    }

    fn collect(&self, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        if self.is_member {
            found.push(path.clone());
        }
        for (element, inner) in &self.below {
            path.push(element.clone());
            inner.collect(path, found);
            path.pop();
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut out = Map::new();
        if self.is_member && !self.below.is_empty() {
            out.insert(".".into(), Value::Object(Map::new()));
        }
        for (element, inner) in &self.below {
            out.insert(element.clone(), inner.to_json());
        }
        Value::Object(out)
    }

    pub(crate) fn from_json(value: &Value) -> Self {
        let fields = value.as_object();
        let is_member = is_member(value);
        let below = fields.into_iter().flatten().filter(|(element, _)| element.as_str() != ".");
        let below = below.map(|(element, inner)| (element.clone(), Self::from_json(inner)));
        Self { is_member, below: below.collect() }
    }

    /// The set of an entry: the empty path is never in it.
    pub(crate) fn of_entry(entry: &Value) -> Self {
        Self { is_member: false, ..Self::from_json(&entry["fieldsV1"]) }
    }
}

/// Whether the set that is written as `json` has its own root.
fn is_member(json: &Value) -> bool {
    json.as_object().is_none_or(|it| it.is_empty() || it.contains_key("."))
}

/// Whether it is a set's JSON.
pub(crate) fn is_set(json: &Value) -> bool {
    let Some(entries) = json.as_object() else { return false };
    entries.iter().all(|(element, inner)| is_element(element) && is_set(inner))
}

fn is_element(element: &str) -> bool {
    match element.split_once(':') {
        None => element == ".",
        Some(("f", _)) => true,
        Some(("k", keys)) => serde_json::from_str::<Value>(keys).is_ok_and(|keys| keys.is_object()),
        Some(("v", value)) => serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok(),
        Some(("i", index)) => index.parse::<i64>().is_ok(),
        Some(_) => false,
    }
}

/// A path as conflicts name it: `.spec.containers[name="a"].image`.
pub(crate) fn shown(path: &[String]) -> String {
    let mut out = String::new();
    for element in path {
        match element.split_once(':') {
            Some(("f", name)) => {
                out.push('.');
                out.push_str(name);
            }
            Some(("k", keys)) => {
                let keys: Value = serde_json::from_str(keys).unwrap_or_default();
                let keys = keys.as_object().into_iter().flatten();
                let keys: Vec<String> = keys.map(|(key, value)| format!("{key}={value}")).collect();
                out.push_str(&format!("[{}]", keys.join(",")));
            }
            Some(("v", value)) => out.push_str(&format!("[={value}]")),
            _ => out.push_str(element),
        }
    }
    out
}
