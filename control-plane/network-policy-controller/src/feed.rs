//! Which policies a change of something else calls up.

use std::sync::Arc;

use controller::{Change, Key, Queue};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use network_policy::{concerns_namespace, concerns_pod, is_same_to_policies};

use crate::{Context, policy_of};

pub(crate) fn connect(context: &Arc<Context>, queue: &Queue<Key>) {
    let on = queue.clone();
    context.policies.subscribe(move |change| on.add(change.key.clone()));
    // Also what somebody else changed, or an earlier run left behind.
    let on = queue.clone();
    context.endpoints.subscribe(move |change| {
        change.latest().into_iter().for_each(|it| on.add(policy_of(it)));
    });
    let (on, here) = (queue.clone(), context.clone());
    context.pods.subscribe(move |change| {
        for key in here.policies_of_pod(change) {
            on.add_after(key, here.config.pod_update_batch_period);
        }
    });
    let (on, here) = (queue.clone(), context.clone());
    context.namespaces.subscribe(move |change| {
        here.policies_of_namespace(change).into_iter().for_each(|key| on.add(key));
    });
}

impl Context {
    fn policies_of_pod(&self, change: &Change<Pod>) -> Vec<Key> {
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && is_same_to_policies(old, new)
        {
            return Vec::new();
        }
        let namespace = self.namespaces.get(&Key::cluster(change.key.namespace.clone()));
        let labels = namespace.as_ref().and_then(|it| it.metadata.labels.as_ref());
        let states = [&change.old, &change.new];
        let concerned =
            |policy: &_| states.into_iter().flatten().any(|pod| concerns_pod(policy, pod, labels));
        let all = self.policies.all();
        all.iter().filter(|it| concerned(it)).map(|it| Key::of(&**it)).collect()
    }

    fn policies_of_namespace(&self, change: &Change<Namespace>) -> Vec<Key> {
        let labels = |it: &Option<Arc<Namespace>>| it.as_ref().map(|it| it.metadata.labels.clone());
        let (old, new) = (labels(&change.old), labels(&change.new));
        if old == new {
            return Vec::new();
        }
        let states = [old, new];
        let concerned = |policy: &_| {
            states.iter().flatten().any(|labels| concerns_namespace(policy, labels.as_ref()))
        };
        let all = self.policies.all();
        all.iter().filter(|it| concerned(it)).map(|it| Key::of(&**it)).collect()
    }
}
