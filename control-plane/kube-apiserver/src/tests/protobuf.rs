//! Answers in protobuf, as Go clients ask for them: objects, lists, watches, refusals, discovery.

use bytes::Bytes;
use http::{
    header::{ACCEPT, CONTENT_TYPE},
    response::Parts,
};
use kube_protobuf::{MEDIA_TYPE, STREAM_MEDIA_TYPE, decode, encode};
use serde_json::{Value, json};

use super::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// As client-go asks, which would take JSON as well.
const BOTH: &str = "application/vnd.kubernetes.protobuf,application/json";

const METADATA: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

const METADATA_LIST: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

async fn ask(cluster: &Cluster, method: &str, path: &str, accept: &str) -> (Parts, Value) {
    let (head, body) = cluster.exchange(method, path, &[(ACCEPT, accept)], "").await;
    assert_eq!(head.headers[CONTENT_TYPE], MEDIA_TYPE, "{method} {path}");
    (head, decode(&body).unwrap())
}

/// Sends a body of protobuf and takes one.
async fn write(cluster: &Cluster, method: &str, path: &str, object: &Value) -> (u16, Value) {
    let headers = [(CONTENT_TYPE, MEDIA_TYPE), (ACCEPT, BOTH)];
    let body = encode(object.to_string().as_bytes()).unwrap();
    let (head, body) = cluster.exchange(method, path, &headers, body).await;
    assert_eq!(head.headers[CONTENT_TYPE], MEDIA_TYPE, "{method} {path}");
    (head.status.as_u16(), decode(&body).unwrap())
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}})
}

#[tokio::test]
async fn what_is_written_in_protobuf_is_answered_in_it() {
    let cluster = Cluster::start().await;
    let (code, mut made) = write(&cluster, "POST", MAPS, &map("a")).await;
    assert_eq!((code, &made["data"]), (201, &json!({"a": "b"})));
    made["data"]["a"] = "c".into();
    let (code, changed) = write(&cluster, "PUT", &format!("{MAPS}/a"), &made).await;
    assert_eq!((code, &changed["data"]), (200, &json!({"a": "c"})));
    assert_ne!(changed["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let headers = [(CONTENT_TYPE, "application/merge-patch+json"), (ACCEPT, BOTH)];
    let patch = json!({"data": {"a": "d"}}).to_string();
    let path = format!("{MAPS}/a");
    let (_, patched) = cluster.exchange("PATCH", &path, &headers, patch).await;
    let patched = decode(&patched).unwrap();
    assert_eq!(patched["data"]["a"], "d");
    assert_eq!(cluster.get(&path).await, patched);
    let (_, gone) = ask(&cluster, "DELETE", &path, BOTH).await;
    assert_eq!((&gone["kind"], &gone["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(gone["details"]["uid"], made["metadata"]["uid"]);
}

#[tokio::test]
async fn pages_say_where_the_next_one_begins() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        write(&cluster, "POST", MAPS, &map(name)).await;
    }
    let (_, page) = ask(&cluster, "GET", &format!("{MAPS}?limit=1"), BOTH).await;
    assert_eq!((&page["kind"], &page["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(page["metadata"]["remainingItemCount"], 2);
    let rest = page["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = ask(&cluster, "GET", &format!("{MAPS}?continue={rest}"), BOTH).await;
    assert_eq!(rest["items"][1]["metadata"]["name"], "c");
    assert_eq!(rest["metadata"]["resourceVersion"], page["metadata"]["resourceVersion"]);
    let (_, partial) = ask(&cluster, "GET", MAPS, METADATA_LIST).await;
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(partial["items"][2]["metadata"]["name"], "c");
    let (_, gone) = ask(&cluster, "DELETE", MAPS, BOTH).await;
    assert_eq!(
        (&gone["kind"], gone["items"].as_array().unwrap().len()),
        (&json!("ConfigMapList"), 3)
    );
}

/// The events of a watch that has ended, by their types and with their objects.
pub(super) fn events(mut stream: &[u8]) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk::<4>() {
        let (event, rest) = rest.split_at(u32::from_be_bytes(*length).try_into().unwrap());
        stream = rest;
        // A type that is shorter than 128 bytes, then an object in two messages.
        let (kind, object) = event[2..].split_at(event[1].into());
        let start = object.windows(4).position(|it| it == b"k8s\0").unwrap();
        let kind = String::from_utf8(kind.to_vec()).unwrap();
        events.push((kind, decode(&object[start..]).unwrap()));
    }
    assert!(stream.is_empty());
    events
}

async fn watched(cluster: &Cluster, accept: &str) -> Vec<(String, Value)> {
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                 &allowWatchBookmarks=true&timeoutSeconds=1";
    let path = format!("{MAPS}?{query}");
    let (head, body) = cluster.exchange("GET", &path, &[(ACCEPT, accept)], "").await;
    assert_eq!(head.headers[CONTENT_TYPE], STREAM_MEDIA_TYPE);
    events(&body)
}

#[tokio::test(start_paused = true)]
async fn a_watch_comes_in_frames_with_the_mark_of_its_beginning() {
    let cluster = Cluster::start().await;
    for name in ["a", "b"] {
        write(&cluster, "POST", MAPS, &map(name)).await;
    }
    let told = watched(&cluster, BOTH).await;
    let all: Vec<_> =
        told.iter().map(|it| (it.0.as_str(), it.1["kind"].as_str().unwrap())).collect();
    assert_eq!(all[..2], [("ADDED", "ConfigMap"); 2]);
    assert_eq!(told[1].1, cluster.get(&format!("{MAPS}/b")).await);
    assert_eq!(all[2], ("BOOKMARK", "ConfigMap"));
    let marks = &told[2].1["metadata"]["annotations"];
    assert_eq!(*marks, json!({"k8s.io/initial-events-end": "true"}));
    let told = watched(&cluster, METADATA).await;
    assert_eq!(told[0].1["kind"], "PartialObjectMetadata");
    assert_eq!(told[1].1["metadata"]["name"], "b");
    assert_eq!((&*told[2].0, &told[2].1["kind"]), ("BOOKMARK", &json!("PartialObjectMetadata")));
}

#[tokio::test]
async fn refusals_come_in_protobuf_to_who_asks_for_it() {
    let cluster = Cluster::start().await;
    let (head, status) = ask(&cluster, "GET", &format!("{MAPS}/none"), MEDIA_TYPE).await;
    assert_eq!((head.status.as_u16(), &status["reason"]), (404, &json!("NotFound")));
    assert_eq!(status["details"], json!({"name": "none", "kind": "configmaps"}));
    assert_eq!(status["code"], 404);
    let cbor = "application/cbor";
    let (head, status) = cluster.send("GET", MAPS, &[(ACCEPT, cbor)], "").await;
    assert_eq!((head.status.as_u16(), &status["reason"]), (406, &json!("NotAcceptable")));
    let (head, status) = cluster.send("POST", MAPS, &[(CONTENT_TYPE, cbor)], "").await;
    assert_eq!((head.status.as_u16(), &status["reason"]), (415, &json!("UnsupportedMediaType")));
    let table = format!("{MEDIA_TYPE};as=Table;g=meta.k8s.io;v=v1");
    let (head, _) = cluster.send("GET", MAPS, &[(ACCEPT, &table)], "").await;
    assert_eq!(head.status, 406);
    let hostile = [(CONTENT_TYPE, MEDIA_TYPE)];
    let (head, _) =
        cluster.send("POST", MAPS, &hostile, &b"k8s\0\x12\xff\xff\xff\xff\x0f"[..]).await;
    assert_eq!(head.status, 400);
}

#[tokio::test]
async fn subresources_and_reviews_are_answered_in_protobuf() {
    let cluster = Cluster::start().await;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "x"}]},
            },
        },
    });
    write(&cluster, "POST", DEPLOYMENTS, &deployment).await;
    let path = format!("{DEPLOYMENTS}/d/scale");
    let (_, mut scale) = ask(&cluster, "GET", &path, BOTH).await;
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    scale["spec"]["replicas"] = 3.into();
    let (code, scale) = write(&cluster, "PUT", &path, &scale).await;
    assert_eq!((code, &scale["spec"]["replicas"]), (200, &json!(3)));
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, answer) = write(&cluster, "POST", path, &review).await;
    assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(true)));
    let (_, components) = ask(&cluster, "GET", "/api/v1/componentstatuses", BOTH).await;
    assert_eq!(components["items"][0]["conditions"][0]["type"], "Healthy");
}

#[tokio::test]
async fn custom_objects_come_as_json_and_their_metadata_as_protobuf() {
    let cluster = Cluster::start().await;
    let version = json!({
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object"}},
    });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "versions": [version],
            "names": {"plural": "widgets", "kind": "Widget"},
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, made) = write(&cluster, "POST", definitions, &definition).await;
    assert_eq!((code, &made["spec"]["versions"][0]["name"]), (201, &json!("v1")));
    let widgets = "/apis/example.com/v1/namespaces/default/widgets";
    cluster.post(widgets, json!({"metadata": {"name": "w"}})).await;
    let (head, refused) = ask(&cluster, "GET", widgets, MEDIA_TYPE).await;
    assert_eq!((head.status.as_u16(), &refused["reason"]), (406, &json!("NotAcceptable")));
    let (_, list) = cluster.send("GET", widgets, &[(ACCEPT, BOTH)], "").await;
    assert_eq!(list["items"][0]["metadata"]["name"], "w");
    let (_, partial) = ask(&cluster, "GET", widgets, METADATA_LIST).await;
    assert_eq!(partial["items"][0]["metadata"]["name"], "w");
    let (_, partial) = ask(&cluster, "GET", &format!("{widgets}/w"), METADATA).await;
    assert_eq!(partial["metadata"]["name"], "w");
    let (_, gone) = ask(&cluster, "DELETE", widgets, METADATA_LIST).await;
    assert_eq!(gone["items"][0]["metadata"]["name"], "w");
}

#[tokio::test]
async fn discovery_says_in_protobuf_what_it_says_in_json() {
    let cluster = Cluster::start().await;
    let form = ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let of = async |path: &str, form: &str| -> (Parts, Bytes) {
        let accept = format!("{MEDIA_TYPE}{form}");
        cluster.exchange("GET", path, &[(ACCEPT, &accept)], "").await
    };
    for path in ["/api", "/apis"] {
        let (head, body) = of(path, form).await;
        assert_eq!(head.headers[CONTENT_TYPE], *format!("{MEDIA_TYPE}{form}"));
        let json = [(ACCEPT, &*format!("application/json{form}"))];
        let (_, json) = cluster.send("GET", path, &json, "").await;
        assert_eq!(bare(decode(&body).unwrap()), bare(json));
    }
    for path in ["/api", "/apis", "/apis/apps", "/apis/apps/v1", "/api/v1"] {
        let (head, body) = of(path, "").await;
        assert_eq!(head.headers[CONTENT_TYPE], MEDIA_TYPE);
        assert_eq!(bare(decode(&body).unwrap()), bare(cluster.get(path).await), "{path}");
    }
    for path in ["/version", "/"] {
        assert_eq!(of(path, "").await.0.headers[CONTENT_TYPE], "application/json");
    }
}

/// Without what protobuf does not tell apart: nothing, zeros and empty lists.
pub(super) fn bare(value: Value) -> Value {
    let is_left = |it: &Value| match it {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) => true,
    };
    match value {
        Value::Array(items) => items.into_iter().map(bare).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, bare(value)));
            fields.filter(|(_, value)| is_left(value)).collect()
        }
        other => other,
    }
}
