//! Puts the kubelet together and runs it.

use std::{collections::HashSet, path::Path, pin::pin, sync::Arc};

use clock::Clock;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use lifecycle::Scope;
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use crate::{
    allocation::Allocations,
    api_client::{ApiClient, Rotation, limited},
    certificates::serving::Serving,
    cgroups::{self, Cgroups, Hierarchy, Limits, systemd::Slices},
    cm::{self, ContainerManager},
    context::{Context, Network},
    cri::{Runtime, snapshots::Snapshots},
    dbus,
    events::Recorder,
    eviction::{Eviction, local_storage::LocalStorage},
    garbage::Garbage,
    heartbeat::{self, Heartbeat},
    housekeeping::Housekeeping,
    images::{
        Images,
        access::{Access, Policy},
        credentials::{Credentials, LoadProvidersError, Providers},
    },
    labels, memory,
    metrics::Metrics,
    node::{self, NodeStatusLoop, Pressure, StatusWake, capacity::Machine},
    node_object::NodeObject,
    objects::Objects,
    oom,
    pace::Pace,
    paths::{Paths, make_private},
    pleg::Pleg,
    plugins::Plugins,
    pod::{MIRROR_ANNOTATION, PodExt, PodUid},
    pod_starts::PodStarts,
    pod_workers::PodWorkers,
    probes::Probes,
    qos,
    rate::Rate,
    server,
    services::Services,
    settings::Settings,
    shutdown::{self, Shutdown},
    static_pods::{self, StaticPods},
    stats::{self, Stats},
    status::manager::Statuses,
    timeline::Timelines,
    turns::Turns,
    userns::UserNamespaces,
    volumes::{
        self, Volumes,
        csi::{self, Csi},
        trust_bundles::TrustBundles,
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
    #[error("systemd cgroup manager not available")]
    NoSystemd,
    #[error("failed to create the container manager")]
    ContainerManager(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("failed to serve device plugins or the resources of pods")]
    PodResources(#[source] std::io::Error),
    #[error("failed to load the image credential providers")]
    Providers(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "invalid configuration: option {policy} specified for imagePullCredentialsVerificationPolicy is not known"
    )]
    VerificationPolicy { policy: String },
    #[error("create user namespace manager")]
    UserNamespaces(#[source] Box<dyn std::error::Error + Send + Sync>),
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
    stats: Stats,
    wake: StatusWake,
    serving: Arc<Serving>,
    rotation: Option<Rotation>,
}

impl Kubelet {
    /// What can be known to be wrong before anything is made.
    pub(crate) fn check(settings: &Settings) -> Result<(), StartError> {
        check_providers(settings)?;
        policy(settings)?;
        wants_slices(settings)?;
        Serving::new(settings).map_err(|error| StartError::Certificate(Box::new(error)))?;
        server::check(&settings.config).map_err(StartError::Server)
    }

    /// Everything that can fail fails here. Nothing is asked of the API server yet.
    pub fn new(
        settings: Settings,
        client: Client,
        channel: api_cri::Channel,
        clock: Clock,
        scope: Scope,
    ) -> Result<Self, StartError> {
        Self::with_client(settings, client.into(), channel.clone(), channel, clock, scope)
    }

    /// With a client that has to be kept valid, and perhaps another service for images.
    pub(crate) fn with_client(
        settings: Settings,
        client: ApiClient,
        channel: api_cri::Channel,
        images: api_cri::Channel,
        clock: Clock,
        scope: Scope,
    ) -> Result<Self, StartError> {
        let ApiClient { client, rotation } = client;
        let metrics = Arc::<Metrics>::default();
        let client = limited::client(client, metrics.clone());
        let channels = (channel, images);
        let context = Arc::new(context(settings, client, channels, metrics, (clock, scope))?);
        shutdown::tell_last(&context);
        let workers = PodWorkers::new(context.clone());
        let stats = Stats::new(context.clone(), workers.clone());
        let serving = Serving::new(&context.settings)
            .map_err(|error| StartError::Certificate(Box::new(error)))?;
        server::start(&context, &workers, &stats, serving.clone()).map_err(StartError::Server)?;
        let pleg = Pleg::new(context.clone(), workers.clone());
        context.cm.devices.serve().map_err(StartError::PodResources)?;
        let root = context.paths.root();
        cm::podresources::serve(context.cm.clone(), workers.clone(), root, &context.scope)
            .map_err(StartError::PodResources)?;
        let wake = StatusWake::default();
        let woken = workers.clone();
        let status = NodeStatusLoop::new(
            context.clone(),
            context.pressure.subscribe(),
            wake.clone(),
            Box::new(move || woken.notify_all()),
        );
        Ok(Self { context, workers, pleg, status, stats, wake, serving, rotation })
    }

    /// What begins the end of the node, while the kubelet runs.
    pub fn shutdown(&self) -> Shutdown {
        let told = self.status.told();
        Shutdown::new(self.context.clone(), self.workers.clone(), self.wake.clone(), told)
    }

    /// Runs until the scope is cancelled.
    pub async fn run(self) {
        let Self { context, workers, pleg, status, stats, wake, serving, rotation } = self;
        let scope = context.scope.clone();
        let limits = node_limits(&context.machine, &context.settings);
        if let Err(error) = context.cgroups.prepare(limits).await {
            warn!(%error, "the cgroups of pods were not made");
        }
        let services = context.services.clone();
        let client = context.client.clone();
        if context.settings.is_standalone {
            services.set_none();
        } else {
            drop(scope.spawn("services", async move { services.run(client).await }));
            let (object, client) = (context.node_object.clone(), context.client.clone());
            let name = context.settings.node_name.clone();
            drop(scope.spawn("node-object", async move { object.run(client, &name).await }));
        }
        if let Some(rotation) = rotation {
            drop(scope.spawn("client-certificate", rotation.run(context.clone())));
        }
        drop(scope.spawn("node", node::run(context.clone(), status)));
        drop(scope.spawn("certificate", serving.keep_fresh(context.clone())));
        drop(scope.spawn("pleg", pleg.clone().run()));
        let period = context.settings.config.cpu_manager_reconcile_period.0;
        let manager = context.cm.clone();
        let managing = manager.run(context.runtime.clone(), workers.clone(), wake.clone(), period);
        drop(scope.spawn("container-manager", managing));
        let mut static_pods = StaticPods::new(context.clone(), workers.clone());
        static_pods.begin();
        let mirrors = static_pods.wake();
        drop(scope.spawn("static-pods", static_pods.run()));
        let garbage = Arc::new(Garbage::new(context.clone(), workers.clone()));
        let eviction = Eviction {
            context: context.clone(),
            workers: workers.clone(),
            stats,
            garbage: garbage.clone(),
            wake: wake.clone(),
        };
        drop(scope.spawn("eviction", eviction.run()));
        drop(scope.spawn("volume-news", volumes::news::run(workers.clone())));
        let csi = context.volumes.csi.clone();
        let handlers = vec![
            csi::handler(&csi),
            cm::devicemanager::handler(&context.cm.devices),
            cm::dra::handler(&context.cm.dra),
        ];
        let plugins = Plugins::new(context.paths.root(), handlers);
        drop(scope.spawn("plugins", plugins.run()));
        if !context.settings.is_standalone {
            let dra = cm::dra::run(context.cm.clone(), workers.clone());
            drop(scope.spawn("dynamic-resources", dra));
        }
        let drivers = csi.clone();
        drop(scope.spawn("csi-drivers", async move { drivers.keep_allocatable().await }));
        drop(scope.spawn("csi", async move { csi.unstage_unused().await }));
        let packed = workers.clone();
        let giving_back = memory::run(workers.clone(), move || {
            packed.repack();
            linux_process::return_free_memory();
            linux_process::release_program();
        });
        drop(scope.spawn("memory", giving_back));
        drop(scope.spawn("oom", oom::watch(context.clone())));
        let local_storage = LocalStorage::new(context.clone(), workers.clone());
        drop(scope.spawn("local-storage", local_storage.run()));
        let housekeeping = Housekeeping {
            context: context.clone(),
            workers: workers.clone(),
            pleg,
            wake,
            garbage,
        };
        drop(scope.spawn("pods", watch_pods(context.clone(), workers, housekeeping, mirrors)));
        scope.cancelled().await;
    }
}

fn context(
    mut settings: Settings,
    client: Client,
    (channel, images): (api_cri::Channel, api_cri::Channel),
    metrics: Arc<Metrics>,
    (clock, scope): (Clock, Scope),
) -> Result<Context, StartError> {
    settings.config = cm::reservation::with_reserved_cpus(settings.config)
        .map_err(|error| StartError::ContainerManager(Box::new(error)))?;
    let config = &settings.config;
    let paths = Paths::new(&settings.root_dir, &config.pod_logs_dir);
    let failed = |folder: &Path| {
        let path = folder.display().to_string();
        move |source| StartError::Folder { path, source }
    };
    for folder in paths.folders() {
        make_private(&folder).map_err(failed(&folder))?;
    }
    let certificates = settings.certificates();
    std::fs::create_dir_all(&certificates).map_err(failed(&certificates))?;
    let machine = Machine::detect(&settings);
    let max_pods = max_pods(&settings, &machine);
    let hierarchy = if config.cgroups_per_qos {
        Hierarchy::detect().map_err(StartError::Cgroups)?
    } else {
        Hierarchy::Unused
    };
    let cgroups = Cgroups::new(hierarchy, &config.cgroup_root, config.pod_pids_limit);
    let mut cgroups = cgroups.configured(config, &machine);
    if wants_slices(&settings)? {
        let is_v2 = cgroups.hierarchy().is_v2();
        let (slices, work) = Slices::new(dbus::system(), is_v2);
        drop(scope.spawn("systemd", work));
        cgroups = cgroups.with_slices(slices, &config.cgroup_root);
    }
    // First what may fail: a start that fails makes no cgroups.
    let told = (client.clone(), metrics.clone());
    let manager = ContainerManager::new(&settings, &machine, scope.clone(), told)
        .map_err(|error| StartError::ContainerManager(Box::new(error)))?;
    cgroups
        .enforce_reserved(config)
        .map_err(|error| StartError::ContainerManager(Box::new(error)))?;
    let limit = config.runtime_request_timeout.0;
    let runtime = Runtime::new(channel.clone(), images, limit, metrics.clone());
    let rate = Rate::new(config.event_record_qps, config.event_burst);
    let (recorder, events) = Recorder::new(client.clone(), &settings.node_name, clock, rate);
    if settings.is_standalone {
        // They are in the log; there is nobody else to tell.
        drop(events);
    } else {
        drop(scope.spawn("events", events));
    }
    let objects = Arc::new(Objects::new(client.clone()));
    let providers = providers(&settings, client.clone(), metrics.clone())?;
    let credentials = Credentials::new(providers, clock);
    let parallel = if config.serialize_image_pulls {
        1
    } else {
        config.max_parallel_image_pulls.unwrap_or(1000)
    };
    let policy = policy(&settings)?;
    let allowlist = config.preloaded_images_verification_allowlist.clone();
    let access = Access::new(paths.root(), policy, allowlist);
    let keys = (credentials, access);
    let starts = Arc::new(PodStarts::new(clock, metrics.clone()));
    let pulling = starts.clone();
    let limits = (parallel, Rate::new(config.registry_pull_qps, config.registry_burst));
    let images = Images::new(runtime.clone(), recorder.clone(), clock, keys, pulling, limits);
    let images = Arc::new(images);
    let node_object = Arc::<NodeObject>::default();
    let csi = Csi::new(csi::Parts {
        client: client.clone(),
        recorder: recorder.clone(),
        node_name: settings.node_name.clone(),
        node_object: node_object.clone(),
        is_reported: config.enable_controller_attach_detach,
        paths: paths.clone(),
        metrics: metrics.clone(),
    });
    let trust_bundles = TrustBundles::new(client.clone(), scope.clone(), settings.is_standalone);
    let volumes = Volumes::new(volumes::Parts {
        client: client.clone(),
        recorder: recorder.clone(),
        node_name: settings.node_name.clone(),
        node_object: node_object.clone(),
        own_labels: node::labels(&settings, &machine),
        objects: objects.clone(),
        paths: paths.clone(),
        clock,
        csi: Arc::new(csi),
        images: images.clone(),
        snapshots: Snapshots::new(runtime.clone(), channel),
        trust_bundles: Arc::new(trust_bundles),
        metrics: metrics.clone(),
        refresh: config.sync_frequency.0.max(volumes::LEAST_REFRESH),
    });
    let ids = config.user_namespaces.ids_per_pod;
    let user_namespaces = UserNamespaces::load(paths.clone(), ids, max_pods)
        .map_err(|error| StartError::UserNamespaces(Box::new(error)))?;
    let statuses = Statuses::new(client.clone(), scope.clone(), settings.is_standalone);
    let node_ips = settings.node_ips.clone();
    let config = crate::KubeletConfiguration { max_pods, ..settings.config.clone() };
    let settings = Settings { config, ..settings };
    let allocations = Allocations::load(paths.root());
    Ok(Context {
        clock,
        pace: Pace::new(clock),
        scope,
        client,
        runtime,
        recorder,
        objects,
        services: Arc::new(Services::new()),
        volumes,
        images,
        cgroups,
        cm: Arc::new(manager),
        statuses,
        timelines: Timelines::new(clock),
        probes: Arc::new(Probes::default()),
        starts,
        turns: Turns::default(),
        heartbeat: Arc::new(Heartbeat::new(settings.config.sync_frequency.0)),
        paths,
        machine,
        network: watch::channel(Network::Unknown).0,
        handlers: watch::Sender::new(None),
        user_namespaces,
        pressure: watch::channel(Pressure::default()).0,
        is_shutting_down: watch::channel(false).0,
        knows_url_pods: watch::Sender::new(settings.config.static_pod_url.is_empty()),
        metrics,
        node_object,
        allocations,
        node_ips,
        settings,
    })
}

/// `podsPerCore` can only lower the number of pods.
fn max_pods(settings: &Settings, machine: &Machine) -> i64 {
    let config = &settings.config;
    match i64::from(config.pods_per_core) * machine.cpus {
        0 => config.max_pods,
        by_cores => config.max_pods.min(by_cores),
    }
}

/// Whether the groups of pods are slices, which needs a systemd that makes them.
fn wants_slices(settings: &Settings) -> Result<bool, StartError> {
    let config = &settings.config;
    let wants = config.cgroups_per_qos && config.cgroup_driver == "systemd";
    if wants && !cgroups::systemd::is_running(&settings.run) {
        return Err(StartError::NoSystemd);
    }
    Ok(wants)
}

fn node_limits(machine: &Machine, settings: &Settings) -> Limits {
    let (cpu_milli, memory) = cm::reservation::for_pods(&settings.config, machine);
    let shares = Some(qos::cpu_shares(cpu_milli));
    let pids = stats::most_pids(&settings.proc);
    let pids = pids.map(|it| cm::reservation::pids_for_pods(&settings.config, it));
    Limits { shares, memory: Some(memory), pids, ..Limits::default() }
}

fn policy(settings: &Settings) -> Result<Policy, StartError> {
    let policy = &settings.config.image_pull_credentials_verification_policy;
    Policy::parse(policy).ok_or_else(|| StartError::VerificationPolicy { policy: policy.clone() })
}

fn check_providers(settings: &Settings) -> Result<(), StartError> {
    let config = settings.credential_provider_config.as_ref();
    match config.zip(settings.credential_provider_bin_dir.as_ref()) {
        None => Ok(()),
        Some((config, folder)) => {
            Providers::check(config, folder).map_err(|error| StartError::Providers(Box::new(error)))
        }
    }
}

fn providers(
    settings: &Settings,
    client: Client,
    metrics: Arc<Metrics>,
) -> Result<Providers, StartError> {
    let config = settings.credential_provider_config.as_ref();
    match config.zip(settings.credential_provider_bin_dir.as_ref()) {
        None => Ok(Providers::default()),
        Some((config, folder)) => {
            let failed = |error: LoadProvidersError| StartError::Providers(Box::new(error));
            Providers::load(config, folder, client, metrics).map_err(failed)
        }
    }
}

/// Follows the pods that are bound to this node.
async fn watch_pods(
    context: Arc<Context>,
    workers: Arc<PodWorkers>,
    housekeeping: Housekeeping,
    mirrors: Arc<Notify>,
) {
    // Without an answer every pod is looked at as if it may have run.
    if let Ok(sandboxes) = context.runtime.list_sandboxes(None).await {
        let mut found = HashSet::new();
        for mut sandbox in sandboxes {
            found.extend(sandbox.labels.remove(labels::POD_UID).map(PodUid));
        }
        workers.set_found(found);
    }
    if context.settings.is_standalone {
        drop(context.scope.spawn("housekeeping", housekeeping.run()));
        return;
    }
    let fields = format!("spec.nodeName={}", context.settings.node_name);
    let config = watcher::Config::default().fields(&fields);
    let stream = watcher(Api::<Pod>::all(context.client.clone()), config);
    let mut events = pin!(stream.default_backoff());
    let mut listed: Vec<Pod> = Vec::new();
    let mut housekeeping = Some(housekeeping);
    loop {
        context.heartbeat.beat("pods");
        let event = match tokio::time::timeout(heartbeat::PERIOD, events.next()).await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            // A quiet node.
            Err(_) => continue,
        };
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            // None is admitted before all are known that hold something of the node.
            Ok(watcher::Event::InitApply(pod)) => listed.push(pod),
            Ok(watcher::Event::Apply(pod)) => {
                wake_mirrors(&mirrors, &pod, pod.is_terminating());
                context.starts.observed(&pod);
                update(&workers, pod);
            }
            Ok(watcher::Event::InitDone) => {
                let listed = in_order(std::mem::take(&mut listed));
                let known: Vec<_> = listed.iter().map(PodExt::uid).collect();
                let is_mirror = |it: &&Pod| it.annotation(MIRROR_ANNOTATION).is_some();
                let shadows: Vec<_> = listed.iter().filter(is_mirror).cloned().collect();
                listed.into_iter().for_each(|pod| update(&workers, pod));
                let orphans =
                    static_pods::remove_orphans(context.clone(), workers.clone(), shadows);
                drop(context.scope.spawn("orphaned-mirrors", orphans));
                workers.retain(|uid| known.contains(uid));
                drop(context.scope.spawn("settle", settle(context.clone(), workers.clone())));
                if let Some(housekeeping) = housekeeping.take() {
                    info!(pods = known.len(), "the pods of this node are known");
                    drop(context.scope.spawn("housekeeping", housekeeping.run()));
                }
            }
            Ok(watcher::Event::Delete(pod)) => {
                wake_mirrors(&mirrors, &pod, true);
                workers.remove(&pod.uid());
            }
            Err(error) => debug!(error = %telemetry::chain(&error), "watch of pods failed"),
        }
    }
}

/// What earlier pods held is free, once all pods of this node are known.
async fn settle(context: Arc<Context>, workers: Arc<PodWorkers>) {
    let mut known = context.knows_url_pods.subscribe();
    // The sender lives in the context, so this cannot fail.
    drop(known.wait_for(|it| *it).await);
    context.cm.settle(|uid| workers.is_known(uid));
}

/// Those that an earlier run of this kubelet admitted come first, then the older ones.
fn in_order(mut pods: Vec<Pod>) -> Vec<Pod> {
    let is_new = |it: &Pod| it.status.as_ref().is_none_or(|it| it.start_time.is_none());
    pods.sort_by_cached_key(|it| {
        (is_new(it), it.metadata.creation_timestamp.as_ref().map(|it| it.0), it.uid())
    });
    pods
}

/// Whoever deletes a mirror gets another one.
fn wake_mirrors(mirrors: &Notify, pod: &Pod, is_going: bool) {
    if is_going && pod.annotation(MIRROR_ANNOTATION).is_some() {
        mirrors.notify_one();
    }
}

fn update(workers: &Arc<PodWorkers>, mut pod: Pod) {
    // Large, and never looked at.
    pod.metadata.managed_fields = None;
    // The shadow of a static pod is not run.
    if pod.annotation(MIRROR_ANNOTATION).is_some() {
        workers.mirror(pod);
        return;
    }
    workers.update(Arc::new(pod));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_needs_systemd_is_refused_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(crate::KubeletConfiguration::default(), "n");
        settings.run = folder.path().to_owned();
        assert!(!wants_slices(&settings).unwrap());
        settings.config.cgroup_driver = "systemd".to_owned();
        let refused = wants_slices(&settings).unwrap_err();
        assert_eq!(refused.to_string(), "systemd cgroup manager not available");
        std::fs::create_dir_all(folder.path().join("systemd/system")).unwrap();
        assert!(wants_slices(&settings).unwrap());
        settings.config.cgroups_per_qos = false;
        assert!(!wants_slices(&settings).unwrap());
    }
}
