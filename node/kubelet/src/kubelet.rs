//! Puts the kubelet together and runs it.

use std::{collections::HashSet, pin::pin, sync::Arc};

use clock::Clock;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use lifecycle::Scope;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::{
    certificates::Serving,
    cgroups::{Cgroups, Hierarchy, Limits},
    context::{Context, Network},
    cri::{Runtime, snapshots::Snapshots},
    events::Recorder,
    eviction::{Eviction, local_storage::LocalStorage},
    housekeeping::Housekeeping,
    images::{
        Images,
        credentials::{Credentials, LoadProvidersError, Providers},
    },
    labels,
    node::{self, NodeStatusLoop, Pressure, StatusWake, capacity::Machine},
    objects::Objects,
    paths::Paths,
    pleg::Pleg,
    plugins::Plugins,
    pod::{MIRROR_ANNOTATION, PodExt, PodUid},
    pod_workers::PodWorkers,
    probes::Probes,
    qos, server,
    services::Services,
    settings::Settings,
    static_pods::StaticPods,
    status::manager::Statuses,
    volumes::{
        self, Volumes,
        csi::{self, Csi},
    },
};

/// Why a kubelet cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to make the folder `{path}`")]
    Folder {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to read the cgroup hierarchies")]
    Cgroups(#[source] std::io::Error),
    #[error("failed to load the image credential providers")]
    Providers(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("failed to prepare the serving certificate")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("failed to start the server")]
    Server(#[source] std::io::Error),
}

/// A kubelet that has been put together.
pub struct Kubelet {
    context: Arc<Context>,
    workers: Arc<PodWorkers>,
    pleg: Arc<Pleg>,
    status: NodeStatusLoop,
    pressure: watch::Sender<Pressure>,
    wake: StatusWake,
    serving: Arc<Serving>,
}

impl Kubelet {
    /// Everything that can fail fails here. Nothing is asked of the API server yet.
    pub fn new(
        settings: Settings,
        client: Client,
        channel: api_cri::Channel,
        clock: Clock,
        scope: Scope,
    ) -> Result<Self, StartError> {
        let context = Arc::new(context(settings, client, channel, clock, scope)?);
        let workers = PodWorkers::new(context.clone());
        let serving = Serving::new(&context.settings, context.paths.certificates())
            .map_err(|error| StartError::Certificate(Box::new(error)))?;
        server::start(&context, &workers, serving.clone()).map_err(StartError::Server)?;
        let pleg = Pleg::new(context.clone(), workers.clone());
        let (pressure, pressure_seen) = watch::channel(Pressure::default());
        let wake = StatusWake::default();
        let woken = workers.clone();
        let status = NodeStatusLoop::new(
            context.clone(),
            pressure_seen,
            wake.clone(),
            Box::new(move || woken.notify_all()),
        );
        Ok(Self { context, workers, pleg, status, pressure, wake, serving })
    }

    /// Runs until the scope is cancelled.
    pub async fn run(self) {
        let Self { context, workers, pleg, status, pressure, wake, serving } = self;
        let scope = context.scope.clone();
        let services = context.services.clone();
        let client = context.client.clone();
        drop(scope.spawn("services", async move { services.run(client).await }));
        drop(scope.spawn("node", node::run(context.clone(), status)));
        drop(scope.spawn("certificate", serving.keep_fresh(context.clone())));
        drop(scope.spawn("pleg", pleg.clone().run()));
        let mut static_pods = StaticPods::new(context.clone(), workers.clone());
        static_pods.begin();
        drop(scope.spawn("static-pods", static_pods.run()));
        let eviction = Eviction {
            context: context.clone(),
            workers: workers.clone(),
            pressure,
            wake: wake.clone(),
        };
        drop(scope.spawn("eviction", eviction.run()));
        let csi = context.volumes.csi.clone();
        let plugins = Plugins::new(context.paths.root(), vec![csi::handler(&csi)]);
        drop(scope.spawn("plugins", plugins.run()));
        drop(scope.spawn("csi", async move { csi.unstage_unused().await }));
        let local_storage = LocalStorage::new(context.clone(), workers.clone());
        drop(scope.spawn("local-storage", local_storage.run()));
        let housekeeping = Housekeeping::new(context.clone(), workers.clone(), pleg, wake);
        drop(scope.spawn("pods", watch_pods(context.clone(), workers, housekeeping)));
        scope.cancelled().await;
    }
}

fn context(
    settings: Settings,
    client: Client,
    channel: api_cri::Channel,
    clock: Clock,
    scope: Scope,
) -> Result<Context, StartError> {
    let config = &settings.config;
    let paths = Paths::new(&settings.root_dir, &config.pod_logs_dir);
    for folder in [paths.pods(), paths.certificates(), paths.all_pod_logs().to_owned()] {
        std::fs::create_dir_all(&folder)
            .map_err(|source| StartError::Folder { path: folder.display().to_string(), source })?;
    }
    let machine = Machine::detect(&settings);
    let hierarchy = if config.cgroups_per_qos {
        Hierarchy::detect().map_err(StartError::Cgroups)?
    } else {
        Hierarchy::Unused
    };
    let cgroups = Cgroups::new(hierarchy, &config.cgroup_root, config.pod_pids_limit);
    if let Err(error) = cgroups.prepare(node_limits(&machine, &settings)) {
        warn!(%error, "the cgroups of pods were not made");
    }
    let runtime = Runtime::new(channel.clone(), config.runtime_request_timeout.0);
    let (recorder, events) = Recorder::new(client.clone(), &settings.node_name, clock);
    drop(scope.spawn("events", events));
    let objects = Arc::new(Objects::new(client.clone()));
    let credentials = Credentials::new(providers(&settings)?, clock);
    let parallel = if config.serialize_image_pulls {
        1
    } else {
        config.max_parallel_image_pulls.unwrap_or(1000)
    };
    let images = Images::new(runtime.clone(), recorder.clone(), clock, credentials, parallel);
    let images = Arc::new(images);
    let csi = Csi::new(client.clone(), recorder.clone(), &settings.node_name, &paths);
    let parts = volumes::Parts {
        client: client.clone(),
        objects: objects.clone(),
        paths: paths.clone(),
        clock,
        csi: Arc::new(csi),
        images: images.clone(),
        snapshots: Snapshots::new(runtime.clone(), channel),
    };
    let volumes = Volumes::new(parts);
    let statuses = Statuses::new(client.clone(), scope.clone());
    let node_ips = settings.node_ips.clone();
    Ok(Context {
        clock,
        scope,
        client,
        runtime,
        recorder,
        objects,
        services: Arc::new(Services::new()),
        volumes,
        images,
        cgroups,
        statuses,
        probes: Arc::new(Probes::default()),
        paths,
        machine,
        network: watch::channel(Network::Unknown).0,
        node_ips,
        settings,
    })
}

fn node_limits(machine: &Machine, settings: &Settings) -> Limits {
    let allocatable = machine.allocatable(&settings.config);
    Limits { shares: Some(qos::cpu_shares(allocatable.cpu_milli)), ..Limits::default() }
}

fn providers(settings: &Settings) -> Result<Providers, StartError> {
    let config = settings.credential_provider_config.as_ref();
    match config.zip(settings.credential_provider_bin_dir.as_ref()) {
        None => Ok(Providers::default()),
        Some((config, folder)) => {
            let failed = |error: LoadProvidersError| StartError::Providers(Box::new(error));
            Providers::load(config, folder).map_err(failed)
        }
    }
}

/// Follows the pods that are bound to this node.
async fn watch_pods(context: Arc<Context>, workers: Arc<PodWorkers>, housekeeping: Housekeeping) {
    // Without an answer every pod is looked at as if it may have run.
    if let Ok(sandboxes) = context.runtime.list_sandboxes(None).await {
        let mut found = HashSet::new();
        for mut sandbox in sandboxes {
            found.extend(sandbox.labels.remove(labels::POD_UID).map(PodUid));
        }
        workers.set_found(found);
    }
    let fields = format!("spec.nodeName={}", context.settings.node_name);
    let config = watcher::Config::default().fields(&fields);
    let stream = watcher(Api::<Pod>::all(context.client.clone()), config);
    let mut events = pin!(stream.default_backoff());
    let mut listed: Vec<PodUid> = Vec::new();
    let mut housekeeping = Some(housekeeping);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(pod)) => {
                listed.push(pod.uid());
                update(&workers, pod);
            }
            Ok(watcher::Event::Apply(pod)) => update(&workers, pod),
            Ok(watcher::Event::InitDone) => {
                let known = std::mem::take(&mut listed);
                workers.retain(|uid| known.contains(uid));
                if let Some(housekeeping) = housekeeping.take() {
                    info!(pods = known.len(), "the pods of this node are known");
                    drop(context.scope.spawn("housekeeping", housekeeping.run()));
                }
            }
            Ok(watcher::Event::Delete(pod)) => workers.remove(&pod.uid()),
            Err(error) => debug!(error = %telemetry::chain(&error), "watch of pods failed"),
        }
    }
}

fn update(workers: &Arc<PodWorkers>, mut pod: Pod) {
    // The shadow of a static pod is not run.
    if pod.annotation(MIRROR_ANNOTATION).is_some() {
        workers.mirror(pod);
        return;
    }
    // Large, and never looked at.
    pod.metadata.managed_fields = None;
    workers.update(Arc::new(pod));
}
