//! Notices what happens to containers (upstream's "pod lifecycle event generator").
//!
//! containerd tells of every exit and OOM kill on its event stream; each wakes the worker of the pod that
//! it concerns. Of starts it is not asked to tell: whoever starts containers knows. A runtime without such a stream is listed every second instead. In both
//! cases a rare full list finds what was missed, and containers of pods that nobody knows any more.
//!
//! **Invariant:** events only wake; what a worker does follows from what it then observes. An exit is
//! also told, for the status ([`crate::early_exits`]).

use std::{collections::HashMap, sync::Arc, time::Duration};

use api_cri::{containerd, v1};
use futures::StreamExt;
use parking_lot::Mutex;
use prost::Message;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::{
    context::Context,
    cri::CriError,
    early_exits::EarlyExit,
    labels,
    pod::PodUid,
    pod_workers::{LEAST_GRACE, PodWorkers},
};

const ORPHANS_AT_ONCE: usize = 8;
/// How often everything is listed: with an event stream, and without one.
const RELIST: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_secs(1);
const RECONNECT: Duration = Duration::from_millis(500);
/// The runtime writes its own state down after it has told of an exit, when it has taken away what the
/// process was held in; of that it tells as well, a moment before. The worker is woken until it has seen
/// the exit, after these pauses: the first after the exit, and after the end of its task.
const AFTER_EXIT: Duration = Duration::from_millis(8);
const AFTER_DELETE: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_secs(4);

pub(crate) struct Pleg {
    context: Arc<Context>,
    workers: Arc<PodWorkers>,
    /// Which pod a container or sandbox belongs to.
    owners: Mutex<HashMap<String, PodUid>>,
    /// What a poll saw last.
    seen: Mutex<HashMap<String, i32>>,
    /// When the last list of everything began.
    listed: Mutex<Option<Instant>>,
}

impl Pleg {
    pub(crate) fn new(context: Arc<Context>, workers: Arc<PodWorkers>) -> Arc<Self> {
        let (owners, seen, listed) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { context, workers, owners, seen, listed })
    }

    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            match self.context.runtime.containerd_events().await {
                Ok(stream) => self.clone().follow(stream).await,
                Err(error) if error.is_unimplemented() => match self.cri_events().await {
                    Ok(()) => {}
                    Err(error) if error.is_unimplemented() => {
                        info!("the runtime has no event stream: it is listed every second");
                        self.poll().await;
                    }
                    Err(error) => debug!(%error, "no event stream"),
                },
                Err(error) => debug!(%error, "no event stream"),
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    /// The stream of runtimes that have CRI's own, until it ends.
    async fn cri_events(&self) -> Result<(), CriError> {
        let mut stream = self.context.runtime.cri_events().await?;
        self.relist_and_wake().await;
        let mut next_relist = Instant::now() + RELIST;
        loop {
            tokio::select! {
                event = stream.next() => {
                    let Some(Ok(event)) = event else { return Ok(()) };
                    let known = self.owners.lock().get(&event.container_id).cloned();
                    match known {
                        Some(uid) => self.workers.notify(&uid),
                        None => self.relist_and_wake().await,
                    }
                }
                () = tokio::time::sleep_until(next_relist) => {
                    self.relist_and_wake().await;
                    next_relist = Instant::now() + RELIST;
                }
            }
        }
    }

    async fn follow(self: Arc<Self>, mut stream: tonic::Streaming<containerd::Envelope>) {
        // What happened while nobody listened.
        self.relist_and_wake().await;
        let mut next_relist = Instant::now() + RELIST;
        loop {
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(envelope)) => self.handle(&envelope).await,
                    Some(Err(error)) => {
                        debug!(error = error.message(), "the event stream ended");
                        return;
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(next_relist) => {
                    self.relist_and_wake().await;
                    next_relist = Instant::now() + RELIST;
                }
            }
        }
    }

    async fn handle(self: &Arc<Self>, envelope: &containerd::Envelope) {
        let Some(event) = &envelope.event else { return };
        let mut exit = None;
        let id = if envelope.topic == "/tasks/exit" {
            let Ok(told) = containerd::TaskExit::decode(event.value.as_slice()) else { return };
            if told.id != told.container_id {
                // A process that was started by an exec.
                return;
            }
            exit.insert(told).container_id.clone()
        } else {
            let Ok(event) = containerd::TaskEvent::decode(event.value.as_slice()) else { return };
            event.container_id
        };
        if envelope.topic == "/tasks/start" {
            return;
        }
        let known = self.owners.lock().get(&id).cloned();
        let owner = match known.or_else(|| self.workers.owner_of(&id)) {
            Some(uid) => Some(uid),
            None => {
                drop(self.relist().await);
                self.owners.lock().get(&id).cloned()
            }
        };
        let Some(uid) = owner else { return };
        let first_look = match envelope.topic.as_str() {
            "/tasks/exit" => Some(AFTER_EXIT),
            // Of a container whose exit was seen there is nothing to look for.
            "/tasks/delete" if self.has_noticed_exit(&uid, &id) => return,
            "/tasks/delete" => Some(AFTER_DELETE),
            _ => None,
        };
        if let Some(exit) = exit.and_then(|it| self.early_exit(&uid, &it)) {
            self.workers.put_exit(&uid, exit);
        }
        self.workers.notify(&uid);
        if let Some(mut pause) = first_look {
            let this = self.clone();
            let again = async move {
                while pause < LAST_LOOK {
                    tokio::time::sleep(pause).await;
                    if this.has_noticed_exit(&uid, &id) {
                        return;
                    }
                    this.workers.notify(&uid);
                    // A look costs two calls; one that is late costs what it is late.
                    pause = pause * 3 / 2;
                }
            };
            drop(self.context.scope.spawn("exit", again));
        }
    }

    fn early_exit(&self, uid: &PodUid, exit: &containerd::TaskExit) -> Option<EarlyExit> {
        let (pod, observed) = (self.workers.pod(uid)?, self.workers.observed(uid)?);
        let group = self.context.cgroups.pod_group(&pod);
        EarlyExit::of(exit, &pod, &observed, &group.container(&exit.container_id))
    }

    fn has_noticed_exit(&self, uid: &PodUid, id: &str) -> bool {
        let Some(observed) = self.workers.observed(uid) else { return true };
        // A worker that is busy starting it has not seen it at all yet.
        observed.containers.iter().any(|it| it.id == *id && !it.is_running())
    }

    async fn poll(&self) {
        loop {
            match self.relist().await {
                Ok(states) => self.wake_changed(states),
                Err(error) => {
                    debug!(%error, "the runtime was not listed");
                    return;
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn wake_changed(&self, states: HashMap<String, i32>) {
        let owners = self.owners.lock();
        let mut seen = self.seen.lock();
        let changed = states.iter().filter(|(id, state)| seen.get(*id) != Some(state));
        let gone = seen.keys().filter(|id| !states.contains_key(*id));
        let mut uids: Vec<_> = changed
            .map(|(id, _)| id)
            .chain(gone)
            .filter_map(|id| owners.get(id).cloned())
            .collect();
        uids.sort();
        uids.dedup();
        *seen = states;
        drop((owners, seen));
        for uid in uids {
            self.workers.notify(&uid);
        }
    }

    async fn relist_and_wake(&self) {
        match self.relist().await {
            Ok(states) => self.wake_changed(states),
            Err(error) => debug!(%error, "the runtime was not listed"),
        }
    }

    /// Learns who owns what, and returns the state of everything.
    async fn relist(&self) -> Result<HashMap<String, i32>, CriError> {
        let (runtime, metrics, begun) =
            (&self.context.runtime, &self.context.metrics, Instant::now());
        if let Some(last) = self.listed.lock().replace(begun) {
            metrics.observe("kubelet_pleg_relist_interval_seconds", &[], begun - last);
        }
        let (sandboxes, containers) =
            tokio::try_join!(runtime.list_sandboxes(None), runtime.list_containers(None))?;
        metrics.observe("kubelet_pleg_relist_duration_seconds", &[], begun.elapsed());
        let now = self.context.clock.now().as_second() as f64;
        metrics.set("kubelet_pleg_last_seen_seconds", &[], now);
        let mut states = HashMap::new();
        let mut owners = HashMap::new();
        let sandboxes = sandboxes.into_iter().map(|it| (it.id, it.state, it.labels));
        let containers = containers.into_iter().map(|it| (it.id, it.state, it.labels));
        for (id, state, mut labels) in sandboxes.chain(containers) {
            if let Some(uid) = labels.remove(labels::POD_UID) {
                owners.insert(id.clone(), PodUid(uid));
            }
            states.insert(id, state);
        }
        *self.owners.lock() = owners;
        Ok(states)
    }

    /// Ends and removes what belongs to pods that this node does not have; says whether nothing of them is
    /// left. They went while no kubelet was there to end them.
    ///
    /// Called only after the pods of the node are known.
    ///
    /// Upstream: `HandlePodCleanups`, which kills each by itself with the least grace that there is.
    pub(crate) async fn remove_orphans(&self) -> bool {
        let runtime = &self.context.runtime;
        let (Ok(sandboxes), Ok(containers)) =
            tokio::join!(runtime.list_sandboxes(None), runtime.list_containers(None))
        else {
            return false;
        };
        let orphans = sandboxes.iter().filter_map(|sandbox| {
            let uid = PodUid(sandbox.labels.get(labels::POD_UID)?.clone());
            (!self.workers.is_known(&uid)).then_some((uid, &sandbox.id))
        });
        let ends = orphans.map(|(uid, id)| self.remove_orphan(uid, id, &containers));
        let ends: Vec<_> = ends.collect();
        // Not `all`: one that stays would break the others off.
        let ended = futures::stream::iter(ends).buffer_unordered(ORPHANS_AT_ONCE);
        ended.fold(true, async |all, it| all && it).await
    }

    async fn remove_orphan(&self, uid: PodUid, id: &str, containers: &[v1::Container]) -> bool {
        info!(%uid, id, "ending a sandbox of a pod that is gone");
        let own = containers.iter().filter(|it| it.pod_sandbox_id == id);
        futures::future::join_all(own.map(|it| self.remove_container(it))).await;
        let runtime = &self.context.runtime;
        let removed = async {
            runtime.stop_sandbox(id).await?;
            runtime.remove_sandbox(id).await
        };
        let removed = removed.await;
        if let Err(error) = &removed {
            warn!(%uid, %error, "a sandbox of a pod that is gone was not removed");
        }
        self.context.cgroups.remove_pod(&uid);
        removed.is_ok()
    }

    async fn remove_container(&self, container: &v1::Container) {
        let runtime = &self.context.runtime;
        let removed = async {
            if container.state == v1::ContainerState::ContainerRunning as i32 {
                runtime.stop_container(&container.id, LEAST_GRACE).await?;
            }
            runtime.remove_container(&container.id).await
        };
        if let Err(error) = removed.await {
            warn!(id = container.id, %error, "a container of a pod that is gone was not removed");
        }
    }
}
