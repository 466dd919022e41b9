//! An extension server behind a Service, asked by the whole server.

use std::{convert::Infallible, time::Duration};

use hyper::body::Incoming;
use lifecycle::Scope;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transport::{Peer, Place};

use super::*;
use crate::{ApiServer, Config, authn::RequestHeader, tests::Cluster};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1alpha1.wardle.example.com";
const ROOT: &str = "/apis/wardle.example.com/v1alpha1";
const LIMIT: Duration = Duration::from_secs(20);

/// A cluster with an extension server that knows the front proxy by its certificate.
struct World {
    cluster: Cluster,
    bundle: String,
    _scope: Scope,
}

fn issue(ca: &pki::Ca, cn: &str, name: &str, usage: pki::Usage) -> Identity {
    let profile = pki::Profile {
        cn: cn.into(),
        organizations: Vec::new(),
        sans: if name.is_empty() { Vec::new() } else { vec![name.into()] },
        usages: vec![usage],
        not_after: "2100-01-01T00:00:00Z".parse().unwrap(),
    };
    ca.issue(&profile).unwrap()
}

impl World {
    async fn start() -> Self {
        let (front, own) = (pki::Ca::new("front").unwrap(), pki::Ca::new("wardle").unwrap());
        let mut config = Config::new(mvcc::Store::memory(), clock::Clock::system());
        config.proxy_client = Some(issue(&front, "front-proxy-client", "", pki::Usage::Client));
        let header = RequestHeader::new(front.certificate_pem(), &["front-proxy-client"]);
        config.authn.request_header = Some(header);
        let api = ApiServer::start(config).await.unwrap();
        let cluster = Cluster { api }.with_default_account().await;
        let identity = issue(&own, "wardle", "api.default.svc", pki::Usage::Server);
        let tls = tls::server(&identity, Some(front.certificate_pem())).unwrap();
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        *cluster.api.server.aggregator.redirect.lock() = Some(listener.local_addr().unwrap());
        let scope = Scope::new();
        let tasks = scope.clone();
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let answer = answer(request, &tasks);
            async move { Ok::<_, Infallible>(answer) }
        });
        let serving = transport::serve(listener, Some(tls), service, scope.clone());
        drop(scope.spawn("wardle", serving));
        let api = cluster.api.clone();
        drop(scope.spawn("upkeep", async move { api.maintain().await }));
        Self { cluster, bundle: BASE64_STANDARD.encode(own.certificate_pem()), _scope: scope }
    }

    fn object(&self) -> Value {
        json!({"metadata": {"name": NAME}, "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "caBundle": self.bundle,
            "service": {"namespace": "default", "name": "api", "port": 7443},
            "groupPriorityMinimum": 2000, "versionPriority": 200,
        }})
    }

    async fn post(&self, path: &str, object: Value) -> Value {
        let (code, made) = self.cluster.post(path, object).await;
        assert_eq!(code, 201, "{made}");
        made
    }

    async fn add_service(&self) {
        let service = json!({"metadata": {"name": "api"}, "spec": {
            "ports": [{"port": 7443, "targetPort": 443}], "selector": {"app": "api"}}});
        self.post("/api/v1/namespaces/default/services", service).await;
    }

    async fn add_endpoint(&self) {
        let pods = "/api/v1/namespaces/default/pods";
        let pod = json!({"metadata": {"name": "api"}, "spec": {
            "containers": [{"name": "api", "image": "api"}]}});
        let mut pod = self.post(pods, pod).await;
        pod["status"]["podIP"] = "10.9.9.9".into();
        let (code, told) = self.cluster.put(&format!("{pods}/api/status"), pod).await;
        assert_eq!(code, 200, "{told}");
        let slice = json!({
            "metadata": {"name": "api", "labels": {"kubernetes.io/service-name": "api"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 443}],
            "endpoints": [{
                "addresses": ["10.9.9.9"], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "namespace": "default", "name": "api"},
            }],
        });
        self.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice).await;
    }

    /// Waits until the condition has this reason.
    async fn until(&self, reason: &str) -> Value {
        let path = format!("{SERVICES}/{NAME}/status");
        let mut last = Value::Null;
        let told = async {
            loop {
                last = self.cluster.get(&path).await;
                if let Some(found) = condition(&last).filter(|it| it["reason"] == reason) {
                    return found.clone();
                }
                tokio::task::yield_now().await;
            }
        };
        let told = tokio::time::timeout(LIMIT, told).await;
        told.unwrap_or_else(|_| panic!("never {reason}: {last}"))
    }

    async fn available() -> Self {
        let world = Self::start().await;
        world.add_service().await;
        world.add_endpoint().await;
        world.post(SERVICES, world.object()).await;
        world.until("Passed").await;
        world
    }
}

fn json_answer(value: &Value) -> Response<Body> {
    let mut response = Response::new(transport::full(value.to_string()));
    let media = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

/// What the extension server says: whom it was told of, and by which proxy.
fn answer(mut request: Request<Incoming>, scope: &Scope) -> Response<Body> {
    let certificate = request.extensions().get::<Peer>().and_then(|it| it.certificate.clone());
    let proxy = certificate.map(|it| pki::subject(&it).unwrap().common_name);
    if request.headers().contains_key(header::UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut request);
        drop(scope.spawn("echo", async move {
            let mut stream = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
        }));
        return Response::builder()
            .status(101)
            .header(header::UPGRADE, "echo")
            .header(header::CONNECTION, "Upgrade")
            .body(transport::empty())
            .unwrap();
    }
    let headers = request.headers();
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().map(|it| it.to_str().unwrap().to_owned()).collect()
    };
    match request.uri().path() {
        ROOT => json_answer(&json!({
            "kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": "wardle.example.com/v1alpha1",
            "resources": [
                {"name": "flunders", "singularName": "flunder", "namespaced": true,
                 "kind": "Flunder", "verbs": ["create", "get", "list"]},
                {"name": "flunders/status", "singularName": "", "namespaced": true,
                 "kind": "Flunder", "verbs": ["get"]},
            ],
        })),
        "/openapi/v2" => json_answer(&json!({
            "paths": {(format!("{ROOT}/flunders")): {"get": {}}, "/version": {}},
            "definitions": {"com.example.wardle.v1alpha1.Flunder": {"type": "object"}},
        })),
        "/openapi/v3" => json_answer(&json!({"paths": {
            "apis/wardle.example.com/v1alpha1":
                {"serverRelativeURL": format!("/openapi/v3{ROOT}?hash=1")},
        }})),
        path if path.starts_with(ROOT) || path.starts_with("/openapi/v3/") => json_answer(&json!({
            "target": request.uri().to_string(), "proxy": proxy,
            "user": all("x-remote-user"), "groups": all("x-remote-group"),
            "uid": all("x-remote-uid"),
            "extra": all("x-remote-extra-example.com%2Fkey"),
            "token": all("authorization"),
        })),
        _ => Response::builder().status(404).body(transport::empty()).unwrap(),
    }
}

#[tokio::test]
async fn a_request_is_handed_to_the_server_behind_the_service_with_its_user() {
    let world = World::available().await;
    let target = format!("{ROOT}/namespaces/default/flunders?limit=5");
    let mut user = UserInfo::new("jane", &["system:masters"]);
    user.uid = "7".into();
    user.extra.insert("example.com/key".into(), vec!["a".into(), "b".into()]);
    let request = Request::get(&target)
        .header("x-remote-user", "mallory")
        .header(header::AUTHORIZATION, "Bearer secret")
        .body(transport::empty())
        .unwrap();
    let service = world.cluster.api.service_as(user);
    let answer = tower::ServiceExt::oneshot(service, request).await.unwrap();
    let body = transport::collect(answer.into_body(), 1 << 20).await.unwrap().unwrap();
    let told: Value = serde_json::from_slice(&body).unwrap();
    let expected = json!({
        "target": target, "proxy": "front-proxy-client", "user": ["jane"],
        "groups": ["system:masters", "system:authenticated"], "uid": ["7"], "extra": ["a", "b"],
        "token": [],
    });
    assert_eq!(told, expected);
}

#[tokio::test]
async fn an_upgrade_is_carried_to_the_server_behind_the_service() {
    let world = World::available().await;
    let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
    let front = listener.local_addr().unwrap();
    let (scope, service) = (Scope::new(), world.cluster.api.service_as(UserInfo::master("admin")));
    drop(scope.spawn("front", transport::serve(listener, None, service, scope.clone())));
    let mut stream = Place::Here.connect(front, LIMIT).await.unwrap();
    let request = format!(
        "GET {ROOT}/namespaces/default/flunders/f/echo HTTP/1.1\r\nHost: a\r\n\
         Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
}

#[tokio::test]
async fn the_condition_tells_what_is_missing_until_nothing_is() {
    let world = World::start().await;
    let made = world.post(SERVICES, world.object()).await;
    assert_eq!(made["status"], json!({}));
    let found = world.until("ServiceNotFound").await;
    assert_eq!(found["status"], "False");
    assert_eq!(found["message"], "service/api in \"default\" is not present");
    let (head, _) = world.cluster.send("GET", &format!("{ROOT}/x"), &[], "").await;
    assert_eq!(head.status, 503);
    let accept = [(header::ACCEPT, "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let path = format!("{SERVICES}/{NAME}");
    let (_, table) = world.cluster.send("GET", &path, &accept, "").await;
    let cells = &table["rows"][0]["cells"];
    assert_eq!((&cells[1], &cells[2]), (&json!("default/api"), &json!("False (ServiceNotFound)")));
    world.add_service().await;
    let found = world.until("EndpointsNotFound").await;
    assert_eq!(found["message"], "cannot find endpointslices for service/api in \"default\"");
    world.add_endpoint().await;
    let found = world.until("Passed").await;
    assert_eq!(
        (&found["status"], &found["message"]),
        (&json!("True"), &json!("all checks passed"))
    );
    let mut wrong = world.cluster.get(&format!("{SERVICES}/{NAME}")).await;
    wrong["spec"]["caBundle"] =
        BASE64_STANDARD.encode(pki::Ca::new("other").unwrap().certificate_pem()).into();
    assert_eq!(world.cluster.put(&format!("{SERVICES}/{NAME}"), wrong).await.0, 200);
    let found = world.until("FailedDiscoveryCheck").await;
    let message = found["message"].as_str().unwrap();
    assert!(message.starts_with("failing or missing response from https://"), "{message}");
}

#[tokio::test]
async fn what_a_server_behind_a_service_serves_is_part_of_discovery_and_openapi_until_it_is_deleted()
 {
    let world = World::available().await;
    let cluster = &world.cluster;
    let list = cluster.get("/apis").await;
    let names: Vec<&str> =
        list["groups"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names[..2], ["apiregistration.k8s.io", "apps"]);
    assert_eq!(names.last(), Some(&"wardle.example.com"));
    let group = cluster.get("/apis/wardle.example.com").await;
    assert_eq!(group["preferredVersion"]["version"], "v1alpha1", "{group}");
    let resources = cluster.get(ROOT).await;
    assert_eq!(resources["resources"][0]["name"], "flunders");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let aggregated = cluster.send("GET", "/apis", &[(header::ACCEPT, accept)], "").await.1;
    let found = aggregated["items"].as_array().unwrap().last().unwrap();
    assert_eq!(found["metadata"]["name"], "wardle.example.com");
    let version = &found["versions"][0];
    assert_eq!(version["freshness"], "Current");
    assert_eq!(version["resources"][0]["resource"], "flunders");
    assert_eq!(version["resources"][0]["subresources"][0]["subresource"], "status");
    let path = "apis/wardle.example.com/v1alpha1";
    let index = cluster.get("/openapi/v3").await;
    let url = index["paths"][path]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(cluster.get(url).await["user"], json!(["system:aggregator"]));
    let whole = cluster.get("/openapi/v2").await;
    assert!(whole["paths"][format!("{ROOT}/flunders")].is_object());
    assert!(whole["paths"]["/version"].is_null(), "not of the version");
    assert!(whole["definitions"]["com.example.wardle.v1alpha1.Flunder"].is_object());
    assert_eq!(cluster.delete(&format!("{SERVICES}/{NAME}")).await.0, 200);
    assert!(!cluster.serves(ROOT).await);
    assert!(!cluster.serves("/apis/wardle.example.com").await);
    assert!(cluster.get("/openapi/v3").await["paths"][path].is_null());
}

#[tokio::test]
async fn a_status_that_a_client_wrote_stays_beside_the_servers_own() {
    let world = World::available().await;
    let path = format!("{SERVICES}/{NAME}");
    let mut object = world.cluster.get(&path).await;
    let conditions = object["status"]["conditions"].as_array_mut().unwrap();
    conditions.push(json!({"type": "StatusUpdated", "status": "True", "reason": "E2E"}));
    assert_eq!(world.cluster.put(&format!("{path}/status"), object.clone()).await.0, 200);
    let patch = json!({"spec": {"versionPriority": 400}});
    world.cluster.patch(&path, "merge-patch+json", patch).await;
    let told = world.cluster.get(&path).await;
    let types: Vec<_> =
        told["status"]["conditions"].as_array().unwrap().iter().map(|it| &it["type"]).collect();
    assert_eq!(types, ["Available", "StatusUpdated"]);
}

#[tokio::test]
async fn custom_resources_have_an_api_service_as_long_as_their_definition_is_there() {
    let world = World::start().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    world.post(definitions, definition).await;
    let path = format!("{SERVICES}/v1.example.com");
    let has = |wanted: bool| {
        let (cluster, path) = (&world.cluster, &path);
        async move {
            loop {
                let found = cluster.get(path).await;
                if (found["kind"] == "APIService") == wanted {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        }
    };
    let made = tokio::time::timeout(LIMIT, has(true)).await.unwrap();
    let label = "kube-aggregator.kubernetes.io/automanaged";
    assert_eq!(made["metadata"]["labels"][label], "true");
    assert_eq!(made["spec"]["groupPriorityMinimum"], 1000);
    assert_eq!(made["status"]["conditions"][0]["reason"], "Local");
    let other = json!({"spec": {"groupPriorityMinimum": 5, "versionPriority": 5}});
    let (code, patched) = world.cluster.patch(&path, "merge-patch+json", other).await;
    assert_eq!((code.as_u16(), &patched["spec"]["versionPriority"]), (200, &json!(5)));
    let as_before = async {
        while world.cluster.get(&path).await["spec"] != made["spec"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, as_before).await.expect("it is written back");
    world.cluster.delete(&format!("{definitions}/things.example.com")).await;
    tokio::time::timeout(LIMIT, has(false)).await.unwrap();
}

#[tokio::test]
async fn an_api_service_that_cannot_be_is_refused_field_by_field() {
    let world = World::start().await;
    for (name, spec, field) in [
        (
            "v9.apps",
            json!({"group": "apps", "version": "v9",
            "service": {"namespace": "a", "name": "b"}}),
            "spec.service",
        ),
        ("v1.a.b", json!({"group": "a.b", "version": "v1", "caBundle": "YWJj"}), "spec.caBundle"),
        (
            "v1.a.b",
            json!({"group": "a.b", "version": "v1", "versionPriority": 2000}),
            "spec.versionPriority",
        ),
        (
            "v1.a.b",
            json!({"group": "a.b", "version": "v1",
            "service": {"name": "b"}}),
            "spec.service.namespace",
        ),
    ] {
        let mut object = json!({"metadata": {"name": name},
            "spec": {"groupPriorityMinimum": 1, "versionPriority": 1}});
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        let (code, refused) = world.cluster.post(SERVICES, object).await;
        assert_eq!(code, 422, "{refused}");
        assert_eq!(refused["details"]["causes"][0]["field"], field, "{refused}");
    }
}
