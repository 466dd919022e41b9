//! Measures the API server alone, as bytes through its service, on a durable store:
//! `cargo run --release -p kube-apiserver --example bench`.

use std::{path::PathBuf, time::Duration};

use futures::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kube_apiserver::{ApiServer, ApiService, Config, request::UserInfo};
use lifecycle::Scope;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

const CLIENTS: usize = 32;
const OBJECTS: usize = 5000;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = std::env::temp_dir().join(format!("nodestead-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = measure(&folder).await;
    std::fs::remove_dir_all(&folder)?;
    result
}

async fn measure(folder: &std::path::Path) -> Result<(), Failure> {
    let path: PathBuf = folder.join("store");
    let store = mvcc::Store::open(&path)?;
    let started = Instant::now();
    let api = ApiServer::start(Config::new(store, clock::Clock::system())).await?;
    println!("start                      {:>10.1?}", started.elapsed());
    let service = api.service_as(UserInfo::master("bench"));
    let account = json!({"metadata": {"name": "default"}});
    send(&service, "POST", "/api/v1/namespaces/default/serviceaccounts", &account).await?;
    println!("idle memory                {:>7} MiB", resident());
    creates(&service, "Pod (dry)", &format!("{PODS}?dryRun=All"), pod).await?;
    creates(&service, "ConfigMap", MAPS, config_map).await?;
    creates(&service, "Pod", PODS, pod).await?;
    println!("memory with 10,000 objects {:>7} MiB", resident());
    lists(&service).await?;
    fan_out(&service).await?;
    let started = Instant::now();
    send(&service, "DELETE", PODS, &Value::Null).await?;
    println!("deletecollection of 5,000  {:>10.1?}", started.elapsed());
    drop(service);
    drop(api);
    let started = Instant::now();
    let store = mvcc::Store::open(&path)?;
    println!("reopening, 5,000 objects   {:>10.1?}", started.elapsed());
    drop(store);
    Ok(())
}

async fn creates(
    service: &ApiService,
    kind: &str,
    path: &str,
    object: fn(usize) -> Value,
) -> Result<(), Failure> {
    let (started, before) = (Instant::now(), processor_time());
    let scope = Scope::new();
    let clients = (0..CLIENTS).map(|client| {
        let (service, path) = (service.clone(), path.to_owned());
        scope.spawn("client", async move {
            let mut slowest = Duration::ZERO;
            for number in (client..OBJECTS).step_by(CLIENTS) {
                let one = Instant::now();
                let sent = send(&service, "POST", &path, &object(number)).await;
                sent?;
                slowest = slowest.max(one.elapsed());
            }
            Ok::<_, String>(slowest)
        })
    });
    let mut slowest = Vec::new();
    for client in join_all(clients).await {
        slowest.push(client?.ok_or("a client was cancelled")??);
    }
    let rate = OBJECTS as f64 / started.elapsed().as_secs_f64();
    let slowest = slowest.into_iter().max().unwrap_or_default();
    let each = (processor_time() - before) / u32::try_from(OBJECTS)?;
    println!(
        "{kind:<10} creates per second {rate:>7.0}    slowest {slowest:.1?}, processor {each:.0?} each"
    );
    Ok(())
}

async fn lists(service: &ApiService) -> Result<(), Failure> {
    let mut times = Vec::new();
    for _ in 0..9 {
        let started = Instant::now();
        let bytes = send(service, "GET", PODS, &Value::Null).await?;
        times.push((started.elapsed(), bytes.len()));
    }
    times.sort();
    let (median, size) = times[times.len() / 2];
    println!("list of 5,000 pods         {median:>10.1?}    {} KiB", size / 1024);
    let started = Instant::now();
    send(service, "GET", &format!("{PODS}?labelSelector=n%3D7"), &Value::Null).await?;
    println!("first list by label        {:>10.1?}", started.elapsed());
    let started = Instant::now();
    send(service, "GET", &format!("{PODS}?fieldSelector=spec.nodeName%3Dx"), &Value::Null).await?;
    println!("list by field              {:>10.1?}", started.elapsed());
    Ok(())
}

async fn fan_out(service: &ApiService) -> Result<(), Failure> {
    let mut streams = FuturesUnordered::new();
    for _ in 0..1000 {
        let path = format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Dfan");
        let request = Request::get(path).body(transport::empty())?;
        let mut body = service.clone().oneshot(request).await?.into_body();
        streams.push(async move {
            while let Some(frame) = body.frame().await {
                if frame.is_ok_and(|it| it.data_ref().is_some_and(|it| !it.is_empty())) {
                    return;
                }
            }
        });
    }
    let started = Instant::now();
    send(service, "POST", MAPS, &json!({"metadata": {"name": "fan"}})).await?;
    while streams.next().await.is_some() {}
    println!("one write to 1,000 watches {:>10.1?}", started.elapsed());
    Ok(())
}

/// Sends one request, and reads the whole answer.
fn send(
    service: &ApiService,
    method: &str,
    path: &str,
    body: &Value,
) -> BoxFuture<'static, Result<bytes::Bytes, String>> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(path).body(transport::full(body));
    let name = format!("{method} {path}");
    let answer = request.map(|request| service.clone().call(request));
    Box::pin(async move {
        let Ok(response) = answer.map_err(|error| error.to_string())?.await;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        let bytes = body.to_bytes();
        if status.is_success() || status == StatusCode::CONFLICT {
            return Ok(bytes);
        }
        Err(format!("{name}: {}", String::from_utf8_lossy(&bytes)))
    })
}

/// Time that this process spent on a processor.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn config_map(number: usize) -> Value {
    json!({"metadata": {"name": format!("m{number}")}, "data": {"text": "x".repeat(1800)}})
}

fn pod(number: usize) -> Value {
    json!({
        "metadata": {"name": format!("p{number}"), "labels": {"app": "web", "n": (number % 10).to_string()}},
        "spec": {"containers": [{
            "name": "web", "image": "registry.example.com/web:1", "ports": [{"containerPort": 80}],
            "env": [{"name": "A", "value": "b"}],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}},
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 80}},
        }]},
    })
}

/// Resident memory of this process, in MiB.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|it| it.parse::<usize>().ok());
    pages.unwrap_or_default() * 4096 / (1024 * 1024)
}
