//! CustomResourceDefinitions: their status, and the catalogue that follows them.
//!
//! Deviation: names are accepted and the definition is established at once, in the same write;
//! upstream's controllers do it a moment later. Conflicts of names are not looked for.
//!
//! Upstream: the controllers of k8s.io/apiextensions-apiserver.

use std::sync::Arc;

use mvcc::{Guard, Op, Txn};
use serde_json::{Value, json};

use crate::{
    registry::{self, Reader},
    resources::{Catalog, Resource, builtin, custom, meta},
    server::Call,
    status::Status,
    verbs::write::{self, Refused},
};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// etcd takes 128 operations in a transaction.
const PURGED_AT_ONCE: usize = 100;

/// Fills in names and status.
pub(crate) fn prepare(definition: &mut Value, now: &str) {
    let kind = definition["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
    let names = &mut definition["spec"]["names"];
    if names["singular"].as_str().unwrap_or_default().is_empty() {
        names["singular"] = kind.to_lowercase().into();
    }
    if names["listKind"].as_str().unwrap_or_default().is_empty() {
        names["listKind"] = format!("{kind}List").into();
    }
    if definition["spec"]["conversion"].is_null() {
        definition["spec"]["conversion"] = json!({ "strategy": "None" });
    }
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let stored: Vec<Value> =
        versions.filter(|it| it["storage"] == true).map(|it| it["name"].clone()).collect();
    let since = |status: &Value, kind: &str| {
        let known = status["conditions"].as_array().into_iter().flatten();
        let known = known.into_iter().find(|it| it["type"] == kind);
        known.map_or_else(|| now.into(), |it| it["lastTransitionTime"].clone())
    };
    let status = definition["status"].clone();
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": since(&status, kind),
        })
    };
    definition["status"] = json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "acceptedNames": definition["spec"]["names"],
        "storedVersions": stored,
    });
}

/// The catalogue with all resources of the stored definitions, and these.
pub(crate) fn catalog(objects: &Reader, delegated: &[Arc<Resource>]) -> Arc<Catalog> {
    let definitions = objects.list(GROUP, PLURAL, "");
    let served = definitions.iter().filter(|it| it["metadata"]["deletionTimestamp"].is_null());
    Arc::new(Catalog::with(delegated.to_vec(), served.flat_map(custom::resources).collect()))
}

/// Removes the custom resources of a definition that is not there: after its deletion, and before
/// it is made anew, in case the server ended in between. Once the definition is there nothing is
/// removed.
///
/// Deviation: upstream deletes them first, under a finalizer, and waits for theirs.
pub(crate) async fn purge(call: &Call, definition: &Value) -> Result<(), Status> {
    let spec = &definition["spec"];
    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (part(&spec["group"]), part(&spec["names"]["plural"]));
    if !is_definition(&call.resource.group, &call.resource.plural) || builtin::has(&group, &plural)
    {
        return Ok(());
    }
    let absent = Guard::Absent(call.resource.key("", meta(definition, "name")));
    let records = call.server.store.scan(&registry::prefix(&group, &plural, ""));
    for records in records.chunks(PURGED_AT_ONCE) {
        let ops = records.iter().map(|it| Op::Delete(it.key.to_string())).collect();
        match write::commit(call, Txn { guards: vec![absent.clone()], ops }).await {
            Ok(_) => {}
            Err(Refused::Changed) => break,
            Err(Refused::Failed(status)) => return Err(status),
        }
    }
    Ok(())
}

/// Whether a write to this resource changes the catalogue.
pub(crate) fn is_definition(group: &str, plural: &str) -> bool {
    group == GROUP && plural == PLURAL
}
