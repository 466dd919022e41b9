//! Whole passes: which zones get how many endpoints, what users are told, what is written.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::{
    super::{
        members::{Family, Member, members},
        slices::{self, Note, Step},
    },
    *,
};

fn service() -> Service {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "d", "uid": "s",
            "annotations": { "service.kubernetes.io/topology-mode": "Auto" } },
        "spec": { "clusterIP": "10.100.0.1" },
    }))
    .unwrap()
}

/// Ready endpoints, one for each letter, in the zone of that letter.
fn in_zones(zones: &str) -> Vec<Member> {
    let member = |(number, zone): (usize, char)| Member {
        family: Family::Ipv4,
        ports: vec![serde_json::from_value(json!({ "name": "http", "port": 80 })).unwrap()],
        endpoint: serde_json::from_value(json!({
            "addresses": [format!("10.0.{}.{}", number / 250, number % 250)],
            "targetRef": { "uid": format!("p{number}") },
            "conditions": { "ready": true },
            "zone": zone.to_string(),
        }))
        .unwrap(),
    };
    zones.chars().enumerate().map(member).collect()
}

fn cpu(zones: &[(&str, i128)]) -> CpuByZone {
    zones.iter().map(|(zone, cpu)| ((*zone).to_owned(), *cpu)).collect()
}

/// A pass; and what the cache shows after it.
fn pass(
    slices: &[Arc<EndpointSlice>],
    members: &[Member],
    cpu: &CpuByZone,
) -> (Vec<Arc<EndpointSlice>>, usize, Vec<String>) {
    let (steps, notes) = slices::plan(&service(), members, slices, Some(cpu));
    let (mut after, count) = (slices.to_vec(), steps.len());
    for step in steps {
        match step {
            Step::Create(slice) => after.push(Arc::new(*slice)),
            Step::Delete(old) => after.retain(|it| it.metadata.name != old.metadata.name),
            Step::Update { old, mut new } => {
                new.metadata.name = old.metadata.name.clone();
                let at = after.iter().position(|it| it.metadata.name == old.metadata.name);
                after[at.unwrap()] = Arc::new(*new);
            }
        }
    }
    let words = |it: Note| format!("{}{}", if it.is_warning { "! " } else { "" }, it.message);
    (after, count, notes.into_iter().map(words).collect())
}

/// How many endpoints each zone has hints of.
fn hints(slices: &[Arc<EndpointSlice>]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for endpoint in slices.iter().flat_map(|it| it.endpoints.iter().flatten()) {
        let zones = endpoint.hints.iter().flat_map(|it| it.for_zones.iter().flatten());
        zones.for_each(|it| *counts.entry(it.name.clone()).or_default() += 1);
    }
    counts
}

fn counts(zones: &[(&str, usize)]) -> BTreeMap<String, usize> {
    zones.iter().map(|(zone, count)| ((*zone).to_owned(), *count)).collect()
}

#[test]
fn zones_get_endpoints_in_proportion_to_the_cpu_of_their_nodes() {
    let even = cpu(&[("a", 2000), ("b", 2000), ("c", 2000)]);
    let (slices, _, notes) = pass(&[], &in_zones("aaaabc"), &even);
    assert_eq!(hints(&slices), counts(&[("a", 2), ("b", 2), ("c", 2)]));
    assert_eq!(notes, ["Topology Aware Hints has been enabled, addressType: IPv4"]);
    let (slices, ..) =
        pass(&[], &in_zones("aaaaaaaa"), &cpu(&[("a", 8000), ("b", 4000), ("c", 4000)]));
    assert_eq!(hints(&slices), counts(&[("a", 4), ("b", 2), ("c", 2)]));
    // Who has its share keeps its own: only what is too many moves.
    let (slices, ..) = pass(&[], &in_zones("aaabbb"), &cpu(&[("a", 1000), ("b", 1000)]));
    let endpoints = slices.iter().flat_map(|it| it.endpoints.iter().flatten());
    for endpoint in endpoints {
        let zones = endpoint.hints.as_ref().unwrap().for_zones.as_ref().unwrap();
        assert_eq!(Some(&zones[0].name), endpoint.zone.as_ref());
    }
}

#[test]
fn nobody_gets_hints_where_an_endpoint_would_be_overloaded_and_users_are_told_why() {
    let even = cpu(&[("a", 1000), ("b", 1000), ("c", 1000)]);
    let skewed = cpu(&[("a", 9000), ("b", 1000)]);
    let few = "! Insufficient number of endpoints (2 endpoints, 3 zones), addressType: IPv4";
    let overload = "! Unable to allocate minimum required endpoints to each zone without exceeding \
                    overload threshold (2 endpoints, 2 zones), addressType: IPv4";
    let nodes = "! Insufficient Node information: allocatable CPU or zone not specified on one or \
                 more nodes, addressType: IPv4";
    let zone = "! One or more endpoints do not have a zone specified, addressType: IPv4";
    let mut homeless = in_zones("ab");
    homeless[1].endpoint.zone = None;
    for (members, cpu, message) in [
        (in_zones("ab"), even.clone(), few),
        (in_zones("ab"), skewed, overload),
        (in_zones("ab"), cpu(&[("a", 1000)]), nodes),
        (in_zones("ab"), CpuByZone::new(), nodes),
        (homeless, cpu(&[("a", 1000), ("b", 1000)]), zone),
    ] {
        let (slices, _, notes) = pass(&[], &members, &cpu);
        assert_eq!((hints(&slices), notes), (counts(&[]), vec![message.to_owned()]));
    }
}

#[test]
fn three_endpoints_for_two_zones_are_overloaded_by_a_fifth_and_not_by_more() {
    // 2 of 3 endpoints: at the most 0.8 of the CPU (2 / 3 × 1.2).
    let three = in_zones("aab");
    let (slices, ..) = pass(&[], &three, &cpu(&[("a", 800), ("b", 200)]));
    assert_eq!(hints(&slices), counts(&[("a", 2), ("b", 1)]));
    let (slices, ..) = pass(&[], &three, &cpu(&[("a", 801), ("b", 199)]));
    assert_eq!(hints(&slices), counts(&[]));
}

#[test]
fn a_second_pass_changes_nothing_and_one_endpoint_more_changes_one_slice() {
    let even = cpu(&[("a", 1000), ("b", 1000)]);
    let many = "ab".repeat(125);
    let (slices, ..) = pass(&[], &in_zones(&many), &even);
    assert_eq!(slices.len(), 3);
    let (_, written, notes) = pass(&slices, &in_zones(&many), &even);
    assert_eq!((written, notes), (0, vec![]));
    let (slices, written, _) = pass(&slices, &in_zones(&format!("{many}a")), &even);
    assert_eq!((written, hints(&slices)), (1, counts(&[("a", 126), ("b", 125)])));
}

#[test]
fn hints_follow_nodes_that_come_and_go_and_end_when_they_cannot_be_any_more() {
    let members = in_zones(&"ab".repeat(60));
    let (slices, ..) = pass(&[], &members, &cpu(&[("a", 1000), ("b", 1000)]));
    assert_eq!(hints(&slices), counts(&[("a", 60), ("b", 60)]));
    // Within the threshold nothing moves.
    let (_, written, _) = pass(&slices, &members, &cpu(&[("a", 1100), ("b", 1000)]));
    assert_eq!(written, 0);
    let (slices, written, _) = pass(&slices, &members, &cpu(&[("a", 3000), ("b", 1000)]));
    assert!(written > 0);
    assert_eq!(hints(&slices), counts(&[("a", 90), ("b", 30)]));
    let (slices, _, notes) = pass(&slices, &members, &cpu(&[("a", 1000)]));
    assert_eq!(hints(&slices), counts(&[]));
    assert_eq!(notes.len(), 1);
}

#[test]
fn an_endpoint_that_is_not_ready_counts_for_nobody_and_has_no_hint() {
    let even = cpu(&[("a", 1000), ("b", 1000)]);
    let mut members = in_zones("abababab");
    let (slices, ..) = pass(&[], &members, &even);
    members[7].endpoint.conditions.as_mut().unwrap().ready = Some(false);
    let (slices, ..) = pass(&slices, &members, &even);
    assert_eq!(hints(&slices).values().sum::<usize>(), 7);
    assert_eq!(slices[0].endpoints.as_ref().unwrap()[7].hints, None);
}

#[test]
fn ready_nodes_of_the_data_plane_count_by_their_allocatable_cpu() {
    let node = |zone: &str, cpu: &str, ready: &str, label: &str| -> Arc<Node> {
        let node = json!({
            "metadata": { "labels": { "topology.kubernetes.io/zone": zone, label: "" } },
            "status": { "allocatable": { "cpu": cpu },
                "conditions": [{ "type": "Ready", "status": ready }] },
        });
        Arc::new(serde_json::from_value(node).unwrap())
    };
    let nodes = [
        node("a", "1930m", "True", "x"),
        node("a", "2", "True", "x"),
        node("b", "4", "True", "x"),
        node("b", "8", "False", "x"),
        node("b", "8", "True", "node-role.kubernetes.io/control-plane"),
    ];
    assert_eq!(cpu_by_zone(&nodes), cpu(&[("a", 3930), ("b", 4000)]));
    for unclear in [node("", "4", "True", "x"), node("b", "0", "True", "x")] {
        assert_eq!(cpu_by_zone(&[nodes[0].clone(), unclear]), CpuByZone::new());
    }
}

#[test]
fn the_annotation_goes_before_the_traffic_distribution_and_its_old_name_before_it() {
    let hinted = |annotations: Value| {
        let service: Service = serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "d", "annotations": annotations },
            "spec": { "trafficDistribution": "PreferClose", "ports": [{ "port": 80 }] },
        }))
        .unwrap();
        let pod = serde_json::from_value(json!({
            "metadata": { "name": "p" }, "spec": { "nodeName": "n", "containers": [] },
            "status": { "podIP": "10.0.0.1",
                "conditions": [{ "type": "Ready", "status": "True" }] },
        }))
        .unwrap();
        let members = members(&service, &pod, Some("a".into()));
        (is_wanted(&service), members[0].endpoint.hints.is_some())
    };
    assert_eq!(hinted(json!({})), (false, true));
    assert_eq!(hinted(json!({ ANNOTATION: "auto" })), (true, false));
    assert_eq!(hinted(json!({ OLD_ANNOTATION: "disabled", ANNOTATION: "Auto" })), (false, true));
    assert_eq!(hinted(json!({ ANNOTATION: "Disabled" })), (false, true));
}
