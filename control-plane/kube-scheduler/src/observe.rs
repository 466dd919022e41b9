//! Watch events into the picture.

use controller::{Change, Key};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod},
    resource::v1::ResourceClaim,
};
use scheduling::{Plugin, PodInfo};
use tokio::time::Instant;

use crate::{Context, Settings, devices, queue::Event, state::State};

/// From now on every change reaches the picture and wakes the loop.
pub(crate) fn subscribe(context: &Context) {
    let stores = &context.stores;
    let on = context.clone();
    stores.namespaces.subscribe(move |it| on.change(|state| namespace_changed(state, it)));
    let on = context.clone();
    stores.nodes.subscribe(move |it| on.change(|state| node_changed(state, it)));
    let on = context.clone();
    stores.pods.subscribe(move |it| on.change(|state| pod_changed(&on.settings, state, it)));
    let on = context.clone();
    stores.claims.subscribe(move |_| on.change(volumes_changed));
    let on = context.clone();
    stores.volumes.subscribe(move |_| on.change(volumes_changed));
    let on = context.clone();
    stores.classes.subscribe(move |_| on.change(volumes_changed));
    let on = context.clone();
    stores.csi_drivers.subscribe(move |_| on.change(volumes_changed));
    let on = context.clone();
    stores.capacities.subscribe(move |_| on.change(volumes_changed));
    let on = context.clone();
    stores.csi_nodes.subscribe(move |_| on.change(attachments_changed));
    let on = context.clone();
    stores.attachments.subscribe(move |it| {
        if it.new.is_none() {
            on.change(attachments_changed);
        }
    });
    let on = context.clone();
    stores.resource_claims.subscribe(move |it| {
        on.change(|state| claim_changed(state, it));
        on.claims_changed.notify_waiters();
    });
    let on = context.clone();
    stores.resource_slices.subscribe(move |_| on.change(devices_changed));
    let on = context.clone();
    stores.device_classes.subscribe(move |_| on.change(classes_changed));
}

impl Context {
    fn change(&self, apply: impl FnOnce(&mut State)) {
        apply(&mut self.state.lock());
        self.changed.notify_one();
    }
}

fn volumes_changed(state: &mut State) {
    state.queue.happened(Event::VolumesChanged, Instant::now());
}

fn attachments_changed(state: &mut State) {
    state.queue.happened(Event::AttachmentsChanged, Instant::now());
}

fn devices_changed(state: &mut State) {
    state.queue.happened(Event::DevicesChanged, Instant::now());
}

fn classes_changed(state: &mut State) {
    state.queue.happened(Event::DeviceClassesChanged, Instant::now());
}

/// An allocation that is seen need not be assumed any longer.
fn claim_changed(state: &mut State, change: &Change<ResourceClaim>) {
    let is_allocated =
        |it: &ResourceClaim| it.status.as_ref().is_some_and(|it| it.allocation.is_some());
    if change.new.as_deref().is_none_or(is_allocated)
        && let Some(claim) = change.latest()
    {
        state.devices.remove(claim.metadata.uid.as_deref().unwrap_or_default());
    }
    devices_changed(state);
}

fn namespace_changed(state: &mut State, change: &Change<Namespace>) {
    match &change.new {
        None => state.cluster.remove_namespace(&change.key.name),
        Some(namespace) => {
            let labels = namespace.metadata.labels.clone().unwrap_or_default();
            state.cluster.set_namespace(&change.key.name, labels);
        }
    }
}

fn node_changed(state: &mut State, change: &Change<Node>) {
    let now = Instant::now();
    match (&change.old, &change.new) {
        (_, None) => state.cluster.remove_node(&change.key.name),
        (None, Some(node)) => {
            state.cluster.set_node(node);
            state.queue.happened(Event::NodeAdded, now);
        }
        (Some(old), Some(new)) => {
            let room = |it: &Node| {
                it.status.as_ref().map(|it| (it.allocatable.clone(), it.capacity.clone()))
            };
            let is_same = old.spec == new.spec
                && room(old) == room(new)
                && old.metadata.labels == new.metadata.labels;
            if !is_same || old.status != new.status {
                state.cluster.set_node(new);
            }
            // Another image makes no node possible that was not.
            if !is_same {
                state.queue.happened(Event::NodeChanged, now);
            }
        }
    }
}

fn pod_changed(settings: &Settings, state: &mut State, change: &Change<Pod>) {
    match &change.new {
        None => {
            let uid = change.old.as_ref().and_then(|it| it.metadata.uid.clone());
            forget(state, &change.key, &uid.unwrap_or_default());
        }
        Some(pod) if is_over(pod) => {
            forget(state, &change.key, &pod.metadata.uid.clone().unwrap_or_default());
        }
        Some(pod) if node_of(pod).is_some() => placed(state, change.old.as_deref(), pod),
        Some(pod) if settings.profile(pod).is_some() => {
            waiting(settings, state, change, pod);
        }
        Some(_) => state.queue.remove(&change.key),
    }
}

fn forget(state: &mut State, key: &Key, uid: &str) {
    state.queue.remove(key);
    state.nominated.remove(key);
    state.assumed.remove(uid);
    if state.cluster.remove_pod(uid).is_some() {
        state.queue.happened(Event::PodRemoved, Instant::now());
    }
}

fn placed(state: &mut State, old: Option<&Pod>, pod: &Pod) {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let key = Key::of(pod);
    state.queue.remove(&key);
    state.nominated.remove(&key);
    state.assumed.remove(&uid);
    let Some(node) = node_of(pod) else { return };
    let asks_alike = |old: &Pod| {
        old.spec == pod.spec && resources::pod_requests(old) == resources::pod_requests(pod)
    };
    let is_same = |old: &Pod| {
        asks_alike(old)
            && old.metadata.labels == pod.metadata.labels
            && old.metadata.deletion_timestamp.is_some()
                == pod.metadata.deletion_timestamp.is_some()
    };
    if state.cluster.place_of(&uid) == Some(node) && old.is_some_and(is_same) {
        return;
    }
    state.cluster.set_pod(node, PodInfo::shared(pod));
    state.queue.happened(Event::PodPlaced, Instant::now());
    // One that was there and asks for something else may have become smaller.
    if old.is_some_and(|old| node_of(old).is_some() && !asks_alike(old)) {
        state.queue.happened(Event::PodRemoved, Instant::now());
    }
}

fn waiting(settings: &Settings, state: &mut State, change: &Change<Pod>, pod: &Pod) {
    let (key, old) = (&change.key, change.old.as_deref());
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    if state.assumed.contains(uid) {
        return;
    }
    // Its claims are made first, and then its status tells them.
    let is_early = settings.profile(pod).is_some_and(|profile| {
        let has_devices = profile.filters.contains(Plugin::DynamicResources);
        (profile.has_gates && is_gated(pod)) || (has_devices && devices::waits_for_claims(pod))
    });
    if pod.metadata.deletion_timestamp.is_some() || is_early {
        match is_early && pod.metadata.deletion_timestamp.is_none() {
            true => state.queue.hold(key),
            false => state.queue.remove(key),
        }
        state.nominated.remove(key);
        return;
    }
    let is_same = |old: &Pod| {
        old.spec == pod.spec
            && old.metadata.labels == pod.metadata.labels
            && old.metadata.uid == pod.metadata.uid
    };
    // Another scheduler, an earlier run of this one, or who makes nodes has promised it a place.
    let told = |pod: &Pod| pod.status.as_ref().and_then(|it| it.nominated_node_name.clone());
    let nominated = told(pod).filter(|it| !it.is_empty());
    if nominated.is_some() && (old.and_then(told) != nominated || !state.queue.contains(key)) {
        let promise = nominated.map(|node| (node, PodInfo::shared(pod)));
        state.nominated.extend(promise.map(|it| (key.clone(), it)));
    }
    if state.queue.contains(key) && old.is_some_and(is_same) {
        return;
    }
    let priority = pod.spec.as_ref().and_then(|it| it.priority).unwrap_or(0);
    state.queue.add(key.clone(), priority);
}

pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|it| !it.is_empty())
}

pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_gated(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|it| it.scheduling_gates.as_ref()).is_some_and(|it| !it.is_empty())
}
