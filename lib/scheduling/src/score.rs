//! Which of the nodes that do is best.
//!
//! Each plug-in gives 0 to 100; the sum is weighted as the pod's profile weighs.

mod balance;
mod images;
mod inter_pod;
mod spread;

use crate::{Cluster, NodeInfo, PodInfo, Scorer, affinity::matches_term, taint};

/// The best mark of one plug-in.
pub(crate) const MAX: i64 = 100;

/// The weighted sum for each of `nodes`.
pub(crate) fn scores(cluster: &Cluster, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let mut totals = vec![0_i64; nodes.len()];
    for (scorer, weight) in &pod.profile.weights {
        let marks = marks(*scorer, cluster, pod, nodes);
        for (total, mark) in totals.iter_mut().zip(marks) {
            *total = total.saturating_add(weight.saturating_mul(mark));
        }
    }
    totals
}

fn marks(scorer: Scorer, cluster: &Cluster, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let each = |mark: &dyn Fn(&NodeInfo) -> i64| nodes.iter().map(|it| mark(it)).collect();
    match scorer {
        Scorer::TaintToleration => taints(pod, nodes),
        Scorer::NodeAffinity => node_affinity(pod, nodes),
        Scorer::NodeResourcesFit => each(&|it| balance::fit(pod, it)),
        Scorer::NodeResourcesBalancedAllocation => each(&|it| balance::balanced(pod, it)),
        Scorer::ImageLocality => each(&|it| images::mark(cluster, pod, it)),
        Scorer::PodTopologySpread => spread::marks(cluster, pod, nodes),
        Scorer::InterPodAffinity => inter_pod::marks(cluster, pod, nodes),
    }
}

/// Fewer untolerated `PreferNoSchedule` taints are better.
fn taints(pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let count = |node: &&NodeInfo| {
        let soft = node.taints.iter().filter(|it| it.effect == "PreferNoSchedule");
        let open = soft.filter(|it| !pod.tolerations.iter().any(|by| taint::tolerates(by, it)));
        i64::try_from(open.count()).unwrap_or(i64::MAX)
    };
    let counts: Vec<_> = nodes.iter().map(count).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    let mark = |count: i64| if most == 0 { MAX } else { MAX - MAX * count / most };
    counts.into_iter().map(mark).collect()
}

fn node_affinity(pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let added = &pod.profile.added_affinity.preferred;
    if pod.preferred_nodes.is_empty() && added.is_empty() {
        return vec![0; nodes.len()];
    }
    let sum = |node: &&NodeInfo| {
        let terms = pod.preferred_nodes.iter().chain(added);
        let met = terms.filter(|(_, term)| matches_term(term, &node.name, &node.labels));
        met.map(|(weight, _)| weight).sum()
    };
    let sums: Vec<i64> = nodes.iter().map(sum).collect();
    let most = sums.iter().copied().max().unwrap_or(0);
    sums.into_iter().map(|it| if most == 0 { 0 } else { MAX * it / most }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{api_pod, labelled, node, placed, pod, requesting};

    const ZONE: &str = "topology.kubernetes.io/zone";

    fn best<'a>(cluster: &'a Cluster, pod: &PodInfo) -> Vec<&'a str> {
        let nodes: Vec<_> = cluster.nodes().iter().collect();
        let scores = scores(cluster, pod, &nodes);
        let top = scores.iter().max().copied();
        let nodes = nodes.iter().zip(scores).filter(|(_, score)| Some(*score) == top);
        nodes.map(|(node, _)| node.name.as_str()).collect()
    }

    fn pair() -> Cluster {
        let mut cluster = Cluster::default();
        cluster.set_node(&labelled("a", "4", "8Gi", 10, &[(ZONE, "z1")]));
        cluster.set_node(&labelled("b", "4", "8Gi", 10, &[(ZONE, "z2")]));
        cluster
    }

    #[test]
    fn the_emptier_node_is_better_even_for_pods_that_request_nothing() {
        let mut cluster = pair();
        cluster.set_pod("a", placed("p", &requesting("1", "2Gi")));
        assert_eq!(best(&cluster, &pod(&requesting("1", "2Gi"))), ["b"]);
        let mut cluster = pair();
        cluster.set_pod("a", placed("p", r#"{"containers":[{"name":"c"}]}"#));
        assert_eq!(best(&cluster, &pod("{}")), ["b"]);
    }

    #[test]
    fn a_preference_for_a_node_outweighs_how_full_it_is() {
        let mut cluster = pair();
        cluster.set_pod("a", placed("p", &requesting("500m", "1Gi")));
        let spec = serde_json::json!({ "affinity": { "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "preference": {
                "matchExpressions": [{ "key": ZONE, "operator": "In", "values": ["z1"] }] } }] } } });
        assert_eq!(best(&cluster, &pod(&spec.to_string())), ["a"]);
    }

    #[test]
    fn siblings_spread_over_zones_without_being_asked_to() {
        let mut cluster = pair();
        cluster.set_node(&labelled("c", "4", "8Gi", 10, &[(ZONE, "z1")]));
        let web = api_pod("incoming", &[("app", "web")], "{}");
        let mut incoming = PodInfo::new(&web);
        incoming.siblings = Some([("app".to_owned(), "web".to_owned())].into_iter().collect());
        let mut there = PodInfo::new(&web);
        there.uid = "there".into();
        cluster.set_pod("a", there.into());
        assert_eq!(best(&cluster, &incoming), ["b"]);
    }

    #[test]
    fn preferred_affinity_attracts_and_preferred_anti_affinity_repels() {
        let mut cluster = pair();
        cluster.set_pod("a", PodInfo::shared(&api_pod("p", &[("app", "web")], "{}")));
        let spec = |kind: &str| {
            serde_json::json!({ "affinity": { kind: {
                "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 100,
                    "podAffinityTerm": { "topologyKey": ZONE,
                        "labelSelector": { "matchLabels": { "app": "web" } } } }] } } })
            .to_string()
        };
        assert_eq!(best(&cluster, &pod(&spec("podAffinity"))), ["a"]);
        assert_eq!(best(&cluster, &pod(&spec("podAntiAffinity"))), ["b"]);
    }

    #[test]
    fn a_node_that_has_the_image_already_is_better() {
        let mut cluster = pair();
        let mut full = labelled("b", "4", "8Gi", 10, &[(ZONE, "z2")]);
        let images = r#"[{"names":["registry.example/app:latest"],"sizeBytes":2000000000}]"#;
        full.status.as_mut().unwrap().images = serde_json::from_str(images).unwrap();
        cluster.set_node(&full);
        let wants = |image: &str| {
            let spec = serde_json::json!({ "containers": [{ "name": "c", "image": image }] });
            pod(&spec.to_string())
        };
        assert_eq!(best(&cluster, &wants("registry.example/app")), ["b"]);
        assert_eq!(best(&cluster, &wants("registry.example/app:v2")), ["a", "b"]);
        cluster.set_node(&labelled("b", "4", "8Gi", 10, &[(ZONE, "z2")]));
        assert_eq!(best(&cluster, &wants("registry.example/app")), ["a", "b"], "it was removed");
    }

    #[test]
    fn soft_taints_make_a_node_worse() {
        let mut cluster = pair();
        let mut tainted = node("a", "4", "8Gi", 10);
        tainted.spec.as_mut().unwrap().taints =
            serde_json::from_str(r#"[{"key":"k","effect":"PreferNoSchedule"}]"#).unwrap();
        cluster.set_node(&tainted);
        assert_eq!(best(&cluster, &pod("{}")), ["b"]);
    }
}
