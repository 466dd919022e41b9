//! How long a large cluster's policies take to resolve. Prints what it measured.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use network_policy::{CHUNK_SIZE, Compiled, World};
use serde_json::json;
use tokio::time::Instant;

const POLICIES: usize = 1_000;
const PODS: usize = 5_000;
const NAMESPACES: usize = 50;
/// Unoptimised, on a machine that is busy with other tests.
const BOUND: Duration = Duration::from_secs(5);

struct Cluster {
    pods: BTreeMap<String, Vec<Arc<Pod>>>,
    namespaces: Vec<Arc<Namespace>>,
}

impl World for Cluster {
    fn pods_in(&self, namespace: &str) -> Vec<Arc<Pod>> {
        self.pods.get(namespace).cloned().unwrap_or_default()
    }

    fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.namespaces.clone()
    }
}

fn cluster() -> Cluster {
    let mut pods: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for number in 0..PODS {
        let namespace = format!("ns-{}", number % NAMESPACES);
        let app = number / NAMESPACES % 10;
        let pod = json!({
            "metadata": {"namespace": namespace, "name": format!("p-{number}"), "labels": {
                "app": format!("app-{app}"), "tier": if app < 5 { "front" } else { "back" },
                "pod-template-hash": "5d4f8c7b9"}},
            "spec": {"containers": [{"name": "main", "ports":
                [{"name": "web", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "hostIP": "192.168.0.1",
                "podIP": format!("10.1.{}.{}", number / 250, number % 250)},
        });
        pods.entry(namespace).or_default().push(Arc::new(serde_json::from_value(pod).unwrap()));
    }
    let namespace = |number: usize| {
        let labels = json!({"team": format!("team-{}", number % 10)});
        let object = json!({"metadata": {"name": format!("ns-{number}"), "labels": labels}});
        Arc::new(serde_json::from_value(object).unwrap())
    };
    Cluster { pods, namespaces: (0..NAMESPACES).map(namespace).collect() }
}

/// Each selects ten pods, and speaks of ten here and of those of an application of a team.
fn policy(number: usize) -> NetworkPolicy {
    let app = |it: usize| json!({"matchLabels": {"app": format!("app-{}", it % 10)}});
    serde_json::from_value(json!({
        "metadata": {"namespace": format!("ns-{}", number % NAMESPACES), "name": "p"},
        "spec": {
            "podSelector": app(number), "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": app(number + 1)}], "ports": [{"port": "web"}]}],
            "egress": [{"to": [{"podSelector": {"matchExpressions":
                [{"key": "app", "operator": "In", "values": ["app-1", "app-2"]}]},
                "namespaceSelector": {"matchLabels": {"team": format!("team-{}", number % 10)}}}]}],
        },
    }))
    .unwrap()
}

#[tokio::test]
async fn a_thousand_policies_over_five_thousand_pods_resolve_quickly() {
    let (cluster, policies) = (cluster(), (0..POLICIES).map(policy).collect::<Vec<_>>());
    let start = Instant::now();
    let compiled: Vec<Compiled> = policies.iter().filter_map(Compiled::of).collect();
    let read = start.elapsed();
    let peers: usize = compiled
        .iter()
        .flat_map(|it| it.resolve(&cluster, CHUNK_SIZE))
        .map(|it| it.ingress.len() + it.egress.len())
        .sum();
    let resolved = start.elapsed();
    assert_eq!(peers, POLICIES * (10 + 5 * 20));

    let start = Instant::now();
    let pod = &cluster.pods["ns-7"][1];
    let labels = cluster.namespaces[7].metadata.labels.as_ref();
    let concerned = compiled.iter().filter(|it| it.concerns_pod(pod, labels)).count();
    let compared = start.elapsed();
    assert_eq!(concerned, POLICIES / 10);
    eprintln!(
        "{POLICIES} policies: read in {read:?}, resolved over {PODS} pods in {resolved:?}, \
         compared with a pod in {compared:?}"
    );
    assert!(resolved < BOUND, "{resolved:?}");
    assert!(compared < BOUND / 50, "{compared:?}");
}
