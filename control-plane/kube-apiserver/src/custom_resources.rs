//! CustomResourceDefinitions: their status, the catalogue that follows them, and their end.
//!
//! A definition that is deleted stays, `Terminating`, until its objects are gone; they are deleted as
//! anybody's objects are, and may have finalizers of their own.
//!
//! Deviation: names are accepted and the definition is established at once, in the same write;
//! upstream's controllers do it a moment later. Of a field selector, the stored version of an object
//! is looked at.
//!
//! Upstream: the controllers of k8s.io/apiextensions-apiserver.

pub(crate) mod approval;
mod ending;
mod names;

use std::sync::Arc;

use mvcc::{Guard, Op, Txn};
use serde_json::{Value, json};

pub(crate) use self::ending::{begin, finish, finish_all, sweep};
use crate::{
    registry,
    resources::{Catalog, Resource, builtin, custom, meta},
    server::Call,
    status::Status,
    verbs::write::{self, Refused},
};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// etcd takes 128 operations in a transaction.
const PURGED_AT_ONCE: usize = 100;

/// Sets what is absent. Upstream: defaults.go of pkg/apis/apiextensions/v1.
pub(crate) fn default(definition: &mut Value) {
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
    let service = definition.pointer_mut("/spec/conversion/webhook/clientConfig/service");
    if let Some(service) = service.filter(|it| it.is_object() && it["port"].is_null()) {
        service["port"] = 443.into();
    }
}

/// Fills in names and status; `catalog` has the names that others have.
pub(crate) fn prepare(definition: &mut Value, now: &str, catalog: &Catalog) {
    default(definition);
    store_version(definition);
    accept_names(definition, now, catalog);
    approval::write(definition, now);
}

/// Gives the definition its names, and says so in its conditions.
pub(crate) fn accept_names(definition: &mut Value, now: &str, catalog: &Catalog) {
    let verdict = names::judge(definition, catalog);
    names::write(definition, verdict, now);
}

/// The version that is stored from now on is one of those that objects may be stored in.
fn store_version(definition: &mut Value) {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let stored = versions.into_iter().find(|it| it["storage"] == true);
    let Some(stored) = stored.map(|it| it["name"].clone()) else { return };
    match definition["status"]["storedVersions"].as_array_mut() {
        Some(known) if known.contains(&stored) => {}
        Some(known) => known.push(stored),
        None => definition["status"]["storedVersions"] = json!([stored]),
    }
}

/// A condition of a definition, if it is true.
fn is_true(definition: &Value, condition: &str) -> bool {
    let mut all = definition["status"]["conditions"].as_array().into_iter().flatten();
    all.any(|it| it["type"] == condition && it["status"] == "True")
}

/// Sets a condition; its time changes with its status.
fn set_condition(definition: &mut Value, condition: Value, now: &str) {
    let mut condition = condition;
    let conditions = &mut definition["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(all) = conditions.as_array_mut() else { return };
    let known = all.iter_mut().find(|it| it["type"] == condition["type"]);
    condition["lastTransitionTime"] = match &known {
        Some(known) if known["status"] == condition["status"] => {
            known["lastTransitionTime"].clone()
        }
        _ => now.into(),
    };
    match known {
        Some(known) => *known = condition,
        None => all.push(condition),
    }
}

/// The catalogue with all resources of the stored definitions, and these. What has not changed since
/// `previous` is taken from there.
pub(crate) fn catalog(
    store: &mvcc::Store,
    delegated: &[Arc<Resource>],
    previous: Option<&Catalog>,
) -> Arc<Catalog> {
    let mut served = Vec::new();
    for record in store.scan(&registry::prefix(GROUP, PLURAL, "")) {
        let known = previous.and_then(|it| it.defined(&record.key, record.mod_revision));
        let resources = known.unwrap_or_else(|| {
            let definition = registry::decode(&record);
            // One that waits for a name is not served.
            if is_true(&definition, "Established") {
                custom::resources(&definition)
            } else {
                Vec::new()
            }
        });
        served.push((record.key.to_string(), record.mod_revision, resources));
    }
    Arc::new(Catalog::with(delegated.to_vec(), served))
}

/// Removes what is left of a definition that is not there, before it is made anew. Once the definition
/// is there nothing is removed.
pub(crate) async fn purge(call: &Call, definition: &Value) -> Result<(), Status> {
    let (group, plural) = defined(definition);
    if !is_definition(&call.resource.group, &call.resource.plural) || builtin::has(&group, &plural)
    {
        return Ok(());
    }
    let absent = Guard::Absent(call.resource.key("", meta(definition, "name")));
    let records = call.server.store.scan(&registry::prefix(&group, &plural, ""));
    for records in records.chunks(PURGED_AT_ONCE) {
        let ops = records.iter().map(|it| Op::Delete(it.key.to_string())).collect();
        let txn = Txn { guards: vec![absent.clone()], ops };
        match write::commit(call, "delete", txn).await {
            Ok(_) => {}
            Err(Refused::Changed) => break,
            Err(Refused::Failed(status)) => return Err(status),
        }
    }
    Ok(())
}

/// Group and plural of what a definition defines.
fn defined(definition: &Value) -> (String, String) {
    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let spec = &definition["spec"];
    (part(&spec["group"]), part(&spec["names"]["plural"]))
}

/// Whether a write to this resource changes the catalogue.
pub(crate) fn is_definition(group: &str, plural: &str) -> bool {
    group == GROUP && plural == PLURAL
}
