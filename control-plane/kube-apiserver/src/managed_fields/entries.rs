//! The entries of `managedFields`: each is an owner, and the set of what it owns.
//!
//! Upstream: `managedfields.go`, `capmanagers.go` and `buildmanagerinfo.go` of
//! k8s.io/apimachinery/pkg/util/managedfields/internal.

use std::sync::Arc;

use serde_json::{Value, json};

use super::owned;
use crate::{
    apply::{
        field_set::{self, FieldSet},
        typed::Change,
    },
    resources::{Catalog, Resource},
};

/// Entries of updates that an object keeps; of more, the oldest become one.
const MOST_UPDATES: usize = 10;

/// Who owns what the oldest entries were of.
const ANCIENT: &str = "ancient-changes";

/// Who owns fields, and by which kind of request.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) manager: String,
    pub(crate) operation: &'static str,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

impl Owner {
    pub(crate) fn entry(&self, set: &FieldSet, time: &str) -> Value {
        self.entry_of(set.to_json(), time)
    }

    pub(crate) fn entry_of(&self, set: Value, time: &str) -> Value {
        let mut entry = json!({
            "operation": self.operation, "apiVersion": self.api_version, "time": time,
            "fieldsType": "FieldsV1",
        });
        entry["fieldsV1"] = set;
        for (field, text) in [("manager", &self.manager), ("subresource", &self.subresource)] {
            if !text.is_empty() {
                entry[field] = text.clone().into();
            }
        }
        entry
    }

    /// Whether an entry is this owner's. Who applies is the same in every version.
    pub(crate) fn has(&self, entry: &Value) -> bool {
        text(entry, "manager") == self.manager
            && text(entry, "operation") == self.operation
            && text(entry, "subresource") == self.subresource
            && (self.operation == "Apply" || text(entry, "apiVersion") == self.api_version)
    }
}

pub(crate) fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The entries of an object.
pub(crate) fn of(object: &Value) -> Vec<Value> {
    object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default()
}

/// Takes them out of it, as they are.
pub(crate) fn take(object: &mut Value) -> Value {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    metadata.and_then(|it| it.remove("managedFields")).unwrap_or_default()
}

/// Writes them in upstream's order.
pub(crate) fn set(object: &mut Value, mut entries: Vec<Value>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    let order = ["operation", "time", "manager", "apiVersion", "subresource"];
    entries.sort_by(|a, b| {
        let differ = order.map(|field| text(a, field).cmp(text(b, field)));
        differ.into_iter().find(|it| it.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    });
    metadata.insert("managedFields".into(), entries.into());
}

/// A client forgets all owners by writing an empty list, or one empty entry.
pub(crate) fn is_reset(sent: &Value) -> bool {
    sent.as_array().is_some_and(|it| it.is_empty() || *it == [json!({})])
}

/// The entries that a client wrote, if it can be understood.
pub(crate) fn of_client(sent: Value) -> Option<Vec<Value>> {
    let Value::Array(sent) = sent else { return None };
    let mut entries: Vec<Value> = Vec::with_capacity(sent.len());
    for mut entry in sent {
        let is_valid = matches!(text(&entry, "operation"), "Apply" | "Update")
            && !text(&entry, "apiVersion").is_empty()
            && text(&entry, "fieldsType") == "FieldsV1";
        if entry["fieldsV1"].is_null() {
            entry["fieldsV1"] = json!({});
        }
        if !is_valid || !field_set::is_set(&entry["fieldsV1"]) {
            return None;
        }
        entries.retain(|it| !is_same(it, &entry));
        entries.push(entry);
    }
    (!entries.is_empty()).then_some(entries)
}

/// Puts the entries back where admission has made something of them that is none.
///
/// Upstream: `NewManagedFieldsValidatingAdmissionController`.
pub(crate) fn keep_readable(before: &Value, after: &mut Value) {
    let (known, found) =
        (&before["metadata"]["managedFields"], &after["metadata"]["managedFields"]);
    let is_void = found.as_array().is_none_or(Vec::is_empty);
    if known != found && !is_void && of_client(found.clone()).is_none() {
        after["metadata"]["managedFields"] = known.clone();
    }
}

fn is_same(a: &Value, b: &Value) -> bool {
    ["manager", "operation", "subresource"].iter().all(|field| text(a, field) == text(b, field))
        && (text(a, "operation") == "Apply" || text(a, "apiVersion") == text(b, "apiVersion"))
}

/// Without those of versions that are no more.
pub(crate) fn served(
    mut entries: Vec<Value>,
    catalog: &Arc<Catalog>,
    resource: &Resource,
) -> Vec<Value> {
    let version = resource.api_version();
    entries.retain(|it| {
        let named = text(it, "apiVersion");
        named == version || catalog.of_kind(named, &resource.kind).is_some()
    });
    entries
}

/// The entries after a change by `owner`.
pub(crate) fn changed(
    mut entries: Vec<Value>,
    change: Change,
    owner: &Owner,
    time: &str,
) -> Vec<Value> {
    lose(&mut entries, &change, |_| true);
    let gained = owned(change.set);
    if gained.is_empty() {
        return entries;
    }
    match entries.iter_mut().find(|it| owner.has(it)) {
        Some(entry) => {
            let mut set = FieldSet::of_entry(entry);
            set.union(&gained);
            entry["fieldsV1"] = set.to_json();
            entry["time"] = time.into();
        }
        None => entries.push(owner.entry(&gained, time)),
    }
    cap(entries)
}

/// Takes what changed from the entries that are meant. Who owns nothing more has none.
pub(crate) fn lose(entries: &mut Vec<Value>, change: &Change, is_meant: impl Fn(&Value) -> bool) {
    entries.retain_mut(|entry| {
        let fields = &entry["fieldsV1"];
        let loses = change.set.meets(fields) || change.removed.meets(fields);
        if !loses || !is_meant(entry) {
            return true;
        }
        let left = FieldSet::of_entry(entry).without(&change.set).without(&change.removed);
        entry["fieldsV1"] = left.to_json();
        !left.is_empty()
    });
}

/// Makes the oldest updates one entry for each version, as long as there are too many.
fn cap(mut entries: Vec<Value>) -> Vec<Value> {
    let is_update = |it: &Value| text(it, "operation") == "Update";
    let count = entries.iter().filter(|it| is_update(it)).count();
    let Some(mut surplus) = count.checked_sub(MOST_UPDATES).filter(|it| *it > 0) else {
        return entries;
    };
    let (mut updates, mut left): (Vec<Value>, Vec<Value>) = entries.drain(..).partition(is_update);
    let age = |it: &Value| (text(it, "time").to_owned(), text(it, "manager").to_owned());
    updates.sort_by_key(age);
    let mut oldest: Vec<Value> = Vec::new();
    for entry in updates {
        let version = text(&entry, "apiVersion");
        let bucket = oldest.iter_mut().find(|it| text(it, "apiVersion") == version);
        match bucket {
            Some(bucket) if surplus > 0 => {
                let mut set = FieldSet::of_entry(bucket);
                set.union(&FieldSet::of_entry(&entry));
                *bucket = json!({
                    "manager": ANCIENT, "operation": "Update", "apiVersion": version,
                    "time": entry["time"], "fieldsType": "FieldsV1", "fieldsV1": set.to_json(),
                });
                surplus -= 1;
            }
            None if surplus > 0 => oldest.push(entry),
            _ => left.push(entry),
        }
    }
    left.extend(oldest);
    left
}

/// Whether two lists differ in nothing but times.
fn are_as_old(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_array(), b.as_array()) else { return false };
    let is_same = |a, b| is_same(a, b) && a["fieldsV1"] == b["fieldsV1"];
    a.len() == b.len() && a.iter().all(|a| b.iter().any(|b| is_same(a, b)))
}

/// Puts the old times back where an object changed in nothing else, so that a write of what is there
/// is none.
///
/// Upstream: `IgnoreManagedFieldsTimestampsTransformer`.
pub(crate) fn keep_times(old: &Value, new: &mut Value) {
    let (before, after) = (&old["metadata"]["managedFields"], &new["metadata"]["managedFields"]);
    if before == after || !are_as_old(before, after) || !is_equal_otherwise(old, new) {
        return;
    }
    new["metadata"]["managedFields"] = before.clone();
}

fn is_equal_otherwise(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return false };
    let is_compared = |it: &&String| *it != "managedFields" && *it != "resourceVersion";
    let equal = |a: &serde_json::Map<String, Value>, b: &serde_json::Map<String, Value>| {
        a.keys().chain(b.keys()).filter(is_compared).all(|field| a.get(field) == b.get(field))
    };
    let names = old.keys().chain(new.keys()).filter(|it| *it != "metadata");
    let mut rest = names.map(|field| (old.get(field), new.get(field)));
    let metadata = (old.get("metadata"), new.get("metadata"));
    let (Some(Value::Object(a)), Some(Value::Object(b))) = metadata else { return false };
    equal(a, b) && rest.all(|(a, b)| a == b)
}
