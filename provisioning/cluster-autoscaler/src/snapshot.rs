//! The cluster as it is and will soon be, and which pending pods already have a place in it.

use std::collections::BTreeMap;

use scheduling::{Cluster, PodInfo, evaluate};

use crate::{
    options::Options,
    template::Template,
    world::{PodFact, World},
};

/// A cluster of real nodes and of those that are on their way.
pub(crate) fn of(
    world: &World,
    templates: &BTreeMap<String, Template>,
    upcoming: &BTreeMap<String, i64>,
) -> Cluster {
    let mut cluster = real(world);
    for (group, count) in upcoming {
        let Some(template) = templates.get(group) else { continue };
        for index in 0..*count {
            template.add_to(&mut cluster, &format!("template-node-for-{group}-upcoming-{index}"));
        }
    }
    cluster
}

/// A cluster of the nodes that are there.
pub(crate) fn real(world: &World) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, labels) in &world.namespaces {
        cluster.set_namespace(name, labels.clone());
    }
    for node in &world.nodes {
        cluster.set_node(node);
    }
    for pod in &world.placed {
        if let Some(node) = pod.node() {
            cluster.set_pod(node, pod.info.clone());
        }
    }
    cluster
}

/// The template of each group that has one.
pub(crate) fn templates(world: &World, options: &Options) -> BTreeMap<String, Template> {
    let of = |group| Some((group, Template::of(world, group, options)?));
    world.groups.iter().filter_map(of).map(|(group, it)| (group.name.clone(), it)).collect()
}

/// Pods that are alike to the predicates: the number of their class each.
pub(crate) fn classes(pods: &[PodFact]) -> Vec<usize> {
    let mut known: Vec<&PodFact> = Vec::new();
    let mut by_controller = BTreeMap::<String, Vec<usize>>::new();
    let class_of = |pod| {
        let pod: &PodFact = pod;
        let owner = pod.controller().map_or_else(|| pod.key(), |(_, uid)| uid.to_owned());
        let candidates = by_controller.entry(owner).or_default();
        let same = |it: &&usize| {
            let other = known[**it];
            other.pod.spec == pod.pod.spec
                && other.pod.metadata.labels == pod.pod.metadata.labels
                && other.info.volumes == pod.info.volumes
        };
        if let Some(found) = candidates.iter().find(same) {
            return *found;
        }
        candidates.push(known.len());
        known.push(pod);
        known.len() - 1
    };
    pods.iter().map(class_of).collect()
}

/// Whether only room decides: then, where one of its class found none, the next one will not.
pub(crate) fn is_simple(pod: &PodInfo) -> bool {
    pod.affinity.is_empty()
        && pod.anti_affinity.is_empty()
        && pod.spread.iter().all(|it| !it.is_hard)
}

/// Puts the pods that fit into the cluster, those of high priority first, and answers the others.
pub(crate) fn place(cluster: &mut Cluster, pods: Vec<PodFact>) -> Vec<PodFact> {
    let mut pods = pods;
    pods.sort_by_key(|it| std::cmp::Reverse(it.info.priority));
    let classes = classes(&pods);
    let mut hopeless = std::collections::BTreeSet::new();
    let mut from = 0;
    let mut rest = Vec::new();
    for (pod, class) in pods.into_iter().zip(classes) {
        if hopeless.contains(&class) {
            rest.push(pod);
            continue;
        }
        match evaluate(cluster, &pod.info, from) {
            Ok(choice) => {
                from = (from + choice.asked) % cluster.nodes().len().max(1);
                if let Some(node) = choice.best.first() {
                    cluster.set_pod(node, pod.info.clone());
                }
            }
            Err(_) => {
                if is_simple(&pod.info) {
                    hopeless.insert(class);
                }
                rest.push(pod);
            }
        }
    }
    rest
}
