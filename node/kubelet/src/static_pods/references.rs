//! What a static pod may not refer to: it runs without the API server, so no object of that is there
//! for it, and a node that could name any would read what is not its own.
//!
//! Upstream: `HasAPIObjectReference` in `pkg/api/pod/util.go`, `pkg/kubelet/config/common.go`; its gate
//! `PreventStaticPodAPIReferences` is on in 1.36.

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::{
    objects::{self, ObjectKind},
    pod::PodExt,
};

/// The resource of the first object that a pod refers to, in upstream's words.
pub(super) fn first(pod: &Pod) -> Option<&'static str> {
    let spec = PodExt::spec(pod);
    if spec.service_account_name.as_ref().is_some_and(|it| !it.is_empty()) {
        return Some("serviceaccounts");
    }
    let kinds: Vec<_> = objects::references(pod).into_iter().map(|it| it.0).collect();
    let volumes = || spec.volumes.iter().flatten();
    if kinds.contains(&ObjectKind::Secret) || volumes().any(has_secret) {
        return Some("secrets");
    }
    if kinds.contains(&ObjectKind::ConfigMap) {
        return Some("configmaps");
    }
    if spec.resource_claims.as_ref().is_some_and(|it| !it.is_empty()) {
        return Some("resourceclaims");
    }
    volumes().find_map(of_volume)
}

/// Secrets with which volumes are mounted.
fn has_secret(volume: &Volume) -> bool {
    volume.azure_file.is_some()
        || volume.csi.as_ref().is_some_and(|it| it.node_publish_secret_ref.is_some())
        || volume.cephfs.as_ref().is_some_and(|it| it.secret_ref.is_some())
        || volume.cinder.as_ref().is_some_and(|it| it.secret_ref.is_some())
        || volume.flex_volume.as_ref().is_some_and(|it| it.secret_ref.is_some())
        || volume.iscsi.as_ref().is_some_and(|it| it.secret_ref.is_some())
        || volume.rbd.as_ref().is_some_and(|it| it.secret_ref.is_some())
        || volume.scale_io.is_some()
        || volume.storageos.as_ref().is_some_and(|it| it.secret_ref.is_some())
}

fn of_volume(volume: &Volume) -> Option<&'static str> {
    if volume.csi.is_some() {
        return Some("csidrivers (via CSI volumes)");
    }
    if volume.glusterfs.is_some() {
        return Some("endpoints (via glusterFS volumes)");
    }
    if volume.persistent_volume_claim.is_some() {
        return Some("persistentvolumeclaims");
    }
    if volume.ephemeral.is_some() {
        return Some("persistentvolumeclaims (via ephemeral volumes)");
    }
    volume.projected.iter().flat_map(|it| it.sources.iter().flatten()).find_map(|source| {
        if source.service_account_token.is_some() {
            return Some("serviceaccounts (via projected volumes)");
        }
        if source.cluster_trust_bundle.is_some() {
            return Some("clustertrustbundles");
        }
        source.pod_certificate.as_ref().map(|_| "podcertificates")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn referred(mut spec: Value) -> Option<&'static str> {
        if spec["containers"].is_null() {
            spec["containers"] = json!([{ "name": "c" }]);
        }
        first(&serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap())
    }

    #[test]
    fn each_object_that_a_pod_can_name_is_found() {
        let from = |source: Value| {
            let container = json!({ "name": "c", "envFrom": [source] });
            referred(json!({ "containers": [container] }))
        };
        let mount = |mut volume: Value| {
            volume["name"] = json!("v");
            referred(json!({ "volumes": [volume] }))
        };
        let projected = |source: Value| mount(json!({ "projected": { "sources": [source] } }));
        assert_eq!(referred(json!({ "serviceAccountName": "a" })), Some("serviceaccounts"));
        assert_eq!(referred(json!({ "serviceAccountName": "" })), None);
        assert_eq!(referred(json!({ "imagePullSecrets": [{ "name": "s" }] })), Some("secrets"));
        assert_eq!(from(json!({ "secretRef": { "name": "s" } })), Some("secrets"));
        assert_eq!(from(json!({ "configMapRef": { "name": "s" } })), Some("configmaps"));
        assert_eq!(mount(json!({ "secret": { "secretName": "s" } })), Some("secrets"));
        assert_eq!(mount(json!({ "configMap": { "name": "s" } })), Some("configmaps"));
        let claims = json!({ "resourceClaims": [{ "name": "c", "resourceClaimName": "c" }] });
        assert_eq!(referred(claims), Some("resourceclaims"));
        let claim = json!({ "persistentVolumeClaim": { "claimName": "c" } });
        assert_eq!(mount(claim), Some("persistentvolumeclaims"));
        let driver = json!({ "csi": { "driver": "d" } });
        assert_eq!(mount(driver), Some("csidrivers (via CSI volumes)"));
        let token = json!({ "serviceAccountToken": { "path": "t" } });
        assert_eq!(projected(token), Some("serviceaccounts (via projected volumes)"));
        let bundle = json!({ "clusterTrustBundle": { "path": "t", "name": "b" } });
        assert_eq!(projected(bundle), Some("clustertrustbundles"));
        assert_eq!(mount(json!({ "hostPath": { "path": "/" } })), None);
        assert_eq!(projected(json!({ "downwardAPI": { "items": [] } })), None);
    }
}
