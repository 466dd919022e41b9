//! How many decisions per second: 10,000 pods of one Deployment onto 1,000 nodes in three zones.
//!
//! `cargo run --release -p scheduling --example throughput`

use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, Pod};
use scheduling::{Cluster, PodInfo, evaluate};
use serde_json::json;

const NODES: usize = 1_000;
const PODS: usize = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, constraints) in [("no constraints", json!([])), ("spread over zones", spread())] {
        let mut cluster = cluster()?;
        let start = Instant::now();
        let mut from = 0;
        for number in 0..PODS {
            let mut pod = PodInfo::new(&pod(number, &constraints)?);
            pod.siblings = Some(pod.labels.clone().into_iter().collect());
            let choice = evaluate(&cluster, &pod, from).map_err(|it| it.to_string())?;
            from += choice.asked;
            let node = choice.best[number % choice.best.len()].clone();
            cluster.set_pod(&node, pod.into());
        }
        let rate = PODS as f64 / start.elapsed().as_secs_f64();
        println!("{name}: {rate:.0} pods per second");
    }
    Ok(())
}

fn spread() -> serde_json::Value {
    json!([{ "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": { "matchLabels": { "app": "web" } } }])
}

fn cluster() -> Result<Cluster, serde_json::Error> {
    let mut cluster = Cluster::default();
    for number in 0..NODES {
        let name = format!("n{number}");
        let zone = ["us-east-1a", "us-east-1b", "us-east-1c"][number % 3];
        let labels = json!({ "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone });
        let allocatable = json!({ "cpu": "4", "memory": "16Gi", "pods": "58" });
        let node: Node = serde_json::from_value(json!({ "metadata": { "name": name,
            "labels": labels }, "status": { "allocatable": allocatable } }))?;
        cluster.set_node(&node);
    }
    Ok(cluster)
}

fn pod(number: usize, constraints: &serde_json::Value) -> Result<Pod, serde_json::Error> {
    let name = format!("web-{number}");
    serde_json::from_value(json!({
        "metadata": { "name": name, "uid": name, "namespace": "default",
            "labels": { "app": "web", "pod-template-hash": "x" } },
        "spec": { "topologySpreadConstraints": constraints, "containers": [{ "name": "c",
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } } }] },
    }))
}
