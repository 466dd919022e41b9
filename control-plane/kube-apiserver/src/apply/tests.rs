//! What must hold of `apply`.

use serde_json::json;

use super::*;

fn kind(schema: &str) -> Kind {
    Kind::root(crate::schema::find(schema))
}

fn deployment() -> Kind {
    kind("io.k8s.api.apps.v1.Deployment")
}

fn entry(manager: &str, operation: &str, applied: &Value, kind: &Kind) -> Value {
    json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1",
           "fieldsType": "FieldsV1", "fieldsV1": owned(applied, kind).to_json()})
}

/// Applies as `manager`, and returns the new object.
fn applied(live: &Value, manager: &str, config: Value, is_forced: bool) -> Result<Value, Status> {
    let kind = deployment();
    let own = entry(manager, "Apply", &config, &kind);
    plan(live, &config, &own, &kind, is_forced)
}

fn with_replicas(count: i64) -> Value {
    json!({"spec": {"replicas": count}})
}

fn start(manager: &str, config: Value) -> Value {
    let mut object = config.clone();
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let own = entry(manager, "Apply", &config, &deployment());
    managed_fields::set_entries(&mut object, vec![own]);
    object
}

#[test]
fn another_owners_value_is_a_conflict_and_the_same_value_is_shared() {
    let live = start("one", with_replicas(1));
    let status = applied(&live, "two", with_replicas(2), false).unwrap_err();
    assert_eq!(status.code, 409);
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"one\" using apps/v1: .spec.replicas"
    );
    assert_eq!(status.details["causes"][0]["reason"], "FieldManagerConflict");
    let shared = applied(&live, "two", with_replicas(1), false).unwrap();
    assert_eq!(managed_fields::entries(&shared).len(), 2);
}

#[test]
fn force_takes_the_field_over() {
    let live = start("one", json!({"spec": {"replicas": 1, "paused": true}}));
    let object = applied(&live, "two", with_replicas(2), true).unwrap();
    assert_eq!(object["spec"], json!({"replicas": 2, "paused": true}));
    let entries = managed_fields::entries(&object);
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
    assert!(status.message.contains("conflict with \"before-first-apply\""), "{status}");
    let mut from_kubectl = live;
    from_kubectl["metadata"]["annotations"] = json!({LAST_APPLIED: "{}"});
    assert!(applied(&from_kubectl, "kubectl", with_replicas(1), false).is_ok());
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
    let (changed, removed) = typed::difference(&old, &new, &deployment());
    assert_eq!(changed.to_json(), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(removed.to_json(), json!({"f:spec": {"f:paused": {}}}));
}
