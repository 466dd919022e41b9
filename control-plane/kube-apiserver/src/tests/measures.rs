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
    for line in [
        format!("apiserver_request_total{{code=\"201\",{post}}} 1"),
        format!("apiserver_request_total{{code=\"409\",{post}}} 1"),
        format!("apiserver_request_total{{code=\"200\",{list}}} 1"),
        format!("apiserver_request_duration_seconds_count{{{list}}} 1"),
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1".into(),
        "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0".into(),
    ] {
        assert!(told.lines().any(|it| it == line), "{line}:\n{told}");
    }
    assert!(told.contains("\napiserver_storage_objects{resource=\"secrets\"} "), "{told}");
    assert!(!told.contains("made-up-by-a-client"), "{told}");
    for line in told.lines().filter(|it| !it.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}
