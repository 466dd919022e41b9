//! An add-on's objects: filled in, configured, applied, removed.
//!
//! What an earlier configuration asked for and this one does not is taken away again; what others have
//! added stays.

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Map, Value};

use super::{catalog, configuration, configure};
use crate::records::{Addon, Cluster};

/// The account that owns EKS's images, by region; this is us-east-1's.
const REGISTRY_ACCOUNT: &str = "602401143452";
/// What CoreDNS listens on in an IPv6 cluster.
const DNS_BY_IPV6: [&str; 4] = [
    "--listen=[::]:53",
    "--health-address=[::]:8080",
    "--ready-address=[::]:8181",
    "--metrics-address=[::]:9153",
];
const ACCOUNT: &str = "ServiceAccount";
/// The annotation by which a service account names its role.
const ROLE: &str = "eks.amazonaws.com/role-arn";
/// As `kubectl rollout restart` does it.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("the manifest of add-on `{addon}` is broken: {reason}")]
    Broken { addon: String, reason: String },
    #[error("failed to apply {kind} `{name}`")]
    Apply {
        kind: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// Creates the add-on's objects, or merges them into what is there.
pub(crate) async fn apply(
    client: &Client,
    region: &str,
    cluster: &Cluster,
    addon: &Addon,
) -> Result<(), ManifestError> {
    let previous = match (&addon.applied_configuration, &addon.applied_role) {
        (None, None) => Vec::new(),
        (configuration, role) => {
            let (configuration, role_arn) = (configuration.clone(), role.clone());
            objects(region, cluster, &Addon { configuration, role_arn, ..addon.clone() })?
        }
    };
    let wanted = objects(region, cluster, addon)?;
    for object in &wanted {
        let (api, name, kind) = parts(client, addon, object)?;
        let failed = |source| ManifestError::Apply {
            kind: kind.clone(),
            name: name.clone(),
            source: Box::new(source),
        };
        match api.create(&PostParams::default(), object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let before = previous.iter().find(|it| is_same(it, object));
                let patch = Patch::Merge(restarting(changes(before, object), addon));
                api.patch(&name, &PatchParams::default(), &patch).await.map_err(failed)?;
            }
            result => drop(result.map_err(failed)?),
        }
    }
    let is_stale = |it: &DynamicObject| !wanted.iter().any(|object| is_same(it, object));
    delete(client, addon, previous.into_iter().filter(is_stale)).await
}

fn is_same(one: &DynamicObject, other: &DynamicObject) -> bool {
    let (a, b) = (&one.metadata, &other.metadata);
    one.types == other.types && a.namespace == b.namespace && a.name == b.name
}

/// The merge patch that makes of what was applied before what is wanted now.
fn changes(before: Option<&DynamicObject>, wanted: &DynamicObject) -> Value {
    let value = |it: &DynamicObject| serde_json::to_value(it).unwrap_or(Value::Null);
    let mut patch = value(wanted);
    if let Some(before) = before {
        forget(&value(before), &mut patch);
    }
    patch
}

/// Pods that have another role than their add-on, or none, are made anew.
fn restarting(mut patch: Value, addon: &Addon) -> Value {
    if addon.role_arn != addon.applied_role
        && let Some(metadata) = patch.pointer_mut("/spec/template/metadata")
    {
        metadata["annotations"][RESTARTED] = addon.modified_at.to_string().into();
    }
    patch
}

/// Maps that others write into too.
const SHARED: [&str; 2] = ["annotations", "labels"];

/// `null`, which removes, for every field that was and is no more.
fn forget(before: &Value, patch: &mut Value) {
    let (Value::Object(before), Value::Object(patch)) = (before, patch) else { return };
    for (name, value) in before {
        if SHARED.contains(&&**name) {
            let now = patch.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            forget(value, now);
            continue;
        }
        match patch.get_mut(name) {
            Some(now) => forget(value, now),
            None => drop(patch.insert(name.clone(), Value::Null)),
        }
    }
}

/// Deletes the add-on's objects, in the reverse of their order.
pub(crate) async fn remove(
    client: &Client,
    region: &str,
    cluster: &Cluster,
    addon: &Addon,
) -> Result<(), ManifestError> {
    delete(client, addon, objects(region, cluster, addon)?.into_iter().rev()).await
}

async fn delete(
    client: &Client,
    addon: &Addon,
    objects: impl Iterator<Item = DynamicObject>,
) -> Result<(), ManifestError> {
    for object in objects {
        let (api, name, kind) = parts(client, addon, &object)?;
        match api.delete(&name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(source) => {
                return Err(ManifestError::Apply { kind, name, source: Box::new(source) });
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

fn parts(
    client: &Client,
    addon: &Addon,
    object: &DynamicObject,
) -> Result<(Api<DynamicObject>, String, String), ManifestError> {
    let broken = |reason: &str| ManifestError::Broken {
        addon: addon.name.clone(),
        reason: reason.to_owned(),
    };
    let types = object.types.as_ref().ok_or_else(|| broken("an object without a kind"))?;
    let kind = GroupVersionKind::try_from(types).map_err(|error| broken(&error.to_string()))?;
    let name = object.metadata.name.clone().ok_or_else(|| broken("an object without a name"))?;
    let resource = ApiResource::from_gvk(&kind);
    let api = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    Ok((api, name, kind.kind))
}

fn objects(
    region: &str,
    cluster: &Cluster,
    addon: &Addon,
) -> Result<Vec<DynamicObject>, ManifestError> {
    let broken = |reason: String| ManifestError::Broken { addon: addon.name.clone(), reason };
    let known = catalog::find(&addon.name).map_err(|fault| broken(fault.message))?;
    let registry = format!("{REGISTRY_ACCOUNT}.dkr.ecr.{region}.amazonaws.com");
    let text = known
        .manifest
        .replace("{{REGISTRY}}", &registry)
        .replace("{{VERSION}}", known.version)
        .replace("{{REGION}}", region)
        .replace("{{CLUSTER}}", &cluster.name)
        .replace("{{VPC}}", &cluster.vpc_id)
        .replace("{{CLUSTER_DNS}}", &cluster.cluster_dns())
        .replace("{{IS_IPV4}}", &(!cluster.is_ipv6()).to_string())
        .replace("{{IS_IPV6}}", &cluster.is_ipv6().to_string())
        .replace("{{ANY}}", if cluster.is_ipv6() { "::" } else { "0.0.0.0" })
        .replace("{{ANY_HOST}}", if cluster.is_ipv6() { "[::]" } else { "0.0.0.0" })
        .replace("{{API_HOST}}", &cluster.endpoint_host(region));
    let configuration = configuration::parse(addon.configuration.as_deref()).unwrap_or(Value::Null);
    let mut found = Vec::new();
    for part in text.split("\n---\n") {
        let mut value: Value =
            serde_saphyr::from_str(part).map_err(|error| broken(error.to_string()))?;
        if cluster.is_ipv6() && addon.name == "coredns" {
            listen_by_ipv6(&mut value);
        }
        configure::configure(&mut value, &configuration);
        if let Some(role) = addon.role_arn.as_deref().filter(|_| value["kind"] == ACCOUNT) {
            value["metadata"]["annotations"][ROLE] = role.into();
        }
        found.push(value);
    }
    found.extend(configure::further_objects(&configuration));
    let object = |it| serde_json::from_value(it).map_err(|error| broken(error.to_string()));
    found.into_iter().map(object).collect()
}

fn listen_by_ipv6(object: &mut Value) {
    let arguments = object.pointer_mut("/spec/template/spec/containers/0/args");
    if let Some(arguments) = arguments.and_then(Value::as_array_mut) {
        arguments.extend(DNS_BY_IPV6.map(Value::from));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `vpc-cni` with a role, after its objects were applied with another.
    fn addon(role: Option<&str>, applied: Option<&str>) -> Addon {
        serde_json::from_value(json!({
            "cluster": "a", "name": "vpc-cni", "version": "v1", "status": "Updating", "id": "i",
            "created_at": "2026-11-23T12:00:00Z", "modified_at": "2026-11-23T12:00:00Z",
            "role_arn": role, "applied_role": applied, "configuration": null, "tags": {},
            "issues": [], "preserve": false, "update_id": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_role_that_changes_restarts_the_pods_and_one_that_is_dropped_leaves_the_account() {
        let set = json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
        let restarts = |role, applied| {
            let patch = restarting(set.clone(), &addon(role, applied));
            patch["spec"]["template"]["metadata"]["annotations"].is_object()
        };
        assert!(!restarts(None, None) && !restarts(Some("r"), Some("r")));
        assert!(restarts(Some("r"), None) && restarts(Some("r"), Some("s")));
        assert!(restarts(None, Some("r")));

        let account = |role: Option<&str>| {
            let mut value = json!({"apiVersion": "v1", "kind": ACCOUNT, "metadata": {"name": "n"}});
            if let Some(role) = role {
                value["metadata"]["annotations"] = json!({ROLE: role});
            }
            serde_json::from_value::<DynamicObject>(value).unwrap()
        };
        let dropped = changes(Some(&account(Some("r"))), &account(None));
        // All that the customer has annotated stays with a merge patch that names one.
        assert_eq!(dropped["metadata"]["annotations"], json!({ROLE: null}));
    }

    #[test]
    fn what_was_configured_and_is_no_more_is_removed_and_what_others_added_is_not() {
        let before = json!({"a": {"b": 1, "c": [1], "d": {"e": 1}}, "f": {"g": 1}});
        let mut patch = json!({"a": {"b": 2, "d": {}}});
        forget(&before, &mut patch);
        let wanted = json!({"a": {"b": 2, "c": null, "d": {"e": null}}, "f": null});
        assert_eq!(patch, wanted);
    }

    #[test]
    fn every_manifest_is_whole_once_filled_in() {
        for known in &catalog::ADDONS {
            for part in known.manifest.split("\n---\n") {
                let value: Value = serde_saphyr::from_str(part).unwrap();
                assert!(value["metadata"]["name"].is_string(), "{}: {part}", known.name);
            }
        }
    }
}
