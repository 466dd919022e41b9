//! The APIServices of what is served here: made at the start for what is built in or served by another
//! part of this process, and kept beside the definitions for custom resources.
//!
//! Upstream: the `autoregister` and `crdregistration` controllers of kube-aggregator and kube-apiserver.

use std::{collections::HashSet, sync::Arc};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    AVAILABLE, Api, GROUP, PLURAL, condition,
    order::{CUSTOM, DELEGATED, Priority},
};
use crate::{
    bootstrap::{self, StartError},
    conditions,
    resources::{Catalog, meta},
    server::Server,
};

/// Who made an APIService, and whether it comes back when it is gone.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

fn service(group: &str, version: &str, priority: Priority, managed: &str) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {
            "name": format!("{version}.{group}"), "labels": { AUTOMANAGED: managed },
        },
        "spec": {
            "group": group, "version": version, "groupPriorityMinimum": priority.group,
            "versionPriority": priority.version,
        },
    })
}

/// An APIService for each version that is built in or served by another part of this process.
pub(crate) fn bootstrap_objects(catalog: &Catalog) -> Vec<Value> {
    let core = (String::new(), vec!["v1".to_owned()]);
    let mut services = Vec::new();
    for (group, versions) in std::iter::once(&core).chain(catalog.groups()) {
        for version in versions {
            let Some(first) = catalog.of_version(group, version).next() else { continue };
            if first.custom.is_some() {
                continue;
            }
            let priority = match first.delegated {
                Some(_) => DELEGATED,
                None => Priority::builtin(group, version).unwrap_or(CUSTOM),
            };
            services.push(service(group, version, priority, "onstart"));
        }
    }
    services
}

/// The stored one as it should be, if it is not: one that an older version made.
pub(crate) fn reconciled(stored: &Value, wanted: &Value) -> Option<Value> {
    let is_own = stored["metadata"]["labels"][AUTOMANAGED] == "onstart";
    if !is_own || stored["spec"]["service"].is_object() {
        return None;
    }
    with_spec(stored, wanted)
}

/// The stored one with the spec that is wanted, if it has another.
fn with_spec(stored: &Value, wanted: &Value) -> Option<Value> {
    if stored["spec"] == wanted["spec"] {
        return None;
    }
    let mut next = stored.clone();
    next["spec"] = wanted["spec"].clone();
    Some(next)
}

/// What is served here is available at once; of others nothing is known until they were asked.
pub(crate) fn prepare(old: Option<&Value>, service: &mut Value, now: &str) {
    let is_local = |it: &Value| !it["spec"]["service"].is_object();
    let Some(old) = old else {
        service["status"] = json!({});
        if is_local(service) {
            tell_local(service, now);
        }
        return;
    };
    if is_local(service) {
        if condition(service).is_none_or(|it| it["reason"] != "Local") {
            tell_local(service, now);
        }
    } else if is_local(old)
        && let Some(conditions) = service["status"]["conditions"].as_array_mut()
    {
        conditions.retain(|it| it["type"] != AVAILABLE);
    }
}

fn tell_local(service: &mut Value, now: &str) {
    let condition = json!({
        "type": AVAILABLE, "status": "True", "reason": "Local",
        "message": "Local APIServices are always available",
    });
    conditions::set(service, condition, now);
}

/// `v1.apps`: the name that an APIService's group and version make.
pub(crate) fn expected_name(service: &Value) -> String {
    let part = |field: &str| service["spec"][field].as_str().unwrap_or_default();
    format!("{}.{}", part("version"), part("group"))
}

/// Makes the APIServices of custom resources, keeps them as they should be, and takes those away whose
/// definition is gone.
pub(super) async fn follow_definitions(server: &Arc<Server>) -> Result<(), StartError> {
    let catalog = server.catalog();
    let custom = catalog.all().iter().filter(|it| it.custom.is_some());
    let wanted: HashSet<Api> = custom.map(|it| (it.group.clone(), it.version.clone())).collect();
    let stored = server.objects.list(GROUP, PLURAL, "");
    let names: HashSet<&str> = stored.iter().map(|it| meta(it, "name")).collect();
    for (group, version) in &wanted {
        if !names.contains(format!("{version}.{group}").as_str()) {
            let object = service(group, version, CUSTOM, "true");
            let tolerated = &[StatusCode::CONFLICT];
            bootstrap::send(server, Method::POST, PATH.into(), &object, tolerated).await?;
        }
    }
    for object in &stored {
        let spec = &object["spec"];
        let part = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
        let api = (part("group"), part("version"));
        if object["metadata"]["labels"][AUTOMANAGED] != "true" {
            continue;
        }
        let path = format!("{PATH}/{}", meta(object, "name"));
        if wanted.contains(&api) {
            let tolerated = &[StatusCode::CONFLICT, StatusCode::NOT_FOUND];
            if let Some(next) = with_spec(object, &service(&api.0, &api.1, CUSTOM, "true")) {
                bootstrap::send(server, Method::PUT, path, &next, tolerated).await?;
            }
        } else {
            let options = json!({
                "kind": "DeleteOptions", "apiVersion": "v1",
                "preconditions": { "resourceVersion": meta(object, "resourceVersion") },
            });
            let tolerated = &[StatusCode::CONFLICT, StatusCode::NOT_FOUND];
            bootstrap::send(server, Method::DELETE, path, &options, tolerated).await?;
        }
    }
    Ok(())
}
