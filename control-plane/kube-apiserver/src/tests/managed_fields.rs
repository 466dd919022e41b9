//! `managedFields` of every write, through the service.

use http::header::USER_AGENT;
use serde_json::{Value, json};

use super::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const MERGE: &str = "merge-patch+json";

fn map(data: Value) -> Value {
    json!({"metadata": {"name": "m"}, "data": data})
}

fn deployment() -> Value {
    json!({"metadata": {"name": "d"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn entries(object: &Value) -> &[Value] {
    object["metadata"]["managedFields"].as_array().map_or(&[], Vec::as_slice)
}

fn owner<'a>(object: &'a Value, manager: &str) -> &'a Value {
    entries(object).iter().find(|it| it["manager"] == manager).unwrap_or(&Value::Null)
}

async fn apply(cluster: &Cluster, path: &str, object: &Value) -> (u16, Value) {
    let (code, answer) = cluster.patch(path, "apply-patch+yaml", object.clone()).await;
    (code.as_u16(), answer)
}

#[tokio::test]
async fn who_creates_is_known_by_its_program_and_an_apply_conflicts_with_it() {
    let cluster = Cluster::start().await;
    let headers = [(USER_AGENT, "kubectl-create/v1.36.0 (linux/amd64) kubernetes/0")];
    let body = map(json!({"a": "1"})).to_string();
    let (_, made) = cluster.send("POST", MAPS, &headers, body).await;
    let wanted = json!({
        "manager": "kubectl-create", "operation": "Update", "apiVersion": "v1",
        "time": made["metadata"]["creationTimestamp"], "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {".": {}, "f:a": {}}},
    });
    assert_eq!(entries(&made), [wanted]);
    let mut wanted = map(json!({"a": "2"}));
    wanted["apiVersion"] = "v1".into();
    wanted["kind"] = "ConfigMap".into();
    let path = format!("{MAPS}/m?fieldManager=one");
    let (code, refused) = apply(&cluster, &path, &wanted).await;
    let told = "Apply failed with 1 conflict: conflict with \"kubectl-create\" using v1: .data.a";
    assert_eq!((code, refused["message"].as_str()), (409, Some(told)));
    wanted["data"]["a"] = "1".into();
    let (code, shared) = apply(&cluster, &path, &wanted).await;
    assert_eq!((code, entries(&shared).len()), (200, 2), "{shared}");
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_none_and_one_that_does_is_its_managers() {
    let cluster = Cluster::start().await;
    let (_, made) = cluster.post(MAPS, map(json!({"a": "1", "b": "1"}))).await;
    let path = format!("{MAPS}/m?fieldManager=two");
    let (_, same) = cluster.put(&path, made.clone()).await;
    assert_eq!(same["metadata"], made["metadata"]);
    let (_, changed) = cluster.patch(&path, MERGE, json!({"data": {"b": "2", "c": "3"}})).await;
    let two = &owner(&changed, "two")["fieldsV1"];
    assert_eq!(*two, json!({"f:data": {"f:b": {}, "f:c": {}}}));
    let one = &owner(&changed, "admin")["fieldsV1"];
    assert_eq!(*one, json!({"f:data": {".": {}, "f:a": {}}}), "who is told by nothing else");
}

#[tokio::test]
async fn each_subresource_has_owners_of_its_own() {
    let cluster = Cluster::start().await;
    cluster.post(&format!("{DEPLOYMENTS}?fieldManager=m"), deployment()).await;
    let path = format!("{DEPLOYMENTS}/d");
    let status = json!({"status": {"replicas": 1}, "spec": {"replicas": 7}});
    cluster.patch(&format!("{path}/status?fieldManager=m"), MERGE, status).await;
    let scale = json!({"spec": {"replicas": 3}});
    let (code, _) = cluster.patch(&format!("{path}/scale?fieldManager=m"), MERGE, scale).await;
    assert_eq!(code, 200);
    let now = cluster.get(&path).await;
    let found = |subresource: Value| {
        let all = entries(&now).iter();
        let mut found = all.filter(|it| it["subresource"] == subresource);
        let entry = found.next().cloned().unwrap_or_default();
        assert_eq!(entry["apiVersion"], "apps/v1");
        entry["fieldsV1"].clone()
    };
    let main = found(Value::Null);
    assert!(main["f:spec"].get("f:replicas").is_none() && main.get("f:status").is_none());
    assert!(main["f:spec"]["f:template"]["f:spec"]["f:containers"].is_object(), "{main}");
    assert_eq!(found("status".into()), json!({"f:status": {"f:replicas": {}}}));
    assert_eq!(found("scale".into()), json!({"f:spec": {"f:replicas": {}}}));
}

#[tokio::test]
async fn nobody_owns_what_admission_adds_or_a_binding_writes() {
    let cluster = Cluster::start().await.with_default_account().await;
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (_, made) = cluster.post(PODS, pod).await;
    let spec = &entries(&made)[0]["fieldsV1"]["f:spec"];
    assert!(spec["f:restartPolicy"].is_object(), "a default is the client's: {spec}");
    assert!(made["spec"]["tolerations"].is_array() && spec.get("f:tolerations").is_none());
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(cluster.post(&format!("{PODS}/p/binding"), binding).await.0, 201);
    let bound = cluster.get(&format!("{PODS}/p")).await;
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(entries(&bound), entries(&made));
}

#[tokio::test]
async fn a_client_forgets_all_owners_by_an_empty_list_and_not_by_nonsense() {
    let cluster = Cluster::start().await;
    let (_, made) = cluster.post(MAPS, map(json!({"a": "1"}))).await;
    let path = format!("{MAPS}/m");
    let write = |list: Value| json!({"metadata": {"managedFields": list}});
    let mut wrong = entries(&made)[0].clone();
    wrong["fieldsV1"] = json!({"data": {}});
    let (_, kept) = cluster.patch(&path, MERGE, write(json!([wrong]))).await;
    assert_eq!(entries(&kept), entries(&made));
    let mut other = entries(&made)[0].clone();
    other["manager"] = "other".into();
    let (code, moved) = cluster.patch(&path, MERGE, write(json!([other]))).await;
    assert_eq!((code.as_u16(), entries(&moved)), (200, &[other][..]), "who moves fields may");
    let (_, reset) = cluster.patch(&path, MERGE, write(json!([{}]))).await;
    assert_eq!(entries(&reset), [] as [Value; 0]);
    let (_, later) = cluster.patch(&path, MERGE, json!({"data": {"a": "2"}})).await;
    assert_eq!(entries(&later), [] as [Value; 0], "untracked until it is applied");
    let mut wanted = map(json!({"b": "1"}));
    wanted["apiVersion"] = "v1".into();
    wanted["kind"] = "ConfigMap".into();
    let (_, applied) = apply(&cluster, &format!("{path}?fieldManager=one"), &wanted).await;
    let before = &owner(&applied, "before-first-apply")["fieldsV1"];
    assert_eq!(*before, json!({"f:data": {".": {}, "f:a": {}}}), "{applied}");
}

#[tokio::test]
async fn custom_resources_and_events_are_owned_in_the_version_of_the_request() {
    let cluster = Cluster::start().await;
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {
        "group": "example.com", "scope": "Cluster", "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    assert_eq!(cluster.post(DEFINITIONS, definition).await.0, 201);
    let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing",
        "metadata": {"name": "t", "labels": {"a": "b"}}, "spec": {"x": [1], "y": {"z": true}}});
    let (code, made) = cluster.post("/apis/example.com/v1/things", thing).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(
        entries(&made)[0]["fieldsV1"],
        json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {".": {}, "f:x": {}, "f:y": {".": {}, "f:z": {}}}})
    );
    let event = json!({"metadata": {"name": "e"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "R", "action": "A", "type": "Normal", "eventTime": "2026-01-01T00:00:00.000000Z",
        "note": "n", "reportingController": "example.com/c", "reportingInstance": "i"});
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let (code, made) = cluster.post(path, event).await;
    assert_eq!(code, 201, "{made}");
    let fields = &entries(&made)[0]["fieldsV1"];
    assert!(fields["f:regarding"].is_object() && fields["f:note"].is_object(), "{fields}");
    assert_eq!(entries(&made)[0]["apiVersion"], "events.k8s.io/v1");
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused_in_upstreams_words() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, map(json!({"a": "1"}))).await;
    let long = "x".repeat(129);
    for (query, told) in [
        (format!("fieldManager={long}"), "fieldManager: Too long: may not be more than 128 bytes"),
        ("force=true".into(), "force: Forbidden: may not be specified for non-apply patch"),
        ("dryRun=Some".into(), "dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""),
    ] {
        let path = format!("{MAPS}/m?{query}");
        let (code, refused) = cluster.patch(&path, MERGE, json!({})).await;
        let told = format!("PatchOptions.meta.k8s.io \"\" is invalid: {told}");
        assert_eq!((code.as_u16(), refused["message"].as_str()), (422, Some(&*told)));
    }
}

#[tokio::test]
async fn lists_whose_elements_cannot_be_told_apart_are_not_applied_but_updated() {
    let cluster = Cluster::start().await;
    let mut twice = deployment();
    twice["apiVersion"] = "apps/v1".into();
    twice["kind"] = "Deployment".into();
    let variable = json!({"name": "E", "value": "v"});
    twice["spec"]["template"]["spec"]["containers"][0]["env"] = json!([variable, variable]);
    let path = format!("{DEPLOYMENTS}/d?fieldManager=one");
    let (code, refused) = apply(&cluster, &path, &twice).await;
    let told = "failed to create typed patch object (/d; apps/v1, Kind=Deployment): \
                .spec.template.spec.containers[name=\"c\"].env: duplicate entries for key [name=\"E\"]";
    assert_eq!((code, refused["message"].as_str()), (500, Some(told)));
    let (head, made) = cluster.send("POST", DEPLOYMENTS, &[], twice.to_string()).await;
    assert_eq!(head.status, 201, "{made}");
    let told = head.headers[http::header::WARNING].to_str().unwrap();
    assert!(told.contains("env[1]: hides previous definition of"), "{told}");
}

#[tokio::test]
async fn a_scale_is_applied_and_owned_as_its_objects_replicas() {
    let cluster = Cluster::start().await;
    cluster.post(&format!("{DEPLOYMENTS}?fieldManager=m"), deployment()).await;
    let path = format!("{DEPLOYMENTS}/d");
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"},
        "spec": {"replicas": 4}});
    let (code, refused) = apply(&cluster, &format!("{path}/scale?fieldManager=s"), &scale).await;
    assert_eq!(code, 409, "another has them: {refused}");
    let forced = format!("{path}/scale?fieldManager=s&force=true");
    let (code, scaled) = apply(&cluster, &forced, &scale).await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(4)), "{scaled}");
    let now = cluster.get(&path).await;
    let entry = owner(&now, "s");
    assert_eq!((&entry["subresource"], &entry["operation"]), (&json!("scale"), &json!("Apply")));
    assert_eq!(entry["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
}
