//! Health as monitors ask for it.

use super::Cluster;

#[tokio::test]
async fn health_is_told_check_by_check_under_upstreams_names() {
    let cluster = Cluster::start().await;
    let _upkeep = cluster.upkeep().await;
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(cluster.text(path).await, "ok", "{path}");
        let told = cluster.text(&format!("{path}?verbose=1")).await;
        let passed = format!("{} check passed", &path[1..]);
        for line in [
            "[+]ping ok",
            "[+]log ok",
            "[+]etcd ok",
            "[+]poststarthook/start-kube-apiserver-admission-initializer ok",
            "[+]poststarthook/crd-informer-synced ok",
            "[+]poststarthook/scheduling/bootstrap-system-priority-classes ok",
            "[+]poststarthook/apiservice-openapi-controller ok",
            "[+]autoregister-completion ok",
            &passed,
        ] {
            assert!(told.lines().any(|it| it == line), "{path} {line}:\n{told}");
        }
        let is_ready = told.contains("[+]informer-sync ok");
        assert_eq!(is_ready, path == "/readyz", "{told}");
    }
}

#[tokio::test]
async fn one_check_can_be_asked_for_or_left_out() {
    let cluster = Cluster::start().await;
    let _upkeep = cluster.upkeep().await;
    for (path, code) in [
        ("/livez/ping", 200),
        ("/livez/etcd", 200),
        ("/healthz/poststarthook/rbac/bootstrap-roles", 200),
        ("/readyz/informer-sync", 200),
        ("/livez/informer-sync", 404),
        ("/livez/nothing", 404),
    ] {
        let (head, _) = cluster.exchange("GET", path, &[], "").await;
        assert_eq!(head.status, code, "{path}");
    }
    let told = cluster.text("/livez?verbose&exclude=etcd&exclude=b&exclude=a").await;
    assert!(told.contains("[+]etcd excluded: ok\n"), "{told}");
    let warning = "warn: some health checks cannot be excluded: no matches for \"a\", \"b\"\n";
    assert!(told.contains(warning), "{told}");
}
