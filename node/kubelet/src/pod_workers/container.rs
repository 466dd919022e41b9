//! Makes and starts one container: its configuration, the files it mounts, its hook.

use std::{
    fs, net::IpAddr, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration,
};

use api_cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::{
    kill,
    mount_kinds::{self, subpath},
    worker::Worker,
};
use crate::{
    cri::Runtime,
    env, env_file, hooks, hosts, labels,
    observed::{self, RuntimePod},
    paths::make_private,
    plan::{Start, Waiting},
    pod::PodExt,
    pod_config, runtime_class, security, stop_signal,
    timeline::Phase,
    turns::Made,
    volumes::{Mounted, Place, PrepareSubpathError},
};

/// How long a container waits for the first list of Services.
const SERVICES_LIMIT: Duration = Duration::from_secs(5);

/// Why a container was not started: the reason and message of its `waiting` state.
pub(super) struct StartError(pub Waiting);

fn start_error(reason: &str, message: impl Into<String>) -> StartError {
    StartError(Waiting { reason: reason.to_owned(), message: message.into() })
}

/// A container that is to be started, and where.
pub(super) struct Making<'a> {
    pub pod: &'a Arc<Pod>,
    pub start: &'a Start,
    pub container: &'a Container,
    pub image: &'a v1::Image,
    pub sandbox: &'a observed::Sandbox,
    pub sandbox_config: &'a v1::PodSandboxConfig,
    pub observed: &'a RuntimePod,
}

impl Worker {
    /// Returns the id of the container that runs.
    pub(super) async fn run_container(&self, making: &Making<'_>) -> Result<String, StartError> {
        let Making { pod, start, container, sandbox, .. } = *making;
        let (context, recorder) = (&self.context, &self.context.recorder);
        let (uid, begun) = (pod.uid(), context.timelines.begin());
        let failed = |reason: &str, message: String| {
            let text = format!("Error: {message}");
            recorder.container_warning(pod, &start.name, "Failed", text);
            start_error(reason, message)
        };
        let config = self.container_config(making).await.map_err(|message| {
            let step = begun.ended(Phase::Created).of(&start.name);
            context.timelines.add(&uid, step.failed("container configuration", &message));
            failed("CreateContainerConfigError", message)
        })?;
        let (sandbox, of_sandbox) = (sandbox.id.clone(), making.sandbox_config.clone());
        let creating = move |it: Runtime| async move {
            it.create_container(&sandbox, config, of_sandbox).await
        };
        let created = context.turns.take(Made::Container, self.call(creating)).await;
        let step = begun.ended(Phase::Created).of(&start.name).result("CreateContainer", &created);
        context.timelines.add(&uid, step);
        let id = created.map_err(|it| failed("CreateContainerError", it.message))?;
        recorder.container_normal(pod, &start.name, "Created", "Container created");
        let begun = context.timelines.begin();
        let of = id.clone();
        let starting = move |it: Runtime| async move { it.start_container(&of).await };
        let started = context.turns.take(Made::Container, self.call(starting)).await;
        let step = begun.ended(Phase::Started).of(&start.name).result("StartContainer", &started);
        context.timelines.add(&uid, step);
        if let Err(error) = started {
            return Err(failed("RunContainerError", error.message));
        }
        recorder.container_normal(pod, &start.name, "Started", "Container started");
        self.link_log(pod, start, &id);
        let hook = container.lifecycle.as_ref().and_then(|it| it.post_start.as_ref());
        let Some(hook) = hook else { return Ok(id) };
        let begun = context.timelines.begin();
        let ran = hooks::run(context, pod, &start.name, &id, hook).await;
        let step = begun.ended(Phase::PostStart).of(&start.name).result("PostStartHook", &ran);
        context.timelines.add(&uid, step);
        if let Err(error) = ran {
            let message = "PostStartHook failed";
            recorder.container_warning(pod, &start.name, "FailedPostStartHook", message);
            self.kill_after_hook(pod, &start.name, &id).await;
            return Err(start_error("PostStartHookError", error.to_string()));
        }
        Ok(id)
    }

    /// A call that makes something, which ends once it has begun.
    pub(super) async fn call<T, F>(&self, call: impl FnOnce(Runtime) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.underway.run(&self.context.scope, call(self.context.runtime.clone())).await
    }

    async fn kill_after_hook(&self, pod: &Arc<Pod>, name: &str, id: &str) {
        let Ok(observed) = observed::observe(&self.context, &pod.uid()).await else {
            return;
        };
        let Some(made) = observed.containers.iter().find(|it| it.id == id) else { return };
        let grace = Duration::from_secs(u64::try_from(pod.grace_seconds()).unwrap_or(30));
        let message = "FailedPostStartHook".to_owned();
        if let Err(error) = kill::container(&self.context, pod, made, message, grace).await {
            tracing::warn!(name, %error, "a container whose hook failed was not ended");
        }
    }

    async fn container_config(&self, making: &Making<'_>) -> Result<v1::ContainerConfig, String> {
        let Making { pod, start, container, image, observed, .. } = *making;
        let (context, ips) = (&self.context, making.sandbox.ips.as_slice());
        pod_config::check_target(pod, &start.name, observed)?;
        security::verify_run_as_non_root(pod, container, image).map_err(|it| it.to_string())?;
        let env = self.environment(pod, container, ips).await?;
        let (message_path, mounts) = self.files(pod, container, &env, ips).await?;
        let parts = pod_config::ContainerParts {
            kind: start.kind,
            restart_count: start.restart_count,
            image,
            env,
            mounts,
            message_host_path: &message_path,
            node_memory: context.machine.memory,
            seccomp_root: &context.paths.seccomp().display().to_string(),
            seccomp_default: context.settings.config.seccomp_default,
            users: users_of(making.sandbox_config),
            observed,
        };
        let mut config = pod_config::container(pod, container, parts);
        config.devices.extend(self.volume_devices(container)?);
        context.cm.apply(pod, container, &mut config).await?;
        if let Some(resources) = config.linux.as_mut().and_then(|it| it.resources.as_mut()) {
            context.cgroups.complete(pod, container, resources);
        }
        self.check_cdi(&config).await?;
        let completed = stop_signal::complete(context, container, &mut config).await;
        completed.map_err(|it| it.to_string())?;
        Ok(config)
    }

    /// A runtime that knows no CDI would leave the devices out without a word.
    async fn check_cdi(&self, config: &v1::ContainerConfig) -> Result<(), String> {
        let Some(device) = config.cdi_devices.first() else { return Ok(()) };
        let version = self.context.runtime.version().await.map_err(|it| it.to_string())?;
        if pod_config::has_cdi(&version.runtime_name, &version.runtime_version) {
            return Ok(());
        }
        let (name, number) = (version.runtime_name, version.runtime_version);
        Err(format!("{name} {number} has no CDI, which device {} needs", device.name))
    }

    async fn environment(
        &self,
        pod: &Pod,
        container: &Container,
        ips: &[IpAddr],
    ) -> Result<Vec<(String, String)>, String> {
        let context = &self.context;
        let mut found = env::Found::new();
        for (kind, name) in env::references(container) {
            let data = context.objects.find(kind, pod.namespace(), &name).await;
            found.insert((kind, name), data.map_err(|it| it.to_string())?);
        }
        let has_links = PodExt::spec(pod).enable_service_links.unwrap_or(true);
        if tokio::time::timeout(SERVICES_LIMIT, context.services.synced()).await.is_err() {
            let message = "services have not yet been read at least once, cannot construct envvars";
            return Err(message.to_owned());
        }
        let mut files = env::Files::new();
        for (volume, path) in env::files(container) {
            let host = self.mounted.as_ref().and_then(|it| it.hosts.get(&volume));
            let read = match host.map(|it| (it.path.clone(), path.clone())) {
                None => None,
                Some((host, path)) => {
                    let reading = tokio::task::spawn_blocking(move || env_file::read(&host, &path));
                    Some(reading.await.map_err(|it| it.to_string())?)
                }
            };
            files.insert((volume, path), read);
        }
        let services = context.services.variables(pod.namespace(), has_links);
        let own = if pod.is_host_network() { &context.node_ips } else { ips };
        env::build(pod, container, services, (&found, &files), &context.facts(own))
            .map_err(|it| telemetry::chain(&it).to_string())
    }

    /// Makes the files that a container mounts: its volumes, `/etc/hosts`, the termination message.
    async fn files(
        &self,
        pod: &Pod,
        container: &Container,
        env: &[(String, String)],
        ips: &[IpAddr],
    ) -> Result<(String, Vec<v1::Mount>), String> {
        let mut mounts = self.volume_mounts(pod, container, env).await?;
        let has_own_hosts = mounts.iter().any(|it| it.container_path == "/etc/hosts");
        if !has_own_hosts {
            let path = self.hosts_file(pod, ips).map_err(|it| format!("hosts file: {it}"))?;
            mounts.push(plain_mount("/etc/hosts", path));
        }
        let folder = self.context.paths.container(&pod.uid(), &container.name);
        let message = folder.join(entropy::hex(8));
        let made = make_private(&folder)
            .and_then(|()| fs::write(&message, []))
            // The container's user must be able to write it, whoever that is.
            .and_then(|()| fs::set_permissions(&message, fs::Permissions::from_mode(0o666)));
        made.map_err(|it| format!("termination message file: {it}"))?;
        mounts.push(plain_mount(labels::message_path(container), message.clone()));
        Ok((message.display().to_string(), mounts))
    }

    fn hosts_file(&self, pod: &Pod, ips: &[IpAddr]) -> std::io::Result<PathBuf> {
        let context = &self.context;
        let domain = &context.settings.config.cluster_domain;
        let (hostname, domain) = hosts::names(pod, domain, &context.settings.node_name);
        let node = fs::read_to_string(context.settings.etc.join("hosts")).unwrap_or_default();
        let path = context.paths.hosts_file(&pod.uid());
        if let Some(parent) = path.parent() {
            make_private(parent)?;
        }
        let content = hosts::content(pod, ips, &hostname, &domain, &node);
        // Other containers of the pod read it, and would find it empty for a moment. They write it too,
        // and may have made it larger than the memory.
        let is_as_long = fs::metadata(&path).is_ok_and(|it| it.len() == content.len() as u64);
        if is_as_long && fs::read(&path).is_ok_and(|it| it == content.as_bytes()) {
            return Ok(path);
        }
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        Ok(path)
    }

    async fn volume_mounts(
        &self,
        pod: &Pod,
        container: &Container,
        env: &[(String, String)],
    ) -> Result<Vec<v1::Mount>, String> {
        let empty = Mounted::default();
        let mounted = self.mounted.as_ref().unwrap_or(&empty);
        let lookup = |name: &str| {
            env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        let mut mounts = Vec::new();
        for (index, it) in container.volume_mounts.iter().flatten().enumerate() {
            let Some(place) = mounted.hosts.get(&it.name) else {
                let (volume, name) = (&it.name, &container.name);
                return Err(format!(
                    "cannot find volume \"{volume}\" to mount into container \"{name}\""
                ));
            };
            let subpath = subpath(it, lookup)?;
            if let Some(image) = &place.image {
                mounts.push(pod_config::image_mount(it, image, subpath));
                continue;
            }
            let host = match subpath {
                None => place.path.clone(),
                Some(subpath) => {
                    let mount = (index, it);
                    self.prepare_subpath(pod, container, mount, place, &subpath).await?
                }
            };
            let able = mount_kinds::asks_recursive(it) && self.can_mount_recursively(pod).await;
            let mut mount = pod_config::mount(it, host.display().to_string());
            mount.recursive_read_only = mount_kinds::is_recursive_read_only(it, able)?;
            mount.readonly |= place.read_only;
            mounts.push(mount);
        }
        Ok(mounts)
    }

    /// Whether the pod's runtime handler can make mounts read-only with all that is below them.
    async fn can_mount_recursively(&self, pod: &Pod) -> bool {
        let Ok(handler) = runtime_class::handler(&self.context.client, pod).await else {
            return false;
        };
        let known = self.context.handlers.borrow();
        let found = known.as_ref().and_then(|it| it.find(&handler).ok());
        found.is_some_and(|it| it.recursive_read_only_mounts)
    }

    async fn prepare_subpath(
        &self,
        pod: &Pod,
        container: &Container,
        (index, mount): (usize, &VolumeMount),
        place: &Place,
        subpath: &str,
    ) -> Result<PathBuf, String> {
        let volumes = &self.context.volumes;
        let volume = (mount.name.as_str(), place.path.as_path());
        let prepared = volumes.prepare_subpath(pod, volume, &container.name, index, subpath).await;
        prepared.map_err(|error| match error {
            PrepareSubpathError::Create { .. } | PrepareSubpathError::Prepare { .. } => {
                let pod = pod.full_name();
                tracing::warn!(pod, subpath, error = %telemetry::chain(&error), "a subPath failed");
                format!(
                    "{error} for volumeMount \"{}\" of container \"{}\"",
                    mount.name, container.name
                )
            }
            PrepareSubpathError::Absolute { .. } | PrepareSubpathError::Backsteps { .. } => {
                error.to_string()
            }
        })
    }

    /// The devices among a container's volumes.
    fn volume_devices(&self, container: &Container) -> Result<Vec<v1::Device>, String> {
        let mut devices = Vec::new();
        for it in container.volume_devices.iter().flatten() {
            let place = self.mounted.as_ref().and_then(|mounted| mounted.devices.get(&it.name));
            let place = place.ok_or_else(|| {
                let (volume, name) = (&it.name, &container.name);
                format!("cannot find volume \"{volume}\" to pass into container \"{name}\"")
            })?;
            devices.push(v1::Device {
                container_path: it.device_path.clone(),
                host_path: place.path.display().to_string(),
                permissions: if place.read_only { "r" } else { "mrw" }.to_owned(),
            });
        }
        Ok(devices)
    }

    /// Log collectors look into one folder for all containers.
    fn link_log(&self, pod: &Pod, start: &Start, id: &str) {
        let paths = &self.context.paths;
        let target =
            paths.pod_logs(pod).join(&start.name).join(format!("{}.log", start.restart_count));
        let link = paths.container_log_link(pod, &start.name, id);
        let made = fs::create_dir_all(paths.container_log_links())
            .and_then(|()| std::os::unix::fs::symlink(target, &link));
        if let Err(error) = made {
            tracing::debug!(%error, link = %link.display(), "no link to a container's log");
        }
    }
}

/// All containers of a pod have the users of its sandbox.
fn users_of(sandbox: &v1::PodSandboxConfig) -> Option<v1::UserNamespace> {
    let context = sandbox.linux.as_ref()?.security_context.as_ref()?;
    context.namespace_options.as_ref()?.userns_options.clone()
}

fn plain_mount(container_path: &str, host: PathBuf) -> v1::Mount {
    v1::Mount {
        container_path: container_path.to_owned(),
        host_path: host.display().to_string(),
        ..Default::default()
    }
}
