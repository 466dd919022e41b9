//! The loop: one pod after the other, most important first.

use std::sync::Arc;

use controller::Key;
use k8s_openapi::api::core::v1::Pod;
use scheduling::{
    Budget, CLAIM_IS_FREED, Choice, Diagnosis, NO_CLAIMS_TO_FREE, NodeInfo, Plugin, PodInfo,
    Preemption, Profile, choose, evaluate_one, filter_node, preempt, search, volume::ChosenVolume,
};
use tokio::time::Instant;
use tracing::debug;

use crate::{
    Context,
    devices::{self, ClaimWrite},
    extended::{self, NewClaim},
    extenders::{self, Passed},
    limits,
    metrics::{Point, SUCCESS, UNSCHEDULABLE, Watch},
    outcome, siblings,
    state::State,
    stores::Stores,
    volumes,
};

/// One try to find a place for a pod.
pub(crate) struct Attempt {
    pub(crate) pod: Arc<Pod>,
    pub(crate) started: Instant,
    /// The how manieth it is.
    pub(crate) number: u32,
    /// When the first of them was.
    pub(crate) first: Instant,
}

/// What was decided about one pod; the writes follow in the background.
pub(crate) enum Decision {
    Bind {
        node: String,
        /// What its claims of devices are given first.
        claims: Vec<ClaimWrite>,
        /// A claim that is made for its extended resources.
        new: Option<Box<NewClaim>>,
    },
    /// The claims wait for a node: give each its volume, or tell its provisioner the node, and come
    /// back when it is bound.
    Provision { node: String, claims: Vec<ChosenVolume> },
    Wait {
        diagnosis: Diagnosis,
        preemption: Option<Eviction>,
        /// A claim that is allocated where the pod cannot go.
        misplaced: Option<Key>,
    },
    /// Something went wrong that has nothing to do with room.
    Failed { message: String },
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
    let started = Instant::now();
    let mut info = info(&context.stores, profile, &pod);
    let budgets = budgets(&context.stores);
    let passed = outside(context, key, &pod, &mut info, &budgets).await;
    let (decision, (number, first)) = {
        let mut state = context.state.lock();
        let Some(tries) = state.queue.tries(key) else { return };
        let devices = of_devices(&context.stores, &state, &info, &pod);
        info.devices = devices.as_ref().map(|it| it.fact.clone());
        let mut decision = match passed {
            Ok(passed) => {
                let watch = Watch { metrics: &context.settings.metrics, profile: &profile.name };
                decide(&mut state, key, Arc::new(info), &budgets, passed, watch)
            }
            Err(message) => {
                state.queue.back_off(key, Instant::now());
                Decision::Failed { message }
            }
        };
        match (&mut decision, devices) {
            (Decision::Bind { node, claims, new }, Some(devices)) => {
                let node = state.cluster.node(node).cloned().unwrap_or_default();
                let placed = devices.place(&context.stores, &pod, &node, context.clock.now());
                (*claims, *new) = (placed.claims, placed.new);
                state.devices.extend(placed.assumed);
            }
            (Decision::Wait { misplaced, diagnosis, .. }, Some(devices)) => {
                *misplaced = devices.misplaced(&pod, diagnosis);
                if misplaced.is_some() {
                    diagnosis.deallocation = Some(CLAIM_IS_FREED);
                }
            }
            _ => {}
        }
        (decision, tries)
    };
    context.settings.metrics.decided(started.elapsed());
    let attempt = Attempt { pod, started, number, first };
    let background = context.clone();
    drop(context.scope.spawn("outcome", async move {
        outcome::write(&background, &attempt, decision, permit).await;
    }));
}

/// What extenders have to say of the pod, if there are any.
async fn outside(
    context: &Context,
    key: &Key,
    pod: &Pod,
    info: &mut PodInfo,
    budgets: &[Budget],
) -> Result<Option<Passed>, String> {
    if context.settings.extenders.is_empty() {
        return Ok(None);
    }
    info.devices = {
        let state = context.state.lock();
        of_devices(&context.stores, &state, info, pod).map(|it| it.fact)
    };
    let asked = extenders::ask(context, key, pod, info, budgets).await;
    asked.map_err(|error| telemetry::chain(&error).to_string())
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
    let is_asked = info.profile.asks(Plugin::DynamicResources);
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
    if asks(Plugin::DynamicResources) {
        info.device_resources = extended::resources(&extended::wishes(stores, pod));
    }
    if asks(Plugin::NodeVolumeLimits) {
        info.csi = limits::fact(stores, &info);
    }
    info
}

fn decide(
    state: &mut State,
    key: &Key,
    pod: Arc<PodInfo>,
    budgets: &[Budget],
    mut passed: Option<Passed>,
    watch: Watch<'_>,
) -> Decision {
    let added = state.with_nominated(key, &pod);
    let given = passed.as_mut().and_then(|it| it.preemption.take());
    let result = match &passed {
        Some(passed) => among(state, &pod, passed),
        None => find(state, key, &pod, watch),
    };
    let preemption = match &result {
        Err(_) if victims_are_leaving(state, key, &pod) => None,
        Err(_) if given.is_some() => given,
        Err(diagnosis) if diagnosis.nodes > 0 && pod.profile.preempts => {
            let began = Instant::now();
            let preemption = preempt(&mut state.cluster, &pod, diagnosis, budgets);
            let helps = matches!(preemption, Preemption::Evict { .. });
            watch.ran(Point::PostFilter, if helps { SUCCESS } else { UNSCHEDULABLE }, began);
            Some(preemption)
        }
        _ => None,
    };
    state.without_nominated(added);
    match result {
        Ok(choice) => place(state, key, pod, &choice),
        Err(diagnosis) => park(state, key, &pod, diagnosis, preemption),
    }
}

/// The node that the pod was promised, where it does; otherwise the best of all.
fn find(state: &State, key: &Key, pod: &PodInfo, watch: Watch<'_>) -> Result<Choice, Diagnosis> {
    let began = Instant::now();
    let promised = state.nominated.get(key).map(|(node, _)| node.as_str());
    if let Some(choice) = promised.and_then(|it| evaluate_one(&state.cluster, pod, it)) {
        watch.ran(Point::Filter, SUCCESS, began);
        return Ok(choice);
    }
    let found = search(&state.cluster, pod, state.next_start);
    watch.ran(Point::Filter, if found.is_ok() { SUCCESS } else { UNSCHEDULABLE }, began);
    let (found, began) = (found?, Instant::now());
    let choice = found.choice(&state.cluster, pod);
    watch.ran(Point::Score, SUCCESS, began);
    Ok(choice)
}

/// The best of the nodes that extenders have left.
fn among(state: &State, pod: &PodInfo, passed: &Passed) -> Result<Choice, Diagnosis> {
    match choose(&state.cluster, pod, &passed.nodes, &passed.scores) {
        Some(best) => Ok(Choice { best, asked: passed.asked, feasible: passed.nodes.len() }),
        None => Err(extenders::gone(passed, |node| filter_node(&state.cluster, pod, node))),
    }
}

/// Whether room is being made for the pod already, on the node that it was nominated for.
pub(crate) fn victims_are_leaving(state: &State, key: &Key, pod: &PodInfo) -> bool {
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
        // Its room is kept until then.
        state.nominated.insert(key.clone(), (node.clone(), pod));
        return Decision::Provision { node, claims };
    }
    state.nominated.remove(key);
    state.assumed.insert(pod.uid.clone());
    state.cluster.set_pod(&node, pod);
    state.queue.remove(key);
    Decision::Bind { node, claims: Vec::new(), new: None }
}

fn park(
    state: &mut State,
    key: &Key,
    pod: &Arc<PodInfo>,
    mut diagnosis: Diagnosis,
    preemption: Option<Preemption>,
) -> Decision {
    state.queue.park(key, diagnosis.plugins(), Instant::now());
    if pod.profile.asks(Plugin::DynamicResources) {
        diagnosis.deallocation = Some(NO_CLAIMS_TO_FREE);
    }
    let eviction = match preemption {
        None if victims_are_leaving(state, key, pod) => {
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
    Decision::Wait { diagnosis, preemption: eviction, misplaced: None }
}

pub(crate) fn budgets(stores: &Stores) -> Vec<Budget> {
    let budgets = stores.budgets.all();
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
