//! The parameters of operations. Version 2 tells of most of them once and refers to them; version 3
//! tells of them in each operation, as its readers do not follow references there.
//!
//! Upstream: the parameters of k8s.io/apiserver/pkg/endpoints/installer.go, and `collectSharedParameters`
//! of k8s.io/kube-openapi.

use serde_json::{Map, Value, json};

use super::paths::Version;

const UNREADABLE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";

/// In the query: name, type, and what it is for.
const QUERY: [(&str, &str, &str); 28] = [
    ("allowWatchBookmarks", "boolean", "Asks a watch for events of type BOOKMARK."),
    ("container", "string", "Whose log it is; a pod of one container has one."),
    ("continue", "string", "The token of the list before, whose next page is asked for."),
    ("dryRun", "string", "`All`: the write is tried and not kept."),
    ("fieldManager", "string", "The name of who changes fields; applies need one."),
    ("fieldSelector", "string", "Only objects with these values of fields."),
    ("fieldValidation", "string", "What unknown and duplicate fields do: Ignore, Warn or Strict."),
    ("follow", "boolean", "Goes on with what is written from now on."),
    ("force", "boolean", "An apply takes fields over from other managers."),
    ("gracePeriodSeconds", "integer", "Seconds before the object is gone; 0 is at once."),
    (UNREADABLE, "boolean", "What cannot be read from the store is deleted nevertheless."),
    ("insecureSkipTLSVerifyBackend", "boolean", "The node's certificate is not looked at."),
    ("labelSelector", "string", "Only objects with these labels."),
    ("limit", "integer", "The longest list to answer with; a token leads to the next page."),
    ("limitBytes", "integer", "The longest log to answer with."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    ("pretty", "string", "If 'true', the answer is laid out for people."),
    ("previous", "boolean", "The log of the container before this one."),
    ("propagationPolicy", "string", "What of dependents: Orphan, Background or Foreground."),
    ("resourceVersion", "string", "The version that the answer is of, or not older than."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "Whether a watch begins with what is there."),
    ("sinceSeconds", "integer", "Only what was written in the last seconds."),
    ("stream", "string", "All, Stdout or Stderr."),
    ("tailLines", "integer", "Only so many lines from the end."),
    ("timeoutSeconds", "integer", "How long a list or watch may take."),
    ("timestamps", "boolean", "Each line begins with its time."),
    ("watch", "boolean", "Asks for a stream of changes instead of a list."),
];

pub(super) const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
pub(super) const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
pub(super) const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
pub(super) const DELETE: &[&str] =
    &["dryRun", "gracePeriodSeconds", UNREADABLE, "orphanDependents", "propagationPolicy"];
pub(super) const LOG: &[&str] = &[
    "container",
    "follow",
    "insecureSkipTLSVerifyBackend",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "stream",
    "tailLines",
    "timestamps",
];
pub(super) const COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    UNREADABLE,
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];

/// `kubectl` looks for these in each operation before it uses server-side dry run and field
/// validation.
const LOOKED_FOR: [&str; 2] = ["dryRun", "fieldValidation"];

/// Of which version 2 tells once.
pub(super) fn shared() -> Map<String, Value> {
    let named = QUERY.iter().filter(|(name, ..)| !LOOKED_FOR.contains(name));
    let mut all: Map<String, Value> =
        named.map(|(name, ..)| ((*name).to_owned(), inline(name, Version::Second))).collect();
    all.insert("namespace".into(), in_path("namespace", NAMESPACE, Version::Second));
    all
}

const NAMESPACE: &str = "The namespace of the objects.";

pub(super) fn in_query(name: &str, version: Version) -> Value {
    match version {
        Version::Second if !LOOKED_FOR.contains(&name) => shared_one(name),
        _ => inline(name, version),
    }
}

/// Of all operations of a path, which has these names in it.
pub(super) fn of_path(path: &str, kind: &str, version: Version) -> Value {
    let mut all = Vec::new();
    if path.contains("{name}") {
        all.push(in_path("name", &format!("The name of the {kind}."), version));
    }
    if path.contains("{namespace}") {
        all.push(match version {
            Version::Second => shared_one("namespace"),
            Version::Third => in_path("namespace", NAMESPACE, version),
        });
    }
    all.push(in_query("pretty", version));
    all.into()
}

fn shared_one(name: &str) -> Value {
    json!({ "$ref": format!("#/parameters/{name}") })
}

fn inline(name: &str, version: Version) -> Value {
    let (_, kind, what) = QUERY.iter().find(|(it, ..)| *it == name).unwrap_or(&("", "string", ""));
    typed(json!({ "name": name, "in": "query", "description": what }), kind, version)
}

fn in_path(name: &str, what: &str, version: Version) -> Value {
    let it = json!({ "name": name, "in": "path", "description": what, "required": true });
    typed(it, "string", version)
}

fn typed(mut parameter: Value, kind: &str, version: Version) -> Value {
    match version {
        Version::Second => {
            parameter["type"] = kind.into();
            parameter["uniqueItems"] = true.into();
        }
        Version::Third => parameter["schema"] = json!({ "type": kind, "uniqueItems": true }),
    }
    parameter
}
