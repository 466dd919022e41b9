//! Between the versions of a resource: what is stored and what one endpoint shows.
//!
//! `events.k8s.io` and the core group's events are one set of objects, stored as the core group's.
//! So are the two versions of autoscalers, see [`autoscaling`]. Custom resources have a version that is
//! stored, and may have a program that converts, see [`custom`].
//!
//! Upstream: pkg/apis/core/v1/conversion.go and pkg/apis/events/v1/conversion.go.

mod autoscaling;
pub(crate) mod custom;

use std::borrow::Cow;

use serde_json::Value;

use crate::resources::Resource;

/// Fields of events that have another name in the core group: theirs, the core group's.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// From the stored form to the one that `resource` shows.
pub(crate) fn from_storage(resource: &Resource, object: &mut Value) {
    if let Some(custom) = &resource.custom {
        return custom::settle(resource, custom, object);
    }
    object["apiVersion"] = resource.api_version().into();
    if resource.is("events.k8s.io", "events") {
        rename(object, |(theirs, core)| (core, theirs));
    }
    if is_older_autoscaler(resource) {
        autoscaling::from_storage(object);
    }
}

/// From the form that came in to the one that is stored.
pub(crate) fn to_storage(resource: &Resource, object: &mut Value) {
    if resource.is("events.k8s.io", "events") {
        object["apiVersion"] = "v1".into();
        rename(object, |pair| pair);
    }
    if is_older_autoscaler(resource) {
        autoscaling::to_storage(object);
    }
}

/// An object in the form that tables are made of: the stored one, where versions differ.
pub(crate) fn printed<'a>(resource: &Resource, object: &'a Value) -> Cow<'a, Value> {
    if !is_older_autoscaler(resource) {
        return Cow::Borrowed(object);
    }
    let mut stored = object.clone();
    autoscaling::to_storage(&mut stored);
    Cow::Owned(stored)
}

/// An object as `resource` shows it, where that is not how it is stored.
pub(crate) fn shown<'a>(resource: &Resource, object: &'a Value) -> Cow<'a, Value> {
    if !is_older_autoscaler(resource) && !resource.is("events.k8s.io", "events") {
        return Cow::Borrowed(object);
    }
    let mut shown = object.clone();
    from_storage(resource, &mut shown);
    Cow::Owned(shown)
}

fn is_older_autoscaler(resource: &Resource) -> bool {
    resource.version == "v1" && resource.is("autoscaling", "horizontalpodautoscalers")
}

fn rename(
    object: &mut Value,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Some(fields) = object.as_object_mut() else { return };
    for pair in EVENT_FIELDS {
        let (from, to) = direction(pair);
        if let Some(value) = fields.remove(from) {
            fields.insert(to.into(), value);
        }
    }
}
