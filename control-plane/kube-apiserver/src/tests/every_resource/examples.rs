//! One object of every stored resource.

use serde_json::{Value, json};

use crate::resources::Resource;

pub(super) struct Example {
    pub(super) object: Value,
}

impl Example {
    pub(super) fn is_of(&self, resource: &Resource) -> bool {
        self.object["kind"] == *resource.kind
            && self.object["apiVersion"] == *resource.api_version()
    }
}

/// An object of that type and name; the rest are its fields.
fn of(api_version: &str, kind: &str, fields: Value) -> Example {
    named(api_version, kind, "example", fields)
}

fn named(api_version: &str, kind: &str, name: &str, fields: Value) -> Example {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
    for (field, value) in fields.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
    Example { object }
}

fn pod_spec() -> Value {
    json!({"containers": [{"name": "a", "image": "example.com/a:1"}]})
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": pod_spec()})
}

fn workload() -> Value {
    json!({"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template()}})
}

pub(super) fn examples() -> Vec<Example> {
    let all = [core(), workloads(), access(), network(), cluster(), extension(), devices()];
    all.into_iter().flatten().collect()
}

fn core() -> Vec<Example> {
    let event = json!({
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "metadata": {"name": "example", "namespace": "default"}, "reason": "R", "message": "M",
        "type": "Normal",
    });
    let volume = json!({"spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/tmp/x"},
    }});
    let claim = json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }});
    let limits = json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}});
    let controller = json!({"spec": {"selector": {"app": "a"}, "template": template()}});
    vec![
        of("v1", "ConfigMap", json!({"data": {"k": "v"}})),
        of(
            "v1",
            "Endpoints",
            json!({"subsets": [
            {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
        ),
        of("v1", "Event", event),
        of("v1", "LimitRange", limits),
        of("v1", "Namespace", json!({})),
        of("v1", "Node", json!({})),
        of("v1", "PersistentVolumeClaim", claim),
        of("v1", "PersistentVolume", volume),
        of("v1", "Pod", json!({"spec": pod_spec()})),
        of("v1", "PodTemplate", json!({"template": template()})),
        of("v1", "ReplicationController", controller),
        of("v1", "ResourceQuota", json!({"spec": {"hard": {"pods": "100"}}})),
        of("v1", "Secret", json!({"stringData": {"k": "v"}})),
        of("v1", "ServiceAccount", json!({})),
        of("v1", "Service", json!({"spec": {"ports": [{"port": 80}]}})),
        of(
            "events.k8s.io/v1",
            "Event",
            json!({
                "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c",
                "reportingInstance": "i", "action": "A", "reason": "R", "type": "Normal",
                "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
            }),
        ),
    ]
}

fn workloads() -> Vec<Example> {
    let mut set = workload();
    set["spec"]["serviceName"] = "s".into();
    let mut once = pod_spec();
    once["restartPolicy"] = "Never".into();
    let job = json!({"template": {"spec": once}});
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    vec![
        of("apps/v1", "ControllerRevision", json!({"revision": 1, "data": {"a": 1}})),
        of("apps/v1", "DaemonSet", workload()),
        of("apps/v1", "Deployment", workload()),
        of("apps/v1", "ReplicaSet", workload()),
        of("apps/v1", "StatefulSet", set),
        of(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({
                "spec": {"maxReplicas": 2, "scaleTargetRef": target},
            }),
        ),
        of(
            "autoscaling/v1",
            "HorizontalPodAutoscaler",
            json!({"spec": {
                "maxReplicas": 2, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50,
            }}),
        ),
        of(
            "batch/v1",
            "CronJob",
            json!({
                "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job}},
            }),
        ),
        of("batch/v1", "Job", json!({"spec": job})),
        of(
            "policy/v1",
            "PodDisruptionBudget",
            json!({
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}},
            }),
        ),
        of("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 5})),
        of("coordination.k8s.io/v1", "Lease", json!({"spec": {"holderIdentity": "h"}})),
    ]
}

fn access() -> Vec<Example> {
    const GROUP: &str = "rbac.authorization.k8s.io/v1";
    let rules = json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    let binding = |kind: &str| {
        json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "example"},
            "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}],
        })
    };
    vec![
        of(GROUP, "ClusterRoleBinding", binding("ClusterRole")),
        of(GROUP, "ClusterRole", rules.clone()),
        of(GROUP, "RoleBinding", binding("Role")),
        of(GROUP, "Role", rules),
        of(
            "certificates.k8s.io/v1",
            "CertificateSigningRequest",
            json!({"spec": {
                "request": REQUEST, "signerName": "example.com/signer", "usages": ["client auth"],
            }}),
        ),
        of(
            "certificates.k8s.io/v1beta1",
            "ClusterTrustBundle",
            json!({
                "spec": {"trustBundle": certificate()},
            }),
        ),
    ]
}

/// A request for a certificate, in PEM and Base64.
const REQUEST: &str = include_str!("request.txt");

fn certificate() -> String {
    pki::Ca::new("example").unwrap().certificate_pem().to_owned()
}

fn network() -> Vec<Example> {
    const GROUP: &str = "networking.k8s.io/v1";
    let backend = json!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}});
    vec![
        of(GROUP, "IngressClass", json!({"spec": {"controller": "example.com/c"}})),
        of(GROUP, "Ingress", json!({"spec": backend})),
        named(
            GROUP,
            "IPAddress",
            "192.0.2.1",
            json!({"spec": {"parentRef": {
                "group": "g", "resource": "r", "namespace": "n", "name": "b",
            }}}),
        ),
        of(GROUP, "NetworkPolicy", json!({"spec": {"podSelector": {}}})),
        of(GROUP, "ServiceCIDR", json!({"spec": {"cidrs": ["203.0.113.0/24"]}})),
        of(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({
                "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}],
            }),
        ),
    ]
}

fn cluster() -> Vec<Example> {
    const GROUP: &str = "storage.k8s.io/v1";
    const FLOW: &str = "flowcontrol.apiserver.k8s.io/v1";
    let flow = json!({
        "priorityLevelConfiguration": {"name": "example"}, "matchingPrecedence": 5,
        "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "u"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }],
    });
    let level = json!({
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}},
    });
    vec![
        of(GROUP, "CSIDriver", json!({"spec": {}})),
        of(GROUP, "CSINode", json!({"spec": {"drivers": []}})),
        of(GROUP, "CSIStorageCapacity", json!({"storageClassName": "s"})),
        of(GROUP, "StorageClass", json!({"provisioner": "example.com/p"})),
        of(
            GROUP,
            "VolumeAttachment",
            json!({"spec": {
                "attacher": "p.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"},
            }}),
        ),
        of(
            GROUP,
            "VolumeAttributesClass",
            json!({
                "driverName": "example.com/p", "parameters": {"a": "b"},
            }),
        ),
        of("node.k8s.io/v1", "RuntimeClass", json!({"handler": "runc"})),
        of(FLOW, "FlowSchema", json!({"spec": flow})),
        of(FLOW, "PriorityLevelConfiguration", json!({"spec": level})),
    ]
}

fn extension() -> Vec<Example> {
    const GROUP: &str = "admissionregistration.k8s.io/v1";
    let webhooks = json!({"webhooks": [{
        "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://127.0.0.1:1/x"}, "failurePolicy": "Ignore",
        "rules": [{"apiGroups": ["none.example.com"], "apiVersions": ["v1"],
            "operations": ["CREATE"], "resources": ["nothings"]}],
    }]});
    let rules = json!([{"apiGroups": ["none.example.com"], "apiVersions": ["v1"],
        "operations": ["CREATE"], "resources": ["nothings"]}]);
    let definition = json!({"spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}],
    }});
    vec![
        of(
            GROUP,
            "MutatingAdmissionPolicy",
            json!({"spec": {
                "matchConstraints": {"resourceRules": rules},
                "reinvocationPolicy": "Never",
                "mutations": [{
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": "Object{}"},
                }],
            }}),
        ),
        of(GROUP, "MutatingAdmissionPolicyBinding", json!({"spec": {"policyName": "example"}})),
        of(GROUP, "MutatingWebhookConfiguration", webhooks.clone()),
        of(
            GROUP,
            "ValidatingAdmissionPolicy",
            json!({"spec": {
                "matchConstraints": {"resourceRules": rules},
                "validations": [{"expression": "true"}],
            }}),
        ),
        of(
            GROUP,
            "ValidatingAdmissionPolicyBinding",
            json!({
                "spec": {"policyName": "example", "validationActions": ["Deny"]},
            }),
        ),
        of(GROUP, "ValidatingWebhookConfiguration", webhooks),
        named(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "things.example.com",
            definition,
        ),
        named(
            "apiregistration.k8s.io/v1",
            "APIService",
            "v1.example.com",
            json!({"spec": {
                "group": "example.com", "version": "v1", "groupPriorityMinimum": 1000,
                "versionPriority": 15,
            }}),
        ),
    ]
}

fn devices() -> Vec<Example> {
    const GROUP: &str = "resource.k8s.io/v1";
    let claim = json!({"devices": {"requests": [
        {"name": "r", "exactly": {"deviceClassName": "example.com"}}]}});
    vec![
        of(GROUP, "DeviceClass", json!({"spec": {}})),
        of(GROUP, "ResourceClaim", json!({"spec": claim})),
        of(GROUP, "ResourceClaimTemplate", json!({"spec": {"spec": claim}})),
        of(
            GROUP,
            "ResourceSlice",
            json!({"spec": {
                "driver": "example.com", "nodeName": "n",
                "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
            }}),
        ),
    ]
}
