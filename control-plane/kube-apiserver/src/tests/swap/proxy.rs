//! kube-proxy of upstream, as `system:kube-proxy`.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_proxy_of_upstream_follows_all_it_needs_as_itself() {
    let cluster = cluster().await;
    cluster.with_node("n1").await;
    cluster.with_node("n2").await;
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, labels: Value| {
        let spec = json!({"selector": {"a": "b"}, "ports": [{"port": 80}]});
        json!({"metadata": {"name": name, "labels": labels}, "spec": spec})
    };
    cluster.made(services, service("own", json!({}))).await;
    let foreign = json!({"service.kubernetes.io/service-proxy-name": "another"});
    cluster.made(services, service("foreign", foreign)).await;
    let proxy = Component::new(&cluster, "system:kube-proxy");
    let node = proxy.follow("/api/v1/nodes?fieldSelector=metadata.name%3Dn1").await;
    assert_eq!((node.len(), &node[0]["metadata"]["name"]), (1, &json!("n1")));
    let own = "labelSelector=%21service.kubernetes.io%2Fheadless%2C\
               %21service.kubernetes.io%2Fservice-proxy-name";
    let found = proxy.follow(&format!("/api/v1/services?{own}")).await;
    let names: Vec<_> = found.iter().map(|it| &it["metadata"]["name"]).collect();
    assert_eq!(names, ["kubernetes", "own"]);
    let slices = proxy.follow(&format!("/apis/discovery.k8s.io/v1/endpointslices?{own}")).await;
    assert_eq!(slices[0]["metadata"]["name"], "kubernetes");
    let ranges = proxy.follow("/apis/networking.k8s.io/v1/servicecidrs").await;
    assert_eq!(ranges[0]["metadata"]["name"], "kubernetes");
    assert_eq!(done(proxy.ask("GET", "/api/v1/nodes/n1").await)["kind"], "Node");
}

#[tokio::test]
async fn the_proxy_of_upstream_says_that_it_started() {
    let cluster = cluster().await;
    let proxy = Component::new(&cluster, "system:kube-proxy");
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "n1.17a", "namespace": "default"},
        "eventTime": "2026-11-30T12:00:00.123456Z", "type": "Normal", "reason": "Starting",
        "action": "StartKubeProxy", "reportingController": "kube-proxy",
        "reportingInstance": "kube-proxy-n1",
        "regarding": {"kind": "Node", "name": "n1", "uid": "n1"},
    });
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let told = done(proxy.write("POST", path, &event).await);
    assert_eq!(told["eventTime"], "2026-11-30T12:00:00.123456Z");
    assert_eq!(told["regarding"]["name"], "n1");
}
