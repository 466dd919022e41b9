//! The loop: one pod after the other, most important first.

use std::sync::Arc;

use controller::Key;
use k8s_openapi::api::core::v1::Pod;
use scheduling::{
    Budget, Choice, Diagnosis, NodeInfo, Plugin, PodInfo, Preemption, Profile, evaluate, preempt,
    volume::ChosenVolume,
};
use tokio::time::Instant;
use tracing::debug;

use crate::{
    Context,
    devices::{self, ClaimWrite},
    limits, outcome, siblings,
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
    let Some(profile) = context.settings.profile(&pod) else {
        return context.state.lock().queue.remove(key);
    };
    // Bounds how far decisions run ahead of the writes.
    let Ok(permit) = context.bindings.clone().acquire_owned().await else { return };
    let mut info = info(&context.stores, profile, &pod);
    let budgets = budgets(context);
    let decision = {
        let mut state = context.state.lock();
        if !state.queue.contains(key) {
            return;
        }
        let devices = of_devices(&context.stores, &state, &info, &pod);
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

fn of_devices(
    stores: &Stores,
    state: &State,
    info: &PodInfo,
    pod: &Pod,
) -> Option<devices::Devices> {
    let is_asked = info.profile.filters.contains(Plugin::DynamicResources);
    is_asked.then(|| devices::of(stores, &state.cluster, &state.devices, pod)).flatten()
}

/// A pod with what is known of its siblings and volumes, as far as its profile asks for it.
pub(crate) fn info(stores: &Stores, profile: &Arc<Profile>, pod: &Pod) -> PodInfo {
    let siblings = siblings::selector(stores, pod);
    let mut info = PodInfo::new(pod).with_profile(profile.clone(), siblings);
    let asks = |plugin: Plugin| profile.filters.contains(plugin);
    info.volumes = volumes::facts(stores, pod);
    volumes::restrict(&mut info.volumes, asks(Plugin::VolumeBinding), asks(Plugin::VolumeZone));
    if asks(Plugin::VolumeRestrictions) {
        info.exclusive_claims = limits::exclusive(stores, &info);
    }
    if asks(Plugin::NodeVolumeLimits) {
        info.csi = limits::fact(stores, &info);
    }
    info
}

fn decide(state: &mut State, key: &Key, pod: Arc<PodInfo>, budgets: &[Budget]) -> Decision {
    let added = state.with_nominated(key, &pod);
    let result = evaluate(&state.cluster, &pod, state.next_start);
    let preemption = match &result {
        Err(_) if victims_are_leaving(state, key, &pod) => None,
        Err(diagnosis) if diagnosis.nodes > 0 && pod.profile.preempts => {
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
        let plugins = [Plugin::VolumeBinding].into();
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
