//! The loop: one pod after the other, most important first.

use std::sync::Arc;

use controller::{Key, object};
use k8s_openapi::api::core::v1::Pod;
use kube::core::Selector;
use scheduling::{
    Budget, Choice, Diagnosis, NodeInfo, PodInfo, Preemption, evaluate, preempt,
    volume::ChosenVolume,
};
use tokio::time::Instant;
use tracing::debug;

use crate::{
    Context,
    devices::{self, ClaimWrite},
    outcome,
    state::State,
    stores::Stores,
    volumes,
};

/// What was decided about one pod; the writes follow in the background.
pub(crate) enum Decision {
    Bind {
        node: String,
        /// What its claims of devices are given first.
        claims: Vec<ClaimWrite>,
    },
    /// The claims wait for a node: give each its volume, or tell its provisioner the node, and come
    /// back when it is bound.
    Provision {
        node: String,
        claims: Vec<ChosenVolume>,
    },
    Wait {
        diagnosis: Diagnosis,
        preemption: Option<Eviction>,
    },
}

pub(crate) struct Eviction {
    pub(crate) node: String,
    pub(crate) victims: Vec<Arc<PodInfo>>,
    /// Less important pods that were promised a place there: they are to look again.
    pub(crate) displaced: Vec<Key>,
}

/// Schedules for ever.
pub(crate) async fn run(context: &Context) {
    loop {
        let changed = context.changed.notified();
        let (next, due) = {
            let mut state = context.state.lock();
            (state.queue.pop(Instant::now()), state.queue.next_due())
        };
        match (next, due) {
            (Some(key), _) => {
                schedule(context, &key).await;
                tokio::task::consume_budget().await;
            }
            (None, None) => changed.await,
            (None, Some(due)) => {
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(due) => {}
                }
            }
        }
    }
}

async fn schedule(context: &Context, key: &Key) {
    let Some(pod) = context.stores.pods.get(key) else {
        return context.state.lock().queue.remove(key);
    };
    // Bounds how far decisions run ahead of the writes.
    let Ok(permit) = context.bindings.clone().acquire_owned().await else { return };
    let mut info = info(&context.stores, &pod);
    let budgets = budgets(context);
    let decision = {
        let mut state = context.state.lock();
        if !state.queue.contains(key) {
            return;
        }
        let devices = devices::of(&context.stores, &state.cluster, &state.devices, &pod);
        info.devices = devices.as_ref().map(|it| it.fact.clone());
        let mut decision = decide(&mut state, key, Arc::new(info), &budgets);
        if let (Decision::Bind { node, claims }, Some(devices)) = (&mut decision, devices) {
            let (writes, assumed) = devices.place(&context.stores, node);
            *claims = writes;
            state.devices.extend(assumed);
        }
        decision
    };
    let background = context.clone();
    drop(context.scope.spawn("outcome", async move {
        outcome::write(&background, &pod, decision).await;
        drop(permit);
    }));
}

/// Takes the promise of a place on a node from pods that are less important (`prepareCandidate`).
fn displaced(state: &mut State, node: &str, priority: i32) -> Vec<Key> {
    let is_less = |(there, it): &(String, Arc<PodInfo>)| there == node && it.priority < priority;
    let nominated = state.nominated.iter().filter(|(_, it)| is_less(it));
    let displaced: Vec<_> = nominated.map(|(key, _)| key.clone()).collect();
    for key in &displaced {
        state.nominated.remove(key);
        state.queue.unpark(key, Instant::now());
    }
    displaced
}

/// A pod with what is known of its siblings and volumes.
pub(crate) fn info(stores: &Stores, pod: &Pod) -> PodInfo {
    PodInfo {
        siblings: siblings(stores, pod),
        volumes: volumes::facts(stores, pod),
        ..PodInfo::new(pod)
    }
}

fn decide(state: &mut State, key: &Key, pod: Arc<PodInfo>, budgets: &[Budget]) -> Decision {
    let added = state.with_nominated(key, &pod);
    let result = evaluate(&state.cluster, &pod, state.next_start);
    let preemption = match &result {
        Err(_) if victims_are_leaving(state, key, &pod) => None,
        Err(diagnosis) if diagnosis.nodes > 0 => {
            Some(preempt(&mut state.cluster, &pod, diagnosis, budgets))
        }
        _ => None,
    };
    state.without_nominated(added);
    match result {
        Ok(choice) => place(state, key, pod, &choice),
        Err(diagnosis) => park(state, key, &pod, diagnosis, preemption),
    }
}

/// Whether room is being made for the pod already, on the node that it was nominated for.
fn victims_are_leaving(state: &State, key: &Key, pod: &PodInfo) -> bool {
    let Some((node, _)) = state.nominated.get(key) else { return false };
    let there = state.cluster.node(node);
    let mut pods = there.into_iter().flat_map(NodeInfo::pods);
    pods.any(|it| it.is_terminating && it.priority < pod.priority)
}

fn place(state: &mut State, key: &Key, pod: Arc<PodInfo>, choice: &Choice) -> Decision {
    state.next_start = state.next_start.wrapping_add(choice.asked);
    let index = entropy::below(choice.best.len().max(1) as u64);
    let node = choice.best[usize::try_from(index).unwrap_or(0)].clone();
    debug!(pod = %key, node, feasible = choice.feasible, asked = choice.asked, "placed");
    let labels = state.cluster.node(&node).map(|it| it.labels.clone()).unwrap_or_default();
    let claims = pod.choose_volumes(&node, &labels).unwrap_or_default();
    if !claims.is_empty() || pod.waits_for_volumes() {
        // The claim's change brings it back, and then it is bound where its volume is.
        let plugins = [scheduling::Plugin::VolumeBinding].into();
        state.queue.park(key, plugins, Instant::now());
        return Decision::Provision { node, claims };
    }
    state.nominated.remove(key);
    state.assumed.insert(pod.uid.clone());
    state.cluster.set_pod(&node, pod);
    state.queue.remove(key);
    Decision::Bind { node, claims: Vec::new() }
}

fn park(
    state: &mut State,
    key: &Key,
    pod: &Arc<PodInfo>,
    mut diagnosis: Diagnosis,
    preemption: Option<Preemption>,
) -> Decision {
    state.queue.park(key, diagnosis.plugins(), Instant::now());
    let eviction = match preemption {
        None if state.nominated.contains_key(key) => {
            let message = "not eligible due to a terminating pod on the nominated node.";
            diagnosis.preemption = Some(message.into());
            None
        }
        None => None,
        Some(Preemption::Futile(message)) => {
            diagnosis.preemption = Some(message);
            state.nominated.remove(key);
            None
        }
        Some(Preemption::Evict { node, victims }) => {
            let displaced = displaced(state, &node, pod.priority);
            state.nominated.insert(key.clone(), (node.clone(), pod.clone()));
            Some(Eviction { node, victims, displaced })
        }
    };
    Decision::Wait { diagnosis, preemption: eviction }
}

/// Selects the pods that this one should keep away from by default: those of its controller, or
/// else of the Services that select it.
fn siblings(stores: &Stores, pod: &Pod) -> Option<Selector> {
    let labels = pod.metadata.labels.as_ref()?;
    let owner = object::controller_of(pod);
    let is_replica = owner.is_some_and(|it| {
        matches!(it.kind.as_str(), "ReplicaSet" | "StatefulSet" | "ReplicationController")
    });
    if is_replica {
        let own = ["statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"];
        let shared = labels.iter().filter(|(key, _)| !own.contains(&key.as_str()));
        return Some(shared.map(|(key, value)| (key.clone(), value.clone())).collect());
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut merged = std::collections::BTreeMap::new();
    for service in stores.services.in_namespace(namespace) {
        let selector = service.spec.as_ref().and_then(|it| it.selector.as_ref());
        let Some(selector) = selector.filter(|it| !it.is_empty()) else { continue };
        if selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
            merged.extend(selector.clone());
        }
    }
    (!merged.is_empty()).then(|| merged.into_iter().collect())
}

fn budgets(context: &Context) -> Vec<Budget> {
    let budgets = context.stores.budgets.all();
    let budgets = budgets.iter().filter_map(|it| {
        let selector = controller::selector(it.spec.as_ref()?.selector.as_ref())?;
        let status = it.status.as_ref();
        let disrupted = status.and_then(|it| it.disrupted_pods.clone()).unwrap_or_default();
        Some(Budget {
            namespace: it.metadata.namespace.clone().unwrap_or_default(),
            selector,
            allowed: status.and_then(|it| it.disruptions_allowed).unwrap_or(0),
            disrupted: disrupted.into_keys().collect(),
        })
    });
    budgets.collect()
}
