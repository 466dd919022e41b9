//! Which nodes and pods a change calls up.

use std::sync::Arc;

use controller::Key;

use crate::{Context, pod};

pub(crate) fn connect(context: &Arc<Context>) {
    let queue = context.node_queue.clone();
    context.nodes.subscribe(move |change| {
        // A node says every few seconds that it lives.
        let is_same = match (&change.old, &change.new) {
            (Some(old), Some(new)) => {
                old.spec == new.spec
                    && old.metadata.labels == new.metadata.labels
                    && old.metadata.uid == new.metadata.uid
                    && capacity(old) == capacity(new)
            }
            _ => false,
        };
        if !is_same {
            queue.add(change.key.clone());
        }
    });
    let queue = context.node_queue.clone();
    context.cni_nodes.subscribe(move |change| queue.add(change.key.clone()));
    let (nodes, pods) = (context.node_queue.clone(), context.pod_queue.clone());
    context.pods.subscribe(move |change| {
        let Some(pod) = change.latest().filter(|it| pod::wanted(it) > 0) else { return };
        let Some(node) = pod::node_of(pod) else { return };
        // One that has ended, is gone, or is another of its name gives its branch back.
        let is_other = change.old.as_ref().is_some_and(|it| it.metadata.uid != pod.metadata.uid);
        if change.new.is_none() || is_other || pod::has_ended(pod) {
            nodes.add(Key::cluster(node));
        }
        if change.new.is_some() {
            pods.add(change.key.clone());
        }
    });
}

type Capacity = Option<k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

fn capacity(node: &k8s_openapi::api::core::v1::Node) -> (Capacity, Capacity) {
    let status = node.status.as_ref();
    let of = |list: Option<&std::collections::BTreeMap<String, _>>| {
        list.and_then(|it| it.get(api_kube::vpc_resources::POD_ENI)).cloned()
    };
    (
        of(status.and_then(|it| it.capacity.as_ref())),
        of(status.and_then(|it| it.allocatable.as_ref())),
    )
}
