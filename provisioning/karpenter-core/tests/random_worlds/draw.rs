//! Draws a world from a seed: pools, types, nodes with pods, pending pods with every constraint.

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::labels;
use k8s_openapi::api::core::v1::{Pod, Taint};
use karpenter_core::{
    InstanceType, Limits, MinValues, Node, Offering, Pool, Preferences, Requirement, Requirements,
    Reservation, Used, World,
};
use resources::Amounts;
use scheduling::{HostPort, PodInfo, VolumeFact};
use serde_json::{Value, json};

/// Splitmix64: small, and the same everywhere.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^= it >> 31;
        usize::try_from(it % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = self.below(from.len());
        &from[at]
    }
}

const ZONES: [&str; 3] = ["z1", "z2", "z3"];
const APPS: [&str; 3] = ["a", "b", "c"];

fn amounts(cpu: i64, memory_mib: i64, pods: i64) -> Amounts {
    Amounts { cpu_millis: cpu, memory: memory_mib << 20, pods, ..Amounts::default() }
}

fn text(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn types(draw: &mut Draw) -> Arc<[InstanceType]> {
    let count = 3 + draw.below(8);
    // Some have room in a reservation, which other pools' types may have too.
    let mut reserved: Vec<(usize, &str, Reservation)> = Vec::new();
    for (id, left) in [("cr-0", 2), ("cr-1", 1), ("cr-2", 0)] {
        if draw.one_in(3) {
            let reservation = Reservation { id: id.into(), left };
            reserved.push((draw.below(count), *draw.pick(&ZONES), reservation));
        }
    }
    let each = (0..count).map(|at| {
        let cpu = 1 << draw.below(6);
        let per = *draw.pick(&[2, 4, 8]);
        let arch = *draw.pick(&["amd64", "arm64"]);
        let family = format!("f{per}");
        let name = format!("{family}.{at}");
        let base = f64::from(i32::try_from(cpu * (8 + per)).unwrap()) / 300.0;
        let mut offerings = Vec::new();
        for zone in ZONES {
            for (kind, share) in [("on-demand", 1.0), ("spot", 0.4)] {
                if draw.one_in(6) {
                    continue;
                }
                let noise = f64::from(u32::try_from(draw.below(20)).unwrap()) / 100.0;
                let mut it = Offering::new(zone, kind, base * (share + noise));
                it.is_available = !draw.one_in(8);
                offerings.push(it);
            }
        }
        for (_, zone, it) in reserved.iter().filter(|(of, ..)| *of == at) {
            offerings.push(Offering::reserved(zone, it.clone(), base));
        }
        let mut capacity = amounts(cpu * 1000, cpu * per * 1024, 10 + 5 * cpu);
        if draw.one_in(5) {
            capacity.scalars.insert("example.com/gpu".to_owned(), 2);
        }
        let mut allocatable = capacity.clone();
        allocatable.subtract(&amounts(80, 300, 0));
        InstanceType {
            name: name.as_str().into(),
            labels: text(&[
                (labels::INSTANCE_TYPE, &name),
                (labels::ARCH, arch),
                (labels::OS, "linux"),
                (labels::INSTANCE_FAMILY, &family),
                (labels::INSTANCE_CPU, &cpu.to_string()),
            ]),
            capacity,
            allocatable,
            offerings,
        }
    });
    each.collect()
}

fn pool(draw: &mut Draw, name: &str) -> Pool {
    let mut requirements = Requirements::default().with(labels::NODE_POOL, Requirement::one(name));
    if draw.one_in(3) {
        requirements.add(labels::CAPACITY_TYPE, Requirement::one("on-demand"));
    }
    if draw.one_in(3) {
        requirements.add(labels::ARCH, Requirement::one("amd64"));
    }
    if draw.one_in(4) {
        requirements.add(labels::ZONE, Requirement::of(["z1", "z2"]));
    }
    if draw.one_in(4) {
        requirements.add("team", Requirement::of(["red", "blue"]));
    }
    if draw.one_in(5) {
        let mut it = Requirement::any();
        it.min_values = Some(2 + u32::from(draw.one_in(3)) * 5);
        requirements.add(labels::INSTANCE_FAMILY, it);
    }
    let taint = |effect: &str| Taint {
        key: "dedicated".into(),
        value: Some("x".into()),
        effect: effect.into(),
        time_added: None,
    };
    let taints = match draw.below(6) {
        0 => vec![taint("NoSchedule")],
        1 => vec![taint("PreferNoSchedule")],
        _ => Vec::new(),
    };
    let limits = draw.one_in(3).then(|| Limits {
        amounts: [("cpu".to_owned(), i64::try_from(draw.below(60)).unwrap() * 1000)].into(),
        nodes: draw.one_in(3).then(|| i64::try_from(draw.below(4)).unwrap()),
    });
    Pool {
        name: name.to_owned(),
        weight: i32::try_from(draw.below(3)).unwrap(),
        requirements,
        taints,
        limits,
        used: Used { amounts: amounts(2000, 0, 0), nodes: 1 },
        types: types(draw),
    }
}

fn selector(draw: &mut Draw) -> Value {
    json!({ "matchLabels": { "app": *draw.pick(&APPS) } })
}

fn key(draw: &mut Draw) -> &'static str {
    draw.pick::<&str>(&[labels::ZONE, labels::HOSTNAME, labels::ZONE, labels::CAPACITY_TYPE])
}

fn spec(draw: &mut Draw) -> Value {
    let cpu = *draw.pick(&["50m", "100m", "500m", "1", "3", "7"]);
    let memory = *draw.pick(&["64Mi", "256Mi", "1Gi", "4Gi", "16Gi"]);
    let mut requests = json!({ "cpu": cpu, "memory": memory });
    if draw.one_in(15) {
        requests["example.com/gpu"] = json!("1");
    }
    let mut container = json!({ "name": "c", "resources": { "requests": requests } });
    if draw.one_in(12) {
        container["ports"] = json!([{ "containerPort": 80, "hostPort": 80 }]);
    }
    let mut spec = json!({ "containers": [container] });
    match draw.below(8) {
        0 => spec["nodeSelector"] = json!({ labels::ZONE: *draw.pick(&ZONES) }),
        1 => spec["nodeSelector"] = json!({ labels::ARCH: "arm64" }),
        2 => spec["nodeSelector"] = json!({ "team": *draw.pick(&["red", "green"]) }),
        _ => {}
    }
    if draw.one_in(4) {
        spec["tolerations"] = json!([{ "key": "dedicated", "operator": "Exists" }]);
    }
    let mut affinity = json!({});
    if draw.one_in(6) {
        let (a, b) = (*draw.pick(&ZONES), *draw.pick(&ZONES));
        let term = |values: Value, operator: &str, key: &str| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
        affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] =
            json!([term(json!([a]), "In", labels::ZONE), term(json!([b]), "NotIn", labels::ZONE),]);
    }
    if draw.one_in(8) {
        affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([
            { "weight": 10, "preference": { "matchExpressions": [
                { "key": labels::INSTANCE_CPU, "operator": "Gt", "values": ["2"] }] } }]);
    }
    for (kind, odds) in [("podAffinity", 10), ("podAntiAffinity", 6)] {
        if draw.one_in(odds) {
            affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"] =
                json!([{ "topologyKey": key(draw), "labelSelector": selector(draw) }]);
        }
        if draw.one_in(odds * 3) {
            affinity[kind]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([{ "weight": 5, "podAffinityTerm": {
                    "topologyKey": key(draw), "labelSelector": selector(draw) } }]);
        }
    }
    spec["affinity"] = affinity;
    if draw.one_in(4) {
        let hard = *draw.pick(&["DoNotSchedule", "DoNotSchedule", "ScheduleAnyway"]);
        let mut spread = json!({
            "maxSkew": 1 + draw.below(2), "topologyKey": key(draw), "whenUnsatisfiable": hard,
            "labelSelector": selector(draw) });
        if hard == "DoNotSchedule" && draw.one_in(4) {
            spread["minDomains"] = json!(1 + draw.below(4));
        }
        if draw.one_in(4) {
            spread["nodeTaintsPolicy"] = json!("Honor");
        }
        if draw.one_in(4) {
            spread["nodeAffinityPolicy"] = json!("Ignore");
        }
        spec["topologySpreadConstraints"] = json!([spread]);
    }
    spec
}

/// Volumes that are in some zones, or may be.
fn volumes(draw: &mut Draw) -> Vec<VolumeFact> {
    let count = if draw.one_in(4) { 1 + draw.below(2) } else { 0 };
    let each = (0..count).map(|_| {
        let zones = [*draw.pick(&ZONES), *draw.pick(&ZONES)];
        let terms = json!([{ "matchExpressions": [
            { "key": labels::ZONE, "operator": "In", "values": zones }] }]);
        VolumeFact::Bound { terms: serde_json::from_value(terms).unwrap(), labels: BTreeMap::new() }
    });
    each.collect()
}

fn pod(name: &str, app: &str, spec: &Value) -> Arc<PodInfo> {
    pod_with(name, app, spec, &[])
}

fn pod_with(name: &str, app: &str, spec: &Value, volumes: &[VolumeFact]) -> Arc<PodInfo> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default", "uid": name, "labels": { "app": app } },
        "spec": spec,
    }))
    .unwrap();
    let mut info = PodInfo::new(&pod);
    info.volumes = volumes.to_vec();
    Arc::new(info)
}

/// One that is everywhere, and some that are not.
fn daemons(draw: &mut Draw) -> Vec<Arc<PodInfo>> {
    let of = |cpu: &str| {
        json!([{ "name": "d", "resources": { "requests": {
        "cpu": cpu, "memory": "64Mi" } } }])
    };
    let everything = json!([{ "operator": "Exists" }]);
    let mut all = vec![pod(
        "daemon",
        "daemon",
        &json!({ "containers": of("50m"), "tolerations": everything }),
    )];
    if draw.one_in(2) {
        let spec = json!({ "containers": of("300m"), "tolerations": everything,
            "nodeSelector": { labels::ARCH: "arm64" } });
        all.push(pod("of-arm64", "daemon", &spec));
    }
    if draw.one_in(3) {
        let mut spec = json!({ "containers": of("20m") });
        spec["containers"][0]["ports"] = json!([{ "containerPort": 80, "hostPort": 80 }]);
        if draw.one_in(2) {
            spec["nodeSelector"] = json!({ labels::ARCH: "amd64" });
        }
        all.push(pod("with-port", "daemon", &spec));
    }
    all
}

/// What one node has of which pods.
fn node(draw: &mut Draw, at: usize) -> Node {
    let name = format!("node-{at}");
    let zone = *draw.pick(&ZONES);
    let kind = *draw.pick(&["on-demand", "spot"]);
    let count = draw.below(4);
    let pods = (0..count).map(|it| {
        let mut spec = json!({ "containers": [{ "name": "c", "resources": {
            "requests": { "cpu": "200m", "memory": "128Mi" } } }] });
        if draw.one_in(5) {
            spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                json!([{ "topologyKey": labels::HOSTNAME, "labelSelector": selector(draw) }]);
        }
        let app = *draw.pick(&APPS);
        pod(&format!("{name}-{it}"), app, &spec)
    });
    let pods = pods.collect();
    Node {
        labels: text(&[
            (labels::HOSTNAME, &name),
            (labels::ZONE, zone),
            (labels::ARCH, "amd64"),
            (labels::OS, "linux"),
            (labels::CAPACITY_TYPE, kind),
        ]),
        name,
        taints: Vec::new(),
        allocatable: amounts(4000, 8000, 20),
        pods,
        reserved: amounts(100, 100, 1),
        ports: match draw.one_in(4) {
            true => vec![HostPort { address: String::new(), protocol: "TCP".into(), port: 80 }],
            false => Vec::new(),
        },
        is_initialized: !draw.one_in(4),
    }
}

pub(crate) fn world(seed: u64) -> World {
    let mut draw = Draw::new(seed);
    let pools = (0..1 + draw.below(3)).map(|at| pool(&mut draw, &format!("pool-{at}"))).collect();
    let nodes = (0..draw.below(4)).map(|at| node(&mut draw, at)).collect();
    let mut pods = Vec::new();
    for kind in 0..1 + draw.below(8) {
        let (app, spec, volumes) = (*draw.pick(&APPS), spec(&mut draw), volumes(&mut draw));
        for it in 0..1 + draw.below(6) {
            pods.push(pod_with(&format!("p{kind}-{it}"), app, &spec, &volumes));
        }
    }
    let preferences = match draw.one_in(3) {
        true => Preferences::Ignore,
        false => Preferences::Respect,
    };
    let daemons = daemons(&mut draw);
    let min_values = match draw.one_in(3) {
        true => MinValues::BestEffort,
        false => MinValues::Strict,
    };
    World { pools, nodes, pods, daemons, preferences, min_values, ..World::default() }
}
