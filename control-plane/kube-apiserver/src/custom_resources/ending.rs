//! The end of a definition: its objects go first.
//!
//! A delete marks the definition, deletes all objects, and takes the finalizer away when none is left.
//! Where objects have finalizers, whoever takes the last of them ends the definition, too; what a
//! server that stopped in between has left is ended by the next one.
//!
//! Deviation: while objects stay, the reason is `InstanceDeletionInProgress`. Upstream's controller tries
//! for a minute at a time, and between two tries, mostly for milliseconds, it is `InstanceDeletionCheck`.
//!
//! Upstream: pkg/controller/finalizer/crd_finalizer.go of k8s.io/apiextensions-apiserver.

use std::sync::Arc;

use mvcc::Txn;
use serde_json::{Value, json};

use super::{GROUP, PLURAL, defined, is_definition, names, set_condition};
use crate::{
    bootstrap, registry,
    resources::{Resource, builtin, meta},
    server::{Call, Server, timestamp},
    status::Status,
    verbs::delete,
};

const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

fn terminating(status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": "Terminating", "status": status, "reason": reason, "message": message })
}

/// Makes a definition that is to be deleted wait for its objects.
pub(crate) fn begin(resource: &Resource, definition: &mut Value, now: &str) {
    let is_marked = !meta(definition, "deletionTimestamp").is_empty();
    if !is_definition(&resource.group, &resource.plural) || is_marked {
        return;
    }
    let mut finalizers =
        definition["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|it| it == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    definition["metadata"]["finalizers"] = finalizers.into();
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin \
                   soon";
    set_condition(definition, terminating("True", "InstanceDeletionPending", message), now);
}

/// Deletes the objects of a definition that was marked, and ends it if none of them stays.
pub(crate) async fn sweep(call: &Call, definition: &Value) -> Result<(), Status> {
    let (group, plural) = defined(definition);
    tell_progress(&call.server, &group, &plural).await;
    let catalog = call.server.catalog();
    let served = catalog.all().iter().find(|it| it.custom.is_some() && it.is(&group, &plural));
    if let Some(resource) = served {
        let records = call.server.store.scan(&registry::prefix(&group, &plural, ""));
        delete::all_of(call, resource, &records).await?;
    }
    finish(&call.server, &group, &plural).await;
    Ok(())
}

/// Says in a definition's conditions that its objects are being deleted.
async fn tell_progress(server: &Server, group: &str, plural: &str) {
    let key = registry::key(GROUP, PLURAL, "", &format!("{plural}.{group}"));
    let Some(record) = server.store.get(&key) else { return };
    let mut definition = registry::decode(&record);
    let has_finalizer = definition["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|all| all.iter().any(|it| it == FINALIZER));
    if meta(&definition, "deletionTimestamp").is_empty() || !has_finalizer {
        return;
    }
    let message = "CustomResource deletion is in progress";
    let progress = terminating("True", "InstanceDeletionInProgress", message);
    set_condition(&mut definition, progress, &timestamp(server.clock.now()));
    let stored = registry::encode(&definition);
    // Who was faster goes on with it.
    if stored != record.value
        && server.store.commit(Txn::update(&*key, record.mod_revision, stored)).await.is_ok()
    {
        server.learn_definitions();
    }
}

/// Ends the definition of these objects if it is marked and none of them is left.
pub(crate) async fn finish(server: &Server, group: &str, plural: &str) {
    let key = registry::key(GROUP, PLURAL, "", &format!("{plural}.{group}"));
    let Some(record) = server.store.get(&key) else { return };
    let mut definition = registry::decode(&record);
    if meta(&definition, "deletionTimestamp").is_empty() {
        return;
    }
    let is_left = !server.store.scan(&registry::prefix(group, plural, "")).is_empty();
    if is_left && !builtin::has(group, plural) {
        return;
    }
    let finalizers = definition["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let kept: Vec<Value> = finalizers.iter().filter(|it| *it != FINALIZER).cloned().collect();
    if kept.len() == finalizers.len() {
        return;
    }
    let txn = if kept.is_empty() {
        Txn::delete(&*key, record.mod_revision)
    } else {
        definition["metadata"]["finalizers"] = kept.into();
        let now = timestamp(server.clock.now());
        let done = terminating("False", "InstanceDeletionCompleted", "removed all instances");
        set_condition(&mut definition, done, &now);
        Txn::update(&*key, record.mod_revision, registry::encode(&definition))
    };
    // Who was faster has seen the same, or will.
    if server.store.commit(txn).await.is_ok() {
        server.learn_definitions();
        free_names(server, group).await;
    }
}

/// Definitions that wait for a name get it once nobody has it any more.
async fn free_names(server: &Server, group: &str) {
    for record in server.store.scan(&registry::prefix(GROUP, PLURAL, "")) {
        let mut definition = registry::decode(&record);
        if defined(&definition).0 != group || super::is_true(&definition, "NamesAccepted") {
            continue;
        }
        let verdict = names::judge(&definition, &server.catalog());
        names::write(&mut definition, verdict, &timestamp(server.clock.now()));
        let stored = registry::encode(&definition);
        if stored != record.value
            && server
                .store
                .commit(Txn::update(&*record.key, record.mod_revision, stored))
                .await
                .is_ok()
        {
            server.learn_definitions();
        }
    }
}

/// Goes on with what was left: definitions that are marked, with objects that nobody has deleted or
/// whose last went while no server looked.
pub(crate) async fn finish_all(server: &Arc<Server>) {
    for record in server.store.scan(&registry::prefix(GROUP, PLURAL, "")) {
        let text = std::str::from_utf8(&record.value).unwrap_or_default();
        if !text.contains("deletionTimestamp") {
            continue;
        }
        let definition = registry::decode(&record);
        if meta(&definition, "deletionTimestamp").is_empty() {
            continue;
        }
        let (group, plural) = defined(&definition);
        tell_progress(server, &group, &plural).await;
        delete_left(server, &group, &plural).await;
        finish(server, &group, &plural).await;
    }
}

async fn delete_left(server: &Arc<Server>, group: &str, plural: &str) {
    let catalog = server.catalog();
    let Some(resource) =
        catalog.all().iter().find(|it| it.custom.is_some() && it.is(group, plural))
    else {
        return;
    };
    for record in server.store.scan(&registry::prefix(group, plural, "")) {
        let object = registry::decode(&record);
        let is_marked = !meta(&object, "deletionTimestamp").is_empty();
        if !is_marked && let Err(error) = bootstrap::delete(server, resource, &object).await {
            tracing::warn!(%error, "an object of a definition that ends could not be deleted");
        }
    }
}
