//! Tells each kubelet, by an annotation of its Node, how long it may use what it has read of Secrets and
//! ConfigMaps: the longer, the more nodes the cluster has.
//!
//! Upstream: `pkg/controller/ttl`. Deviation: when the size of the cluster changes the time, all nodes
//! are told at once, not each at its next heartbeat.

use controller::{Action, ApplyError, Key, Queue, object};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::Context;

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// From how many nodes on, up to how many, and seconds. The bounds overlap, so that a cluster at one
/// of them does not change its mind with every node.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

pub(crate) async fn run(context: Context) {
    let queue: Queue<Key> = Queue::new();
    let (feed, nodes) = (queue.clone(), context.caches.nodes.clone());
    let step = std::sync::Arc::new(parking_lot::Mutex::new(0));
    let shared = step.clone();
    context.caches.nodes.subscribe(move |change| {
        let mut step = shared.lock();
        let now = stepped(*step, nodes.all().len());
        if now != *step {
            *step = now;
            nodes.all().iter().for_each(|it| feed.add(Key::of(&**it)));
        }
        if change.new.as_deref().is_some_and(|it| !says(it, STEPS[now].2)) {
            feed.add(change.key.clone());
        }
    });
    let seconds = || STEPS[*step.lock()].2;
    controller::run("ttl", queue, 2, |key| reconcile(&context, key, seconds())).await;
}

async fn reconcile(context: &Context, key: Key, seconds: u32) -> Result<Action, ApplyError> {
    let node = context.caches.nodes.get(&key);
    let is_wanting = |it: &Node| !says(it, seconds) && !object::is_terminating(it);
    if !node.as_deref().is_some_and(is_wanting) {
        return Ok(Action::Done);
    }
    let api = Api::<Node>::all(context.client.clone());
    let patch = json!({ "metadata": { "annotations": { ANNOTATION: seconds.to_string() } } });
    let patched = api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map_err(|source| ApplyError::new::<Node>("annotate", &key.name, source))?;
    Ok(Action::Done)
}

fn says(node: &Node, seconds: u32) -> bool {
    node.annotations().get(ANNOTATION).is_some_and(|it| *it == seconds.to_string())
}

/// The step that a cluster of so many nodes is on, coming from `step`.
fn stepped(mut step: usize, nodes: usize) -> usize {
    while nodes > STEPS[step].1 {
        step += 1;
    }
    while nodes < STEPS[step].0 {
        step -= 1;
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_clusters_have_longer_times_and_keep_them_for_a_while() {
        let seconds = |from: usize, nodes: usize| STEPS[stepped(from, nodes)].2;
        assert_eq!((seconds(0, 3), seconds(0, 100), seconds(0, 101)), (0, 0, 15));
        assert_eq!((seconds(1, 95), seconds(1, 89)), (15, 0));
        assert_eq!(seconds(0, 5000), 300);
        assert_eq!(seconds(4, 0), 0);
    }

    #[test]
    fn a_node_without_the_annotation_is_told() {
        let node = |value: Option<&str>| -> Node {
            let annotations = value.map(|it| json!({ ANNOTATION: it })).unwrap_or_default();
            serde_json::from_value(json!({ "metadata": { "annotations": annotations } })).unwrap()
        };
        assert!(!says(&node(None), 0) && !says(&node(Some("15")), 0));
        assert!(says(&node(Some("0")), 0));
    }
}
