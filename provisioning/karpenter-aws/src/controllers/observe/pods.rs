//! Pods: where they are, and how long they wait.

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::labels;
use k8s_openapi::api::core::v1 as core;

use super::Gauge;
use crate::controllers::Context;

impl Context {
    pub(super) fn note_pods(&self) {
        let (pods, nodes, now) = (self.pods.all(), self.nodes.all(), self.clock.now());
        let by_name: BTreeMap<&str, &Arc<core::Node>> =
            nodes.iter().filter_map(|it| Some((it.metadata.name.as_deref()?, it))).collect();
        let (mut states, mut unbound, mut unstarted) = (Gauge::new(), Gauge::new(), Gauge::new());
        for pod in &pods {
            let of = named(pod);
            let phase = phase(pod);
            let made = pod.metadata.creation_timestamp.as_ref();
            let age = made.map_or(0.0, |it| now.duration_since(it.0).as_secs_f64());
            if !is_bound(pod) && !is_over(pod) {
                unbound.push((of.to_vec(), age));
            }
            if phase == "Pending" {
                unstarted.push((of.to_vec(), age));
            }
            let node = pod.spec.as_ref().and_then(|it| it.node_name.as_deref()).unwrap_or("");
            let marks = by_name.get(node).and_then(|it| it.metadata.labels.as_ref());
            let mark = |key: &str| marks.and_then(|it| it.get(key)).map_or("", String::as_str);
            let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
            let mut state = of.to_vec();
            state.extend([
                ("owner", owners.first().map_or("", |it| it.name.as_str())),
                ("node", node),
                ("nodepool", mark(labels::NODE_POOL)),
                ("zone", mark(labels::ZONE)),
                ("arch", mark(labels::ARCH)),
                ("capacity_type", mark(labels::CAPACITY_TYPE)),
                ("instance_type", mark(labels::INSTANCE_TYPE)),
                ("phase", phase),
                ("scheduled", if is_bound(pod) { "true" } else { "false" }),
            ]);
            states.push((state, 1.0));
        }
        self.metrics.replace("pods_state", states);
        self.metrics.replace("pods_unbound_time_seconds", unbound);
        self.metrics.replace("pods_unstarted_time_seconds", unstarted);
    }

    /// How long a pod waited, when it is bound and when it is ready.
    pub(in crate::controllers) fn time_pod(
        &self,
        old: Option<&core::Pod>,
        new: Option<&core::Pod>,
    ) {
        let (Some(old), Some(new)) = (old, new) else { return };
        let Some(made) = new.metadata.creation_timestamp.as_ref() else { return };
        let took = self.clock.now().duration_since(made.0).as_secs_f64();
        if is_bound(new) && !is_bound(old) {
            self.metrics.observe("pods_bound_duration_seconds", &[], took);
        }
        if is_ready(new) && !is_ready(old) {
            self.metrics.observe("pods_startup_duration_seconds", &[], took);
        }
    }
}

fn named(pod: &core::Pod) -> [(&'static str, &str); 2] {
    let metadata = &pod.metadata;
    [
        ("name", metadata.name.as_deref().unwrap_or_default()),
        ("namespace", metadata.namespace.as_deref().unwrap_or_default()),
    ]
}

fn phase(pod: &core::Pod) -> &str {
    pod.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or("Pending")
}

fn is_bound(pod: &core::Pod) -> bool {
    pod.spec.as_ref().is_some_and(|it| it.node_name.is_some())
}

pub(super) fn is_over(pod: &core::Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

fn is_ready(pod: &core::Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_deref());
    let mut conditions = conditions.unwrap_or_default().iter();
    conditions.any(|it| it.type_ == "Ready" && it.status == "True")
}
