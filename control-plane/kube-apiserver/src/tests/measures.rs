//! What is measured, as Prometheus reads it.

use serde_json::json;

use super::Cluster;

#[tokio::test]
async fn requests_are_counted_under_upstreams_names_and_labels() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/secrets";
    cluster.post(path, json!({"metadata": {"name": "a"}})).await;
    cluster.post(path, json!({"metadata": {"name": "a"}})).await;
    cluster.get(path).await;
    cluster.get("/api/v1/namespaces/default/made-up-by-a-client").await;
    let told = cluster.text("/metrics").await;
    let labels = |verb: &str, scope: &str| {
        format!(
            "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"secrets\",\
             scope=\"{scope}\",subresource=\"\",verb=\"{verb}\",version=\"v1\""
        )
    };
    let (post, list) = (labels("POST", "resource"), labels("LIST", "namespace"));
    let sized = list.replace("dry_run=\"\",", "");
    for line in [
        format!("apiserver_request_total{{code=\"201\",{post}}} 1"),
        format!("apiserver_request_total{{code=\"409\",{post}}} 1"),
        format!("apiserver_request_total{{code=\"200\",{list}}} 1"),
        format!("apiserver_request_duration_seconds_count{{{list}}} 1"),
        format!("apiserver_response_sizes_count{{{sized}}} 1"),
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1".into(),
        "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0".into(),
    ] {
        assert!(told.lines().any(|it| it == line), "{line}:\n{told}");
    }
    for begin in [
        "apiserver_storage_objects{resource=\"secrets\"} ",
        "apiserver_resource_objects{group=\"\",resource=\"secrets\"} ",
        "etcd_request_duration_seconds_count{group=\"\",operation=\"create\",resource=\"secrets\"} ",
        "authorization_attempts_total{result=\"allowed\"} ",
        "apiserver_client_certificate_expiration_seconds_count ",
        "kubernetes_build_info{",
        "process_resident_memory_bytes ",
    ] {
        assert!(told.lines().any(|it| it.starts_with(begin)), "{begin}:\n{told}");
    }
    assert!(!told.contains("made-up-by-a-client"), "{told}");
    for line in told.lines().filter(|it| !it.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[tokio::test]
async fn a_family_is_said_once_with_its_kind() {
    let cluster = Cluster::start().await;
    cluster.get("/api/v1/namespaces/default/secrets").await;
    let told = cluster.text("/metrics").await;
    let mut types: Vec<&str> = told.lines().filter_map(|it| it.strip_prefix("# TYPE ")).collect();
    let count = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), count, "{told}");
}

#[tokio::test]
async fn checks_of_health_are_counted_by_themselves() {
    let cluster = Cluster::start().await;
    cluster.text("/readyz").await;
    cluster.text("/readyz/ping").await;
    let told = cluster.text("/metrics/slis").await;
    for line in [
        "kubernetes_healthcheck{name=\"ping\",type=\"readyz\"} 1",
        "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"readyz\"} 2",
        "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"readyz\"} 1",
    ] {
        assert!(told.lines().any(|it| it == line), "{line}:\n{told}");
    }
}
