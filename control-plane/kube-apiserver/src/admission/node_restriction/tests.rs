//! What must hold of `node_restriction`.

use serde_json::json;

use super::*;
use crate::authz::testing::Memory;

fn objects() -> Memory {
    let memory = Memory::default();
    for node in ["a", "b"] {
        let uid = format!("uid-{node}");
        memory.put("nodes", json!({"metadata": {"name": node, "uid": uid}}));
        let metadata = json!({"namespace": "ns", "name": format!("on-{node}")});
        memory.put("pods", json!({"metadata": metadata, "spec": {"nodeName": node}}));
    }
    memory
}

fn tried(method: &str, path: &str, old: Option<&Value>, new: &Value) -> Result<(), String> {
    let user = UserInfo::new("system:node:a", &["system:nodes"]);
    let info = RequestInfo::parse(&method.parse().unwrap(), path, "");
    let operation = match method {
        "POST" => Operation::Create,
        "DELETE" => Operation::Delete,
        _ => Operation::Update,
    };
    let attributes = Attributes { operation, user: &user, info: &info, old };
    check(&objects(), &attributes, new).map_err(|status| status.message)
}

fn node(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}})
}

#[test]
fn a_node_registers_itself_with_the_labels_of_a_kubelet() {
    let labels = json!({
        "kubernetes.io/hostname": "a", "topology.kubernetes.io/zone": "us-east-1a",
        "node.kubernetes.io/instance-type": "m5.large", "eks.amazonaws.com/nodegroup": "ng",
        "kubelet.kubernetes.io/x": "y", "example.com/mine": "z",
    });
    assert_eq!(tried("POST", "/api/v1/nodes", None, &node("a", labels)), Ok(()));
    let other = tried("POST", "/api/v1/nodes", None, &node("b", json!({}))).unwrap_err();
    assert!(other.ends_with("node \"a\" is not allowed to modify node \"b\""), "{other}");
}

#[test]
fn a_node_sets_no_label_that_others_schedule_by() {
    for label in [
        "node-restriction.kubernetes.io/team",
        "x.node-restriction.kubernetes.io/team",
        "node-role.kubernetes.io/control-plane",
        "kubernetes.io/anything",
        "k8s.io/anything",
        "sub.k8s.io/anything",
    ] {
        let labelled = node("a", json!({label: "x"}));
        assert!(tried("POST", "/api/v1/nodes", None, &labelled).is_err(), "set {label}");
        let bare = node("a", json!({}));
        for (old, new) in [(&bare, &labelled), (&labelled, &bare)] {
            for path in ["/api/v1/nodes/a", "/api/v1/nodes/a/status"] {
                let update = tried("PATCH", path, Some(old), new);
                assert!(update.is_err(), "change {label} at {path}");
            }
        }
        // What is there already does not stop other updates.
        assert_eq!(tried("PATCH", "/api/v1/nodes/a", Some(&labelled), &labelled), Ok(()));
    }
}

#[test]
fn a_node_does_not_lift_its_own_taints() {
    let mut tainted = node("a", json!({}));
    tainted["spec"] = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
    let free = node("a", json!({}));
    for (old, new) in [(&tainted, &free), (&free, &tainted)] {
        let refused = tried("PATCH", "/api/v1/nodes/a", Some(old), new).unwrap_err();
        assert!(refused.ends_with("node \"a\" is not allowed to modify taints"));
    }
    assert_eq!(tried("POST", "/api/v1/nodes", None, &tainted), Ok(()));
}

#[test]
fn a_node_writes_the_status_of_its_own_pods_only() {
    let pod = |node: &str| json!({"metadata": {"name": "p"}, "spec": {"nodeName": node}});
    let path = "/api/v1/namespaces/ns/pods/p/status";
    assert_eq!(tried("PATCH", path, Some(&pod("a")), &pod("a")), Ok(()));
    // What the request says about the node does not count.
    assert!(tried("PATCH", path, Some(&pod("b")), &pod("a")).is_err());
    let mut labelled = pod("a");
    labelled["metadata"]["labels"] = json!({"app": "other"});
    assert!(tried("PATCH", path, Some(&pod("a")), &labelled).is_err());
}

#[test]
fn a_node_deletes_and_evicts_its_own_pods_only() {
    let pod = |node: &str| json!({"metadata": {"name": "p"}, "spec": {"nodeName": node}});
    assert_eq!(tried("DELETE", "/api/v1/namespaces/ns/pods/p", None, &pod("a")), Ok(()));
    assert!(tried("DELETE", "/api/v1/namespaces/ns/pods/p", None, &pod("b")).is_err());
    let evict = |target: &str, named: &str| {
        let path = format!("/api/v1/namespaces/ns/pods/{target}/eviction");
        tried("POST", &path, None, &json!({"metadata": {"name": named}}))
    };
    assert_eq!(evict("on-a", "on-a"), Ok(()));
    assert!(evict("on-b", "on-b").is_err());
    assert!(evict("on-b", "on-a").is_err());
}

#[test]
fn a_node_makes_mirror_pods_that_refer_to_nothing() {
    let mirror = json!({
        "metadata": {
            "name": "static-a",
            "annotations": {"kubernetes.io/config.mirror": "x"},
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Node", "name": "a", "uid": "uid-a", "controller": true,
            }],
        },
        "spec": {"nodeName": "a", "containers": [{"name": "c"}]},
    });
    let create = |pod: &Value| tried("POST", "/api/v1/namespaces/ns/pods", None, pod);
    assert_eq!(create(&mirror), Ok(()));
    type Change = fn(&mut Value);
    let escapes: [(&str, Change); 8] = [
        ("an ordinary pod", |pod| pod["metadata"]["annotations"] = json!({})),
        ("another node", |pod| pod["spec"]["nodeName"] = "b".into()),
        ("another owner", |pod| pod["metadata"]["ownerReferences"][0]["uid"] = "uid-b".into()),
        ("no owner", |pod| pod["metadata"]["ownerReferences"] = json!([])),
        ("an account", |pod| pod["spec"]["serviceAccountName"] = "admin".into()),
        ("a secret volume", |pod| {
            pod["spec"]["volumes"] =
                json!([{"projected": {"sources": [{"secret": {"name": "s"}}]}}]);
        }),
        ("a secret variable", |pod| {
            pod["spec"]["containers"][0]["env"] =
                json!([{"valueFrom": {"secretKeyRef": {"name": "s"}}}]);
        }),
        ("a token", |pod| {
            pod["spec"]["volumes"] =
                json!([{"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]);
        }),
    ];
    for (what, change) in escapes {
        let mut pod = mirror.clone();
        change(&mut pod);
        assert!(create(&pod).is_err(), "{what}");
    }
}

#[test]
fn a_node_renews_its_own_lease_only() {
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = |name: &str| json!({"metadata": {"name": name}});
    assert_eq!(tried("POST", path, None, &lease("a")), Ok(()));
    assert!(tried("POST", path, None, &lease("b")).is_err());
    let elsewhere = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    assert!(tried("POST", elsewhere, None, &lease("a")).is_err());
}

#[test]
fn a_node_asks_for_certificates_in_its_own_name_only() {
    let request = |pem: &str| {
        json!({"metadata": {"name": "c"}, "spec": {
            "signerName": "kubernetes.io/kubelet-serving", "request": STANDARD.encode(pem),
        }})
    };
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    assert!(tried("POST", path, None, &request("nonsense")).is_err());
    assert!(tried("POST", path, None, &request("")).is_err());
}

#[test]
fn a_node_asks_for_tokens_that_its_pods_volumes_or_their_drivers_name() {
    let objects = objects();
    let volumes = json!([
        {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}},
        {"name": "i", "csi": {"driver": "inline.example.com"}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "e", "ephemeral": {}},
    ]);
    let metadata = json!({"namespace": "ns", "name": "p", "uid": "u"});
    objects
        .put("pods", json!({"metadata": metadata, "spec": {"nodeName": "a", "volumes": volumes}}));
    for (claim, driver) in [("data", "disk"), ("p-e", "scratch"), ("other", "foreign")] {
        let volume = format!("pv-{claim}");
        let metadata = json!({"namespace": "ns", "name": claim});
        objects.put(
            "persistentvolumeclaims",
            json!({"metadata": metadata, "spec": {"volumeName": volume}}),
        );
        let source = json!({"driver": format!("{driver}.example.com")});
        let metadata = json!({"name": volume});
        objects.put("persistentvolumes", json!({"metadata": metadata, "spec": {"csi": source}}));
    }
    for driver in ["inline", "disk", "scratch", "foreign"] {
        let metadata = json!({"name": format!("{driver}.example.com")});
        let requests = json!([{"audience": driver}]);
        objects.put(
            "csidrivers.storage.k8s.io",
            json!({"metadata": metadata, "spec": {"tokenRequests": requests}}),
        );
    }
    let user = UserInfo::new("system:node:a", &["system:nodes"]);
    let path = "/api/v1/namespaces/ns/serviceaccounts/default/token";
    let info = RequestInfo::parse(&"POST".parse().unwrap(), path, "");
    let ask = |audience: &str| {
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
        let request = json!({"spec": {"audiences": [audience], "boundObjectRef": bound}});
        check_token(&objects, &user, &info, &request).map_err(|it| it.message)
    };
    for audience in ["vault", "inline", "disk", "scratch"] {
        assert_eq!(ask(audience), Ok(()), "{audience}");
    }
    let refusal = ask("foreign").unwrap_err();
    assert!(refusal.contains("audience \"foreign\" not found in pod spec volume"), "{refusal}");
}

#[test]
fn a_node_makes_and_deletes_slices_of_its_own_devices() {
    let slice = |node: &str| json!({"metadata": {"name": "s"}, "spec": {"nodeName": node}});
    let path = "/apis/resource.k8s.io/v1/resourceslices";
    let one = format!("{path}/s");
    assert_eq!(tried("POST", path, None, &slice("a")), Ok(()));
    assert_eq!(tried("DELETE", &one, None, &slice("a")), Ok(()));
    // What an update may change is a matter of validation; whose it is was looked at before.
    assert_eq!(tried("PUT", &one, Some(&slice("a")), &slice("b")), Ok(()));
    for (method, path, verb) in [("POST", path, "create"), ("DELETE", one.as_str(), "delete")] {
        let why = tried(method, path, None, &slice("b")).unwrap_err();
        let expected =
            format!("can only {verb} ResourceSlice with the same NodeName as the requesting node");
        assert!(why.ends_with(&expected), "{why}");
    }
}
