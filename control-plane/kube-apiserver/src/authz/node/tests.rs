//! What must hold of `node`.

use serde_json::json;

use super::*;
use crate::authz::testing::Memory;

fn kubelet(node: &str) -> UserInfo {
    UserInfo::new(&format!("system:node:{node}"), &["system:bootstrappers", "system:nodes"])
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "metadata": {"namespace": "ns", "name": name},
        "spec": {
            "nodeName": node, "serviceAccountName": "web",
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "init"}}}]}],
            "containers": [{"envFrom": [{"configMapRef": {"name": "settings"}}]}],
            "volumes": [
                {"secret": {"secretName": "mounted"}},
                {"projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                {"persistentVolumeClaim": {"claimName": "data"}},
            ],
        },
    })
}

fn ask(objects: &Memory, node: &str, method: &str, target: &str) -> Decision {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let info = RequestInfo::parse(&method.parse().unwrap(), path, query);
    NodeAuthorizer::new(objects).authorize(&kubelet(node), &info)
}

fn may(objects: &Memory, node: &str, method: &str, target: &str) -> bool {
    matches!(ask(objects, node, method, target), Decision::Allow(_))
}

#[test]
fn a_node_reads_what_its_pods_name_and_another_node_does_not() {
    let objects = Memory::with(&[("pods", pod("p", "a"))]);
    for path in [
        "secrets/pull",
        "secrets/init",
        "secrets/mounted",
        "configmaps/settings",
        "configmaps/kube-root-ca.crt",
        "persistentvolumeclaims/data",
        "pods/p",
    ] {
        let path = format!("/api/v1/namespaces/ns/{path}");
        assert!(may(&objects, "a", "GET", &path), "{path}");
        assert!(!may(&objects, "b", "GET", &path), "{path}");
    }
}

#[test]
fn a_node_reads_no_secret_that_nothing_names_and_no_list_of_them() {
    let objects = Memory::with(&[("pods", pod("p", "a"))]);
    let refused = ask(&objects, "a", "GET", "/api/v1/namespaces/ns/secrets/other");
    let reason = "no relationship found between node 'a' and this object";
    assert_eq!(refused, Decision::NoOpinion(reason.into()));
    assert!(!may(&objects, "a", "GET", "/api/v1/namespaces/ns/secrets"));
    assert!(!may(&objects, "a", "GET", "/api/v1/secrets"));
    assert!(!may(&objects, "a", "DELETE", "/api/v1/namespaces/ns/secrets/mounted"));
    assert!(!may(&objects, "a", "GET", "/api/v1/namespaces/other/secrets/mounted"));
}

#[test]
fn a_mirror_pod_opens_no_path() {
    let mut mirror = pod("p", "a");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let objects = Memory::with(&[("pods", mirror)]);
    assert!(!may(&objects, "a", "GET", "/api/v1/namespaces/ns/secrets/mounted"));
}

#[test]
fn a_token_is_made_only_for_the_accounts_of_own_pods() {
    let objects = Memory::with(&[("pods", pod("p", "a"))]);
    let token = "/api/v1/namespaces/ns/serviceaccounts/web/token";
    assert!(may(&objects, "a", "POST", token));
    assert!(!may(&objects, "b", "POST", token));
    assert!(!may(&objects, "a", "POST", "/api/v1/namespaces/ns/serviceaccounts/admin/token"));
}

#[test]
fn a_node_touches_its_own_node_and_lease_only() {
    let objects = Memory::default();
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert!(may(&objects, "a", "PUT", &format!("{lease}/a")));
    assert!(!may(&objects, "a", "PUT", &format!("{lease}/b")));
    assert!(!may(
        &objects,
        "a",
        "GET",
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/a"
    ));
    assert!(may(&objects, "a", "GET", "/api/v1/nodes/a"));
    assert!(!may(&objects, "a", "GET", "/api/v1/nodes/b"));
    assert!(!may(&objects, "a", "GET", "/api/v1/nodes"));
    assert!(!may(&objects, "a", "DELETE", "/api/v1/nodes/a"));
}

#[test]
fn a_node_lists_pods_only_by_its_own_name() {
    let objects = Memory::default();
    assert!(may(&objects, "a", "GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Da&watch=1"));
    assert!(!may(&objects, "a", "GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Db"));
    assert!(!may(&objects, "a", "GET", "/api/v1/pods?fieldSelector=spec.nodeName!%3Da"));
    assert!(!may(&objects, "a", "GET", "/api/v1/pods"));
}

#[test]
fn the_name_alone_does_not_make_a_node() {
    let info = RequestInfo::parse(&http::Method::GET, "/api/v1/nodes/a", "");
    let imposter = UserInfo::new("system:node:a", &[]);
    let decision = NodeAuthorizer::new(&Memory::default()).authorize(&imposter, &info);
    assert_eq!(decision, Decision::NoOpinion(String::new()));
}

#[test]
fn a_node_evicts_its_own_pods_only() {
    let objects = Memory::with(&[("pods", pod("p", "a"))]);
    let eviction = "/api/v1/namespaces/ns/pods/p/eviction";
    assert!(may(&objects, "a", "POST", eviction));
    assert!(!may(&objects, "b", "POST", eviction));
}

#[test]
fn a_node_reads_the_claims_of_its_pods_and_manages_its_own_slices() {
    let mut own = pod("p", "a");
    own["spec"]["resourceClaims"] = json!([{"name": "x", "resourceClaimName": "shared"}]);
    own["status"]["resourceClaimStatuses"] = json!([{"name": "y", "resourceClaimName": "made"}]);
    let slice = json!({"metadata": {"name": "s"}, "spec": {"nodeName": "a"}});
    let objects = Memory::with(&[("pods", own), ("resourceslices.resource.k8s.io", slice)]);
    let base = "/apis/resource.k8s.io/v1";
    for claim in ["shared", "made"] {
        let path = format!("{base}/namespaces/ns/resourceclaims/{claim}");
        assert!(may(&objects, "a", "GET", &path), "{path}");
        assert!(!may(&objects, "b", "GET", &path), "{path}");
        assert!(!may(&objects, "a", "PUT", &path), "{path}");
    }
    assert!(!may(&objects, "a", "GET", &format!("{base}/namespaces/ns/resourceclaims/other")));
    let path = format!("{base}/resourceslices/s");
    assert!(may(&objects, "a", "DELETE", &path) && !may(&objects, "b", "DELETE", &path));
    let all = format!("{base}/resourceslices");
    assert!(may(&objects, "b", "POST", &all));
    assert!(!may(&objects, "a", "DELETE", &all));
    assert!(may(&objects, "a", "DELETE", &format!("{all}?fieldSelector=spec.nodeName%3Da")));
    assert!(!may(&objects, "b", "GET", &format!("{all}?fieldSelector=spec.nodeName%3Da")));
}
