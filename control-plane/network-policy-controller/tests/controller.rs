//! The controller against a real API server in virtual time, with no rights but its role's.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use api_kube::policy_endpoint::{PolicyEndpoint, PolicyEndpointSpec};
use clock::Clock;
use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use kube_apiserver::{ApiServer, request::UserInfo};
use lifecycle::Scope;
use network_policy::Revision;
use network_policy_controller::Config;
use serde_json::{Value, json};

struct Cluster {
    client: Client,
    scope: Scope,
}

impl Cluster {
    async fn start(chunk: usize) -> Self {
        let epoch: jiff::Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let config = kube_apiserver::Config::new(mvcc::Store::memory(), Clock::simulated(epoch));
        let server = ApiServer::start(config).await.unwrap();
        let client = server.client(UserInfo::master("admin"));
        let theirs = server.client(UserInfo::new("eks:network-policy-controller", &[]));
        let scope = Scope::new();
        let config = Config { endpoint_chunk_size: chunk, ..Config::default() };
        let running = network_policy_controller::run(theirs, config, scope.clone());
        drop(scope.spawn("network-policy-controller", running));
        let cluster = Self { client, scope };
        for name in ["x", "y"] {
            let namespace: Namespace =
                serde_json::from_value(json!({"metadata": {"name": name, "labels": {"ns": name}}}))
                    .unwrap();
            let api = Api::<Namespace>::all(cluster.client.clone());
            api.create(&PostParams::default(), &namespace).await.unwrap();
        }
        cluster
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn policies(&self) -> Api<NetworkPolicy> {
        Api::namespaced(self.client.clone(), "x")
    }

    async fn pod(&self, namespace: &str, name: &str, ip: &str) {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": [{"name": "main", "image": "i"}],
                "serviceAccountName": "default", "automountServiceAccountToken": false},
        }))
        .unwrap();
        self.account(namespace).await;
        self.pods(namespace).create(&PostParams::default(), &pod).await.unwrap();
        let status = json!({"status": {"phase": "Running", "hostIP": "192.168.0.5",
            "podIP": ip, "podIPs": [{"ip": ip}]}});
        self.status(namespace, name, status).await;
    }

    async fn account(&self, namespace: &str) {
        use k8s_openapi::api::core::v1::ServiceAccount;
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        drop(api.create(&PostParams::default(), &account).await);
    }

    async fn status(&self, namespace: &str, name: &str, status: Value) {
        let patch = Patch::Merge(&status);
        self.pods(namespace).patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn policy(&self, spec: Value) {
        let policy = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec}));
        self.policies().create(&PostParams::default(), &policy.unwrap()).await.unwrap();
    }

    async fn endpoints(&self) -> Vec<PolicyEndpoint> {
        let api = Api::<PolicyEndpoint>::namespaced(self.client.clone(), "x");
        // Not before it is defined.
        api.list(&ListParams::default()).await.map(|it| it.items).unwrap_or_default()
    }

    async fn eventually(&self, what: &str, holds: impl Fn(&[PolicyEndpointSpec]) -> bool) {
        let mut specs = Vec::new();
        for _ in 0..600 {
            specs = self.endpoints().await.into_iter().map(|it| it.spec).collect();
            if holds(&specs) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never came about: {what}; there is {specs:#?}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

fn cidrs(specs: &[PolicyEndpointSpec]) -> Vec<&str> {
    let all = specs.iter().flat_map(|it| &it.ingress);
    let mut cidrs: Vec<_> = all.map(|it| it.cidr.as_str()).collect();
    cidrs.sort_unstable();
    cidrs
}

fn targets(specs: &[PolicyEndpointSpec]) -> Vec<&str> {
    let all = specs.iter().flat_map(|it| &it.pod_selector_endpoints);
    let mut targets: Vec<_> = all.map(|it| it.pod_ip.as_str()).collect();
    targets.sort_unstable();
    targets
}

#[tokio::test(start_paused = true)]
async fn a_policy_follows_its_pods_and_peers_until_it_goes() {
    let cluster = Cluster::start(200).await;
    cluster.pod("x", "db", "10.0.0.1").await;
    cluster.pod("y", "web", "10.0.0.2").await;
    cluster
        .policy(json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{
            "from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}],
            "ports": [{"port": 6379}]}]}))
        .await;
    cluster
        .eventually("both are resolved", |it| {
            targets(it) == ["10.0.0.1"] && cidrs(it) == ["10.0.0.2"]
        })
        .await;
    let made = cluster.endpoints().await;
    assert!(made[0].name_any().starts_with("p-"), "{made:?}");
    assert_eq!(made[0].owner_references()[0].kind, "NetworkPolicy");
    let port = &made[0].spec.ingress[0].ports[0];
    assert_eq!((port.protocol.as_deref(), port.port), (Some("TCP"), Some(6379)));
    assert_eq!(made[0].spec.pod_isolation, ["Ingress"]);

    cluster.pod("y", "more", "10.0.0.3").await;
    cluster.eventually("a peer comes", |it| cidrs(it) == ["10.0.0.2", "10.0.0.3"]).await;
    assert_eq!(cluster.endpoints().await[0].name_any(), made[0].name_any());
    // A pod that has ended gives its address back.
    cluster.status("y", "more", json!({"status": {"phase": "Succeeded"}})).await;
    cluster.eventually("a peer ends", |it| cidrs(it) == ["10.0.0.2"]).await;

    let labels = json!({"metadata": {"labels": {"ns": "other"}}});
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    namespaces.patch("y", &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
    cluster
        .eventually("the namespace is none of the peers any more", |it| {
            targets(it) == ["10.0.0.1"] && cidrs(it).is_empty()
        })
        .await;
    assert_eq!(cluster.endpoints().await[0].spec.pod_isolation, ["Ingress"]);

    cluster.policies().delete("p", &DeleteParams::default()).await.unwrap();
    cluster.eventually("nothing is left", <[_]>::is_empty).await;
}

#[tokio::test(start_paused = true)]
async fn many_peers_are_spread_over_endpoints_that_are_whole_by_themselves() {
    let cluster = Cluster::start(2).await;
    for number in 1..=3 {
        cluster.pod("x", &format!("p{number}"), &format!("10.0.0.{number}")).await;
    }
    cluster.policy(json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]})).await;
    // Two chunks of pods, each with two chunks of peers.
    cluster.eventually("four of them", |it| it.len() == 4 && targets(it).len() == 6).await;
    for spec in cluster.endpoints().await.iter().map(|it| &it.spec) {
        assert!((1..=2).contains(&spec.ingress.len()), "{spec:?}");
        assert!((1..=2).contains(&spec.pod_selector_endpoints.len()), "{spec:?}");
    }
    let revisions: Vec<_> =
        cluster.endpoints().await.iter().map(|it| Revision::read(&it.metadata)).collect();
    assert!(revisions[0].is_some(), "{revisions:?}");
    assert!(Revision::is_whole(revisions.iter().map(Option::as_ref)), "{revisions:?}");
    cluster.pods("x").delete("p3", &DeleteParams::default().grace_period(0)).await.unwrap();
    cluster.eventually("one is left", |it| it.len() == 1 && targets(it).len() == 2).await;
    assert_eq!(cluster.endpoints().await[0].metadata.annotations, None);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_did_to_an_endpoint_is_put_right() {
    let cluster = Cluster::start(200).await;
    cluster.pod("x", "db", "10.0.0.1").await;
    cluster.policy(json!({"podSelector": {}})).await;
    cluster.eventually("it is there", |it| targets(it) == ["10.0.0.1"]).await;
    let name = cluster.endpoints().await[0].name_any();
    let api = Api::<PolicyEndpoint>::namespaced(cluster.client.clone(), "x");
    let open = json!({"spec": {"ingress": [{"cidr": "0.0.0.0/0"}]}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(&open)).await.unwrap();
    cluster.eventually("it is closed again", |it| it.len() == 1 && cidrs(it).is_empty()).await;
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    cluster.eventually("it is back", |it| targets(it) == ["10.0.0.1"]).await;
}
