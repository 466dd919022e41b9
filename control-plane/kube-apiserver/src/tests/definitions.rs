//! Definitions of custom resources, asked of the whole server: names, the end, fields, sizes.

use http::header;
use serde_json::{Value, json};

use super::Cluster;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(plural: &str, kind: &str, schema: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": schema, "status": {"type": "object",
                    "x-kubernetes-preserve-unknown-fields": true}}}}}]}})
}

fn open() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn path(plural: &str) -> String {
    format!("/apis/example.com/v1/namespaces/default/{plural}")
}

fn condition<'a>(definition: &'a Value, kind: &str) -> &'a Value {
    let all = definition["status"]["conditions"].as_array().unwrap();
    all.iter().find(|it| it["type"] == kind).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn of_two_definitions_with_one_name_the_second_waits_for_the_firsts_end() {
    let cluster = Cluster::start().await;
    let mut second = definition("gadgets", "Widget", open());
    second["spec"]["names"]["shortNames"] = json!(["w"]);
    let mut first = definition("widgets", "Widget", open());
    first["spec"]["names"]["shortNames"] = json!(["w"]);
    assert_eq!(cluster.post(DEFINITIONS, first).await.0, 201);
    let (code, made) = cluster.post(DEFINITIONS, second).await;
    assert_eq!(code, 201, "{made}");
    let accepted = condition(&made, "NamesAccepted");
    assert_eq!(accepted["status"], "False");
    assert_eq!(accepted["reason"], "ListKindConflict");
    assert_eq!(accepted["message"], "\"WidgetList\" is already in use");
    assert_eq!(condition(&made, "Established")["status"], "False");
    assert_eq!(condition(&made, "Established")["reason"], "NotAccepted");
    assert!(!cluster.serves(&path("gadgets")).await);
    cluster.delete(&format!("{DEFINITIONS}/widgets.example.com")).await;
    let second = cluster.get(&format!("{DEFINITIONS}/gadgets.example.com")).await;
    assert_eq!(condition(&second, "Established")["status"], "True", "{second}");
    assert_eq!(second["status"]["acceptedNames"]["kind"], "Widget");
    assert_eq!(cluster.get(&path("gadgets")).await["kind"], "WidgetList");
}

#[tokio::test]
async fn a_definition_stays_until_the_last_of_its_objects_is_let_go() {
    let cluster = Cluster::start().await;
    cluster.post(DEFINITIONS, definition("widgets", "Widget", open())).await;
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    assert_eq!(cluster.post(&path("widgets"), held).await.0, 201);
    assert_eq!(cluster.post(&path("widgets"), json!({"metadata": {"name": "free"}})).await.0, 201);
    let place = format!("{DEFINITIONS}/widgets.example.com");
    let (code, marked) = cluster.delete(&place).await;
    assert_eq!(code, 200);
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    assert_eq!(condition(&marked, "Terminating")["reason"], "InstanceDeletionPending");
    let ending = cluster.get(&place).await;
    assert_eq!(condition(&ending, "Terminating")["status"], "True");
    assert_eq!(condition(&ending, "Terminating")["reason"], "InstanceDeletionInProgress");
    let left = cluster.get(&path("widgets")).await;
    assert_eq!(left["items"].as_array().unwrap().len(), 1, "{left}");
    assert!(left["items"][0]["metadata"]["deletionTimestamp"].is_string());
    let (code, refused) = cluster.post(&path("widgets"), json!({"metadata": {"name": "n"}})).await;
    assert_eq!(code, 405);
    assert_eq!(
        refused["message"],
        "create not allowed while custom resource definition is terminating"
    );
    let free = json!({"metadata": {"finalizers": null}});
    let (code, _) =
        cluster.patch(&format!("{}/held", path("widgets")), "merge-patch+json", free).await;
    assert_eq!(code, 200);
    assert_eq!(cluster.get(&place).await["code"], 404);
    assert!(!cluster.serves(&path("widgets")).await);
}

#[tokio::test]
async fn objects_are_selected_by_the_fields_that_their_definition_names() {
    let cluster = Cluster::start().await;
    let schema = json!({"type": "object", "properties": {
        "color": {"type": "string"}, "count": {"type": "integer"}}});
    let mut selectable = definition("widgets", "Widget", schema);
    selectable["spec"]["versions"][0]["selectableFields"] =
        json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.count"}]);
    assert_eq!(cluster.post(DEFINITIONS, selectable.clone()).await.0, 201);
    for (name, color, count) in [("a", "red", 1), ("b", "blue", 2), ("c", "red", 2)] {
        let object = json!({"metadata": {"name": name}, "spec": {"color": color, "count": count}});
        cluster.post(&path("widgets"), object).await;
    }
    for (selector, wanted) in [
        ("spec.color%3Dred", vec!["a", "c"]),
        ("spec.color%3Dred,spec.count%3D2", vec!["c"]),
        ("spec.color!%3Dred", vec!["b"]),
        ("metadata.name%3Da,spec.count%3D1", vec!["a"]),
    ] {
        let found = cluster.get(&format!("{}?fieldSelector={selector}", path("widgets"))).await;
        let names: Vec<&str> = found["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, wanted, "{selector}");
    }
    let refused = cluster.get(&format!("{}?fieldSelector=spec.size%3D1", path("widgets"))).await;
    assert_eq!(refused["message"], "field label not supported: spec.size");
    selectable["metadata"]["name"] = "others.example.com".into();
    selectable["spec"]["names"] = json!({"plural": "others", "kind": "Other"});
    selectable["spec"]["versions"][0]["selectableFields"] =
        json!([{"jsonPath": ".spec.none"}, {"jsonPath": ".metadata.name"}, {"jsonPath": ".spec"}]);
    let (code, refused) = cluster.post(DEFINITIONS, selectable).await;
    assert_eq!(code, 422);
    let fields: Vec<&str> = refused["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["field"].as_str().unwrap())
        .collect();
    let at = |index| format!("spec.selectableFields[{index}].jsonPath");
    assert_eq!(fields, [at(0), at(1), at(2)]);
}

#[tokio::test]
async fn what_the_schema_does_not_have_is_told_or_refused_and_defaults_are_stored() {
    let cluster = Cluster::start().await;
    let schema = json!({"type": "object", "default": {}, "properties": {
        "size": {"type": "integer", "default": 3}, "note": {"type": "string"}}});
    cluster.post(DEFINITIONS, definition("widgets", "Widget", schema)).await;
    let odd = json!({"metadata": {"name": "w"}, "spec": {"odd": 1}, "extra": {}});
    let strict = format!("{}?fieldValidation=Strict", path("widgets"));
    let (code, refused) = cluster.post(&strict, odd.clone()).await;
    assert_eq!(code, 400);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("unknown field \"extra\", unknown field \"spec.odd\""), "{message}");
    let (head, made) = cluster.send("POST", &path("widgets"), &[], odd.to_string()).await;
    assert_eq!(head.status, 201);
    assert_eq!(head.headers.get_all(header::WARNING).iter().count(), 2);
    assert_eq!((&made["spec"], made.get("extra")), (&json!({"size": 3}), None));
    let (_, made) = cluster.post(&path("widgets"), json!({"metadata": {"name": "bare"}})).await;
    assert_eq!(made["spec"], json!({"size": 3}));
    let null = json!({"spec": {"size": null, "note": "n"}});
    let (_, patched) =
        cluster.patch(&format!("{}/w", path("widgets")), "merge-patch+json", null).await;
    assert_eq!(patched["spec"], json!({"size": 3, "note": "n"}));
    let wrong = json!({"metadata": {"name": "x"}, "spec": {"size": "big"}});
    let (code, refused) = cluster.post(&path("widgets"), wrong).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "Widget.example.com \"x\" is invalid: spec.size: Invalid value: \"string\": spec.size in body \
         must be of type integer: \"string\""
    );
    assert_eq!(refused["details"]["causes"][0]["reason"], "FieldValueTypeInvalid");
}

#[tokio::test]
async fn the_version_that_is_stored_may_change_and_all_that_were_have_to_stay() {
    let cluster = Cluster::start().await;
    let mut wanted = definition("widgets", "Widget", open());
    cluster.post(DEFINITIONS, wanted.clone()).await;
    cluster.post(&path("widgets"), json!({"metadata": {"name": "w"}, "spec": {"a": 1}})).await;
    let mut newer = wanted["spec"]["versions"][0].clone();
    newer["name"] = "v2".into();
    newer["deprecated"] = true.into();
    wanted["spec"]["versions"][0]["storage"] = false.into();
    wanted["spec"]["versions"].as_array_mut().unwrap().push(newer);
    let place = format!("{DEFINITIONS}/widgets.example.com");
    let (code, now) = cluster.patch(&place, "merge-patch+json", wanted.clone()).await;
    assert_eq!(code, 200, "{now}");
    assert_eq!(now["status"]["storedVersions"], json!(["v1", "v2"]));
    let v2 = "/apis/example.com/v2/namespaces/default/widgets/w";
    let (head, shown) = cluster.send("GET", v2, &[], "").await;
    assert_eq!(shown["apiVersion"], "example.com/v2");
    assert_eq!(head.headers[header::WARNING], "299 - \"example.com/v2 Widget is deprecated\"");
    let group = cluster.get("/apis/example.com").await;
    assert_eq!(group["preferredVersion"]["version"], "v2");
    wanted["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let (code, refused) = cluster.patch(&place, "merge-patch+json", wanted).await;
    assert_eq!(code, 422);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains(
            "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions"
        )
    );
}

/// As operators with many kinds install them: all manifests together are two megabytes.
#[tokio::test]
async fn large_definitions_are_applied_and_served() {
    let cluster = Cluster::start().await;
    let description = "What it is for, at length. ".repeat(20);
    let field = json!({"type": "string", "description": description, "maxLength": 63});
    let mut fields: serde_json::Map<String, Value> =
        (0..240).map(|it| (format!("field{it}"), field.clone())).collect();
    fields["field7"]["x-kubernetes-validations"] =
        json!([{"rule": "self != 'none'", "message": "not none"}]);
    let schema = json!({"type": "object", "properties": fields});
    let headers = [(header::CONTENT_TYPE, "application/apply-patch+yaml")];
    let mut sent = 0;
    for index in 0..16 {
        let (plural, kind) = (format!("widget{index}s"), format!("Widget{index}"));
        let body = definition(&plural, &kind, schema.clone()).to_string();
        sent += body.len();
        let place = format!("{DEFINITIONS}/{plural}.example.com?fieldManager=t&force=true");
        let (head, made) = cluster.send("PATCH", &place, &headers, body).await;
        assert_eq!(head.status, 201, "{}", made["message"]);
    }
    assert!(sent > 2_000_000, "{sent}");
    let object = json!({"metadata": {"name": "w"}, "spec": {"field7": "none"}});
    let (code, refused) = cluster.post(&path("widget15s"), object).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "Widget15.example.com \"w\" is invalid: spec.field7: Invalid value: \"none\": not none"
    );
    let index = cluster.get("/openapi/v3").await;
    assert!(index["paths"]["apis/example.com/v1"].is_object());
}

#[tokio::test]
async fn a_definition_whose_conditions_a_client_replaces_has_its_own_again() {
    let cluster = Cluster::start().await;
    cluster.post(DEFINITIONS, definition("widgets", "Widget", open())).await;
    let place = format!("{DEFINITIONS}/widgets.example.com/status");
    let patch =
        json!([{"op": "add", "path": "/status/conditions", "value": [{"message": "patched"}]}]);
    let (code, left) = cluster.patch(&place, "json-patch+json", patch).await;
    assert_eq!(code, 200, "{left}");
    assert_eq!(left["status"]["conditions"][0]["message"], "patched");
    assert_eq!(condition(&left, "Established")["status"], "True");
    assert_eq!(cluster.get(&path("widgets")).await["kind"], "WidgetList", "and is served");
}

#[tokio::test]
async fn what_custom_resources_share_with_all_others_is_described_to_clients() {
    let cluster = Cluster::start().await;
    cluster.post(DEFINITIONS, definition("widgets", "Widget", open())).await;
    let document = cluster.get("/openapi/v3/apis/example.com/v1").await;
    let fields = &document["components"]["schemas"]["com.example.v1.Widget"]["properties"];
    for (field, told) in [
        ("apiVersion", "APIVersion defines"),
        ("kind", "Kind is a string"),
        ("metadata", "Standard object's metadata"),
    ] {
        let found = fields[field]["description"].as_str().unwrap_or_default();
        assert!(found.starts_with(told), "{field}: {found}");
    }
}

#[tokio::test]
async fn a_field_that_the_schema_lacks_or_that_stands_twice_is_not_applied() {
    let cluster = Cluster::start().await;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"foo": {"type": "string"}}});
    cluster.post(DEFINITIONS, definition("widgets", "Widget", schema)).await;
    let place = format!("{}/w?fieldManager=m&fieldValidation=Strict", path("widgets"));
    let headers = [(header::CONTENT_TYPE, "application/apply-patch+yaml")];
    let head = "apiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: w\n";
    for (rest, told) in [
        ("unknownField: x\n", ".unknownField: field not declared in schema"),
        ("spec:\n  foo: a\n  foo: b\n", "line 7: key \"foo\" already set in map"),
    ] {
        let (_, refused) = cluster.send("PATCH", &place, &headers, format!("{head}{rest}")).await;
        let message = refused["message"].as_str().unwrap_or_default();
        assert!(message.contains(told), "{message}");
    }
    let body = format!("{head}spec:\n  foo: a\n  other: 1\n");
    assert_eq!(cluster.send("PATCH", &place, &headers, body).await.0.status, 201);
}

#[tokio::test]
async fn a_field_that_a_definitions_metadata_lacks_is_told_wherever_an_object_is_embedded() {
    let cluster = Cluster::start().await;
    let schema = json!({"type": "object", "properties": {
        "template": {"type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true}}});
    cluster.post(DEFINITIONS, definition("widgets", "Widget", schema)).await;
    let inner = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "inner", "unknownSubMeta": 1}});
    let odd = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "w", "unknownMeta": 1}, "spec": {"template": inner}});
    let strict = format!("{}?fieldValidation=Strict", path("widgets"));
    let (code, refused) = cluster.post(&strict, odd.clone()).await;
    let message = refused["message"].as_str().unwrap_or_default();
    assert_eq!(code, 400, "{refused}");
    for field in ["metadata.unknownMeta", "spec.template.metadata.unknownSubMeta"] {
        assert!(message.contains(&format!("unknown field \"{field}\"")), "{message}");
    }
    let headers = [(header::CONTENT_TYPE, "application/apply-patch+yaml")];
    let place = format!("{}/w?fieldManager=m&fieldValidation=Strict", path("widgets"));
    let (head, refused) = cluster.send("PATCH", &place, &headers, odd.to_string()).await;
    let message = refused["message"].as_str().unwrap_or_default();
    assert_ne!(head.status, 201);
    for field in [".metadata.unknownMeta", ".spec.template.metadata.unknownSubMeta"] {
        let told = format!("{field}: field not declared in schema");
        assert!(message.contains(&told), "{told}: {message}");
    }
}

#[tokio::test]
async fn a_default_that_comes_later_is_shown_of_what_is_stored_already() {
    let cluster = Cluster::start().await;
    let fields =
        |size: Value| json!({"type": "object", "default": {}, "properties": {"size": size}});
    let plain = definition("widgets", "Widget", fields(json!({"type": "integer"})));
    cluster.post(DEFINITIONS, plain).await;
    let object = json!({"metadata": {"name": "w"}, "spec": {}});
    let (_, made) = cluster.post(&path("widgets"), object).await;
    assert_eq!(made["spec"], json!({}));
    let newer = definition("widgets", "Widget", fields(json!({"type": "integer", "default": 3})));
    let place = format!("{DEFINITIONS}/widgets.example.com");
    assert_eq!(cluster.patch(&place, "merge-patch+json", newer).await.0, 200);
    let shown = cluster.get(&format!("{}/w", path("widgets"))).await;
    assert_eq!(shown["spec"], json!({"size": 3}));
    assert_eq!(shown["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let listed = cluster.get(&path("widgets")).await;
    assert_eq!(listed["items"][0]["spec"], json!({"size": 3}));
}

#[tokio::test]
async fn a_definitions_status_is_written_by_itself() {
    let cluster = Cluster::start().await;
    let (_, made) = cluster.post(DEFINITIONS, definition("widgets", "Widget", open())).await;
    let place = format!("{DEFINITIONS}/widgets.example.com/status");
    let mut shown = cluster.get(&place).await;
    assert_eq!(shown["status"], made["status"]);
    let own = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "set",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    shown["status"]["conditions"].as_array_mut().unwrap().push(own);
    shown["spec"]["preserveUnknownFields"] = true.into();
    let (code, written) = cluster.put(&place, shown).await;
    assert_eq!(code, 200, "{written}");
    assert_eq!(condition(&written, "StatusUpdate")["message"], "set");
    assert!(written["spec"].get("preserveUnknownFields").is_none(), "{}", written["spec"]);
    assert_eq!(written["metadata"]["generation"], made["metadata"]["generation"]);
}

#[tokio::test]
async fn what_is_described_follows_what_is_served() {
    let cluster = Cluster::start().await;
    let mut wanted = definition("widgets", "Widget", open());
    let mut second = wanted["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    wanted["spec"]["versions"].as_array_mut().unwrap().push(second);
    cluster.post(DEFINITIONS, wanted.clone()).await;
    let described = async || {
        let older = cluster.get("/openapi/v2").await;
        let mut found: Vec<String> = older["definitions"]
            .as_object()
            .unwrap()
            .keys()
            .filter_map(|it| Some(it.strip_prefix("com.example.")?.strip_suffix(".Widget")?.into()))
            .collect();
        found.sort();
        let newer = cluster.get("/openapi/v3").await;
        for version in ["v1", "v2", "v3"] {
            let is_told = newer["paths"][format!("apis/example.com/{version}")].is_object();
            assert_eq!(is_told, found.iter().any(|it| it == version), "{version}");
        }
        found
    };
    assert_eq!(described().await, ["v1", "v2"]);
    let place = format!("{DEFINITIONS}/widgets.example.com");
    wanted["spec"]["versions"][1]["name"] = "v3".into();
    assert_eq!(cluster.patch(&place, "merge-patch+json", wanted.clone()).await.0, 200);
    assert_eq!(described().await, ["v1", "v3"]);
    wanted["spec"]["versions"][1]["served"] = false.into();
    assert_eq!(cluster.patch(&place, "merge-patch+json", wanted).await.0, 200);
    assert_eq!(described().await, ["v1"]);
    assert_eq!(cluster.delete(&place).await.0, 200);
    assert!(described().await.is_empty());
}

#[tokio::test]
async fn what_a_version_may_be_selected_by_is_part_of_its_openapi_documents() {
    let cluster = Cluster::start().await;
    let schema = json!({ "type": "object", "properties": { "host": { "type": "string" } } });
    let mut selectable = definition("widgets", "Widget", schema);
    selectable["spec"]["versions"][0]["selectableFields"] = json!([{ "jsonPath": ".spec.host" }]);
    let (code, made) = cluster.post(DEFINITIONS, selectable).await;
    assert_eq!(code, 201, "{made}");
    let third = cluster.get("/openapi/v3/apis/example.com/v1").await;
    let second = cluster.get("/openapi/v2").await;
    for schemas in [&third["components"]["schemas"], &second["definitions"]] {
        let told = &schemas["com.example.v1.Widget"]["x-kubernetes-selectable-fields"];
        assert_eq!(*told, json!([{ "fieldPath": "spec.host" }]));
    }
}
