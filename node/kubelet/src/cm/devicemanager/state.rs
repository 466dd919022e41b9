//! The devices of this node and who holds them.
//!
//! Upstream: `pkg/kubelet/cm/devicemanager/manager.go` and `pod_devices.go`.
//!
//! **Invariant:** a device is held by one pod only.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api_kubelet::device_plugin as v1beta1;
use tokio::time::Instant;

use super::endpoint::Endpoint;

/// How long a resource is told after its plugin has gone.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(5 * 60);
/// The node of devices that have none.
pub(super) const NO_NODE: i64 = -1;

pub(super) type Ids = BTreeSet<String>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    pub is_healthy: bool,
    pub nodes: Vec<i64>,
}

#[derive(Default)]
pub(super) struct Resource {
    pub devices: BTreeMap<String, Device>,
    pub endpoint: Option<Endpoint>,
    /// Counts registrations, so that the end of an earlier plugin is not taken for that of this one.
    pub generation: u64,
    pub stopped_at: Option<Instant>,
}

/// Devices of one resource that one container has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Allocation {
    pub devices: BTreeMap<i64, Vec<String>>,
    pub response: v1beta1::ContainerAllocateResponse,
    /// From the checkpoint of an earlier run: the devices may be gone since.
    pub is_restored: bool,
}

impl Allocation {
    pub(super) fn ids(&self) -> Ids {
        self.devices.values().flatten().cloned().collect()
    }
}

/// By pod UID, container and resource.
pub(super) type Held = BTreeMap<String, BTreeMap<String, BTreeMap<String, Allocation>>>;

#[derive(Default)]
pub(super) struct State {
    pub resources: BTreeMap<String, Resource>,
    /// Resources that had a plugin once: the node has none of them.
    pub removed: BTreeSet<String>,
    pub held: Held,
    /// What init containers of the pod being admitted hold.
    pub reusable: (String, BTreeMap<String, Ids>),
}

/// Why a container does not get its devices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AllocateDevicesError {
    #[error(
        "pod \"{pod}\" container \"{container}\" changed request for resource \"{resource}\" from {from} to {to}"
    )]
    Changed { pod: String, container: String, resource: String, from: usize, to: usize },
    #[error("cannot allocate unregistered device {0}")]
    Unregistered(String),
    #[error("no healthy devices present; cannot allocate unhealthy devices {0}")]
    NoneHealthy(String),
    #[error(
        "previously allocated devices are no longer healthy; cannot allocate unhealthy devices {0}"
    )]
    NoLongerHealthy(String),
    #[error(
        "requested number of devices unavailable for {resource}. Requested: {requested}, Available: {available}"
    )]
    Unavailable { resource: String, requested: usize, available: usize },
    #[error(
        "unexpectedly allocated less resources than required. Requested: {requested}, Got: {got}"
    )]
    TooFew { requested: usize, got: usize },
    #[error("unknown Device Plugin {0}")]
    NoPlugin(String),
    #[error("no containers return in allocation response")]
    Empty,
    #[error("{0}")]
    Plugin(String),
}

impl Resource {
    pub(super) fn healthy(&self) -> Ids {
        self.devices.iter().filter(|(_, it)| it.is_healthy).map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn has_topology(&self) -> bool {
        self.devices.values().any(|it| !it.nodes.is_empty())
    }

    fn is_over(&self, now: Instant) -> bool {
        self.stopped_at.is_some_and(|it| now.duration_since(it) >= STOP_GRACE)
    }
}

impl State {
    pub(super) fn allocation(
        &self,
        pod: &str,
        container: &str,
        resource: &str,
    ) -> Option<&Allocation> {
        self.held.get(pod)?.get(container)?.get(resource)
    }

    pub(super) fn in_use(&self, resource: &str) -> Ids {
        let containers = self.held.values().flat_map(BTreeMap::values);
        containers.filter_map(|it| it.get(resource)).flat_map(Allocation::ids).collect()
    }

    pub(super) fn is_known(&self, resource: &str) -> bool {
        let mut containers = self.held.values().flat_map(BTreeMap::values);
        self.resources.contains_key(resource) || containers.any(|it| it.contains_key(resource))
    }

    pub(super) fn reusable_of(&self, pod: &str, resource: &str) -> Ids {
        let (of, ids) = &self.reusable;
        if of == pod { ids.get(resource).cloned().unwrap_or_default() } else { Ids::new() }
    }

    /// What an init container holds is there again for the containers after it.
    pub(super) fn note_reusable(&mut self, pod: &str, container: &str, is_init: bool) {
        if self.reusable.0 != pod {
            self.reusable = (pod.to_owned(), BTreeMap::new());
        }
        let held = self.held.get(pod).and_then(|it| it.get(container)).into_iter().flatten();
        for (resource, allocation) in held {
            let known = self.reusable.1.entry(resource.clone()).or_default();
            let own = allocation.ids();
            if is_init {
                known.extend(own);
            } else {
                known.retain(|it| !own.contains(it));
            }
        }
    }

    /// What the plugin says now. Returns the pods that hold a device whose health is another one.
    pub(super) fn update(
        &mut self,
        resource: &str,
        devices: Vec<v1beta1::Device>,
    ) -> BTreeSet<String> {
        let fresh: BTreeMap<String, Device> = devices
            .into_iter()
            .map(|it| {
                let nodes = it.topology.unwrap_or_default().nodes.iter().map(|it| it.id).collect();
                (it.id, Device { is_healthy: it.health == v1beta1::HEALTHY, nodes })
            })
            .collect();
        let known = self.resources.entry(resource.to_owned()).or_default();
        let before = std::mem::replace(&mut known.devices, fresh);
        let health = |of: &BTreeMap<String, Device>, id: &str| of.get(id).map(|it| it.is_healthy);
        let now = &known.devices;
        let is_affected = |id: &String| health(&before, id) != health(now, id);
        self.held
            .iter()
            .filter(|(_, containers)| {
                let mut own = containers.values().filter_map(|it| it.get(resource));
                own.any(|it| it.ids().iter().any(is_affected))
            })
            .map(|(pod, _)| pod.clone())
            .collect()
    }

    /// The plugin is gone: nothing of it can be given until it comes back.
    pub(super) fn stop(&mut self, resource: &str, now: Instant) -> BTreeSet<String> {
        let Some(it) = self.resources.get_mut(resource) else { return BTreeSet::new() };
        it.endpoint = None;
        it.stopped_at = Some(now);
        for device in it.devices.values_mut() {
            device.is_healthy = false;
        }
        let is_holder = |containers: &BTreeMap<String, BTreeMap<String, Allocation>>| {
            containers.values().any(|it| it.contains_key(resource))
        };
        self.held.iter().filter(|it| is_holder(it.1)).map(|(pod, _)| pod.clone()).collect()
    }

    /// Capacity and allocatable of the node, by resource.
    pub(super) fn counts(&mut self, now: Instant) -> BTreeMap<String, (usize, usize)> {
        let over: Vec<_> =
            self.resources.iter().filter(|it| it.1.is_over(now)).map(|it| it.0.clone()).collect();
        for resource in over {
            self.resources.remove(&resource);
            self.removed.insert(resource);
        }
        // A resource that was here stays with none of it, so that it is not taken for one of the
        // cluster.
        let none = self.removed.iter().map(|it| (it.clone(), (0, 0)));
        let counts = self
            .resources
            .iter()
            .map(|(name, it)| (name.clone(), (it.devices.len(), it.healthy().len())));
        none.chain(counts).collect()
    }
}
