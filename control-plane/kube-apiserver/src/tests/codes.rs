//! Which code and which words a request gets that cannot be answered as it is.

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::{Value, json};

use super::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn refusal(cluster: &Cluster, method: &str, path: &str) -> (u16, Value) {
    let (head, said) = cluster.send(method, path, &[], "").await;
    (head.status.as_u16(), said)
}

#[tokio::test]
async fn options_of_a_list_that_make_no_sense_are_invalid() {
    let cluster = Cluster::start().await;
    let unless = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless \
                  resourceVersion is provided";
    let matched = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue \
                   is provided";
    let zero = "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for \
                resourceVersion \"0\"";
    let unknown = "resourceVersionMatch: Unsupported value: \"x\": supported values: \"Exact\", \
                   \"NotOlderThan\", \"\"";
    let initial = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list";
    for (query, told) in [
        ("resourceVersionMatch=Exact", unless.to_owned()),
        ("continue=x&resourceVersionMatch=Exact", format!("[{unless}, {matched}]")),
        ("resourceVersion=0&resourceVersionMatch=Exact", zero.to_owned()),
        ("resourceVersion=1&resourceVersionMatch=x", unknown.to_owned()),
        ("sendInitialEvents=true", initial.to_owned()),
    ] {
        for method in ["GET", "DELETE"] {
            let (code, said) = refusal(&cluster, method, &format!("{MAPS}?{query}")).await;
            let told = format!("ListOptions.meta.k8s.io \"\" is invalid: {told}");
            assert_eq!((code, &said["message"]), (422, &json!(told)), "{method} {query}");
            assert_eq!(said["reason"], "Invalid");
        }
    }
}

#[tokio::test]
async fn a_deletion_that_is_tried_in_another_way_is_invalid_and_nothing_goes() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/m");
    assert_eq!(cluster.post(MAPS, json!({"metadata": {"name": "m"}})).await.0, 201);
    for place in [MAPS, &path] {
        let (code, said) = refusal(&cluster, "DELETE", &format!("{place}?dryRun=x")).await;
        let told = "DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"x\"]: \
                    supported values: \"All\"";
        assert_eq!((code, &said["message"]), (422, &json!(told)));
    }
    assert_eq!(cluster.get(&path).await["kind"], "ConfigMap");
}

#[tokio::test]
async fn a_version_of_the_future_is_to_be_asked_for_again_in_a_second() {
    let cluster = Cluster::start().await;
    let (code, said) = refusal(&cluster, "GET", &format!("{MAPS}?resourceVersion=9999999")).await;
    let cause =
        json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
    let details = json!({"retryAfterSeconds": 1, "causes": [cause]});
    assert_eq!((code, &said["details"]), (504, &details), "{said}");
}

#[tokio::test]
async fn operations_that_cannot_be_carried_out_are_not_told_of() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.post(MAPS, json!({"metadata": {"name": "m"}})).await.0, 201);
    let path = format!("{MAPS}/m");
    let media = "json-patch+json";
    for operation in [
        json!({"op": "odd", "path": "/data"}),
        json!({"op": "remove"}),
        json!({"op": "remove", "path": "/nowhere"}),
        json!({"op": "test", "path": "/metadata/name", "value": "x"}),
    ] {
        let (code, said) = cluster.patch(&path, media, json!([operation])).await;
        assert_eq!((code.as_u16(), &said["details"]), (422, &json!({})), "{operation} {said}");
        let told = "the server rejected our request due to an error in our request";
        assert_eq!((&said["message"], &said["reason"]), (&json!(told), &json!("Invalid")));
    }
    for patch in [json!({"op": "remove", "path": "/data"}), json!([{"op": 1, "path": "/data"}])] {
        let (code, said) = cluster.patch(&path, media, patch).await;
        assert_eq!((code.as_u16(), &said["reason"]), (400, &json!("BadRequest")), "{said}");
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_not_allowed() {
    let cluster = Cluster::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = format!("{pods}/p");
    for (method, path) in [
        ("PUT", pods),
        ("PATCH", pods),
        ("OPTIONS", pods),
        ("OPTIONS", &pod),
        ("POST", &pod),
        ("POST", "/version"),
    ] {
        let (code, said) = refusal(&cluster, method, path).await;
        let told = "the server does not allow this method on the requested resource";
        assert_eq!((code, &said["message"]), (405, &json!(told)), "{method} {path}: {said}");
        assert_eq!((&said["reason"], &said["details"]), (&json!("MethodNotAllowed"), &json!({})));
    }
}

#[tokio::test]
async fn a_head_is_allowed_where_upstreams_router_has_no_say_and_is_answered_without_a_body() {
    let cluster = Cluster::start().await;
    let things = define_things(&cluster, json!({"type": "object"})).await;
    let (none, pods) = (format!("{things}/none"), "/api/v1/namespaces/default/pods");
    for (code, paths) in [
        (200, &[things, "/apis/example.com/v1", "/apis/apps", "/apis", "/openapi/v3"][..]),
        (404, &[&none, "/apis/apps/v9"]),
        (
            405,
            &[pods, "/api/v1/namespaces/default", "/version", "/api", "/api/v1", "/apis/apps/v1"],
        ),
    ] {
        for path in paths {
            let (head, body) = cluster.exchange("HEAD", path, &[], "").await;
            assert_eq!((head.status.as_u16(), body.len()), (code, 0), "{path}");
            assert_ne!(head.headers[CONTENT_LENGTH], "0", "{path}");
        }
    }
}

#[tokio::test]
async fn where_nothing_is_served_a_line_says_so_and_a_status_below_what_is_there() {
    let cluster = Cluster::start().await;
    for path in ["/foo", "/apis/unknown", "/apis/unknown/v1", "/apis/unknown/v1/foo", "/livez/x"] {
        let (head, said) = cluster.exchange("GET", path, &[(ACCEPT, "application/json")], "").await;
        assert_eq!((head.status.as_u16(), &*said), (404, &b"404 page not found\n"[..]), "{path}");
        assert_eq!(head.headers[CONTENT_TYPE], "text/plain; charset=utf-8");
        assert_eq!(head.headers["x-content-type-options"], "nosniff");
    }
    for path in ["/api/v2", "/api/v1/foo", "/apis/apps/v1/foo", "/apis/apps/v9/foo"] {
        let (code, said) = refusal(&cluster, "GET", path).await;
        let told = "the server could not find the requested resource";
        assert_eq!((code, &said["message"]), (404, &json!(told)), "{path}: {said}");
    }
}

/// A definition of cluster-scoped objects, and where they are.
async fn define_things(cluster: &Cluster, schema: Value) -> &'static str {
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {
        "group": "example.com", "scope": "Cluster", "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": schema}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(cluster.post(definitions, definition).await.0, 201);
    "/apis/example.com/v1/things"
}

#[tokio::test]
async fn what_etcd_would_not_take_is_refused_as_etcd_does() {
    let cluster = Cluster::start().await;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let things = define_things(&cluster, schema).await;
    let of_size = |size: usize| {
        json!({"apiVersion": "example.com/v1", "kind": "Thing",
        "metadata": {"name": "t"}, "data": "x".repeat(size)})
    };
    assert_eq!(cluster.post(things, of_size(1_500_000)).await.0, 201);
    let path = format!("{things}/t");
    let (code, said) = cluster.patch(&path, "merge-patch+json", of_size(1_600_000)).await;
    let told = "etcdserver: request is too large";
    assert_eq!((code.as_u16(), &said["message"]), (500, &json!(told)));
    assert!(said.get("reason").is_none() && said.get("details").is_none(), "{said}");
    assert_eq!(cluster.get(&path).await["data"].as_str().unwrap().len(), 1_500_000);
}

#[tokio::test]
async fn a_configuration_whose_field_is_of_another_type_is_not_applied() {
    let cluster = Cluster::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments/d?fieldManager=m&force=true";
    let template = json!({"containers": [{"name": "c", "env": [{"name": "E", "value": 80}]}]});
    for (spec, told) in [
        (json!({"replicas": "x"}), ".spec.replicas: expected numeric (int or float), got string"),
        (json!({"paused": "yes"}), ".spec.paused: expected boolean, got &{yes}"),
        (json!({"selector": "a"}), ".spec.selector: expected map, got &{a}"),
        (
            json!({"template": {"spec": template}}),
            ".spec.template.spec.containers[name=\"c\"].env[name=\"E\"].value: expected string, got \
             &value.valueUnstructured{Value:80}",
        ),
    ] {
        let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "namespace": "default"}, "spec": spec});
        let (code, said) = cluster.patch(path, "apply-patch+yaml", applied).await;
        let told = format!(
            "failed to create typed patch object (default/d; apps/v1, Kind=Deployment): {told}"
        );
        assert_eq!((code.as_u16(), &said["message"]), (500, &json!(told)));
    }
}

#[tokio::test]
async fn a_list_has_no_form_of_one_object_and_one_object_none_of_a_list() {
    let cluster = Cluster::start().await;
    let one = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let list = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let path = "/api/v1/namespaces/default";
    for (path, media, told) in [
        (
            path,
            list,
            "you requested PartialObjectMetadataList, but the requested object is not a list \
             (*core.Namespace)",
        ),
        (
            "/apis/apps/v1/deployments",
            one,
            "you requested PartialObjectMetadata, but the requested object is a list \
             (*apps.DeploymentList)",
        ),
    ] {
        let (head, said) = cluster.send("GET", path, &[(ACCEPT, media)], "").await;
        assert_eq!((head.status.as_u16(), &said["message"]), (406, &json!(told)), "{said}");
    }
    let (_, made) = cluster.send("GET", path, &[(ACCEPT, one)], "").await;
    assert_eq!(made["kind"], "PartialObjectMetadata");
    let (_, made) = cluster.send("GET", "/api/v1/namespaces", &[(ACCEPT, list)], "").await;
    assert_eq!(made["kind"], "PartialObjectMetadataList");
}

#[tokio::test]
async fn a_patch_whose_result_is_no_object_of_its_type_is_invalid() {
    let cluster = Cluster::start().await;
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let things = define_things(&cluster, schema).await;
    let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "m"}});
    assert_eq!(cluster.post(things, thing).await.0, 201);
    assert_eq!(cluster.post(MAPS, json!({"metadata": {"name": "m"}})).await.0, 201);
    let labels = json!({"metadata": {"labels": 5}});
    let operation = json!([{"op": "add", "path": "/metadata/labels", "value": 5}]);
    for path in [MAPS, things] {
        for (media, patch, odd) in [
            ("merge-patch+json", &labels, json!({"odd": 1})),
            ("strategic-merge-patch+json", &labels, json!({"odd": 1})),
            ("json-patch+json", &operation, json!([{"op": "add", "path": "/odd", "value": 1}])),
        ] {
            if path == things && media.starts_with("strategic") {
                continue;
            }
            for (query, patch) in [("", patch), ("?fieldValidation=Strict", &odd)] {
                let place = format!("{path}/m{query}");
                let (code, said) = cluster.patch(&place, media, patch.clone()).await;
                let told = said["message"].as_str().unwrap_or_default();
                let is_told = told.starts_with(" \"\" is invalid: patch: Invalid value: ");
                assert!(code == 422 && is_told, "{media} {place}: {code} {told}");
            }
        }
    }
}

#[tokio::test]
async fn a_definition_changes_the_documents_of_its_own_group_only() {
    let cluster = Cluster::start().await;
    let before = cluster.get("/openapi/v3").await;
    for group in ["a.io", "b.io"] {
        let definition = json!({"metadata": {"name": format!("things.{group}")}, "spec": {
            "group": group, "scope": "Cluster", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        assert_eq!(cluster.post(definitions, definition).await.0, 201);
    }
    let between = cluster.get("/openapi/v3").await;
    for (path, document) in before["paths"].as_object().unwrap() {
        assert_eq!(&between["paths"][path], document, "{path}");
    }
    let patch = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties",
        "value": {"a": {"type": "string"}}}]);
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.b.io";
    assert_eq!(cluster.patch(definition, "json-patch+json", patch).await.0, 200);
    let after = cluster.get("/openapi/v3").await;
    let of = |index: &Value, group: &str| index["paths"][format!("apis/{group}/v1")].clone();
    assert_eq!(of(&after, "a.io"), of(&between, "a.io"));
    assert_ne!(of(&after, "b.io"), of(&between, "b.io"));
}
