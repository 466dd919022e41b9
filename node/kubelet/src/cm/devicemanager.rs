//! Devices that plugins on the node offer, as extended resources.
//!
//! A plugin registers on `device-plugins/kubelet.sock` (or through `plugins_registry`), tells its
//! devices for as long as it lives, and answers what a container needs to use them.
//!
//! Upstream: `pkg/kubelet/cm/devicemanager`.
//!
//! Deviation: the folder is below the kubelet's root folder; upstream's is always
//! `/var/lib/kubelet/device-plugins`.
//!
//! Deviation: after a reboot a container waits for the plugin of the devices that it had; upstream ends
//! the pod with `UnexpectedAdmissionError`.

mod checkpoint;
mod choice;
mod edits;
mod endpoint;
mod registration;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use api_cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceHealth, ResourceStatus};
use lifecycle::Scope;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tracing::{error, info, warn};

use self::{
    choice::Request,
    endpoint::{Endpoint, PluginError},
    state::{Allocation, Ids, STOP_GRACE, State},
};
pub(crate) use self::{registration::handler, state::AllocateDevicesError};
use super::{
    requests,
    topologymanager::hint::{NumaMask, Wish},
};
use crate::pod::{Kind, PodExt, init_kind};

pub(crate) struct DeviceManager {
    folder: PathBuf,
    state: Mutex<State>,
    nodes: Vec<u32>,
    scope: Scope,
    changed: Arc<Notify>,
    /// Held while devices are chosen and given.
    turn: tokio::sync::Mutex<()>,
    /// Pods of which a device has changed its health.
    affected: Mutex<BTreeSet<String>>,
    /// Held while the checkpoint is written, so that an older one is never written over a newer one.
    writing: Mutex<()>,
}

/// Devices of one resource: ids by NUMA node.
pub(crate) type Devices = BTreeMap<String, BTreeMap<i64, Vec<String>>>;

impl DeviceManager {
    pub(crate) fn new(
        root: &std::path::Path,
        nodes: Vec<u32>,
        scope: Scope,
        changed: Arc<Notify>,
    ) -> Self {
        let folder = root.join("device-plugins");
        let mut state = State::default();
        let now = Instant::now();
        match super::checkpoint::read(&folder.join(checkpoint::FILE)) {
            Ok(Some(text)) => match checkpoint::decode(&text) {
                Ok((held, registered)) => {
                    state.held = held;
                    for resource in registered {
                        // None of it until its plugin registers again.
                        state.resources.entry(resource).or_default().stopped_at = Some(now);
                    }
                }
                Err(error) => warn!(%error, "who holds which devices is not known"),
            },
            Ok(None) => {}
            Err(error) => warn!(%error, "who holds which devices is not known"),
        }
        let state = Mutex::new(state);
        let (turn, affected) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { folder, state, nodes, scope, changed, turn, affected, writing: Mutex::default() }
    }

    fn save(&self) {
        let _writing = self.writing.lock();
        let text = checkpoint::encode(&self.state.lock());
        if let Err(error) = super::checkpoint::write(&self.folder.join(checkpoint::FILE), &text) {
            error!(%error, "who holds which devices was not written");
        }
    }

    /// The pods of which a device has changed since the last time.
    pub(super) fn take_affected(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.affected.lock())
    }

    fn note_affected(&self, pods: BTreeSet<String>) {
        self.affected.lock().extend(pods);
        self.changed.notify_one();
    }

    // === Plugins ===

    /// A plugin of `resource` serves at `endpoint`.
    async fn connect(self: &Arc<Self>, resource: &str, endpoint: &str) -> Result<(), PluginError> {
        let endpoint = Endpoint::connect(&self.folder.join(endpoint)).await?;
        let generation = {
            let mut state = self.state.lock();
            state.removed.remove(resource);
            let known = state.resources.entry(resource.to_owned()).or_default();
            known.generation += 1;
            if let Some(earlier) = known.endpoint.replace(endpoint.clone()) {
                earlier.gone.cancel();
            }
            known.stopped_at = None;
            known.generation
        };
        info!(resource, "a device plugin has registered");
        let (this, resource) = (self.clone(), resource.to_owned());
        let watch = async move { this.watch(resource, generation, endpoint).await };
        drop(self.scope.spawn("device-plugin", watch));
        Ok(())
    }

    /// Follows the devices of a plugin until it goes, or until another one takes its place.
    async fn watch(self: Arc<Self>, resource: String, generation: u64, endpoint: Endpoint) {
        match endpoint.list_and_watch().await {
            Ok(mut stream) => {
                let mut next = async || endpoint.gone.run_until_cancelled(stream.message()).await;
                while let Some(Ok(Some(reply))) = next().await {
                    let pods = {
                        let mut state = self.state.lock();
                        if !is_current(&state, &resource, generation) {
                            return;
                        }
                        state.update(&resource, reply.devices)
                    };
                    self.save();
                    self.note_affected(pods);
                }
            }
            Err(error) => warn!(resource, %error, "a device plugin does not list its devices"),
        }
        if self.stop(&resource, generation) {
            warn!(resource, "a device plugin is gone");
            tokio::time::sleep(STOP_GRACE).await;
            self.changed.notify_one();
        }
    }

    /// Says whether there was something to stop.
    fn stop(&self, resource: &str, generation: u64) -> bool {
        let pods = {
            let mut state = self.state.lock();
            if !is_current(&state, resource, generation) {
                return false;
            }
            state.stop(resource, Instant::now())
        };
        self.save();
        self.note_affected(pods);
        true
    }

    fn disconnect(&self, resource: &str) {
        let (generation, endpoint) = match self.state.lock().resources.get(resource) {
            Some(it) => (it.generation, it.endpoint.clone()),
            None => return,
        };
        if let Some(endpoint) = endpoint {
            endpoint.gone.cancel();
        }
        self.stop(resource, generation);
    }

    // === Pods ===

    /// Gives a container the devices that it asks for.
    pub(super) async fn allocate(
        &self,
        pod: &Pod,
        container: &Container,
        hint: Option<NumaMask>,
    ) -> Result<(), AllocateDevicesError> {
        let uid = pod.uid().0;
        let mut is_new = false;
        for (resource, count) in requests::extended(container) {
            if self.state.lock().is_known(&resource) {
                let (pod, container) = (uid.as_str(), container.name.as_str());
                let request = Request { pod, container, resource: &resource, count };
                is_new |= self.allocate_one(request, hint).await?;
            }
        }
        let mut inits = PodExt::spec(pod).init_containers.iter().flatten();
        let is_init = inits.any(|it| it.name == container.name && init_kind(it) == Kind::Init);
        self.state.lock().note_reusable(&uid, &container.name, is_init);
        if is_new {
            self.save();
        }
        Ok(())
    }

    async fn allocate_one(
        &self,
        request: Request<'_>,
        hint: Option<NumaMask>,
    ) -> Result<bool, AllocateDevicesError> {
        let Request { pod, container, resource, count } = request;
        let _turn = self.turn.lock().await;
        let (choice, endpoint) = {
            let state = self.state.lock();
            // What an earlier run has given is looked at when the container starts.
            if state.allocation(pod, container, resource).is_some_and(|it| it.is_restored) {
                return Ok(false);
            }
            let Some(choice) = choice::choose(&state, request, hint)? else { return Ok(false) };
            let endpoint = state.resources.get(resource).and_then(|it| it.endpoint.clone());
            let missing = || AllocateDevicesError::NoPlugin(resource.to_owned());
            (choice, endpoint.ok_or_else(missing)?)
        };
        let failed = |error: PluginError| AllocateDevicesError::Plugin(error.to_string());
        let preferred = if choice.missing == 0 {
            Ids::new()
        } else {
            endpoint.preferred(&choice.offered(), &choice.fixed, count).await.map_err(failed)?
        };
        let ids = choice.settle(&preferred);
        if ids.len() != count {
            return Err(AllocateDevicesError::TooFew { requested: count, got: ids.len() });
        }
        let responses = endpoint.allocate(&ids).await.map_err(failed)?;
        let response = responses.into_iter().next().ok_or(AllocateDevicesError::Empty)?;
        let mut state = self.state.lock();
        let known = state.resources.get(resource).map(|it| it.devices.clone()).unwrap_or_default();
        let devices = choice::by_node(&known, &ids);
        let allocation = Allocation { devices, response, is_restored: false };
        let containers = state.held.entry(pod.to_owned()).or_default();
        let own = containers.entry(container.to_owned()).or_default();
        own.insert(resource.to_owned(), allocation);
        Ok(true)
    }

    /// Takes back what a pod holds.
    pub(super) fn release(&self, uid: &str) {
        let is_held = self.state.lock().held.remove(uid).is_some();
        if is_held {
            self.save();
        }
    }

    pub(super) fn pods(&self) -> Vec<String> {
        self.state.lock().held.keys().cloned().collect()
    }

    pub(super) fn wishes(&self, pod: &Pod, containers: &[&Container]) -> Vec<Wish> {
        let uid = pod.uid().0;
        let state = self.state.lock();
        let mut wanted: BTreeMap<String, (usize, Ids)> = BTreeMap::new();
        for container in containers {
            for (resource, count) in requests::extended(container) {
                let held = state.allocation(&uid, &container.name, &resource);
                let entry = wanted.entry(resource).or_default();
                entry.0 += count;
                entry.1.extend(held.map(Allocation::ids).unwrap_or_default());
            }
        }
        if wanted.is_empty() {
            return vec![Wish::Indifferent];
        }
        wanted
            .iter()
            .map(|(name, (count, held))| {
                choice::wish(&state, &uid, name, *count, held, &self.nodes)
            })
            .collect()
    }

    /// Adds a container's devices to its configuration, when it is about to be made.
    pub(super) async fn apply(
        &self,
        pod: &Pod,
        container: &Container,
        config: &mut v1::ContainerConfig,
    ) -> Result<(), AllocateDevicesError> {
        let uid = pod.uid().0;
        for (resource, count) in requests::extended(container) {
            if !self.state.lock().is_known(&resource) {
                continue;
            }
            let (pod, container) = (uid.as_str(), container.name.as_str());
            let request = Request { pod, container, resource: &resource, count };
            // The plugin may have come after the pod.
            if self.allocate_one(request, None).await? {
                self.save();
            }
            let (endpoint, ids) = {
                let state = self.state.lock();
                let Some(held) = state.allocation(pod, container, &resource) else { continue };
                if held.is_restored {
                    choice::choose(&state, request, None)?;
                }
                let known = state.resources.get(&resource);
                (known.and_then(|it| it.endpoint.clone()), held.ids())
            };
            if let Some(endpoint) = endpoint.filter(|it| it.options.pre_start_required) {
                let started = endpoint.pre_start(&ids).await;
                started.map_err(|error| AllocateDevicesError::Plugin(error.to_string()))?;
            }
        }
        let state = self.state.lock();
        let held = state.held.get(&uid).and_then(|it| it.get(&container.name));
        edits::apply(config, held.into_iter().flatten().map(|(_, it)| &it.response));
        Ok(())
    }

    // === What is told ===

    /// Capacity and allocatable by resource.
    pub(super) fn counts(&self) -> BTreeMap<String, (usize, usize)> {
        self.state.lock().counts(Instant::now())
    }

    pub(super) fn of_container(&self, pod: &str, container: &str) -> Devices {
        let state = self.state.lock();
        let held = state.held.get(pod).and_then(|it| it.get(container));
        let held = held.into_iter().flatten();
        held.map(|(resource, it)| (resource.clone(), it.devices.clone())).collect()
    }

    /// The healthy devices.
    pub(super) fn allocatable(&self) -> Devices {
        let state = self.state.lock();
        let resources = state.resources.iter();
        resources
            .map(|(name, it)| (name.clone(), choice::by_node(&it.devices, &it.healthy())))
            .collect()
    }

    /// `allocatedResourcesStatus` of a container.
    pub(super) fn status(&self, pod: &str, container: &str) -> Vec<ResourceStatus> {
        let state = self.state.lock();
        let held = state.held.get(pod).and_then(|it| it.get(container));
        let health = |resource: &str, id: &str| {
            let device = state.resources.get(resource).and_then(|it| it.devices.get(id));
            if device.is_some_and(|it| !it.is_healthy) { "Unhealthy" } else { "Healthy" }
        };
        let one = |(resource, it): (&String, &Allocation)| ResourceStatus {
            name: resource.clone(),
            resources: Some(
                it.ids()
                    .into_iter()
                    .map(|id| ResourceHealth {
                        health: Some(health(resource, &id).to_owned()),
                        resource_id: id,
                        message: None,
                    })
                    .collect(),
            ),
        };
        held.into_iter().flatten().map(one).collect()
    }
}

fn is_current(state: &State, resource: &str, generation: u64) -> bool {
    state.resources.get(resource).is_some_and(|it| it.generation == generation)
}
