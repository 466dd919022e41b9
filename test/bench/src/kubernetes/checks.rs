//! What checking an object costs: the rules of a NodePool in the validator itself, and admission as part of
//! a create.

use std::time::{Duration, Instant};

use anyhow::Context;
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::PostParams};
use kube_apiserver::probe::Definition;
use serde_json::{Value, json};

use super::{NAMESPACE, Server};
use crate::rows::{Row, median};

const ROUNDS: usize = 2000;
const PODS: usize = 500;

/// The NodePool that is installed here, with upstream's rules, and an update that none of them skips.
pub(super) fn node_pool() -> anyhow::Result<Row> {
    let mut all = api_kube::karpenter::definitions().into_iter();
    let definition = all.find(|it| it["spec"]["names"]["kind"] == "NodePool");
    let definition = Definition::of(definition.context("no NodePool")?)
        .map_err(|faults| anyhow::anyhow!("{}", faults.join("; ")))?;
    let pool = |cpu: &str| {
        let mut pool = pool(cpu);
        definition.shape(&mut pool);
        pool
    };
    let (old, new) = (pool("100"), pool("200"));
    let text = new.to_string();
    let (mut took, mut floor) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let broken = definition.broken_rules(&new, Some(&old));
        took.push(begun.elapsed());
        anyhow::ensure!(broken.is_empty(), "{}", broken.join("; "));
        let begun = Instant::now();
        let read: Value = serde_json::from_str(&text)?;
        floor.push(begun.elapsed());
        anyhow::ensure!(read.is_object(), "no object");
    }
    Ok(Row::new(
        "CEL validation of a NodePool's update (floor: reading it as JSON)",
        micros(median(&took)),
        micros(median(&floor)),
        "50 µs",
    ))
}

fn micros(duration: Duration) -> String {
    format!("{:.0} µs", duration.as_secs_f64() * 1e6)
}

fn pool(cpu: &str) -> Value {
    let requirement =
        |key: &str, values: &[&str]| json!({"key": key, "operator": "In", "values": values});
    json!({"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "default"},
    "spec": {
        "weight": 10,
        "limits": {"cpu": cpu, "memory": "1000Gi"},
        "disruption": {"consolidationPolicy": "WhenEmptyOrUnderutilized",
            "consolidateAfter": "1m",
            "budgets": [{"nodes": "10%"},
                {"nodes": "3", "schedule": "0 9 * * mon-fri", "duration": "8h",
                    "reasons": ["Drifted"]}]},
        "template": {
            "metadata": {"labels": {"team": "a", "tier": "b"}, "annotations": {"x": "y"}},
            "spec": {
                "expireAfter": "720h", "terminationGracePeriod": "48h",
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass",
                    "name": "default"},
                "taints": [{"key": "dedicated", "value": "a", "effect": "NoSchedule"}],
                "startupTaints": [{"key": "starting", "effect": "NoExecute"}],
                "requirements": [
                    requirement("kubernetes.io/arch", &["amd64", "arm64"]),
                    requirement("kubernetes.io/os", &["linux"]),
                    requirement("karpenter.sh/capacity-type", &["spot", "on-demand"]),
                    requirement("karpenter.k8s.aws/instance-category", &["c", "m", "r"]),
                    {"key": "karpenter.k8s.aws/instance-generation", "operator": "Gt",
                        "values": ["2"]},
                ],
            },
        },
    }})
}

/// Of creates one by one, so that none waits for another: what admission's steps take, as the server's own
/// metrics tell it, over what is left of the requests. There are no webhooks and no policies.
pub(super) async fn admission(server: &Server) -> anyhow::Result<Row> {
    let client = server.client().await?;
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let before = Spent::read(&client).await?;
    for index in 0..PODS {
        let pod = serde_json::from_value(json!({"metadata": {"name": format!("checked-{index}")},
            "spec": {"containers": [{"name": "c", "image": "x"}]}}))?;
        pods.create(&PostParams::default(), &pod).await?;
    }
    let after = Spent::read(&client).await?;
    let admission = after.admission - before.admission;
    let rest = after.requests - before.requests - admission;
    let each = Duration::from_secs_f64(admission / f64::from(u32::try_from(PODS)?));
    Ok(Row::new(
        "what admission adds to a create of a pod, no webhooks (floor: its plug-ins' own time)",
        format!("{:.1} %", admission / rest * 100.0),
        micros(each),
        "10 %",
    ))
}

/// Seconds that the server has spent on creates.
struct Spent {
    admission: f64,
    requests: f64,
}

impl Spent {
    async fn read(client: &Client) -> anyhow::Result<Self> {
        let request = Request::get("/metrics").body(Vec::new())?;
        let text = client.request_text(request).await?;
        let sum = |name: &str, label: &str| -> f64 {
            let lines = text.lines().filter(|it| it.starts_with(name) && it.contains(label));
            lines.filter_map(|it| it.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Ok(Self {
            admission: sum(
                "apiserver_admission_step_admission_duration_seconds_sum",
                "operation=\"CREATE\"",
            ),
            requests: sum("apiserver_request_duration_seconds_sum", "verb=\"POST\""),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_that_is_measured_breaks_no_rule() {
        let row = node_pool().unwrap();
        // With `--nocapture`: what it takes without optimization.
        println!("{row:?}");
    }
}
