//! ServiceAccount: every pod runs as an account, and gets its token as a projected volume.
//!
//! Upstream: plugin/pkg/admission/serviceaccount.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{Attributes, pod_defaults::push};
use crate::{
    authz::{Objects, items, text},
    status::Status,
};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";

/// Upstream's expiry of the default volume's tokens: an hour and a mark to know them by.
const TOKEN_SECONDS: i64 = 3607;

/// The default account of a new namespace may be a moment late; upstream waits as often.
const DEFAULT_ACCOUNT_ATTEMPTS: usize = 10;
const DEFAULT_ACCOUNT_INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn admit(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    pod: &mut Value,
) -> Result<(), Status> {
    if pod.pointer(MIRROR).is_some() {
        return check_mirror_pod(attributes, pod);
    }
    if text(pod, "/spec/serviceAccountName").is_empty() {
        let name = match text(pod, "/spec/serviceAccount") {
            "" => "default".to_owned(),
            given => given.to_owned(),
        };
        pod["spec"]["serviceAccountName"] = name.into();
    }
    let name = text(pod, "/spec/serviceAccountName").to_owned();
    pod["spec"]["serviceAccount"] = name.clone().into();
    let namespace = &attributes.info.namespace;
    let Some(account) = find(objects, namespace, &name).await else {
        let why = format!(
            "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not \
             found"
        );
        return Err(attributes.forbidden(pod, &why));
    };
    if wants_token(&account, pod) {
        mount_token(pod);
    }
    if items(pod, "/spec/imagePullSecrets").is_empty()
        && !items(&account, "/imagePullSecrets").is_empty()
    {
        pod["spec"]["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    Ok(())
}

async fn find(objects: &dyn Objects, namespace: &str, name: &str) -> Option<Arc<Value>> {
    let attempts = if name == "default" { DEFAULT_ACCOUNT_ATTEMPTS } else { 1 };
    for attempt in 1..=attempts {
        if let Some(account) = objects.get("serviceaccounts", namespace, name) {
            return Some(account);
        }
        if attempt < attempts {
            tokio::time::sleep(DEFAULT_ACCOUNT_INTERVAL).await;
        }
    }
    None
}

fn check_mirror_pod(attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        let why = "a mirror pod may not reference service accounts";
        return Err(attributes.forbidden(pod, why));
    }
    let projects_token = |volume: &Value| {
        items(volume, "/projected/sources").iter().any(|it| it.get("serviceAccountToken").is_some())
    };
    if items(pod, "/spec/volumes").iter().any(projects_token) {
        let why = "a mirror pod may not use ServiceAccountToken volume projections";
        return Err(attributes.forbidden(pod, why));
    }
    Ok(())
}

fn wants_token(account: &Value, pod: &Value) -> bool {
    let own = pod.pointer("/spec/automountServiceAccountToken").and_then(Value::as_bool);
    let inherited = account.get("automountServiceAccountToken").and_then(Value::as_bool);
    own.or(inherited).unwrap_or(true)
}

fn mount_token(pod: &mut Value) {
    let existing = items(pod, "/spec/volumes")
        .iter()
        .map(|volume| text(volume, "/name"))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let has_volume = existing.is_some();
    let name = existing.unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", entropy::name_suffix(5)));
    let mut is_needed = false;
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"][list].as_array_mut();
        for container in containers.into_iter().flatten() {
            let mounts = items(container, "/volumeMounts");
            if mounts.iter().any(|mount| text(mount, "/mountPath") == MOUNT_PATH) {
                continue;
            }
            is_needed = true;
            let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
            match container["volumeMounts"].as_array_mut() {
                Some(mounts) => mounts.push(mount),
                None => container["volumeMounts"] = json!([mount]),
            }
        }
    }
    if is_needed && !has_volume {
        push(pod, "volumes", token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}
