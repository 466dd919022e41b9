//! Carries out a plan: kills, makes the sandbox, starts containers.
//!
//! What can be done side by side is: while the runtime sets up the sandbox, volumes are made and
//! images are looked at or pulled.

use std::{
    fs, net::IpAddr, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration,
};

use api_cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::{kill, worker::Worker};
use crate::{
    dns, env,
    expand::expand,
    hooks, hosts,
    images::ImageError,
    labels,
    observed::{self, RuntimePod},
    plan::{self, Kill, Plan, Start, Waiting},
    pod::PodExt,
    pod_config, security,
    volumes::Mounted,
};

/// Why a container was not started: the reason and message of its `waiting` state.
struct StartError(Waiting);

fn start_error(reason: &str, message: impl Into<String>) -> StartError {
    StartError(Waiting { reason: reason.to_owned(), message: message.into() })
}

impl Worker {
    /// Says whether everything was done.
    pub(super) async fn apply(
        &mut self,
        pod: &Arc<Pod>,
        plan: &Plan,
        observed: &RuntimePod,
    ) -> bool {
        if let Some(reason) = plan.kill_pod {
            tracing::info!(pod = pod.full_name(), reason, "the pod's sandbox has to be replaced");
            self.context.recorder.normal(
                pod,
                "SandboxChanged",
                "Pod sandbox changed, it will be killed and re-created.",
            );
            let grace = Duration::from_secs(u64::try_from(pod.grace_seconds()).unwrap_or(30));
            if let Err(error) = kill::pod(&self.context, pod, observed, grace).await {
                let message = format!("error killing pod: {error}");
                self.context.recorder.warning(pod, "FailedKillPod", message);
                return false;
            }
        }
        let mut is_done = self.kill_some(pod, plan, observed).await;
        if plan.create_sandbox.is_none() && plan.start.is_empty() {
            return is_done;
        }
        let Some((sandbox, config, images)) = self.prepare(pod, plan, observed).await else {
            return false;
        };
        if plan.create_sandbox.is_some() {
            // The address of the pod is worth to be known before its containers run.
            self.publish_sandbox(pod, &sandbox);
        }
        for (start, image) in plan.start.iter().zip(images) {
            is_done &= self.start_one(pod, start, image, &sandbox, &config, observed).await;
        }
        is_done
    }

    async fn kill_some(&mut self, pod: &Arc<Pod>, plan: &Plan, observed: &RuntimePod) -> bool {
        let mut is_done = true;
        for Kill { id, message, grace, .. } in &plan.kill {
            let Some(container) = observed.containers.iter().find(|it| it.id == *id) else {
                continue;
            };
            let seconds = u64::try_from(pod.grace_seconds()).unwrap_or(30);
            let grace = grace.unwrap_or(Duration::from_secs(seconds));
            let killed =
                kill::container(&self.context, pod, container, message.clone(), grace).await;
            is_done &= killed.is_ok();
        }
        for id in &plan.remove {
            is_done &= match self.context.runtime.remove_container(id).await {
                Ok(()) => true,
                Err(error) => error.is_not_found(),
            };
        }
        if !plan.kill.is_empty() && is_done {
            self.settle().await;
        }
        is_done
    }

    /// The sandbox (made or found), the volumes, and the images of the containers to start.
    async fn prepare(
        &mut self,
        pod: &Arc<Pod>,
        plan: &Plan,
        observed: &RuntimePod,
    ) -> Option<(observed::Sandbox, v1::PodSandboxConfig, Vec<Result<v1::Image, ImageError>>)> {
        let attempt = plan.create_sandbox;
        let context = self.context.clone();
        let facts = context.facts(observed.ips());
        let starts = plan.start.iter().filter_map(|it| pod.find_container(&it.name));
        let images = starts.map(|(_, it)| {
            let context = context.clone();
            async move { context.images.ensure(pod, &it, &context.objects).await }
        });
        let (mounted, sandbox, images) = tokio::join!(
            context.volumes.mount(pod, &facts),
            self.sandbox(pod, attempt, observed),
            futures::future::join_all(images),
        );
        match mounted {
            Ok(mounted) => self.mounted = Some(mounted),
            Err(error) => {
                context.recorder.warning(pod, "FailedMount", error.to_string());
                return None;
            }
        }
        let (sandbox, config) = sandbox?;
        Some((sandbox, config, images))
    }

    async fn sandbox(
        &self,
        pod: &Arc<Pod>,
        attempt: Option<u32>,
        observed: &RuntimePod,
    ) -> Option<(observed::Sandbox, v1::PodSandboxConfig)> {
        let newest = observed.ready_sandbox();
        let number = attempt.or_else(|| newest.map(|it| it.attempt)).unwrap_or(0);
        let config = self.sandbox_config(pod, number);
        if attempt.is_none() {
            return newest.map(|it| (it.clone(), config));
        }
        let failed = |message: String| {
            self.context.recorder.warning(pod, "FailedCreatePodSandBox", message);
            None
        };
        if let Err(error) = self.context.cgroups.ensure_pod(pod) {
            return failed(format!("Failed to create pod sandbox: pod cgroup: {error}"));
        }
        if let Err(error) = fs::create_dir_all(self.context.paths.pod_logs(pod)) {
            return failed(format!("Failed to create pod sandbox: log folder: {error}"));
        }
        let runtime = &self.context.runtime;
        let id = match runtime.run_sandbox(config.clone(), "").await {
            Ok(id) => id,
            Err(error) => return failed(format!("Failed to create pod sandbox: {error}")),
        };
        match runtime.sandbox_status(&id).await {
            Ok(status) => Some((observed::sandbox_from(status), config)),
            Err(error) => failed(format!("Unable to get pod sandbox status: {error}")),
        }
    }

    fn sandbox_config(&self, pod: &Arc<Pod>, attempt: u32) -> v1::PodSandboxConfig {
        let context = &self.context;
        let resolv_conf = fs::read_to_string(&context.settings.config.resolv_conf);
        let dns = dns::for_pod(pod, &context.cluster_dns(), &resolv_conf.unwrap_or_default());
        for (reason, message) in dns.warnings {
            context.recorder.warning(pod, reason, message);
        }
        let domain = &context.settings.config.cluster_domain;
        let (hostname, _) = hosts::names(pod, domain, &context.settings.node_name);
        let parts = pod_config::SandboxParts {
            attempt,
            hostname,
            log_directory: context.paths.pod_logs(pod).display().to_string(),
            dns: dns.config,
            cgroup_parent: context.cgroups.parent(pod),
        };
        pod_config::sandbox(pod, parts)
    }

    fn publish_sandbox(&self, pod: &Arc<Pod>, sandbox: &observed::Sandbox) {
        let observed = RuntimePod { sandboxes: vec![sandbox.clone()], containers: Vec::new() };
        let earlier = self.inbox.observed();
        if earlier.containers.is_empty() {
            self.publish(pod, &observed, &Default::default(), false);
        }
    }

    async fn start_one(
        &mut self,
        pod: &Arc<Pod>,
        start: &Start,
        image: Result<v1::Image, ImageError>,
        sandbox: &observed::Sandbox,
        config: &v1::PodSandboxConfig,
        observed: &RuntimePod,
    ) -> bool {
        let Some((_, container)) = pod.find_container(&start.name) else { return true };
        if let Some(exit) = start.after_exit {
            let now = self.context.clock.now();
            self.backoffs.note(plan::backoff_key(&container), exit, now);
        }
        let image = match image {
            Ok(image) => image,
            Err(error) => {
                self.note_image_error(pod, &container, error);
                return false;
            }
        };
        let facts_ips = sandbox.ips.clone();
        let run = self.run_container(pod, start, &container, &image, sandbox, config, observed);
        match run.await {
            Ok(()) => {
                self.failures.remove(&start.name);
                true
            }
            Err(StartError(waiting)) => {
                tracing::warn!(
                    pod = pod.full_name(),
                    container = start.name,
                    ips = ?facts_ips,
                    reason = waiting.reason,
                    message = waiting.message,
                    "a container was not started"
                );
                self.failures.insert(start.name.clone(), waiting);
                false
            }
        }
    }

    fn note_image_error(&mut self, pod: &Pod, container: &Container, error: ImageError) {
        if error.reason != "ErrImageNeverPull" {
            let message = format!("Error: {}", error.reason);
            self.context.recorder.container_warning(pod, &container.name, "Failed", message);
        }
        self.image_error_until = error.until;
        let waiting = Waiting { reason: error.reason.to_owned(), message: error.message };
        self.failures.insert(container.name.clone(), waiting);
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different thing of one start")]
    async fn run_container(
        &self,
        pod: &Arc<Pod>,
        start: &Start,
        container: &Container,
        image: &v1::Image,
        sandbox: &observed::Sandbox,
        sandbox_config: &v1::PodSandboxConfig,
        observed: &RuntimePod,
    ) -> Result<(), StartError> {
        let (context, recorder) = (&self.context, &self.context.recorder);
        let failed = |reason: &str, message: String| {
            let text = format!("Error: {message}");
            recorder.container_warning(pod, &start.name, "Failed", text);
            start_error(reason, message)
        };
        let config = self
            .container_config(pod, start, container, image, &sandbox.ips, observed)
            .await
            .map_err(|message| failed("CreateContainerConfigError", message))?;
        let created =
            context.runtime.create_container(&sandbox.id, config, sandbox_config.clone()).await;
        let id = created.map_err(|it| failed("CreateContainerError", it.message))?;
        let message = format!("Created container {}", start.name);
        recorder.container_normal(pod, &start.name, "Created", message);
        if let Err(error) = context.runtime.start_container(&id).await {
            return Err(failed("RunContainerError", error.message));
        }
        let message = format!("Started container {}", start.name);
        recorder.container_normal(pod, &start.name, "Started", message);
        self.link_log(pod, start, &id);
        if let Some(hook) = container.lifecycle.as_ref().and_then(|it| it.post_start.as_ref())
            && let Err(error) = hooks::run(context, pod, &start.name, &id, hook).await
        {
            let message = format!("PostStartHook failed: {error}");
            recorder.container_warning(pod, &start.name, "FailedPostStartHook", message);
            let seconds = u64::try_from(pod.grace_seconds()).unwrap_or(30);
            drop(context.runtime.stop_container(&id, Duration::from_secs(seconds)).await);
            return Err(start_error("PostStartHookError", error.to_string()));
        }
        Ok(())
    }

    async fn container_config(
        &self,
        pod: &Arc<Pod>,
        start: &Start,
        container: &Container,
        image: &v1::Image,
        ips: &[IpAddr],
        observed: &RuntimePod,
    ) -> Result<v1::ContainerConfig, String> {
        let context = &self.context;
        security::verify_run_as_non_root(pod, container, image).map_err(|it| it.to_string())?;
        let env = self.environment(pod, container, ips).await?;
        let (message_path, mounts) = self.files(pod, container, &env, ips)?;
        let parts = pod_config::ContainerParts {
            kind: start.kind,
            restart_count: start.restart_count,
            image,
            env,
            mounts,
            message_host_path: &message_path,
            node_memory: context.machine.memory,
            seccomp_root: &context.paths.seccomp().display().to_string(),
            observed,
        };
        Ok(pod_config::container(pod, container, parts))
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
        context.services.synced().await;
        let services = context.services.variables(pod.namespace(), has_links);
        let own = if pod.is_host_network() { &context.node_ips } else { ips };
        env::build(pod, container, services, &found, &context.facts(own))
            .map_err(|it| it.to_string())
    }

    /// Makes the files that a container mounts: its volumes, `/etc/hosts`, the termination message.
    fn files(
        &self,
        pod: &Pod,
        container: &Container,
        env: &[(String, String)],
        ips: &[IpAddr],
    ) -> Result<(String, Vec<v1::Mount>), String> {
        let mut mounts = self.volume_mounts(pod, container, env)?;
        let has_own_hosts = mounts.iter().any(|it| it.container_path == "/etc/hosts");
        if !has_own_hosts {
            let path = self.hosts_file(pod, ips).map_err(|it| format!("hosts file: {it}"))?;
            mounts.push(plain_mount("/etc/hosts", path));
        }
        let folder = self.context.paths.container(&pod.uid(), &container.name);
        let message = folder.join(entropy::hex(8));
        let made = fs::create_dir_all(&folder)
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
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, hosts::content(pod, ips, &hostname, &domain, &node))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        Ok(path)
    }

    fn volume_mounts(
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
            let Some(host) = mounted.hosts.get(&it.name) else {
                return Err(format!("volume \"{}\" is not mounted", it.name));
            };
            let subpath = match (&it.sub_path, &it.sub_path_expr) {
                (Some(path), _) if !path.is_empty() => Some(path.clone()),
                (_, Some(text)) if !text.is_empty() => Some(expand(text, lookup)),
                _ => None,
            };
            let host = match subpath {
                None => host.clone(),
                Some(subpath) => self
                    .context
                    .volumes
                    .prepare_subpath(pod, (&it.name, host), &container.name, index, &subpath)
                    .map_err(|error| {
                        format!("failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {error}", it.name, container.name)
                    })?,
            };
            mounts.push(pod_config::mount(it, host.display().to_string()));
        }
        Ok(mounts)
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

fn plain_mount(container_path: &str, host: PathBuf) -> v1::Mount {
    v1::Mount {
        container_path: container_path.to_owned(),
        host_path: host.display().to_string(),
        ..Default::default()
    }
}
