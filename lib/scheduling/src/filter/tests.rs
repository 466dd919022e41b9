//! What each predicate lets through and what it refuses.

use k8s_openapi::api::core::v1::Taint;

use super::*;
use crate::testing::{api_pod, labelled, node, placed, pod, requesting};

const ZONE: &str = "topology.kubernetes.io/zone";

fn verdict(cluster: &Cluster, pod: &PodInfo, node: &str) -> Verdict {
    PodState::new(cluster, pod).verdict(cluster.node(node).unwrap())
}

fn refused(reason: Reason) -> Verdict {
    Verdict::Refused(vec![reason])
}

fn zones() -> Cluster {
    let mut cluster = Cluster::default();
    for (name, zone) in [("a", "z1"), ("b", "z2")] {
        cluster.set_node(&labelled(name, "4", "8Gi", 10, &[(ZONE, zone)]));
    }
    cluster
}

fn web(name: &str, spec: &str) -> std::sync::Arc<PodInfo> {
    PodInfo::shared(&api_pod(name, &[("app", "web")], spec))
}

#[test]
fn a_node_lacks_what_is_taken_and_is_hopeless_for_what_it_never_had() {
    let mut cluster = Cluster::default();
    cluster.set_node(&node("n", "2", "1Gi", 2));
    cluster.set_pod("n", placed("p", &requesting("1500m", "0")));
    let insufficient = |it: &str| Reason::Insufficient { resource: it.into() };
    for (cpu, memory, expected) in [
        ("500m", "1Gi", Verdict::Fits),
        ("501m", "0", refused(insufficient("cpu"))),
        ("0", "1025Mi", Verdict::Hopeless(vec![insufficient("memory")])),
        ("3", "2Gi", Verdict::Hopeless(vec![insufficient("cpu"), insufficient("memory")])),
    ] {
        let pod = pod(&requesting(cpu, memory));
        assert_eq!(verdict(&cluster, &pod, "n"), expected, "{cpu} {memory}");
    }
    cluster.set_pod("n", placed("q", "{}"));
    assert_eq!(verdict(&cluster, &pod("{}"), "n"), refused(Reason::TooManyPods));
}

#[test]
fn an_extended_resource_that_the_node_lacks_is_hopeless() {
    let mut cluster = Cluster::default();
    cluster.set_node(&node("n", "2", "1Gi", 2));
    let pod =
        pod(r#"{"containers":[{"name":"c","resources":{"requests":{"nvidia.com/gpu":"1"}}}]}"#);
    let reason = Reason::Insufficient { resource: "nvidia.com/gpu".into() };
    assert_eq!(verdict(&cluster, &pod, "n"), hopeless(reason.clone()));
    // Devices are claimed for it, but not where a plug-in has some.
    let claimed = PodInfo { device_resources: ["nvidia.com/gpu".to_owned()].into(), ..pod };
    assert_eq!(verdict(&cluster, &claimed, "n"), Verdict::Fits);
    let mut served = node("n", "2", "1Gi", 2);
    let status = served.status.as_mut().unwrap();
    let offered = serde_json::from_value(serde_json::json!("1")).unwrap();
    status.allocatable.as_mut().unwrap().insert("nvidia.com/gpu".into(), offered);
    cluster.set_node(&served);
    cluster.set_pod("n", std::sync::Arc::new(PodInfo { uid: "other".into(), ..claimed.clone() }));
    assert_eq!(verdict(&cluster, &claimed, "n"), refused(reason));
}

#[test]
fn taints_and_cordons_refuse_those_who_do_not_tolerate_them() {
    let mut cluster = Cluster::default();
    let mut tainted = node("n", "1", "1Gi", 10);
    let taint = |key: &str, effect: &str| Taint {
        key: key.into(),
        effect: effect.into(),
        ..Taint::default()
    };
    let spec = tainted.spec.as_mut().unwrap();
    spec.taints = Some(vec![taint("soft", "PreferNoSchedule"), taint("hard", "NoExecute")]);
    cluster.set_node(&tainted);
    let reason = Reason::UntoleratedTaint;
    assert_eq!(verdict(&cluster, &pod("{}"), "n"), hopeless(reason));
    let tolerant = pod(r#"{"tolerations":[{"operator":"Exists"}]}"#);
    assert_eq!(verdict(&cluster, &tolerant, "n"), Verdict::Fits);

    tainted.spec.as_mut().unwrap().unschedulable = Some(true);
    cluster.set_node(&tainted);
    assert_eq!(verdict(&cluster, &pod("{}"), "n"), hopeless(Reason::Unschedulable));
    assert_eq!(verdict(&cluster, &tolerant, "n"), Verdict::Fits);
}

#[test]
fn host_ports_collide_by_protocol_and_address() {
    let with_port = |address: &str, protocol: &str| {
        serde_json::json!({ "containers": [{ "name": "c", "ports": [{
            "containerPort": 80, "hostPort": 80, "hostIP": address, "protocol": protocol }] }] })
        .to_string()
    };
    let mut cluster = Cluster::default();
    cluster.set_node(&node("n", "1", "1Gi", 10));
    cluster.set_pod("n", placed("p", &with_port("10.0.0.1", "TCP")));
    for (address, protocol, expected) in [
        ("", "TCP", refused(Reason::HostPorts)),
        ("0.0.0.0", "TCP", refused(Reason::HostPorts)),
        ("10.0.0.1", "TCP", refused(Reason::HostPorts)),
        ("10.0.0.2", "TCP", Verdict::Fits),
        ("", "UDP", Verdict::Fits),
    ] {
        let pod = pod(&with_port(address, protocol));
        assert_eq!(verdict(&cluster, &pod, "n"), expected, "{address} {protocol}");
    }
}

const SPREAD: &str = r#"{"topologySpreadConstraints":[{"maxSkew":1,
    "topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"DoNotSchedule",
    "labelSelector":{"matchLabels":{"app":"web"}}}]}"#;

#[test]
fn spread_constraints_bound_the_difference_between_domains() {
    let mut cluster = zones();
    let incoming = web("incoming", SPREAD);
    cluster.set_pod("a", web("p", "{}"));
    assert_eq!(verdict(&cluster, &incoming, "a"), refused(Reason::SpreadSkew));
    assert_eq!(verdict(&cluster, &incoming, "b"), Verdict::Fits);
    cluster.set_pod("b", web("q", "{}"));
    assert_eq!(verdict(&cluster, &incoming, "a"), Verdict::Fits);
    cluster.set_node(&node("bare", "1", "1Gi", 10));
    assert_eq!(verdict(&cluster, &incoming, "bare"), hopeless(Reason::SpreadMissingLabel));
}

#[test]
fn terminating_pods_and_other_apps_do_not_count_for_spreading() {
    let mut cluster = zones();
    let mut going = (*web("p", "{}")).clone();
    going.is_terminating = true;
    cluster.set_pod("a", going.into());
    cluster.set_pod("a", placed("other", "{}"));
    assert_eq!(verdict(&cluster, &web("incoming", SPREAD), "a"), Verdict::Fits);
}

fn affinity(kind: &str) -> String {
    serde_json::json!({ "affinity": { kind: {
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": ZONE, "labelSelector": { "matchLabels": { "app": "web" } } }] } } })
    .to_string()
}

#[test]
fn anti_affinity_holds_in_both_directions() {
    let mut cluster = zones();
    cluster.set_pod("a", web("p", "{}"));
    let shy = pod(&affinity("podAntiAffinity"));
    assert_eq!(verdict(&cluster, &shy, "a"), refused(Reason::PodAntiAffinity));
    assert_eq!(verdict(&cluster, &shy, "b"), Verdict::Fits);

    let mut cluster = zones();
    cluster.set_pod("a", placed("shy", &affinity("podAntiAffinity")));
    assert_eq!(verdict(&cluster, &web("q", "{}"), "a"), refused(Reason::ExistingAntiAffinity));
    assert_eq!(verdict(&cluster, &web("q", "{}"), "b"), Verdict::Fits);
    assert_eq!(verdict(&cluster, &pod("{}"), "a"), Verdict::Fits);
}

#[test]
fn affinity_follows_others_but_the_first_of_a_group_may_go_anywhere() {
    let mut cluster = zones();
    let follower = pod(&affinity("podAffinity"));
    assert_eq!(verdict(&cluster, &follower, "a"), hopeless(Reason::PodAffinity));
    let first = web("first", &affinity("podAffinity"));
    assert_eq!(verdict(&cluster, &first, "a"), Verdict::Fits);
    cluster.set_pod("a", first);
    assert_eq!(verdict(&cluster, &follower, "a"), Verdict::Fits);
    let second = web("second", &affinity("podAffinity"));
    assert_eq!(verdict(&cluster, &second, "b"), hopeless(Reason::PodAffinity));
}

#[test]
fn plug_ins_that_a_profile_lacks_are_not_asked_and_its_own_affinity_is() {
    use crate::{AddedAffinity, Fit, Plugin, Plugins, Profile};
    let mut cluster = zones();
    cluster.set_pod("a", placed("p", &requesting("4", "0")));
    let with = |profile: Profile, spec: &str| PodInfo { profile: profile.into(), ..pod(spec) };
    let all_but = |without: Plugin| -> Plugins {
        Plugin::ALL.into_iter().filter(|it| *it != without).collect()
    };
    let blind = Profile { filters: all_but(Plugin::NodeResourcesFit), ..Profile::default() };
    assert_eq!(verdict(&cluster, &with(blind, &requesting("9", "0")), "a"), Verdict::Fits);
    let term = serde_json::json!({ "matchExpressions": [
        { "key": ZONE, "operator": "In", "values": ["z1"] }] });
    let required = Some(vec![serde_json::from_value(term).unwrap()]);
    let added = AddedAffinity { required, preferred: Vec::new() };
    let profile = Profile { added_affinity: added, ..Profile::default() };
    let enforced = Verdict::Hopeless(vec![Reason::EnforcedAffinity]);
    assert_eq!(verdict(&cluster, &with(profile.clone(), "{}"), "b"), enforced);
    assert_eq!(verdict(&cluster, &with(profile, "{}"), "a"), Verdict::Fits);
    let device =
        r#"{"containers":[{"name":"c","resources":{"requests":{"example.com/gpu":"1"}}}]}"#;
    let fit = Fit { ignored_groups: ["example.com".to_owned()].into(), ..Fit::default() };
    let ignoring = Profile { fit, ..Profile::default() };
    assert_eq!(verdict(&cluster, &with(ignoring, device), "b"), Verdict::Fits);
    assert_ne!(verdict(&cluster, &pod(device), "b"), Verdict::Fits);
}
