//! Between the versions of a resource: what is stored and what one endpoint shows.
//!
//! `events.k8s.io` and the core group's events are one set of objects, stored as the core group's.
//! HorizontalPodAutoscalers are stored as autoscaling/v2 has them ([`autoscaling`]).
//! Custom resources are stored as they came; all their versions have one structure.
//!
//! Deviation: CustomResourceDefinitions with a conversion webhook are refused, not converted.
//!
//! Upstream: pkg/apis/core/v1/conversion.go and pkg/apis/events/v1/conversion.go.

mod autoscaling;

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
    object["apiVersion"] = resource.api_version().into();
    if resource.is("events.k8s.io", "events") {
        rename(object, |(theirs, core)| (core, theirs));
    } else if autoscaling::is_v1(resource) {
        autoscaling::to_v1(object);
    }
}

/// From the form that came in to the one that is stored.
pub(crate) fn to_storage(resource: &Resource, object: &mut Value) {
    if resource.is("events.k8s.io", "events") {
        object["apiVersion"] = "v1".into();
        rename(object, |pair| pair);
    } else if autoscaling::is_v1(resource) {
        object["apiVersion"] = "autoscaling/v2".into();
        autoscaling::from_v1(object);
    }
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
