//! Custom resources of two versions, between which a program converts.

use std::{convert::Infallible, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Request, Response};
use hyper::body::Incoming;
use lifecycle::Scope;
use parking_lot::Mutex;
use serde_json::{Value, json};
use transport::{Place, tls};

use super::Cluster;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn path(version: &str) -> String {
    format!("/apis/stable.example.com/{version}/namespaces/default/hosts")
}

/// A program that converts, and how often it was asked.
struct Converter {
    client: Value,
    asked: Arc<Mutex<Vec<usize>>>,
    _scope: Scope,
}

impl Converter {
    /// `change` makes the response of what was asked.
    async fn start(change: impl Fn(&Value) -> Value + Clone + Send + Sync + 'static) -> Self {
        let ca = pki::Ca::new("converters").unwrap();
        let identity = ca
            .issue(&pki::Profile {
                cn: "converter".into(),
                organizations: Vec::new(),
                sans: vec!["127.0.0.1".into()],
                usages: vec![pki::Usage::Server],
                not_after: "2100-01-01T00:00:00Z".parse().unwrap(),
            })
            .unwrap();
        let identity =
            tls::Identity { certificate_pem: identity.certificate_pem, key_pem: identity.key_pem };
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let url = format!("https://{}/convert", listener.local_addr().unwrap());
        let (scope, asked) = (Scope::new(), Arc::new(Mutex::new(Vec::new())));
        let heard = asked.clone();
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let (change, heard) = (change.clone(), heard.clone());
            async move {
                let body = transport::collect(request.into_body(), 1 << 20).await.unwrap().unwrap();
                let review: Value = serde_json::from_slice(&body).unwrap();
                let asked = &review["request"];
                heard.lock().push(asked["objects"].as_array().unwrap().len());
                let mut response = change(asked);
                if response.get("uid").is_none() {
                    response["uid"] = asked["uid"].clone();
                }
                let review = json!({"kind": "ConversionReview",
                    "apiVersion": "apiextensions.k8s.io/v1", "response": response});
                Ok::<_, Infallible>(Response::new(transport::full(review.to_string())))
            }
        });
        let tls = Some(tls::server(&identity, None).unwrap());
        let serving = transport::serve(listener, tls, service, scope.clone());
        drop(scope.spawn("converter", serving));
        let client = json!({"url": url, "caBundle": STANDARD.encode(ca.certificate_pem())});
        Self { client, asked, _scope: scope }
    }

    async fn cluster(&self) -> Cluster {
        let cluster = Cluster::start().await;
        let version = |name: &str, properties: Value| {
            let fields = properties.as_object().unwrap().keys();
            let fields: Value = fields.map(|it| json!({"jsonPath": format!(".{it}")})).collect();
            json!({"name": name, "served": true, "storage": name == "v1",
                "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
                "selectableFields": fields})
        };
        let definition = json!({"metadata": {"name": "hosts.stable.example.com"}, "spec": {
        "group": "stable.example.com", "scope": "Namespaced",
        "names": {"plural": "hosts", "kind": "Host"},
        "conversion": {"strategy": "Webhook", "webhook": {
            "clientConfig": self.client, "conversionReviewVersions": ["v1"]}},
        "versions": [
            version("v1", json!({"hostPort": {"type": "string"}})),
            version("v2", json!({"host": {"type": "string"}, "port": {"type": "string"},
                "scheme": {"type": "string", "default": "https"}})),
        ]}});
        let (code, made) = cluster.post(DEFINITIONS, definition).await;
        assert_eq!(code, 201, "{made}");
        cluster
    }
}

/// `hostPort` of v1 is `host` and `port` of v2.
fn converted(asked: &Value) -> Vec<Value> {
    let to = asked["desiredAPIVersion"].as_str().unwrap();
    let objects = asked["objects"].as_array().unwrap().iter().cloned();
    let one = |mut object: Value| {
        object["apiVersion"] = to.into();
        let fields = object.as_object_mut().unwrap();
        if to.ends_with("/v2") {
            let both = fields.remove("hostPort").unwrap();
            let (host, port) = both.as_str().unwrap().split_once(':').unwrap();
            fields.insert("host".into(), host.into());
            fields.insert("port".into(), port.into());
        } else {
            let (host, port) = (fields.remove("host").unwrap(), fields.remove("port").unwrap());
            fields.remove("scheme");
            let both = format!("{}:{}", host.as_str().unwrap(), port.as_str().unwrap());
            fields.insert("hostPort".into(), both.into());
        }
        object
    };
    objects.map(one).collect()
}

fn success(asked: &Value) -> Value {
    json!({"result": {"status": "Success"}, "convertedObjects": converted(asked)})
}

#[tokio::test]
async fn an_object_is_shown_and_changed_in_either_version() {
    let converter = Converter::start(success).await;
    let cluster = converter.cluster().await;
    let v1 = json!({"metadata": {"name": "a"}, "hostPort": "localhost:1"});
    assert_eq!(cluster.post(&path("v1"), v1).await.0, 201);
    assert!(converter.asked.lock().is_empty(), "it is stored as it came");
    let shown = cluster.get(&format!("{}/a", path("v2"))).await;
    assert_eq!((&shown["host"], &shown["port"]), (&json!("localhost"), &json!("1")), "{shown}");
    assert_eq!(shown["scheme"], "https", "the version's own default");
    let v2 = json!({"metadata": {"name": "b"}, "host": "example.com", "port": "2"});
    let (code, made) = cluster.post(&path("v2"), v2).await;
    assert_eq!((code.as_u16(), made["host"].as_str()), (201, Some("example.com")), "{made}");
    assert_eq!(made["apiVersion"], "stable.example.com/v2");
    let stored = cluster.get(&format!("{}/b", path("v1"))).await;
    assert_eq!(stored["hostPort"], "example.com:2", "{stored}");
    let port = json!({"port": "3"});
    let (code, now) = cluster.patch(&format!("{}/a", path("v2")), "merge-patch+json", port).await;
    assert_eq!((code.as_u16(), now["port"].as_str()), (200, Some("3")), "{now}");
    assert_eq!(cluster.get(&format!("{}/a", path("v1"))).await["hostPort"], "localhost:3");
    assert_eq!(cluster.delete(&format!("{}/a", path("v2"))).await.0, 200);
}

#[tokio::test]
async fn a_list_is_converted_by_one_question_and_a_watch_by_one_for_each_event() {
    let converter = Converter::start(success).await;
    let cluster = converter.cluster().await;
    for (name, both) in [("a", "h:1"), ("b", "h:2"), ("c", "h:3")] {
        let object = json!({"metadata": {"name": name}, "hostPort": both});
        cluster.post(&path("v1"), object).await;
    }
    let list = cluster.get(&path("v2")).await;
    let ports: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|it| it["port"].as_str().unwrap()).collect();
    assert_eq!((list["kind"].as_str(), ports), (Some("HostList"), vec!["1", "2", "3"]));
    assert_eq!(*converter.asked.lock(), [3]);
    let events = cluster.text(&format!("{}?watch=1&timeoutSeconds=1", path("v2"))).await;
    let ports: Vec<Value> = events
        .lines()
        .map(|it| serde_json::from_str::<Value>(it).unwrap()["object"]["port"].clone())
        .collect();
    assert_eq!(ports, ["1", "2", "3"]);
}

/// Upstream's test of selectable fields.
#[tokio::test]
async fn each_version_is_selected_and_watched_by_fields_of_its_own() {
    let converter = Converter::start(success).await;
    let cluster = converter.cluster().await;
    let version = cluster.get(&path("v2")).await["metadata"]["resourceVersion"].clone();
    let version = version.as_str().unwrap();
    for (name, host, port) in [("a", "host1", "80"), ("b", "host1", "8080"), ("c", "host2", "80")] {
        let object = json!({"metadata": {"name": name}, "host": host, "port": port});
        assert_eq!(cluster.post(&path("v2"), object).await.0, 201);
    }
    let names = |list: Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    for (version, selector, wanted) in [
        ("v2", "host%3Dhost1", vec!["a", "b"]),
        ("v2", "host%3Dhost1,port%3D80", vec!["a"]),
        ("v2", "scheme%3Dhttps,metadata.name%3Dc", vec!["c"]),
        ("v1", "hostPort%3Dhost1:80", vec!["a"]),
        ("v1", "hostPort%3Dhost1:8080", vec!["b"]),
        ("v1", "hostPort%3Dhost3:80", vec![]),
    ] {
        let found = cluster.get(&format!("{}?fieldSelector={selector}", path(version))).await;
        assert_eq!(names(found), wanted, "{version} {selector}");
    }
    let (code, _) =
        cluster.delete(&format!("{}?fieldSelector=host%3Dhost1,port%3D80", path("v2"))).await;
    assert_eq!(code, 200);
    let moved = json!({"host": "host2"});
    cluster.patch(&format!("{}/b", path("v2")), "merge-patch+json", moved).await;
    assert_eq!(names(cluster.get(&path("v1")).await), ["b", "c"]);
    let query = format!("watch=1&timeoutSeconds=1&resourceVersion={version}&fieldSelector");
    for (version, selector, wanted) in [
        ("v2", "host%3Dhost1", vec!["ADDED a", "ADDED b", "DELETED a", "DELETED b"]),
        ("v2", "host%3Dhost1,port%3D80", vec!["ADDED a", "DELETED a"]),
        ("v1", "hostPort%3Dhost1:8080", vec!["ADDED b", "DELETED b"]),
    ] {
        let told = cluster.text(&format!("{}?{query}={selector}", path(version))).await;
        let told: Vec<String> = told
            .lines()
            .map(|it| {
                let event: Value = serde_json::from_str(it).unwrap();
                let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
                format!("{} {name}", event["type"].as_str().unwrap())
            })
            .collect();
        assert_eq!(told, wanted, "{version} {selector}");
    }
}

/// Upstream's test of a list that is not homogeneous.
#[tokio::test]
async fn objects_that_are_stored_in_different_versions_are_listed_in_one() {
    let converter = Converter::start(success).await;
    let cluster = converter.cluster().await;
    let v1 = json!({"metadata": {"name": "a"}, "hostPort": "h:1"});
    cluster.post(&path("v1"), v1.clone()).await;
    let definition = format!("{DEFINITIONS}/hosts.stable.example.com");
    let mut changed = cluster.get(&definition).await;
    changed["spec"]["versions"][0]["storage"] = false.into();
    changed["spec"]["versions"][1]["storage"] = true.into();
    let (code, changed) = cluster.put(&definition, changed).await;
    assert_eq!((code.as_u16(), &changed["status"]["storedVersions"]), (200, &json!(["v1", "v2"])));
    let v2 = json!({"metadata": {"name": "b"}, "host": "h", "port": "2"});
    assert_eq!(cluster.post(&path("v2"), v2).await.0, 201);
    for (version, field, wanted) in [("v2", "port", ["1", "2"]), ("v1", "hostPort", ["h:1", "h:2"])]
    {
        let list = cluster.get(&path(version)).await;
        let items = list["items"].as_array().unwrap().iter();
        let values: Vec<&str> = items.map(|it| it[field].as_str().unwrap()).collect();
        assert_eq!(values, wanted, "{version}");
    }
}

#[tokio::test]
async fn what_comes_back_has_to_be_the_same_objects() {
    type Change = fn(&Value) -> Value;
    let of = |change: fn(&mut Value)| {
        move |asked: &Value| {
            let mut all = converted(asked);
            change(&mut all[0]);
            json!({"result": {"status": "Success"}, "convertedObjects": all})
        }
    };
    let start = "conversion webhook for stable.example.com/v1, Kind=Host ";
    let told = |change: Change, why: String| (change, why);
    let invalid = |why: &str| format!("{start}returned invalid {why}");
    let cases: Vec<(Change, String)> = vec![
        told(
            |_| json!({"result": {"status": "Failure", "message": "no idea"}}),
            format!("{start}failed: no idea"),
        ),
        told(|_| json!({}), format!("{start}failed: response.result.status was '', not 'Success'")),
        told(
            |_| json!({"result": {"status": "Success"}, "convertedObjects": []}),
            format!("{start}returned 0 objects, expected 1"),
        ),
        told(
            |asked| json!({"result": {"status": "Success"}, "convertedObjects": asked["objects"]}),
            invalid(
                "object at index 0: invalid groupVersion (expected stable.example.com/v2, received \
                     stable.example.com/v1)",
            ),
        ),
    ];
    for (change, why) in cases {
        let converter = Converter::start(change).await;
        let cluster = converter.cluster().await;
        cluster.post(&path("v1"), json!({"metadata": {"name": "a"}, "hostPort": "h:1"})).await;
        let refused = cluster.get(&format!("{}/a", path("v2"))).await;
        assert_eq!(
            (refused["code"].as_u64(), refused["message"].as_str()),
            (Some(500), Some(&*why))
        );
    }
    for (change, why) in [
        (of(|it| it["metadata"]["name"] = "z".into()), "object: must have the same name: a != z"),
        (
            of(|it| it["kind"] = "Guest".into()),
            "object at index 0: invalid kind (expected Host, received Guest)",
        ),
        (of(|it| it["metadata"] = Value::Null), "object: must have the same name: a != "),
        (
            of(|it| it["metadata"]["labels"] = json!({"a": "b c"})),
            "metadata: metadata.labels: Invalid value: \"b c\": a valid label must be an empty string \
             or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
             alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
             validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            of(|it| it["metadata"]["labels"] = json!({"a": 1})),
            "metadata: metadata.labels[a] must be a string, but is int64 in converted object",
        ),
        (
            of(|it| it["metadata"]["annotations"] = "x".into()),
            "metadata: invalid metadata.annotations of type string in converted object",
        ),
    ] {
        let converter = Converter::start(change).await;
        let cluster = converter.cluster().await;
        cluster.post(&path("v1"), json!({"metadata": {"name": "a"}, "hostPort": "h:1"})).await;
        let refused = cluster.get(&format!("{}/a", path("v2"))).await;
        assert_eq!(refused["message"].as_str(), Some(&*invalid(why)));
        let refused = cluster.get(&path("v2")).await;
        let of_lists = start.replace("Kind=Host", "Kind=HostList");
        let message = refused["message"].as_str().unwrap();
        assert!(message.starts_with(&of_lists) && message.contains(" at index 1: "), "{message}");
    }
    let labels = Converter::start(of(|it| {
        it["metadata"]["labels"] = json!({"from": "v1"});
        it["metadata"]["finalizers"] = json!(["not.ours/at-all"]);
        it["metadata"]["generation"] = 99.into();
    }))
    .await;
    let cluster = labels.cluster().await;
    cluster.post(&path("v1"), json!({"metadata": {"name": "a"}, "hostPort": "h:1"})).await;
    let shown = cluster.get(&format!("{}/a", path("v2"))).await;
    assert_eq!(shown["metadata"]["labels"], json!({"from": "v1"}), "{shown}");
    assert_eq!(
        (&shown["metadata"]["generation"], shown["metadata"].get("finalizers")),
        (&json!(1), None)
    );
}

#[tokio::test]
async fn a_converter_that_is_not_there_is_told_of() {
    let mut converter = Converter::start(success).await;
    converter.client["url"] = "https://127.0.0.1:1/convert".into();
    let cluster = converter.cluster().await;
    cluster.post(&path("v1"), json!({"metadata": {"name": "a"}, "hostPort": "h:1"})).await;
    let refused = cluster.get(&format!("{}/a", path("v2"))).await;
    let message = refused["message"].as_str().unwrap();
    let wanted = "conversion webhook for stable.example.com/v1, Kind=Host failed: Post \
                  \"https://127.0.0.1:1/convert?timeout=30s\": ";
    assert!(message.starts_with(wanted), "{message}");
    let shown = cluster.get(&format!("{}/a", path("v1"))).await;
    assert_eq!(shown["hostPort"], "h:1", "the stored version needs nobody");
}
