//! An add-on's objects: filled in, configured, applied, removed.
//!
//! What an earlier configuration asked for and this one does not is taken away again; what others have
//! added stays, and what they have changed is resolved as [`field_management`] says.

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use super::{
    catalog, configuration, configure,
    field_management::{self, ResolveConflicts},
};
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
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("the manifest of add-on `{addon}` is broken: {reason}")]
    Broken { addon: String, reason: String },
    /// What others have changed, where that is not to be overwritten.
    #[error("others have changed fields of the add-on: {}", .0.join(", "))]
    Conflicts(Vec<String>),
    #[error("failed to apply {kind} `{name}`")]
    Apply {
        kind: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// Makes the add-on's objects as they are wanted, as far as `resolveConflicts` lets it.
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
    if addon.resolve_conflicts == ResolveConflicts::None {
        let found = conflicts(client, addon, &wanted).await?;
        if !found.is_empty() {
            return Err(ManifestError::Conflicts(found));
        }
    }
    for object in &wanted {
        let (api, name, kind) = parts(client, addon, object)?;
        let failed = |source| ManifestError::Apply {
            kind: kind.clone(),
            name: name.clone(),
            source: Box::new(source),
        };
        let value = serde_json::to_value(object).unwrap_or(Value::Null);
        let restart = restart(&value, addon);
        field_management::apply(&api, &name, value, addon.resolve_conflicts)
            .await
            .map_err(failed)?;
        if let Some(restart) = restart {
            let patch = Patch::Merge(restart);
            api.patch(&name, &PatchParams::default(), &patch).await.map_err(failed)?;
        }
    }
    let is_stale = |it: &DynamicObject| !wanted.iter().any(|object| is_same(it, object));
    delete(client, addon, previous.into_iter().filter(is_stale)).await
}

fn is_same(one: &DynamicObject, other: &DynamicObject) -> bool {
    let (a, b) = (&one.metadata, &other.metadata);
    one.types == other.types && a.namespace == b.namespace && a.name == b.name
}

/// The fields that others have changed, as EKS lists them: `DaemonSet.apps aws-node - .spec.…`.
async fn conflicts(
    client: &Client,
    addon: &Addon,
    wanted: &[DynamicObject],
) -> Result<Vec<String>, ManifestError> {
    let mut found = Vec::new();
    for object in wanted {
        let (api, name, kind) = parts(client, addon, object)?;
        let value = serde_json::to_value(object).unwrap_or(Value::Null);
        let fields = field_management::conflicts(&api, &name, &value).await;
        let fields = fields.map_err(|source| ManifestError::Apply {
            kind: kind.clone(),
            name: name.clone(),
            source: Box::new(source),
        })?;
        let group = value["apiVersion"].as_str().and_then(|it| it.split_once('/'));
        let kind = group.map_or_else(|| kind.clone(), |(group, _)| format!("{kind}.{group}"));
        found.extend(fields.into_iter().map(|field| format!("{kind} {name} - {field}")));
    }
    Ok(found)
}

/// Pods that have another role than their add-on, or none, are made anew: as `kubectl rollout restart`
/// does it, whose annotation is not among the fields that EKS manages.
fn restart(object: &Value, addon: &Addon) -> Option<Value> {
    if addon.role_arn == addon.applied_role {
        return None;
    }
    object.pointer("/spec/template/metadata")?;
    let annotations = json!({RESTARTED: addon.modified_at.to_string()});
    Some(json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}))
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
    fn a_role_that_changes_restarts_the_pods() {
        let set = json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
        let restarts = |role, applied| {
            let patch = restart(&set, &addon(role, applied));
            patch.is_some_and(|it| {
                it["spec"]["template"]["metadata"]["annotations"][RESTARTED].is_string()
            })
        };
        assert!(!restarts(None, None) && !restarts(Some("r"), Some("r")));
        assert!(restarts(Some("r"), None) && restarts(Some("r"), Some("s")));
        assert!(restarts(None, Some("r")));
        let account = json!({"kind": ACCOUNT, "metadata": {"name": "n"}});
        assert_eq!(restart(&account, &addon(Some("r"), None)), None);
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
