//! Everything that speaks against each node, not only what is heard first, and how far off it is.
//!
//! The scheduler stops at the first plug-in that objects, which is all that its message tells. A
//! user who wants to know what to change needs the others too, and the node that lacks the least.

use std::cmp::Reverse;

use resources::{Format, Quantity};

use crate::{Cluster, NodeInfo, Plugin, PodInfo, Reason, filter::PodState, taint};

/// What is said about all nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// Something about the pod itself that no node can mend.
    pub prerequisite: Option<(Plugin, String)>,
    /// The nearest miss first. A node without objections would do now.
    pub nodes: Vec<NodeAnswer>,
    /// What the scheduler could do about it by removing pods; given by who knows the disruption budgets.
    pub preemption: Option<String>,
}

/// What the plug-ins say about one node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeAnswer {
    pub node: String,
    pub objections: Vec<Objection>,
}

/// One objection.
#[derive(Clone, Debug, PartialEq)]
pub struct Objection {
    pub plugin: Plugin,
    /// In upstream's words.
    pub reason: String,
    /// With numbers and names, where that says more.
    pub detail: Option<String>,
    /// Whether it would be lifted if other pods went.
    pub is_for_want_of_room: bool,
    /// By what part of the pod's wish the room falls short, in thousandths.
    shortfall: i64,
}

/// Asks all plug-ins about all nodes.
pub fn explain(cluster: &Cluster, pod: &PodInfo) -> Explanation {
    let prerequisite = crate::evaluate::prerequisite(pod);
    if prerequisite.is_some() {
        return Explanation { prerequisite, ..Explanation::default() };
    }
    let state = PodState::new(cluster, pod);
    let mut nodes: Vec<_> = cluster.nodes().iter().map(|node| answer(&state, pod, node)).collect();
    nodes.sort_by_cached_key(|it| {
        let of_kind = it.objections.iter().filter(|it| !it.is_for_want_of_room).count();
        let shortfall: i64 = it.objections.iter().map(|it| it.shortfall).sum();
        (it.objections.len(), of_kind, shortfall, it.node.clone())
    });
    Explanation { nodes, ..Explanation::default() }
}

fn answer(state: &PodState, pod: &PodInfo, node: &NodeInfo) -> NodeAnswer {
    let (hopeless, others): (Vec<_>, Vec<_>) =
        state.objections(node).into_iter().partition(|(_, is_hopeless)| *is_hopeless);
    let objection = |(reason, is_hopeless): (Reason, bool)| Objection {
        plugin: reason.plugin(),
        detail: detail(&reason, pod, node).or_else(|| state.detail(&reason, node)),
        shortfall: shortfall(&reason, pod, node),
        is_for_want_of_room: !is_hopeless,
        reason: reason.to_string(),
    };
    let mut objections: Vec<_> = hopeless.into_iter().chain(others).map(objection).collect();
    objections.sort_by_key(|it| it.plugin);
    NodeAnswer { node: node.name.clone(), objections }
}

fn detail(reason: &Reason, pod: &PodInfo, node: &NodeInfo) -> Option<String> {
    match reason {
        Reason::Insufficient { resource } => {
            let (wanted, free, all) = room(resource, pod, node);
            let [wanted, free, all] = [wanted, free, all].map(|it| amount(resource, it));
            Some(format!("asks for {wanted}, {free} of {all} is free"))
        }
        Reason::TooManyPods => {
            Some(format!("{} of {} are there", node.requested.pods, node.allocatable.pods))
        }
        Reason::UntoleratedTaint => {
            let effects = ["NoSchedule", "NoExecute"];
            let taint = taint::find_untolerated(&node.taints, &pod.tolerations, &effects)?;
            let value = taint.value.iter().filter(|it| !it.is_empty()).map(|it| format!("={it}"));
            Some(format!("{}{}:{}", taint.key, value.collect::<String>(), taint.effect))
        }
        Reason::NodeAffinity => missing_labels(pod, node),
        Reason::ClaimInUse => {
            Some(format!("one pod at a time may have {}", pod.exclusive_claims.join(", ")))
        }
        Reason::HostPorts => taken_port(pod, node),
        Reason::NoDevices => pod.devices.as_ref()?.details.get(&node.name).cloned(),
        Reason::NoVolumeToBind
        | Reason::NotEnoughStorage
        | Reason::VolumeNodeAffinity
        | Reason::VolumeZone => pod.volume_detail(&node.name, &node.labels),
        Reason::SpreadMissingLabel => {
            let mut hard = pod.spread.iter().filter(|it| it.is_hard);
            let missing = hard.find(|it| !node.labels.contains_key(&it.topology_key))?;
            Some(format!("it has no label {}", missing.topology_key))
        }
        _ => None,
    }
}

/// What is wanted, what is free, and what there is in all.
fn room(resource: &str, pod: &PodInfo, node: &NodeInfo) -> (i64, i64, i64) {
    let all = node.allocatable.amount(resource);
    let free = (all - node.requested.amount(resource)).max(0);
    (pod.requests.amount(resource), free, all)
}

fn amount(resource: &str, amount: i64) -> String {
    let quantity = match resource {
        "cpu" => Quantity::from_millis(amount),
        "memory" | "ephemeral-storage" => Quantity::new(amount, Format::BinarySi),
        _ if resource.starts_with("hugepages-") => Quantity::new(amount, Format::BinarySi),
        _ => Quantity::new(amount, Format::DecimalSi),
    };
    quantity.to_string()
}

fn shortfall(reason: &Reason, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let Reason::Insufficient { resource } = reason else { return 1000 };
    let (wanted, free, _) = room(resource, pod, node);
    let missing = i128::from(wanted - free) * 1000 / i128::from(wanted.max(1));
    i64::try_from(missing).unwrap_or(1000)
}

/// The parts of the node selector that the node does not fulfil.
fn missing_labels(pod: &PodInfo, node: &NodeInfo) -> Option<String> {
    let missing =
        pod.node_selector.iter().filter(|(key, value)| node.labels.get(*key) != Some(value));
    let missing: Vec<_> = missing
        .map(|(key, value)| match node.labels.get(key) {
            Some(other) => format!("{key} is {other}, not {value}"),
            None => format!("it has no label {key}={value}"),
        })
        .collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// The first port that is taken, and by which pod.
fn taken_port(pod: &PodInfo, node: &NodeInfo) -> Option<String> {
    let mut pods: Vec<_> = node.pods().collect();
    pods.sort_by_key(|it| (Reverse(it.priority), it.namespace.clone(), it.name.clone()));
    pods.into_iter().find_map(|there| {
        let collides = |taken: &&crate::HostPort| {
            pod.host_ports.iter().any(|wanted| wanted.collides_with(taken))
        };
        let port = there.host_ports.iter().find(collides)?;
        Some(format!("{}/{} has {} {}", there.namespace, there.name, port.protocol, port.port))
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Taint;

    use super::*;
    use crate::testing::{labelled, node, placed, pod, requesting};

    fn told(explanation: &Explanation) -> Vec<(String, Vec<String>)> {
        let line = |it: &Objection| {
            let detail = it.detail.as_deref().unwrap_or("-");
            format!("{:?}: {}: {detail}", it.plugin, it.reason)
        };
        let nodes = explanation.nodes.iter();
        nodes.map(|it| (it.node.clone(), it.objections.iter().map(line).collect())).collect()
    }

    #[test]
    fn the_nearest_miss_comes_first_and_every_plug_in_is_heard() {
        let mut cluster = Cluster::default();
        cluster.set_node(&node("small", "1", "1Gi", 10));
        cluster.set_node(&labelled("labelled", "4", "8Gi", 10, &[("disk", "ssd")]));
        cluster.set_pod("labelled", placed("p", &requesting("3", "0")));
        let mut tainted = labelled("tainted", "4", "8Gi", 0, &[("disk", "hdd")]);
        tainted.spec.as_mut().unwrap().taints = Some(vec![Taint {
            key: "gpu".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        }]);
        cluster.set_node(&tainted);
        let spec = r#"{"nodeSelector":{"disk":"ssd"},"containers":[{"name":"c",
            "resources":{"requests":{"cpu":"1500m"}}}]}"#;
        let explanation = explain(&cluster, &pod(spec));
        let affinity = "NodeAffinity: node(s) didn't match Pod's node affinity/selector: ";
        let expected = vec![
            (
                "labelled".to_owned(),
                vec![
                    "NodeResourcesFit: Insufficient cpu: asks for 1500m, 1 of 4 is free".to_owned(),
                ],
            ),
            (
                "small".to_owned(),
                vec![
                    format!("{affinity}it has no label disk=ssd"),
                    "NodeResourcesFit: Insufficient cpu: asks for 1500m, 1 of 1 is free".to_owned(),
                ],
            ),
            (
                "tainted".to_owned(),
                vec![
                    "TaintToleration: node(s) had untolerated taint(s): gpu:NoSchedule".to_owned(),
                    format!("{affinity}disk is hdd, not ssd"),
                    "NodeResourcesFit: Too many pods: 0 of 0 are there".to_owned(),
                ],
            ),
        ];
        assert_eq!(told(&explanation), expected);
        let room: Vec<_> = explanation.nodes[..2]
            .iter()
            .map(|it| it.objections.last().unwrap().is_for_want_of_room)
            .collect();
        assert_eq!(room, [true, false], "the small one never had so much");
    }

    #[test]
    fn of_nodes_that_lack_the_same_the_fuller_is_farther() {
        let mut cluster = Cluster::default();
        for (name, taken) in [("full", "4"), ("half", "2")] {
            cluster.set_node(&node(name, "4", "8Gi", 10));
            cluster.set_pod(name, placed(name, &requesting(taken, "0")));
        }
        let explanation = explain(&cluster, &pod(&requesting("3", "0")));
        let names: Vec<_> = explanation.nodes.iter().map(|it| it.node.as_str()).collect();
        assert_eq!(names, ["half", "full"]);
    }

    #[test]
    fn what_no_node_can_mend_is_all_that_is_told() {
        let mut cluster = Cluster::default();
        cluster.set_node(&node("n", "4", "8Gi", 10));
        let mut pod = pod("{}");
        pod.volumes.push(crate::VolumeFact::Missing { claim: "data".into() });
        let explanation = explain(&cluster, &pod);
        let message = "persistentvolumeclaim \"data\" not found".to_owned();
        assert_eq!(explanation.prerequisite, Some((Plugin::VolumeBinding, message)));
        assert!(explanation.nodes.is_empty());
    }

    #[test]
    fn volumes_and_spreading_are_told_with_names_and_numbers() {
        use crate::volume::{Candidate, VolumeFact};
        let mut cluster = Cluster::default();
        for zone in ["a", "b"] {
            cluster.set_node(&labelled(zone, "4", "8Gi", 10, &[("zone", zone)]));
        }
        cluster.set_pod("a", PodInfo::shared(&crate::testing::api_pod("p", &[("k", "v")], "{}")));
        let term = serde_json::json!({ "matchExpressions": [
            { "key": "zone", "operator": "In", "values": ["c", "d"] }] });
        let terms = Some(vec![serde_json::from_value(term).unwrap()]);
        let detail = |pod: &PodInfo, node: &str| {
            let explanation = explain(&cluster, pod);
            let answer = explanation.nodes.into_iter().find(|it| it.node == node).unwrap();
            answer.objections.into_iter().next().and_then(|it| it.detail).unwrap_or_default()
        };
        let with = |fact: VolumeFact| PodInfo { volumes: vec![fact], ..pod("{}") };
        let bound = with(VolumeFact::Bound { terms: terms.clone(), labels: Default::default() });
        assert_eq!(detail(&bound, "a"), "its volume can be reached from zone in [c, d]");
        let volumes = vec![Candidate { name: "v".into(), terms }];
        let choosable = VolumeFact::Choosable { claim: "data".into(), volumes, provision: None };
        assert_eq!(detail(&with(choosable), "a"), "claim data: of 1 volumes none can be reached");
        let spread = r#"{"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone",
            "whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"k":"v"}}}]}"#;
        let spread = PodInfo::new(&crate::testing::api_pod("q", &[("k", "v")], spread));
        let told = "zone=a has 1, the least has 0, by 1 they may differ";
        assert_eq!(detail(&spread, "a"), told);
    }
}
