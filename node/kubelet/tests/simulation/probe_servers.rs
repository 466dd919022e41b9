//! Probes and hooks against real servers on loopback. Time is real.

use std::{future::Future, sync::Arc, time::Duration};

use http::HeaderMap;
use lifecycle::Scope;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    pod,
    servers::{self, Health, answer},
    support::{self, World},
};

/// A node whose own address is loopback, and so is that of pods in its network.
async fn node() -> World {
    World::configured(|settings| settings.node_ips = vec!["127.0.0.1".parse().unwrap()]).await
}

/// A container on the node's network with a probe that is asked every second.
fn probed(kind: &str, action: Value, more: Value) -> Value {
    let mut probe = json!({ "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 1 });
    for part in [action, more] {
        for (key, value) in part.as_object().unwrap() {
            probe[key] = value.clone();
        }
    }
    let mut container = json!({ "name": "c", "image": "i:1" });
    container[kind] = probe;
    json!({
        "hostNetwork": true,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    })
}

async fn in_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("it takes too long");
}

#[tokio::test]
async fn an_http_probe_sends_its_headers_and_is_good_from_200_to_399() {
    in_time(async {
        let scope = Scope::new();
        let (status, seen) = (Arc::new(Mutex::new(503)), Arc::new(Mutex::new(HeaderMap::new())));
        let (told, noted) = (status.clone(), seen.clone());
        let port = servers::web(&scope, false, move |request| {
            *noted.lock() = request.headers.clone();
            let is_it = request.uri == "/ready?deep=1";
            answer(if is_it { *told.lock() } else { 404 }, &[], "")
        });
        let headers = json!([
            { "name": "X-Probe", "value": "a" },
            { "name": "X-Probe", "value": "b" },
            { "name": "Host", "value": "shop.example.com" },
        ]);
        let action = json!({
            "httpGet": { "path": "/ready?deep=1", "port": "web", "httpHeaders": headers },
        });
        let mut spec = probed("readinessProbe", action, json!({ "successThreshold": 2 }));
        spec["containers"][0]["ports"] =
            json!([{ "name": "web", "containerPort": port, "hostPort": port }]);
        let world = node().await;
        world.create(pod("p", spec)).await;
        let text = "Readiness probe failed: HTTP probe failed with statuscode: 503";
        world.until_event("Unhealthy", text).await;
        assert!(!support::is_ready(&world.status("p").await));
        let since = tokio::time::Instant::now();
        *status.lock() = 204;
        world.until("p", support::is_ready).await;
        assert!(since.elapsed() >= Duration::from_secs(1), "two good answers, a second apart");
        let seen = seen.lock().clone();
        assert_eq!(seen.get_all("x-probe").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(seen["host"], "shop.example.com");
        assert_eq!(
            (&seen["user-agent"], &seen["accept"]),
            (&"kube-probe/1.36".parse().unwrap(), &"*/*".parse().unwrap())
        );
        scope.cancel();
    })
    .await;
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_and_are_a_warning_to_another_one() {
    in_time(async {
        let scope = Scope::new();
        let gone = Arc::new(Mutex::new(false));
        let told = gone.clone();
        let port = servers::web(&scope, false, move |request| match request.uri.path() {
            "/moved" => answer(301, &[("location", "/real")], ""),
            "/real" if *told.lock() => answer(500, &[], ""),
            "/real" => answer(200, &[], "ok"),
            "/away" => answer(302, &[("location", "http://192.0.2.1/")], "there"),
            _ => answer(302, &[("location", "/loop")], ""),
        });
        let world = node().await;
        for (name, path) in [("moved", "/moved"), ("away", "/away"), ("loop", "/loop")] {
            let action = json!({ "httpGet": { "path": path, "port": port } });
            world.create(pod(name, probed("readinessProbe", action, json!({})))).await;
        }
        world.until("moved", support::is_ready).await;
        world.until("away", support::is_ready).await;
        let text = "Readiness probe warning: Probe terminated redirects, Response body: there";
        world.until_event("ProbeWarning", text).await;
        let text = format!(
            "Readiness probe failed: Get \"http://127.0.0.1:{port}/loop\": stopped after 10 redirects"
        );
        world.until_event("Unhealthy", &text).await;
        *gone.lock() = true;
        world.until("moved", |it| !support::is_ready(it)).await;
        scope.cancel();
    })
    .await;
}

#[tokio::test]
async fn an_https_probe_believes_every_certificate_and_needs_tls() {
    in_time(async {
        let scope = Scope::new();
        let good = |_: &http::request::Parts| answer(200, &[], "");
        let (tls, plain) =
            (servers::web(&scope, true, good), servers::web(&scope, false, good));
        let world = node().await;
        for (name, port) in [("tls", tls), ("plain", plain)] {
            let action = json!({ "httpGet": { "port": port, "scheme": "HTTPS" } });
            world.create(pod(name, probed("readinessProbe", action, json!({})))).await;
        }
        world.until("tls", support::is_ready).await;
        let text = format!(
            "Readiness probe failed: Get \"https://127.0.0.1:{plain}/\": http: server gave HTTP response to HTTPS client"
        );
        world.until_event("Unhealthy", &text).await;
        assert!(!support::is_ready(&world.status("plain").await));
        scope.cancel();
    })
    .await;
}

#[tokio::test]
async fn a_tcp_probe_wants_a_connection_and_ends_a_container_after_its_failures() {
    in_time(async {
        let (listener, port) = servers::listen();
        let action = json!({ "tcpSocket": { "port": port } });
        let more = json!({ "failureThreshold": 2, "terminationGracePeriodSeconds": 1 });
        let world = node().await;
        world.create(pod("p", probed("livenessProbe", action, more))).await;
        world.until("p", support::is_running).await;
        world.pass(Duration::from_millis(2500)).await;
        assert_eq!(support::restarts(&world.status("p").await), 0);
        drop(listener);
        let text = format!(
            "Liveness probe failed: dial tcp 127.0.0.1:{port}: connect: connection refused"
        );
        world.until_event("Unhealthy", &text).await;
        let text = "Container c failed liveness probe, will be restarted";
        world.until_event("Killing", text).await;
        assert_eq!(world.told("Unhealthy").await, 2);
        world.until("p", |it| support::restarts(it) == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_grpc_probe_asks_for_the_health_of_the_service_that_it_names() {
    in_time(async {
        let (scope, health) = (Scope::new(), Health::default());
        health.set("", 1);
        health.set("shop", 2);
        let port = health.serve(&scope);
        let web = servers::web(&scope, false, |_| answer(200, &[], ""));
        let (closed, nobody) = servers::listen();
        drop(closed);
        let world = node().await;
        let grpc = |port: u16, service: &str| {
            let action = json!({ "grpc": { "port": port, "service": service } });
            probed("readinessProbe", action, json!({}))
        };
        world.create(pod("all", grpc(port, ""))).await;
        world.create(pod("shop", grpc(port, "shop"))).await;
        world.create(pod("unknown", grpc(port, "unknown"))).await;
        world.create(pod("nobody", grpc(nobody, ""))).await;
        world.create(pod("web", grpc(web, ""))).await;
        world.until("all", support::is_ready).await;
        let unhealthy = "service unhealthy (responded with \"NOT_SERVING\")";
        let unknown =
            "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service";
        let refused = format!(
            "error: failed to connect service at \"127.0.0.1:{nobody}\": dial tcp 127.0.0.1:{nobody}: connect: connection refused"
        );
        for text in [unhealthy, unknown, &refused] {
            world.until_event("Unhealthy", &format!("Readiness probe failed: {text}")).await;
        }
        health.set("shop", 1);
        world.until("shop", support::is_ready).await;
        health.set("", 2);
        world.until("all", |it| !support::is_ready(it)).await;
        for name in ["unknown", "nobody", "web"] {
            assert!(!support::is_ready(&world.status(name).await), "{name}");
        }
        scope.cancel();
    })
    .await;
}

#[tokio::test]
async fn a_server_that_never_answers_costs_a_probe_its_own_limit() {
    in_time(async {
        let (listener, port) = servers::listen();
        let world = node().await;
        let limit = json!({ "timeoutSeconds": 1 });
        let http = json!({ "httpGet": { "port": port } });
        world.create(pod("http", probed("readinessProbe", http, limit.clone()))).await;
        let grpc = json!({ "grpc": { "port": port } });
        world.create(pod("grpc", probed("readinessProbe", grpc, limit))).await;
        let text = format!(
            "Get \"http://127.0.0.1:{port}/\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        );
        world.until_event("Unhealthy", &format!("Readiness probe failed: {text}")).await;
        let text = "timeout: health rpc did not complete within 1s";
        world.until_event("Unhealthy", &format!("Readiness probe failed: {text}")).await;
        drop(listener);
    })
    .await;
}

#[tokio::test]
async fn a_hook_is_told_with_its_headers_whatever_it_answers_and_over_http_if_it_knows_no_tls() {
    in_time(async {
        let scope = Scope::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        let port = servers::web(&scope, false, move |request| {
            let text = |name: &str| {
                let value = request.headers.get(name).and_then(|it| it.to_str().ok());
                value.unwrap_or("none").to_owned()
            };
            let of = ["user-agent", "x-hook", "authorization"].map(text).join(" ");
            noted.lock().push(format!("{} {of}", request.uri));
            answer(500, &[], "")
        });
        let headers = json!([
            { "name": "X-Hook", "value": "a" },
            { "name": "Authorization", "value": "Bearer secret" },
        ]);
        let hook = |path: &str, scheme: &str| {
            let get = json!({
                "path": path, "port": port, "scheme": scheme, "httpHeaders": headers,
            });
            json!({ "httpGet": get })
        };
        let spec = json!({
            "hostNetwork": true,
            "terminationGracePeriodSeconds": 10,
            "containers": [{
                "name": "c", "image": "i:1",
                "lifecycle": {
                    "postStart": hook("/begun?a=b", "HTTP"), "preStop": hook("/ends", "HTTPS"),
                },
            }],
        });
        let world = node().await;
        world.create(pod("p", spec)).await;
        world.until("p", support::is_ready).await;
        world.delete("p", 10).await;
        world.until_gone("p").await;
        let text = format!(
            "request to HTTPS lifecycle hook 127.0.0.1:{port} got HTTP response, retry with HTTP succeeded"
        );
        world.until_event("LifecycleHTTPFallback", &text).await;
        let agent = "kube-lifecycle/1.36";
        let wanted =
            [format!("/begun?a=b {agent} a Bearer secret"), format!("/ends {agent} a none")];
        assert_eq!(*seen.lock(), wanted);
        assert_eq!(world.told("FailedPostStartHook").await, 0);
        scope.cancel();
    })
    .await;
}
