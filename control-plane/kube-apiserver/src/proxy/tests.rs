//! What must hold of `proxy`.

use std::{convert::Infallible, net::SocketAddr};

use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::authz::testing::Memory;

/// A kubelet over plain HTTP: shows its path, refuses `c2`, and echoes what is upgraded.
async fn kubelet(scope: &Scope) -> SocketAddr {
    let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = scope.clone();
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let answer = answer(request, &tasks);
        async move { Ok::<_, Infallible>(answer) }
    });
    drop(scope.spawn("kubelet", transport::serve(listener, None, service, scope.clone())));
    address
}

fn answer(mut request: Request<Incoming>, scope: &Scope) -> Response<Body> {
    let target = request.uri().to_string();
    if target.contains("/c2") {
        let body = "container \"c2\" in pod \"p\" is waiting to start: ContainerCreating";
        return Response::builder().status(400).body(transport::full(body)).unwrap();
    }
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
            .header(header::UPGRADE, "websocket")
            .header(header::CONNECTION, "Upgrade")
            .header("x-target", target)
            .body(transport::empty())
            .unwrap();
    }
    let has_credentials = request.headers().contains_key(header::AUTHORIZATION);
    Response::new(transport::full(format!("{target} credentials={has_credentials}")))
}

fn objects(address: SocketAddr, containers: &[&str]) -> Memory {
    let memory = Memory::default();
    memory.put(
        "nodes",
        json!({"metadata": {"name": "n"}, "status": {
            "addresses": [{"type": "InternalIP", "address": address.ip().to_string()}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}},
        }}),
    );
    let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name})).collect();
    memory.put(
        "pods",
        json!({"metadata": {"namespace": "ns", "name": "p"},
               "spec": {"nodeName": "n", "containers": containers}}),
    );
    memory
}

async fn ask(proxy: &Proxy, target: &str) -> Result<String, Status> {
    let request = Request::builder()
        .uri(target)
        .header(header::AUTHORIZATION, "Bearer secret")
        .body(transport::empty())
        .unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let info = RequestInfo::parse(request.method(), path, query);
    let answer = proxy.connect(&UserInfo::master("admin"), &info, request).await?;
    let body = transport::collect(answer.into_body(), 1 << 16).await.unwrap().unwrap();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

fn proxy(scope: &Scope, memory: Memory) -> Proxy {
    let config =
        Config { dial_limit: Duration::from_millis(50), scope: scope.clone(), ..Config::default() };
    Proxy::new(config, memory)
}

const LOG: &str = "/api/v1/namespaces/ns/pods/p/log";

#[tokio::test]
async fn a_log_is_asked_of_the_kubelet_with_the_options_and_without_the_credentials() {
    let scope = Scope::new();
    let address = kubelet(&scope).await;
    let proxy = proxy(&scope, objects(address, &["c"]));
    let said = ask(&proxy, &format!("{LOG}?tailLines=5&follow=true&previous=false")).await.unwrap();
    assert_eq!(said, "/containerLogs/ns/p/c?follow=true&tailLines=5 credentials=false");
}

#[tokio::test]
async fn the_container_must_be_clear() {
    let scope = Scope::new();
    let address = kubelet(&scope).await;
    let proxy = proxy(&scope, objects(address, &["c1", "c2"]));
    let unclear = ask(&proxy, LOG).await.unwrap_err();
    assert_eq!(
        unclear.message,
        "a container name must be specified for pod p, choose one of: [c1 c2]"
    );
    let unknown = ask(&proxy, &format!("{LOG}?container=x")).await.unwrap_err();
    assert_eq!(unknown.message, "container x is not valid for pod p");
    let waiting = ask(&proxy, &format!("{LOG}?container=c2")).await.unwrap_err();
    assert_eq!(
        (waiting.code.as_u16(), &*waiting.message),
        (400, "container \"c2\" in pod \"p\" is waiting to start: ContainerCreating")
    );
}

#[tokio::test]
async fn a_refused_dial_is_worded_as_go_words_it() {
    let scope = Scope::new();
    let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let proxy = proxy(&scope, objects(address, &["c"]));
    let refused = ask(&proxy, LOG).await.unwrap_err();
    let expected = format!(
        "Get \"https://{address}/containerLogs/ns/p/c\": dial tcp {address}: connect: connection \
         refused"
    );
    assert_eq!((refused.code.as_u16(), &*refused.reason, refused.message), (500, "", expected));
}

#[test]
fn a_dial_that_times_out_is_worded_as_eks_users_know_it() {
    let address = "192.168.0.12:10250".parse().unwrap();
    let source = io::Error::from(io::ErrorKind::TimedOut);
    let error = dial::DialError::Connect { address, source };
    assert_eq!(error.to_string(), "dial tcp 192.168.0.12:10250: i/o timeout");
}

/// A server that hands every request to the proxy.
fn front(scope: &Scope, proxy: Proxy) -> SocketAddr {
    let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
    let front = listener.local_addr().unwrap();
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let proxy = proxy.clone();
        async move {
            let uri = request.uri().clone();
            let info =
                RequestInfo::parse(request.method(), uri.path(), uri.query().unwrap_or_default());
            let request = request.map(forward::body);
            let answer = proxy.connect(&UserInfo::master("admin"), &info, request).await;
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    drop(scope.spawn("front", transport::serve(listener, None, service, scope.clone())));
    front
}

#[tokio::test]
async fn a_log_is_read_over_a_websocket_that_says_when_it_is_open() {
    use futures::StreamExt;
    use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
    let scope = Scope::new();
    let address = kubelet(&scope).await;
    let front = front(&scope, proxy(&scope, objects(address, &["c"])));
    let wanted = "/containerLogs/ns/p/c?follow=true credentials=false";
    for (protocol, is_encoded) in [("binary.k8s.io", false), ("base64.binary.k8s.io", true)] {
        let url = format!("ws://{front}{LOG}?follow=true");
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.parse().unwrap());
        let stream = Place::Here.connect(front, Duration::from_secs(5)).await.unwrap();
        let (mut socket, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(answer.headers()[header::SEC_WEBSOCKET_PROTOCOL], protocol);
        let mut messages = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            assert_eq!(message.is_text(), is_encoded && !message.is_close());
            if !matches!(message, Message::Close(_)) {
                messages.push(message.into_data());
            }
        }
        assert!(messages.remove(0).is_empty(), "the first says that the log is open");
        let said = messages.concat();
        let said = if is_encoded {
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, said).unwrap()
        } else {
            said
        };
        assert_eq!(String::from_utf8(said).unwrap(), wanted);
    }
}

#[tokio::test]
async fn an_exec_is_tunnelled_after_both_upgrades() {
    let scope = Scope::new();
    let address = kubelet(&scope).await;
    let proxy = proxy(&scope, objects(address, &["c"]));
    let front = front(&scope, proxy);
    let client = transport::HttpClient::new(Place::Here, None, Duration::from_secs(5));
    let command = "command=sh&command=-c&command=echo+hi&stdout=true&tty=false";
    let uri = format!("http://{front}/api/v1/namespaces/ns/pods/p/exec?{command}");
    let request = Request::builder()
        .uri(uri)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io")
        .body(transport::empty())
        .unwrap();
    let mut answer = client.send(request).await.unwrap();
    assert_eq!(answer.status(), 101);
    let upgraded = hyper::upgrade::on(&mut answer).await.unwrap();
    let mut stream = hyper_util::rt::TokioIo::new(upgraded);
    stream.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
}

#[test]
fn a_service_is_reached_at_its_ready_endpoints_only() {
    let memory = Memory::default();
    memory.put(
        "services",
        json!({"metadata": {"namespace": "ns", "name": "web"},
               "spec": {"ports": [{"name": "http", "port": 80}]}}),
    );
    memory.put(
        "endpointslices.discovery.k8s.io",
        json!({"metadata": {"namespace": "ns", "name": "web-1",
                     "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [
            endpoint("10.0.0.1", "p", false),
            endpoint("10.0.0.2", "p", true),
        ]}),
    );
    memory.put("pods", running("p", "10.0.0.2"));
    for name in ["web", "web:80", "web:http", "http:web:http"] {
        let backend = target::service(&memory, "ns", name).unwrap();
        assert_eq!(backend.address, "10.0.0.2:8080".parse().unwrap(), "{name}");
    }
    assert!(target::service(&memory, "ns", "https:web:80").unwrap().is_tls);
    assert!(target::service(&memory, "ns", "web:81").is_err());
    assert!(target::service(&memory, "ns", "a:b:c:d").is_err());
}

fn endpoint(ip: &str, pod: &str, is_ready: bool) -> Value {
    json!({"addresses": [ip], "conditions": {"ready": is_ready},
           "targetRef": {"kind": "Pod", "namespace": "ns", "name": pod}})
}

fn running(name: &str, ip: &str) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name},
           "status": {"podIP": ip, "podIPs": [{"ip": ip}]}})
}

/// Whoever may write EndpointSlices must not get the control plane to call what it can reach.
#[test]
fn a_slice_leads_to_pods_of_its_namespace_and_nowhere_else() {
    let reached = |endpoint: Value| {
        let memory = Memory::default();
        memory.put(
            "services",
            json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": {"ports": [{"port": 80}]}}),
        );
        let slice = json!({"metadata": {"namespace": "ns", "name": "web-1",
                "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "", "port": 8080}], "endpoints": [endpoint]});
        memory.put("endpointslices.discovery.k8s.io", slice);
        memory.put("pods", running("p", "10.0.0.2"));
        memory.put("pods", running("forged", "169.254.169.254"));
        target::service(&memory, "ns", "web").map(|it| it.address.ip().to_string())
    };
    assert_eq!(reached(endpoint("10.0.0.2", "p", true)).unwrap(), "10.0.0.2");
    let mut elsewhere = endpoint("10.0.0.2", "p", true);
    elsewhere["targetRef"]["namespace"] = "other".into();
    let of_nobody = json!({"addresses": ["10.0.0.2"]});
    for refused in [
        endpoint("10.0.0.3", "p", true),
        endpoint("10.0.0.2", "gone", true),
        endpoint("169.254.169.254", "forged", true),
        elsewhere,
        of_nobody,
    ] {
        let status = reached(refused.clone()).unwrap_err();
        assert_eq!(status.message, "no endpoints available for service \"web\"", "{refused}");
    }
}

fn pod(ip: &str) -> Memory {
    let memory = Memory::default();
    memory.put(
        "pods",
        json!({"metadata": {"namespace": "ns", "name": "p"}, "spec": {"containers": []},
               "status": {"podIP": ip}}),
    );
    memory
}

#[test]
fn a_pods_scheme_says_its_port_where_nothing_else_does() {
    let at = |name: &str| target::pod(&pod("10.0.0.1"), "ns", name).map(|it| it.address.port());
    assert_eq!(at("p").ok(), Some(80));
    assert_eq!(at("https:p:").ok(), Some(443));
    assert_eq!(at("http:p:8080").ok(), Some(8080));
    assert!(at("p:x").is_err() && at("ftp:p:21").is_err());
}

#[test]
fn no_name_leads_to_an_address_of_the_control_plane_itself() {
    for ip in ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "::1", "fe80::1", ""] {
        let refused = target::pod(&pod(ip), "ns", "p").unwrap_err();
        assert_eq!(
            (refused.code.as_u16(), &*refused.message),
            (400, "address not allowed"),
            "{ip}"
        );
    }
    let node = objects("127.0.0.1:10250".parse().unwrap(), &[]);
    let (kubelet, is_kubelet) = target::node(&node, "n:10250").unwrap();
    assert!(is_kubelet && kubelet.is_tls);
    let refused = target::node(&node, "http:n:9100").unwrap_err();
    assert_eq!(refused.message, "address not allowed");
}

#[tokio::test]
async fn a_node_without_a_path_is_a_folder() {
    let scope = Scope::new();
    let proxy = proxy(&scope, objects("127.0.0.1:1".parse().unwrap(), &[]));
    let target = "/api/v1/nodes/n/proxy?a=b";
    let request = Request::get(target).body(transport::empty()).unwrap();
    let info = RequestInfo::parse(request.method(), "/api/v1/nodes/n/proxy", "a=b");
    let answer = proxy.connect(&UserInfo::master("admin"), &info, request).await.unwrap();
    assert_eq!(answer.status(), 301);
    assert_eq!(answer.headers()[header::LOCATION], "/api/v1/nodes/n/proxy/?a=b");
}
