//! What must hold of `apply`.

use api_kube::annotations::LAST_APPLIED;
use serde_json::json;

use super::*;
use crate::resources::Catalog;

fn kind(schema: &str) -> Kind {
    Kind::root(crate::schema::find(schema))
}

fn deployment() -> Kind {
    kind("io.k8s.api.apps.v1.Deployment")
}

fn request(manager: &str, applied: Value, is_forced: bool) -> Request {
    Request {
        owner: Owner {
            manager: manager.into(),
            operation: "Apply",
            api_version: "apps/v1".into(),
            subresource: String::new(),
        },
        applied,
        resource: Catalog::builtin().find("apps", "v1", "deployments").unwrap(),
        part: Part::Main,
        kind: deployment(),
        now: "2026-01-01T00:00:00Z".into(),
        is_forced,
    }
}

fn owned(applied: &Value, kind: &Kind) -> FieldSet {
    managed_fields::owned(typed::fields_of(applied, kind))
}

/// Applies as `manager`, and returns the new object.
fn applied(live: &Value, manager: &str, config: Value, is_forced: bool) -> Result<Value, Status> {
    plan::plan(live, &request(manager, config, is_forced))
}

fn with_replicas(count: i64) -> Value {
    json!({"spec": {"replicas": count}})
}

fn start(manager: &str, config: Value) -> Value {
    let live = json!({"metadata": {}});
    applied(&live, manager, config, false).unwrap()
}

#[test]
fn another_owners_value_is_a_conflict_and_the_same_value_is_shared() {
    let live = start("one", with_replicas(1));
    let status = applied(&live, "two", with_replicas(2), false).unwrap_err();
    assert_eq!(status.code, 409);
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas"
    );
    assert_eq!(status.details["causes"][0]["reason"], "FieldManagerConflict");
    let shared = applied(&live, "two", with_replicas(1), false).unwrap();
    assert_eq!(entries::of(&shared).len(), 2);
}

#[test]
fn force_takes_the_field_over() {
    let live = start("one", json!({"spec": {"replicas": 1, "paused": true}}));
    let object = applied(&live, "two", with_replicas(2), true).unwrap();
    assert_eq!(object["spec"], json!({"replicas": 2, "paused": true}));
    let entries = entries::of(&object);
    assert_eq!(entries[0]["fieldsV1"], json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(entries[1]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn what_is_applied_no_more_goes_unless_someone_else_has_it() {
    let container = |name: &str| json!({"name": name, "image": "x"});
    let config =
        |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
    let live = start("one", config(json!([container("a"), container("b")])));
    let shared =
        applied(&live, "two", config(json!([{"name": "b", "image": "x"}])), false).unwrap();
    let object = applied(&shared, "one", config(json!([container("c")])), false).unwrap();
    let names: Vec<&str> = object["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["b", "c"]);
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let live = start("one", with_replicas(1));
    assert_eq!(applied(&live, "one", with_replicas(1), false).unwrap(), live);
}

#[test]
fn untracked_fields_belong_to_before_first_apply() {
    let live = json!({"metadata": {}, "spec": {"replicas": 3}});
    let status = applied(&live, "one", with_replicas(1), false).unwrap_err();
    assert!(
        status.message.contains("conflict with \"before-first-apply\" using apps/v1"),
        "{status}"
    );
}

#[test]
fn kubectl_takes_over_what_it_applied_client_side_and_keeps_its_annotation_true() {
    let last = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 3}});
    let annotations = json!({LAST_APPLIED: last.to_string()});
    let mut live = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"annotations": annotations},
        "spec": {"replicas": 3, "paused": true},
    });
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 1}});
    let object = applied(&live, "kubectl", config.clone(), false).unwrap();
    let told = object["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(told).unwrap(), config);
    let paused = json!({"apiVersion": "apps/v1", "spec": {"replicas": 1, "paused": false}});
    let status = applied(&live, "kubectl", paused, false).unwrap_err();
    assert!(status.message.ends_with("using apps/v1: .spec.paused"), "{status}");
    live["spec"]["replicas"] = 4.into();
    let status = applied(&live, "kubectl", config, false).unwrap_err();
    assert!(status.message.ends_with(": .spec.replicas"), "someone changed it since: {status}");
}

#[test]
fn who_creates_owns_all_and_an_apply_of_something_else_is_a_conflict() {
    let owner = Owner { operation: "Update", ..request("kubectl-create", json!({}), false).owner };
    let mut live = json!({"metadata": {"name": "d"}, "spec": {"replicas": 3, "paused": true}});
    let change = typed::difference(&json!({}), &live, &deployment());
    let made = entries::changed(Vec::new(), change, &owner, "2026-01-01T00:00:00Z");
    entries::set(&mut live, made);
    let status = applied(&live, "one", with_replicas(1), false).unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-create\" using apps/v1: \
         .spec.replicas"
    );
    let object = applied(&live, "one", with_replicas(1), true).unwrap();
    let left = entries::of(&object);
    assert_eq!(left[0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(left[1]["fieldsV1"], json!({"f:spec": {"f:paused": {}}}));
}

#[test]
fn applied_elements_keep_their_order_among_those_of_others() {
    let list = |names: &[&str]| {
        let items: Vec<Value> = names.iter().map(|it| json!({"name": it})).collect();
        json!({"spec": {"template": {"spec": {"containers": items}}}})
    };
    for (live, config, wanted) in [
        (&["a", "b", "c"][..], &["c", "d", "a"][..], &["b", "c", "d", "a"][..]),
        (&["x", "a"], &["a", "b"], &["x", "a", "b"]),
        (&["a", "x"], &["b", "a"], &["b", "a", "x"]),
        (&["a", "x", "x"], &["a"], &["a", "x", "x"]),
        (&["a", "a", "x"], &["a"], &["a", "x"]),
    ] {
        let mut object = list(live);
        typed::merge(&mut object, &list(config), &deployment());
        assert_eq!(object, list(wanted), "{live:?} {config:?}");
    }
}

#[test]
fn what_cannot_be_told_apart_or_is_not_in_the_type_is_refused() {
    let pod = json!({"spec": {"containers": [
        {"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}]},
        {"name": "a", "imag": "x"}, {"image": "x"},
    ]}, "metadata": {"finalizers": ["x", "x"]}});
    assert_eq!(
        typed::check(&pod, &kind("io.k8s.api.core.v1.Pod")),
        [
            ".metadata.finalizers: duplicate entries for key [=\"x\"]",
            ".spec.containers[name=\"a\"].ports: duplicate entries for key \
             [containerPort=80,protocol=\"TCP\"]",
            ".spec.containers: duplicate entries for key [name=\"a\"]",
            ".spec.containers[name=\"a\"].imag: field not declared in schema",
            ".spec.containers: element 2: associative list with keys has an element that omits \
             key field \"name\"",
        ]
    );
}

#[test]
fn atomic_and_keyed_lists_are_owned_differently() {
    let service = kind("io.k8s.api.core.v1.Service");
    let config =
        json!({"spec": {"ports": [{"port": 80}], "externalIPs": ["a"], "selector": {"x": "y"}}});
    assert_eq!(
        owned(&config, &service).to_json(),
        json!({"f:spec": {"f:externalIPs": {}, "f:selector": {}, "f:ports": {
            "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}})
    );
}

#[test]
fn sets_survive_their_json_form() {
    let text =
        json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:finalizers": {"v:\"x\"": {}}}});
    assert_eq!(FieldSet::from_json(&text).to_json(), text);
}

#[test]
fn a_difference_names_leaves_only() {
    let (old, new) =
        (json!({"spec": {"replicas": 1, "paused": true}}), json!({"spec": {"replicas": 2}}));
    let change = typed::difference(&old, &new, &deployment());
    assert_eq!(change.set.to_json(), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(change.removed.to_json(), json!({"f:spec": {"f:paused": {}}}));
}
