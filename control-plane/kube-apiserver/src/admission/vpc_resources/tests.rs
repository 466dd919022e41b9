//! What must hold of `admission::vpc_resources`.

use std::sync::Arc;

use super::*;
use crate::{
    authz::testing::Memory,
    request::{RequestInfo, UserInfo},
};

const CONTROLLER: &str = "system:serviceaccount:kube-system:eks-vpc-resource-controller";

fn objects(spec: Value) -> Arc<Memory> {
    let policy = json!({
        "metadata": { "name": "p", "namespace": "ns" },
        "spec": spec,
    });
    Memory::with(&[
        (POLICIES, policy),
        (DEFINITIONS, json!({ "metadata": { "name": POLICIES } })),
        (
            "serviceaccounts",
            json!({ "metadata": { "namespace": "ns", "name": "a", "labels": { "team": "x" } } }),
        ),
    ])
}

fn pod() -> Value {
    json!({
        "metadata": { "name": "p", "labels": { "app": "db" } },
        "spec": { "serviceAccountName": "a", "containers": [{ "name": "c" }, { "name": "d" }] },
    })
}

fn all(selector: Value) -> Value {
    json!({ "podSelector": selector, "securityGroups": { "groupIds": ["sg-1"] } })
}

fn made(spec: Value, pod: Value) -> Result<Value, String> {
    made_in("ns", spec, pod)
}

fn made_in(namespace: &str, spec: Value, mut pod: Value) -> Result<Value, String> {
    let user = UserInfo::new("bob", &[]);
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let info = RequestInfo::parse(&http::Method::POST, &path, "");
    let attributes =
        Attributes { operation: Operation::Create, user: &user, info: &info, old: None };
    let done = mutate(&*objects(spec), &attributes, &mut pod);
    done.map(|()| pod).map_err(|it| it.message)
}

fn asks(pod: &Value) -> bool {
    let of = |list: &str| pod["spec"]["containers"][0]["resources"][list][POD_ENI] == "1";
    assert_eq!(of("limits"), of("requests"));
    assert!(pod["spec"]["containers"][1].get("resources").is_none(), "{pod}");
    of("limits")
}

#[test]
fn a_selected_pod_asks_for_a_branch_in_its_first_container() {
    let of = |label: &str, value: &str| json!({ "matchLabels": { label: value } });
    let groups = json!({ "groupIds": ["sg-1"] });
    for (spec, is_selected) in [
        (all(of("app", "db")), true),
        (all(of("app", "web")), false),
        (all(json!({})), true),
        (json!({ "serviceAccountSelector": of("team", "x"), "securityGroups": groups }), true),
        (
            json!({ "podSelector": of("app", "db"), "serviceAccountSelector": of("team", "y"),
                "securityGroups": groups }),
            false,
        ),
        (json!({ "podSelector": {}, "securityGroups": { "groupIds": [] } }), false),
        (json!({ "securityGroups": groups }), false),
    ] {
        assert_eq!(asks(&made(spec.clone(), pod()).unwrap()), is_selected, "{spec}");
    }
}

#[test]
fn what_the_container_asks_for_already_is_kept() {
    let mut given = pod();
    given["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": "1" } });
    let made = made(all(json!({})), given).unwrap();
    let wanted = json!({ "requests": { "cpu": "1", POD_ENI: "1" }, "limits": { POD_ENI: "1" } });
    assert_eq!(made["spec"]["containers"][0]["resources"], wanted);
}

#[test]
fn pods_of_the_host_of_windows_and_of_other_namespaces_are_left_alone() {
    let mut on_host = pod();
    on_host["spec"]["hostNetwork"] = true.into();
    assert!(!asks(&made(all(json!({})), on_host).unwrap()));
    let mut windows = pod();
    windows["spec"]["nodeSelector"] = json!({ "kubernetes.io/os": "windows" });
    assert!(!asks(&made(all(json!({})), windows).unwrap()));
    assert!(!asks(&made_in("other", all(json!({})), pod()).unwrap()));
}

#[test]
fn a_pod_whose_account_is_not_there_is_refused_in_the_webhooks_words() {
    let mut stranger = pod();
    stranger["spec"]["serviceAccountName"] = "nobody".into();
    assert_eq!(
        made(all(json!({})), stranger).unwrap_err(),
        "admission webhook \"mpod.vpc.k8s.aws\" denied the request: Failed to get Matching SGP for \
         Pods, rejecting event"
    );
}

fn checked(
    objects: &Memory,
    user: &str,
    path: &str,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), String> {
    let user = UserInfo::new(user, &[]);
    let info = RequestInfo::parse(&http::Method::PUT, path, "");
    let operation = if old.is_none() { Operation::Create } else { Operation::Update };
    let attributes = Attributes { operation, user: &user, info: &info, old };
    validate(objects, &attributes, new).map_err(|it| it.message)
}

const POD: &str = "/api/v1/namespaces/ns/pods/p";

fn annotated(value: &str) -> Value {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({ POD_ENI: value });
    pod
}

#[test]
fn nobody_but_the_controller_says_which_branch_a_pod_has() {
    let (objects, plain, given) = (objects(all(json!({}))), pod(), annotated("[]"));
    assert_eq!(
        checked(&objects, CONTROLLER, POD, None, &given).unwrap_err(),
        "admission webhook \"vpod.vpc.k8s.aws\" denied the request: pod cannot be created with \
         vpc.amazonaws.com/pod-eni annotation"
    );
    let refused = "admission webhook \"vpod.vpc.k8s.aws\" denied the request: annotation is not \
                   set by vpc-resource-controller";
    for (old, new) in [(&plain, &given), (&given, &annotated("[1]")), (&given, &plain)] {
        let done = checked(&objects, "kubernetes-admin", POD, Some(old), new);
        assert_eq!(done.unwrap_err(), refused, "{old} {new}");
        assert!(checked(&objects, CONTROLLER, POD, Some(old), new).is_ok());
    }
    assert!(checked(&objects, "bob", POD, Some(&given), &given).is_ok());
}

#[test]
fn aws_node_changes_two_labels_of_a_node_and_nothing_else() {
    let objects = objects(all(json!({})));
    let path = "/api/v1/nodes/n";
    let old = json!({ "metadata": { "name": "n" }, "spec": {} });
    let labelled = json!({
        "metadata": { "name": "n", "labels": { TRUNK_LABEL: "true" }, "managedFields": [1] },
        "spec": {},
    });
    assert!(checked(&objects, AWS_NODE, path, Some(&old), &labelled).is_ok());
    let cordoned = json!({ "metadata": { "name": "n" }, "spec": { "unschedulable": true } });
    assert_eq!(
        checked(&objects, AWS_NODE, path, Some(&old), &cordoned).unwrap_err(),
        "admission webhook \"vnode.vpc.k8s.aws\" denied the request: aws-node can only update \
         limited fields on the Node Object"
    );
    assert!(checked(&objects, "bob", path, Some(&old), &cordoned).is_ok());
}

#[test]
fn without_the_definition_nothing_is_refused() {
    let none = Memory::default();
    assert!(checked(&none, "bob", POD, None, &annotated("[]")).is_ok());
}
