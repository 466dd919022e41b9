//! Which policies a change of something else calls up.

use std::sync::Arc;

use controller::{Change, Key, Queue};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use network_policy::{Compiled, is_same_to_policies};

use crate::{Context, policy_of};

pub(crate) fn connect(context: &Arc<Context>, queue: &Queue<Key>) {
    let (on, here) = (queue.clone(), context.clone());
    context.policies.subscribe(move |change| {
        here.read(change);
        on.add(change.key.clone());
    });
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
    fn read(&self, change: &Change<NetworkPolicy>) {
        let compiled = change.new.as_deref().and_then(Compiled::of);
        let mut all = self.compiled.lock();
        match compiled {
            Some(compiled) => drop(all.insert(change.key.clone(), Arc::new(compiled))),
            None => drop(all.remove(&change.key)),
        }
    }

    fn policies_that(&self, concerned: impl Fn(&Compiled) -> bool) -> Vec<Key> {
        let all = self.compiled.lock();
        all.iter().filter(|(_, it)| concerned(it)).map(|(key, _)| key.clone()).collect()
    }

    fn policies_of_pod(&self, change: &Change<Pod>) -> Vec<Key> {
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && is_same_to_policies(old, new)
        {
            return Vec::new();
        }
        let namespace = self.namespaces.get(&Key::cluster(change.key.namespace.clone()));
        let labels = namespace.as_ref().and_then(|it| it.metadata.labels.as_ref());
        let states = [&change.old, &change.new];
        self.policies_that(|policy| {
            states.into_iter().flatten().any(|pod| policy.concerns_pod(pod, labels))
        })
    }

    fn policies_of_namespace(&self, change: &Change<Namespace>) -> Vec<Key> {
        let labels = |it: &Option<Arc<Namespace>>| it.as_ref().map(|it| it.metadata.labels.clone());
        let (old, new) = (labels(&change.old), labels(&change.new));
        if old == new {
            return Vec::new();
        }
        let states = [old, new];
        self.policies_that(|policy| {
            states.iter().flatten().any(|labels| policy.concerns_namespace(labels.as_ref()))
        })
    }
}
