//! What the provisioning decision costs, and what it decides.
//!
//! Two workloads. The one of Karpenter's published scheduling benchmark: 400 made-up types, five
//! equal kinds of pods (plain; spread over zones; spread over hosts; together in a zone; apart by
//! host). And a realistic one: the current generations of EC2, pods in workloads whose number and
//! size have the heavy tail that published cluster traces have (many small, few large; a Pareto law
//! with exponent 1.2 for CPU, 1 to 8 GiB for each), some of them spread, apart, or of one architecture.
//!
//! Then consolidation of 500 nodes that are used to two fifths, and of 500 that are nearly full: the
//! first command. Time is that of the thread's CPU. The pods' random numbers are
//! ours: upstream's stream depends on which of its benchmarks ran before.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use api_kube::karpenter::{NodePool, labels};
use k8s_openapi::api::core::v1 as core;
use karpenter_aws::{Kubelet, Market, Zone, instance_types};
use karpenter_core::{
    Effort, InstanceType, Offering, Outcome, Pool, Requirement, Requirements, Snapshot, World,
    disruption::{Fleet, Gates},
    solve,
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use resources::Amounts;
use scheduling::PodInfo;
use serde_json::{Value, json};

use crate::rows::{Row, per_second, seconds};

const MIB: i64 = 1 << 20;
const NODES: usize = 500;

pub(crate) fn rows() -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for count in [1, 1000, 5000, 10_000, 20_000] {
        rows.push(published(count)?);
    }
    for count in [1000, 10_000] {
        rows.push(realistic(count)?);
    }
    rows.extend(consolidation()?);
    Ok(rows)
}

/// Splitmix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((it ^ (it >> 31)) % limit.max(1) as u64).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// The CPU that this thread has used.
fn used() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

/// The most memory that the process has held, in MiB, since it was last asked to forget.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}

fn measured(name: &str, world: World, budget: &str) -> anyhow::Result<Row> {
    // 5: the peak is what is resident now.
    drop(std::fs::write("/proc/self/clear_refs", "5"));
    let count = world.pods.len();
    let copy = world.clone();
    let begun = used()?;
    let first = solve(copy, Effort::FirstFit);
    let first_took = used()?.saturating_sub(begun);
    let begun = used()?;
    let best = solve(world, Effort::Improve);
    let took = used()?.saturating_sub(begun);
    let what = format!("{name}, {count} pods: CPU, first fit + improvement");
    let mut text =
        format!("{} + {}", seconds(first_took), seconds(took.saturating_sub(first_took)));
    write!(text, ", {} (first fit)", per_second(count, first_took))?;
    write!(text, "; {}", priced(&best))?;
    write!(text, "; first fit {}; peak {} MiB", priced(&first), peak())?;
    let floor = format!("${:.2}/h", best.lower_bound);
    Ok(Row::new(what, text, floor, budget))
}

fn priced(outcome: &Outcome) -> String {
    let left = match outcome.unschedulable.len() {
        0 => String::new(),
        count => format!(", {count} pods left over"),
    };
    format!("{} nodes ${:.2}/h{left}", outcome.claims.len(), outcome.price)
}

// === the published workload ===

fn published(count: usize) -> anyhow::Result<Row> {
    let requirements = Requirements::default().with(labels::NODE_POOL, Requirement::one("default"));
    let pool = Pool {
        name: "default".to_owned(),
        requirements,
        types: (1..=400).map(synthetic).collect(),
        ..Pool::default()
    };
    let world = World { pools: vec![pool], pods: five_kinds(count)?, ..World::default() };
    let budget = if count == 10_000 { "2 s of CPU" } else { "-" };
    measured("upstream's workload, 400 types", world, budget)
}

fn synthetic(cpus: i64) -> InstanceType {
    let memory = (2 * cpus) << 30;
    let price = (cpus as f64).mul_add(0.1, memory as f64 / 1e9 * 0.1);
    let name = format!("fake-it-{}", cpus - 1);
    let offered =
        [("1", "spot"), ("2", "spot"), ("1", "on-demand"), ("2", "on-demand"), ("3", "on-demand")];
    let offerings =
        offered.map(|(zone, kind)| Offering::new(&format!("test-zone-{zone}"), kind, price));
    let capacity = Amounts {
        cpu_millis: cpus * 1000,
        memory,
        pods: cpus * 10,
        ephemeral_storage: 20 << 30,
        ..Amounts::default()
    };
    let mut allocatable = capacity.clone();
    allocatable.cpu_millis -= 100;
    allocatable.memory -= 10 * MIB;
    let labels =
        [(labels::INSTANCE_TYPE, name.as_str()), (labels::ARCH, "amd64"), (labels::OS, "linux")];
    InstanceType {
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        name: name.as_str().into(),
        capacity,
        allocatable,
        offerings: offerings.into(),
    }
}

fn five_kinds(count: usize) -> anyhow::Result<Vec<Arc<PodInfo>>> {
    let mut draw = Draw(42);
    let mut pods = Vec::with_capacity(count);
    for at in 0..count {
        let label = |draw: &mut Draw| draw.pick(&["a", "b", "c", "d", "e", "f", "g"]);
        let selector = |key: &str, value: &str| json!({ "matchLabels": { key: value } });
        let zone = labels::ZONE;
        let spread = |key: &str, value: &str| {
            json!({ "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": key,
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector("my-label", value) }] })
        };
        let term = |kind: &str, key: &str, selector: Value| {
            json!({ "affinity": { kind: { "requiredDuringSchedulingIgnoredDuringExecution": [
                { "topologyKey": key, "labelSelector": selector }] } } })
        };
        let own = label(&mut draw);
        // Five equal parts, one after the other as in upstream's list; what is left over is plain.
        let (key, own, spec) = match (at * 5).checked_div(count).unwrap_or(0) {
            1 => ("my-label", own, spread(zone, label(&mut draw))),
            2 => ("my-label", own, spread(labels::HOSTNAME, label(&mut draw))),
            3 => ("my-affininity", own, term("podAffinity", zone, selector("my-affininity", own))),
            4 => (
                "app",
                "nginx",
                term("podAntiAffinity", labels::HOSTNAME, selector("app", "nginx")),
            ),
            _ => ("my-label", own, json!({})),
        };
        let cpu = draw.pick(&["100m", "250m", "500m", "1", "1500m"]);
        let memory = draw.pick(&["100Mi", "256Mi", "512Mi", "1Gi", "2Gi", "4Gi"]);
        pods.push(pod(&format!("pod-{at}"), &json!({ key: own }), spec, cpu, memory)?);
    }
    Ok(pods)
}

fn pod(
    name: &str,
    labels: &Value,
    mut spec: Value,
    cpu: &str,
    memory: &str,
) -> anyhow::Result<Arc<PodInfo>> {
    spec["containers"] = json!([{ "name": "c",
        "resources": { "requests": { "cpu": cpu, "memory": memory } } }]);
    let metadata = json!({ "name": name, "uid": name, "namespace": "default", "labels": labels });
    let pod: core::Pod = serde_json::from_value(json!({ "metadata": metadata, "spec": spec }))?;
    Ok(PodInfo::shared(&pod))
}

// === the realistic one ===

fn market() -> Market {
    let zones = ["a", "b", "c"].map(|it| Zone { name: format!("us-east-1{it}"), id: None });
    Market { region: "us-east-1".to_owned(), zones: zones.into(), ..Market::default() }
}

/// The newest 800 types that are not bare metal.
fn current() -> Arc<[InstanceType]> {
    let all = instance_types(&Kubelet::default(), &market());
    let generation = |it: &InstanceType| {
        it.labels.get(labels::INSTANCE_GENERATION).and_then(|it| it.parse::<u32>().ok())
    };
    let mut sorted: Vec<_> = all.iter().filter(|it| !it.name.contains("metal")).cloned().collect();
    sorted.sort_by_key(|it| (std::cmp::Reverse(generation(it)), it.name.clone()));
    sorted.into_iter().take(800).collect()
}

fn realistic(count: usize) -> anyhow::Result<Row> {
    let requirements = Requirements::default().with(labels::NODE_POOL, Requirement::one("default"));
    let pool =
        Pool { name: "default".to_owned(), requirements, types: current(), ..Pool::default() };
    let world = World { pools: vec![pool], pods: workloads(count)?, ..World::default() };
    let budget = if count == 10_000 { "2 s of CPU" } else { "-" };
    measured("heavy-tailed workloads, 800 types of EC2", world, budget)
}

/// `least / u^(1/exponent)`, no more than `most`.
fn pareto(draw: &mut Draw, least: f64, most: f64, exponent: f64) -> f64 {
    let u = (draw.below(1_000_000) + 1) as f64 / 1_000_000.0;
    (least * u.powf(-1.0 / exponent)).min(most)
}

fn workloads(count: usize) -> anyhow::Result<Vec<Arc<PodInfo>>> {
    let mut draw = Draw(7);
    let mut pods = Vec::with_capacity(count);
    let mut app = 0;
    while pods.len() < count {
        app += 1;
        let millis = pareto(&mut draw, 50.0, 16_000.0, 1.2).round();
        let memory = millis / 1000.0 * draw.pick(&[1.0, 2.0, 4.0, 8.0]) * 1024.0;
        let (cpu, memory) = (format!("{millis}m"), format!("{}Mi", memory.max(32.0).round()));
        let name = format!("app-{app}");
        let selector = json!({ "matchLabels": { "app": name } });
        let mut spec = json!({});
        match draw.below(20) {
            0..=4 => {
                spec["topologySpreadConstraints"] = json!([{ "maxSkew": 1,
                    "topologyKey": labels::ZONE, "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": selector }]);
            }
            5 | 6 => {
                spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                    json!([{ "topologyKey": labels::HOSTNAME, "labelSelector": selector }]);
            }
            7 => spec["nodeSelector"] = json!({ labels::ARCH: "amd64" }),
            _ => {}
        }
        let replicas = pareto(&mut draw, 2.0, 60.0, 1.0).round();
        for replica in 0..60 {
            if f64::from(replica) >= replicas || pods.len() >= count {
                break;
            }
            let labels = json!({ "app": name });
            pods.push(pod(&format!("{name}-{replica}"), &labels, spec.clone(), &cpu, &memory)?);
        }
    }
    Ok(pods)
}

// === consolidation ===

fn consolidation() -> anyhow::Result<Vec<Row>> {
    let types = current();
    let now = "2026-01-02T00:00:00Z".parse()?;
    let mut rows = Vec::new();
    for (what, share) in [("used to 40 %", 40), ("full", 98)] {
        let snapshot = fleet(share)?;
        let begun = used()?;
        let mut fleet = Fleet::new(&snapshot, |_| Some(types.clone()), now, Gates::default());
        let ready = used()?.saturating_sub(begun);
        let found = fleet.next_command();
        let took = used()?.saturating_sub(begun);
        let said = match found {
            None => "nothing to gain, every node tried".to_owned(),
            Some(it) => format!(
                "{} nodes for {}, ${:.2}/h saved",
                it.nodes.len(),
                it.replacements.len(),
                it.saving
            ),
        };
        rows.push(Row::new(
            format!("consolidation of {NODES} nodes, {what}: CPU to the first answer"),
            format!("{} ({} to read the cluster); {said}", seconds(took), seconds(ready)),
            "-",
            "1 s",
        ));
    }
    Ok(rows)
}

/// Nodes of one type with pods of many sizes on them.
fn fleet(share: i64) -> anyhow::Result<Snapshot> {
    let mut draw = Draw(11);
    let kind = "m7i.2xlarge";
    let all = instance_types(&Kubelet::default(), &market());
    let Some(found) = all.iter().find(|it| &*it.name == kind) else { anyhow::bail!("no {kind}") };
    let mut snapshot = Snapshot::default();
    let pool: NodePool = serde_json::from_value(json!({ "metadata": { "name": "default" },
        "spec": { "disruption": { "budgets": [{ "nodes": "100%" }] } } }))?;
    snapshot.pools.push(pool);
    for at in 0..NODES {
        let name = format!("node-{at}");
        let zone = draw.pick(&["us-east-1a", "us-east-1b", "us-east-1c"]);
        let mut labels = found.labels.clone();
        for (key, value) in [
            (labels::ZONE, zone),
            (labels::HOSTNAME, name.as_str()),
            (labels::CAPACITY_TYPE, "on-demand"),
            (labels::NODE_POOL, "default"),
            (labels::INITIALIZED, "true"),
        ] {
            labels.insert(key.to_owned(), value.to_owned());
        }
        snapshot.nodes.push(serde_json::from_value(json!({
            "metadata": { "name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z" },
            "status": { "allocatable": found.allocatable.to_list(), "capacity": found.capacity.to_list() },
        }))?);
        let mut left = found.allocatable.cpu_millis * share / 100;
        for pod in 0..50 {
            let millis = draw.pick(&[50, 100, 100, 250, 250, 500, 1000]).min(left);
            if millis < 50 {
                break;
            }
            left -= millis;
            let name = format!("{name}-{pod}");
            snapshot.pods.push(serde_json::from_value(json!({
                "metadata": { "name": name, "uid": name, "namespace": "default",
                    "labels": { "app": format!("app-{}", draw.below(200)) } },
                "spec": { "nodeName": snapshot.nodes[at].metadata.name, "containers": [{ "name": "c",
                    "resources": { "requests": { "cpu": format!("{millis}m"),
                        "memory": format!("{}Mi", millis * 3) } } }] },
            }))?);
        }
    }
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workloads_leave_nobody_over() {
        let requirements = Requirements::default();
        let types = (1..=400).map(synthetic).collect();
        let pool = Pool { requirements, types, ..Pool::default() };
        let world = World { pools: vec![pool], pods: five_kinds(500).unwrap(), ..World::default() };
        let outcome = solve(world, Effort::Improve);
        assert!(outcome.unschedulable.is_empty(), "{:?}", outcome.unschedulable[0]);
        assert!(outcome.claims.len() >= 100, "a fifth of the pods keep apart by host");
        assert!(outcome.lower_bound <= outcome.price && outcome.price <= outcome.first_fit_price);
    }
}
