//! Writes what was decided: bindings, conditions, evictions, events.
//!
//! A binding that fails is forgotten: the room is free again and the pod is tried again later.

use std::time::Duration;

use controller::{EventType, Key};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, PodCondition};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use scheduling::{
    Diagnosis, PodInfo,
    volume::{ChosenVolume, matching},
};
use serde_json::json;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::{debug, warn};

use crate::{
    Context, claims,
    devices::ClaimWrite,
    extended::NewClaim,
    extenders,
    metrics::{ERROR, Outcome, Point, SUCCESS, Watch},
    pass::{Attempt, Decision, Eviction},
    queue::Event,
    readiness,
    volumes::SELECTED_NODE,
};

/// If it was written after all, the watch will say so.
const BIND_LIMIT: Duration = Duration::from_secs(30);

/// `permit` is held while something is written, not while devices are waited for.
pub(crate) async fn write(
    context: &Context,
    attempt: &Attempt,
    decision: Decision,
    permit: OwnedSemaphorePermit,
) {
    let pod = &*attempt.pod;
    let metrics = &context.settings.metrics;
    let profile = context.settings.profile(pod).map(|it| it.name.clone()).unwrap_or_default();
    let ended = |outcome| metrics.ended(&profile, outcome, attempt.started.elapsed());
    match decision {
        Decision::Bind { node, mut claims, new } => {
            if !claims.is_empty() || new.is_some() {
                nominate(context, pod, &node).await;
            }
            if let Some(new) = new {
                match make(context, pod, *new).await {
                    Some(claim) => claims.push(claim),
                    None => return ended(Outcome::Error),
                }
            }
            if !give(context, pod, &claims).await {
                return ended(Outcome::Error);
            }
            drop(permit);
            let watch = Watch { metrics, profile: &profile };
            let began = Instant::now();
            let is_ready = ready(context, pod, &claims).await;
            watch.ran(Point::PreBind, if is_ready { SUCCESS } else { ERROR }, began);
            let began = Instant::now();
            let is_bound = is_ready && bind(context, pod, &node).await;
            ended(if is_bound { Outcome::Scheduled } else { Outcome::Error });
            if is_ready {
                watch.ran(Point::Bind, if is_bound { SUCCESS } else { ERROR }, began);
            }
            if is_bound {
                metrics.tried(attempt.number, attempt.first.elapsed());
            }
        }
        Decision::Provision { node, claims } => {
            nominate(context, pod, &node).await;
            select(context, pod, &node, &claims).await;
        }
        Decision::Wait { diagnosis, preemption, misplaced } => {
            ended(Outcome::Unschedulable);
            if let Some(it) = &preemption {
                metrics.preempted(it.victims.len());
            }
            refuse(context, pod, &diagnosis, preemption).await;
            if let Some(claim) = misplaced {
                free(context, pod, &claim).await;
            }
        }
        Decision::Failed { message } => {
            ended(Outcome::Error);
            warn!(pod = %Key::of(pod), message, "failed to look for a node");
            context.note(pod, |it| it.warn(pod, "FailedScheduling", message.clone()));
            set_unschedulable(context, pod, "SchedulerError", &message, None).await;
        }
    }
}

/// Says where a pod is about to go that is not bound at once, for those who make room or nodes.
///
/// Upstream: KEP-5278.
async fn nominate(context: &Context, pod: &Pod, node: &str) {
    let told = pod.status.as_ref().and_then(|it| it.nominated_node_name.as_deref());
    if told != Some(node) {
        patch_pod(context, pod, &json!({ "nominatedNodeName": node })).await;
    }
}

/// Makes the claim of the pod's extended resources.
async fn make(context: &Context, pod: &Pod, new: NewClaim) -> Option<ClaimWrite> {
    let key = Key::of(pod);
    let made = new.make(context, pod).await;
    let mut state = context.state.lock();
    let assumed = state.devices.remove(&pod.uid().unwrap_or_default());
    match made {
        Ok(claim) => {
            state.devices.extend(assumed.map(|it| (claim.uid.clone(), it)));
            Some(claim)
        }
        Err(error) => {
            drop(state);
            let error = telemetry::chain(&error).to_string();
            warn!(pod = %key, error, "failed to make a claim of devices");
            let message = format!("running PreBind plugin \"DynamicResources\": {error}");
            context.note(pod, |it| it.warn(pod, "FailedScheduling", message));
            forget(context, pod, &key);
            None
        }
    }
}

/// Waits for the pod's devices. Those that fail are given back, and the pod is tried again.
async fn ready(context: &Context, pod: &Pod, claims: &[ClaimWrite]) -> bool {
    let limit = context.settings.profile(pod).map(|it| it.device_binding_timeout);
    let uid = pod.uid().unwrap_or_default();
    let waited = readiness::wait(context, &uid, claims, limit.unwrap_or_default()).await;
    let Err(error) = waited else { return true };
    let key = Key::of(pod);
    warn!(pod = %key, %error, "devices are not ready");
    let message = format!("running PreBind plugin \"DynamicResources\": {error}");
    context.note(pod, |it| it.warn(pod, "FailedScheduling", message));
    free(context, pod, &error.claim).await;
    forget(context, pod, &key);
    false
}

async fn free(context: &Context, pod: &Pod, claim: &Key) {
    if let Err(error) = claims::free(context, pod, claim).await {
        warn!(%claim, error = %telemetry::chain(&error), "failed to take devices back");
        // Nothing would bring the pod back.
        context.state.lock().queue.failed(&Key::of(pod), Instant::now());
        context.changed.notify_one();
    }
}

/// Writes the claims of devices. What was not written is forgotten with the placement; what was stays
/// assumed until the claims show it, so that nobody else is given those devices.
async fn give(context: &Context, pod: &Pod, given: &[ClaimWrite]) -> bool {
    if given.is_empty() {
        return true;
    }
    let key = Key::of(pod);
    let Err((written, error)) = claims::write(context, pod, given).await else { return true };
    let error = telemetry::chain(&error).to_string();
    warn!(pod = %key, error, "failed to write claims of devices");
    let message = format!("running PreBind plugin \"DynamicResources\": {error}");
    context.note(pod, |it| it.warn(pod, "FailedScheduling", message));
    {
        let mut state = context.state.lock();
        given[written..].iter().for_each(|it| drop(state.devices.remove(&it.uid)));
    }
    forget(context, pod, &key);
    false
}

/// Whether it was.
async fn bind(context: &Context, pod: &Pod, node: &str) -> bool {
    let key = Key::of(pod);
    let at = context.clock.now();
    match extenders::bind(&context.settings.extenders, pod, node).await {
        None => {}
        Some(Ok(())) => {
            told_bound(context, pod, at, node);
            return true;
        }
        Some(Err(error)) => {
            refused_binding(context, pod, node, &error);
            return false;
        }
    }
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": key.name, "namespace": key.namespace, "uid": pod.uid() },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    let pods = Api::<Pod>::namespaced(context.client.clone(), &key.namespace);
    let parameters = PostParams::default();
    let bound = pods.create_subresource::<_, serde_json::Value>(
        "binding",
        &key.name,
        &parameters,
        &binding,
    );
    let Ok(bound) = tokio::time::timeout(BIND_LIMIT, bound).await else {
        warn!(pod = %key, node, "binding was not answered in time");
        forget(context, pod, &key);
        return false;
    };
    let is_bound = bound.is_ok();
    match bound {
        Ok(_) => told_bound(context, pod, at, node),
        Err(kube::Error::Api(status)) if status.is_not_found() => forget(context, pod, &key),
        Err(error) => refused_binding(context, pod, node, &error),
    }
    is_bound
}

/// `at` is when it was asked for: the kubelet hears of it before this does, and its events must not
/// seem to be the earlier ones.
fn told_bound(context: &Context, pod: &Pod, at: Timestamp, node: &str) {
    let message = format!("Successfully assigned {} to {node}", Key::of(pod));
    context.note(pod, |it| it.at(at, pod, EventType::Normal, "Scheduled", message));
}

fn refused_binding(
    context: &Context,
    pod: &Pod,
    node: &str,
    error: &(dyn std::error::Error + 'static),
) {
    let key = Key::of(pod);
    let error = telemetry::chain(error).to_string();
    warn!(pod = %key, node, error, "failed to bind");
    let message = format!("binding rejected: {error}");
    context.note(pod, |it| it.warn(pod, "FailedScheduling", message));
    forget(context, pod, &key);
}

/// Takes the assumption back; the pod waits again unless it is gone.
fn forget(context: &Context, pod: &Pod, key: &Key) {
    let uid = pod.uid().unwrap_or_default();
    let mut state = context.state.lock();
    if !state.assumed.remove(&uid) {
        return;
    }
    state.cluster.remove_pod(&uid);
    state.queue.happened(Event::PodRemoved, Instant::now());
    let current = context.stores.pods.get(key);
    let is_waiting = current.is_some_and(|it| {
        it.uid() == pod.uid()
            && it.metadata.deletion_timestamp.is_none()
            && crate::observe::node_of(&it).is_none()
    });
    if is_waiting {
        let priority = pod.spec.as_ref().and_then(|it| it.priority).unwrap_or(0);
        state.queue.add_failed(key.clone(), priority, Instant::now());
    }
    drop(state);
    context.changed.notify_one();
}

async fn select(context: &Context, pod: &Pod, node: &str, claims: &[ChosenVolume]) {
    let namespace = pod.namespace().unwrap_or_default();
    for it in claims {
        let written = match &it.volume {
            Some(volume) => promise(context, &namespace, &it.claim, volume).await,
            None => select_node(context, &namespace, &it.claim, node).await,
        };
        if let Err(error) = written {
            let error = telemetry::chain(&error).to_string();
            warn!(claim = it.claim, error, "failed to choose for a claim");
            // Nothing would bring the pod back.
            context.state.lock().queue.failed(&Key::of(pod), Instant::now());
            context.changed.notify_one();
        }
    }
}

async fn select_node(
    context: &Context,
    namespace: &str,
    claim: &str,
    node: &str,
) -> Result<(), kube::Error> {
    let api = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), namespace);
    let patch = json!({ "metadata": { "annotations": { SELECTED_NODE: node } } });
    api.patch(claim, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
}

/// Writes the claim into the volume; the controller that binds does the rest. The version keeps two
/// claims from one volume.
async fn promise(
    context: &Context,
    namespace: &str,
    claim: &str,
    volume: &str,
) -> Result<(), kube::Error> {
    let stores = &context.stores;
    let claim = stores.claims.get(&Key::new(namespace, claim));
    let known = stores.volumes.get(&Key::cluster(volume));
    let (Some(claim), Some(known)) = (claim, known) else { return Ok(()) };
    if matching::is_promised(&known, &claim) {
        return Ok(());
    }
    let patch = json!({
        "metadata": { "resourceVersion": known.metadata.resource_version,
            "annotations": { "pv.kubernetes.io/bound-by-controller": "yes" } },
        "spec": { "claimRef": { "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": namespace, "name": claim.metadata.name, "uid": claim.metadata.uid } },
    });
    let api = Api::<PersistentVolume>::all(context.client.clone());
    api.patch(volume, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
}

async fn refuse(context: &Context, pod: &Pod, diagnosis: &Diagnosis, preemption: Option<Eviction>) {
    let message = diagnosis.to_string();
    context.note(pod, |it| it.warn(pod, "FailedScheduling", message.clone()));
    let nominated = preemption.as_ref().map(|it| it.node.as_str());
    set_unschedulable(context, pod, "Unschedulable", &message, nominated).await;
    for key in preemption.iter().flat_map(|it| &it.displaced) {
        if let Some(displaced) = context.stores.pods.get(key) {
            patch_pod(context, &displaced, &json!({ "nominatedNodeName": null })).await;
        }
    }
    for victim in preemption.iter().flat_map(|it| &it.victims) {
        let node = preemption.as_ref().map(|it| it.node.as_str()).unwrap_or_default();
        evict(context, pod, victim, node).await;
    }
}

async fn set_unschedulable(
    context: &Context,
    pod: &Pod,
    reason: &str,
    message: &str,
    nominated: Option<&str>,
) {
    let known = pod.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
    let Some(conditions) = with_unschedulable(known, reason, message, context.clock.now()) else {
        if nominated.is_none() {
            return;
        }
        return patch_pod(context, pod, &json!({ "nominatedNodeName": nominated })).await;
    };
    let mut status = json!({ "conditions": conditions });
    if let Some(node) = nominated {
        status["nominatedNodeName"] = node.into();
    }
    patch_pod(context, pod, &status).await;
}

async fn patch_pod(context: &Context, pod: &Pod, status: &serde_json::Value) {
    let key = Key::of(pod);
    let patched =
        controller::patch_status::<Pod, _>(&context.client, &key.namespace, &key.name, status)
            .await;
    match patched {
        Err(error) if !error.is_not_found() => {
            debug!(pod = %key, error = %telemetry::chain(&error), "status not written");
        }
        _ => {}
    }
}

/// The conditions with `PodScheduled` false, or `None` when it says so already.
fn with_unschedulable(
    mut known: Vec<PodCondition>,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Option<Vec<PodCondition>> {
    let position = known.iter().position(|it| it.type_ == "PodScheduled");
    let old = position.map(|at| known.remove(at));
    let was_false = old.as_ref().is_some_and(|it| it.status == "False");
    let is_same = was_false
        && old.as_ref().is_some_and(|it| {
            it.message.as_deref() == Some(message) && it.reason.as_deref() == Some(reason)
        });
    if is_same {
        return None;
    }
    let since = old.filter(|_| was_false).and_then(|it| it.last_transition_time);
    known.push(PodCondition {
        type_: "PodScheduled".into(),
        status: "False".into(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: since.or_else(|| Some(controller::object::time(now))),
        ..PodCondition::default()
    });
    Some(known)
}

/// Deletes a victim for the sake of `pod`.
async fn evict(context: &Context, pod: &Pod, victim: &PodInfo, node: &str) {
    let Some(found) = context.stores.pods.get(&Key::new(&victim.namespace, &victim.name)) else {
        return;
    };
    if found.uid().as_deref() != Some(victim.uid.as_str()) {
        return;
    }
    let by = context.settings.profile(pod).map(|it| it.name.clone()).unwrap_or_default();
    let mut conditions =
        found.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
    conditions.retain(|it| it.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some("PreemptionByScheduler".into()),
        message: Some(format!("{by}: preempting to accommodate a higher priority pod")),
        last_transition_time: Some(controller::object::time(context.clock.now())),
        ..PodCondition::default()
    });
    patch_pod(context, &found, &json!({ "conditions": conditions })).await;
    let pods = Api::<Pod>::namespaced(context.client.clone(), &victim.namespace);
    let only_this = Preconditions { uid: Some(victim.uid.clone()), ..Preconditions::default() };
    let parameters = DeleteParams::default().preconditions(only_this);
    match pods.delete(&victim.name, &parameters).await {
        Ok(_) => {
            let by = pod.uid().unwrap_or_default();
            let message = format!("Preempted by pod {by} on node {node}");
            context.note(pod, |it| it.normal(&*found, "Preempted", message));
        }
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
        Err(error) => {
            warn!(victim = victim.name, error = %telemetry::chain(&error), "failed to preempt");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_is_written_once_per_message_and_keeps_its_date() {
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        let first = with_unschedulable(vec![], "Unschedulable", "0/1 nodes", early).unwrap();
        assert_eq!(with_unschedulable(first.clone(), "Unschedulable", "0/1 nodes", late), None);
        let second = with_unschedulable(first.clone(), "Unschedulable", "0/2 nodes", late).unwrap();
        assert_eq!(second.len(), 1);
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_eq!(second[0].message.as_deref(), Some("0/2 nodes"));
    }
}
