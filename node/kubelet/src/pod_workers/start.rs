//! Carries out a plan: kills, makes the sandbox, starts containers.
//!
//! What can be done side by side is: while the runtime sets up the sandbox, volumes are made and
//! images are looked at or pulled; after a sandbox or a volume could not be had, images wait for them.
//! Containers start in their order, each as soon as its image is there; images that come later are
//! pulled on meanwhile.

use std::{fs, sync::Arc, time::Duration};

use api_cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{oneshot, watch};

use super::{
    container::{Making, StartError},
    kill, lookup, resize,
    worker::Worker,
};
use crate::{
    context::Context,
    cri::Runtime,
    dns,
    downward::Facts,
    hosts,
    images::ImageError,
    observed::{self, RuntimePod},
    plan::{self, Kill, Plan, Start, Waiting},
    pod::{Kind, PodExt},
    pod_config, runtime_class,
    status::Verdict,
    timeline::Phase,
    turns::Made,
    volumes::{Mounted, Unmounted},
};

/// A sandbox to start containers in, and what it was made from.
struct Prepared {
    sandbox: observed::Sandbox,
    config: v1::PodSandboxConfig,
}

/// A container to start, and its image when it is there.
struct Wanted<'a> {
    start: &'a Start,
    container: Container,
    image: oneshot::Receiver<Result<v1::Image, ImageError>>,
}

/// Its start ends with the end of its hook.
fn has_hook(container: &Container) -> bool {
    container.lifecycle.as_ref().is_some_and(|it| it.post_start.is_some())
}

/// Sees to an image when it `is_wanted`, and tells whoever waits for it.
async fn pull(
    context: Arc<Context>,
    pod: &Pod,
    container: Container,
    mut is_wanted: watch::Receiver<bool>,
    there: oneshot::Sender<Result<v1::Image, ImageError>>,
) {
    if is_wanted.wait_for(|it| *it).await.is_err() {
        return;
    }
    let begun = context.timelines.begin();
    let image = context.images.ensure(pod, &container, &context.objects).await;
    let step = begun.ended(Phase::Image).of(&container.name);
    let step = step.with(container.image.unwrap_or_default()).result("PullImage", &image);
    context.timelines.add(&pod.uid(), step);
    // The sandbox may have failed meanwhile.
    drop(there.send(image));
}

#[derive(Debug, thiserror::Error)]
enum ConfigureSandboxError {
    #[error(transparent)]
    Hostname(#[from] hosts::NameTooLongError),
    #[error("could not open resolv conf {path:?}: {source}")]
    ResolvConf {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

/// The node's own; without a name there is none.
fn resolv_conf(path: &str) -> Result<String, ConfigureSandboxError> {
    if path.is_empty() {
        return Ok(String::new());
    }
    let path = path.to_owned();
    fs::read_to_string(&path).map_err(|source| ConfigureSandboxError::ResolvConf { path, source })
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
        if let Some(trigger) = &plan.restart_all {
            let now = self.context.pace.now();
            if plan.kill.is_empty() {
                self.backoffs.note(trigger.key.clone(), trigger.finished, now);
            }
        }
        let is_resizing = resize::is_resizing(plan);
        if is_resizing && let Err(message) = self.widen(pod) {
            self.fail_resize(pod, message);
            return false;
        }
        // What is to be replaced must have ended before its successor starts.
        let is_done = self.kill_some(pod, plan, observed).await;
        if is_done && plan.restart_all.is_some() && plan.kill.is_empty() {
            self.publish(pod, &observed.without(&plan.remove), &plan.waiting, false);
        }
        let is_done = is_done && self.resize_containers(pod, plan, observed).await;
        if !is_done || (plan.create_sandbox.is_none() && plan.start.is_empty()) {
            return is_done && (!is_resizing || self.finish_resize(pod));
        }
        let (mut pulls, mut wanted) = (Vec::new(), Vec::new());
        // After a failure nobody is told of images again that no container may come to need.
        let (want_images, is_wanted) = watch::channel(!self.has_failed());
        for start in &plan.start {
            let Some((_, container)) = pod.find_container(&start.name) else { continue };
            let (there, image) = oneshot::channel();
            let (context, is_wanted) = (self.context.clone(), is_wanted.clone());
            pulls.push(Box::pin(pull(context, pod, container.clone(), is_wanted, there)));
            wanted.push(Wanted { start, container, image });
        }
        // Large ones are kept off the stack.
        let starting = Box::pin(self.start_all(pod, plan, wanted, observed, want_images));
        let (is_done, _) = tokio::join!(starting, futures::future::join_all(pulls));
        is_done && (!is_resizing || self.finish_resize(pod))
    }

    async fn start_all(
        &mut self,
        pod: &Arc<Pod>,
        plan: &Plan,
        wanted: Vec<Wanted<'_>>,
        observed: &RuntimePod,
        want_images: watch::Sender<bool>,
    ) -> bool {
        let Some(prepared) = self.prepare(pod, plan.create_sandbox, observed).await else {
            return false;
        };
        want_images.send_replace(true);
        let is_first = plan.create_sandbox.is_some() && observed.sandboxes.is_empty();
        let (count, mut ids, mut is_told) = (wanted.len(), Vec::new(), false);
        for Wanted { start, container, mut image } in wanted {
            let there = image.try_recv();
            if plan.create_sandbox.is_some() && !is_told && (there.is_err() || has_hook(&container))
            {
                // The address of the pod is worth to be known while something is waited for.
                self.publish_sandbox(pod, &prepared.sandbox);
                is_told = true;
            }
            let image = match there {
                Ok(image) => image,
                // Whoever pulls it always says how that went.
                Err(_) => match image.await {
                    Ok(image) => image,
                    Err(_) => return false,
                },
            };
            ids.extend(self.start_one(pod, start, &container, &image, &prepared, observed).await);
        }
        if is_first && ids.len() == count {
            self.made = self.look_at_made(&prepared.sandbox, &ids).await;
        }
        true
    }

    /// What was made of a pod that was not there before. An event tells what becomes of it.
    async fn look_at_made(
        &self,
        sandbox: &observed::Sandbox,
        ids: &[String],
    ) -> Option<RuntimePod> {
        let runtime = &self.context.runtime;
        let statuses = ids.iter().map(|id| runtime.container_status(id));
        let statuses = futures::future::try_join_all(statuses).await.ok()?;
        let containers = statuses
            .into_iter()
            .map(|it| observed::container_from(it, sandbox.id.clone()))
            .collect();
        Some(observed::sorted(vec![sandbox.clone()], containers))
    }

    fn finish_resize(&mut self, pod: &Arc<Pod>) -> bool {
        match self.settle_group(pod) {
            Ok(()) => {
                self.context.allocations.actuate_whole(pod);
                true
            }
            Err(message) => {
                self.fail_resize(pod, message);
                false
            }
        }
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
            if killed.is_ok() {
                self.replaced.insert(id.clone());
            }
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

    /// The sandbox (made or found) and the volumes.
    async fn prepare(
        &mut self,
        pod: &Arc<Pod>,
        attempt: Option<u32>,
        observed: &RuntimePod,
    ) -> Option<Prepared> {
        let context = self.context.clone();
        let facts = context.facts(observed.ips());
        let mounting = Box::pin(self.volumes(pod, &facts));
        let making = Box::pin(self.sandbox(pod, attempt, observed));
        let (mounted, sandbox) = tokio::join!(mounting, making);
        match mounted {
            Ok(mounted) => self.take_mounted(pod, mounted),
            Err(Unmounted { errors, again }) => {
                self.volumes_again = again.filter(|_| sandbox.is_some());
                for error in &errors {
                    context.recorder.warning(pod, error.reason(), error.to_string());
                }
                if let Some(error) = errors.iter().find(|it| it.is_final()) {
                    let verdict = Verdict::rejected(error.reason(), error.to_string());
                    self.inbox.put_verdict(verdict, Some(0));
                }
                return None;
            }
        }
        let (sandbox, config) = sandbox?;
        Some(Prepared { sandbox, config })
    }

    async fn volumes(&self, pod: &Pod, facts: &Facts) -> Result<Mounted, Unmounted> {
        let begun = self.context.timelines.begin();
        // Whatever they are to tell is told now.
        self.inbox.take_volumes_due();
        let mounted = self.context.volumes.mount(pod, facts).await;
        if mounted.as_ref().is_err_and(|it| it.errors.is_empty()) {
            return mounted;
        }
        let told = mounted
            .as_ref()
            .map_err(|it| it.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        let step = begun.ended(Phase::Volumes).result("MountVolume.SetUp", &told);
        self.context.timelines.add(&pod.uid(), step);
        mounted
    }

    async fn sandbox(
        &self,
        pod: &Arc<Pod>,
        attempt: Option<u32>,
        observed: &RuntimePod,
    ) -> Option<(observed::Sandbox, v1::PodSandboxConfig)> {
        let newest = observed.ready_sandbox();
        let number = attempt.or_else(|| newest.map(|it| it.attempt)).unwrap_or(0);
        let begun = self.context.timelines.begin();
        let failed_as = |reason: &str, call: &str, message: String| {
            let step = begun.ended(Phase::Sandbox).failed(call, &message);
            self.context.timelines.add(&pod.uid(), step);
            self.context.recorder.warning(pod, reason, message);
            None
        };
        let failed = |call: &str, message| failed_as("FailedCreatePodSandBox", call, message);
        let (handler, users) = match self.users(pod).await {
            Ok(found) => found,
            Err((call, message)) => {
                return failed(call, format!("Failed to create pod sandbox: {message}"));
            }
        };
        let config = match self.sandbox_config(pod, number, users) {
            Ok(config) => config,
            Err(error) => {
                return failed("configuration", format!("Failed to create pod sandbox: {error}"));
            }
        };
        if attempt.is_none() {
            return newest.map(|it| (it.clone(), config));
        }
        let handler = match handler {
            Some(handler) => handler,
            None => match runtime_class::handler(&self.context.client, pod).await {
                Ok(handler) => handler,
                Err(error) => {
                    return failed(
                        "RuntimeClass",
                        format!("Failed to create pod sandbox: {error}"),
                    );
                }
            },
        };
        let is_exclusive = self.context.cm.has_exclusive_cpus(pod, None);
        let (context, of) = (self.context.clone(), pod.clone());
        let grouping = async move { context.cgroups.ensure_pod(&of, is_exclusive).await };
        if let Err(error) = self.underway.run(&self.context.scope, grouping).await {
            let message = format!("unable to ensure pod container exists: {error}");
            return failed_as("FailedCreatePodContainer", "cgroup", message);
        }
        if let Err(error) = self.context.cm.dra.prepare(pod).await {
            return self.fail_prepare(pod, &begun, &error);
        }
        self.context.allocations.actuate_whole(pod);
        if let Err(error) = fs::create_dir_all(self.context.paths.pod_logs(pod)) {
            let message = format!("Failed to create pod sandbox: log folder: {error}");
            return failed("mkdir", message);
        }
        let (metrics, of) = (&self.context.metrics, [("runtime_handler", handler.as_str())]);
        metrics.add("kubelet_started_pods_total", &[], 1.0);
        let made = async {
            let started = tokio::time::Instant::now();
            let (config, handler) = (config.clone(), handler.clone());
            let making = move |it: Runtime| async move { it.run_sandbox(config, &handler).await };
            let made = self.call(making).await;
            metrics.observe("kubelet_run_podsandbox_duration_seconds", &of, started.elapsed());
            made
        };
        let id = match self.context.turns.take(Made::Sandbox, made).await {
            Ok(id) => id,
            Err(error) => {
                metrics.add("kubelet_run_podsandbox_errors_total", &of, 1.0);
                metrics.add("kubelet_started_pods_errors_total", &[], 1.0);
                return failed(error.call, format!("Failed to create pod sandbox: {error}"));
            }
        };
        match self.context.runtime.sandbox_status(&id).await {
            Ok(status) => {
                let sandbox = observed::sandbox_from(status, &self.context.node_ips);
                let addresses: Vec<_> = sandbox.ips.iter().map(ToString::to_string).collect();
                let step = begun.ended(Phase::Sandbox).with(addresses.join(", "));
                self.context.timelines.add(&pod.uid(), step);
                Some((sandbox, config))
            }
            Err(error) => {
                let message = format!("Unable to get pod sandbox status: {error}");
                failed_as("FailedPodSandBoxStatus", error.call, message)
            }
        }
    }

    /// The users of a pod's namespace, and the handler that was asked whether it can do it. A pod that
    /// has them keeps them, whoever cannot be asked.
    async fn users(
        &self,
        pod: &Pod,
    ) -> Result<(Option<String>, v1::UserNamespace), (&'static str, String)> {
        let (context, namespaces) = (&self.context, &self.context.user_namespaces);
        if let Some(users) = namespaces.find(pod) {
            return Ok((None, users));
        }
        let handler = runtime_class::handler(&context.client, pod).await;
        let handler = handler.map_err(|error| ("RuntimeClass", error.to_string()))?;
        let handlers = context.handlers.borrow().clone();
        let users = namespaces.get_or_create(pod, &handler, handlers.as_ref());
        let users = users.map_err(|error| ("user namespace", error.to_string()))?;
        Ok((Some(handler), users))
    }

    fn sandbox_config(
        &self,
        pod: &Arc<Pod>,
        attempt: u32,
        users: v1::UserNamespace,
    ) -> Result<v1::PodSandboxConfig, ConfigureSandboxError> {
        let context = &self.context;
        let resolv_conf = resolv_conf(&context.settings.config.resolv_conf)?;
        let dns = dns::for_pod(pod, &context.cluster_dns(), &resolv_conf);
        for (reason, message) in dns.warnings {
            context.recorder.warning(pod, reason, message);
        }
        let domain = &context.settings.config.cluster_domain;
        let (hostname, domain) = hosts::names(pod, domain, &context.settings.node_name);
        let hostname = hosts::kernel_name(pod, &hostname, &domain)?;
        let parts = pod_config::SandboxParts {
            attempt,
            hostname,
            log_directory: context.paths.pod_logs(pod).display().to_string(),
            dns: dns.config,
            cgroup_parent: context.cgroups.parent(pod),
            users,
        };
        Ok(pod_config::sandbox(pod, parts))
    }

    fn publish_sandbox(&self, pod: &Arc<Pod>, sandbox: &observed::Sandbox) {
        let observed = RuntimePod { sandboxes: vec![sandbox.clone()], containers: Vec::new() };
        let earlier = self.inbox.observed();
        if earlier.containers.is_empty() {
            self.publish(pod, &observed, &Default::default(), false);
        }
    }

    /// Starts one container, or holds it back. Returns the id of one that runs.
    async fn start_one(
        &mut self,
        pod: &Arc<Pod>,
        start: &Start,
        container: &Container,
        image: &Result<v1::Image, ImageError>,
        prepared: &Prepared,
        observed: &RuntimePod,
    ) -> Option<String> {
        if let Some(exit) = start.after_exit {
            let now = self.context.pace.now();
            self.backoffs.note(plan::backoff_key(container), exit, now);
        }
        self.count_start(start.kind, None);
        let image = match image {
            Ok(image) => image,
            Err(error) => {
                self.count_start(start.kind, Some(error.reason));
                self.note_image_error(pod, container, error.clone());
                return None;
            }
        };
        let start =
            &Start { restart_count: self.restart_count(pod, start, observed), ..start.clone() };
        let making = Making {
            pod,
            start,
            container,
            image,
            sandbox: &prepared.sandbox,
            sandbox_config: &prepared.config,
            observed,
        };
        match Box::pin(self.run_container(&making)).await {
            Ok(id) => {
                self.release_container(&start.name);
                self.context.allocations.actuate(pod, container);
                Some(id)
            }
            Err(StartError(waiting)) => {
                tracing::warn!(
                    pod = pod.full_name(),
                    container = start.name,
                    reason = waiting.reason,
                    message = waiting.message,
                    "a container was not started"
                );
                self.count_start(start.kind, Some(&waiting.reason));
                self.hold_container(pod, &start.name, waiting, None);
                None
            }
        }
    }

    /// Counts a container that is begun, or why it did not start.
    fn count_start(&self, kind: Kind, code: Option<&str>) {
        let kind = match kind {
            Kind::Init | Kind::Sidecar => "init_container",
            Kind::Ephemeral => "ephemeral_container",
            Kind::Regular => "container",
        };
        let (metrics, label) = (&self.context.metrics, ("container_type", kind));
        match code {
            None => metrics.add("kubelet_started_containers_total", &[label], 1.0),
            Some(code) => {
                let labels = [("code", code), label];
                metrics.add("kubelet_started_containers_errors_total", &labels, 1.0);
            }
        }
    }

    /// Containers that have been removed count too: the API and the logs remember them.
    fn restart_count(&self, pod: &Pod, start: &Start, observed: &RuntimePod) -> u32 {
        if start.restart_count > 0 || observed.latest(&start.name).is_some() {
            return start.restart_count;
        }
        let status = self.context.statuses.get(&pod.uid()).unwrap_or_default();
        let folder = self.context.paths.pod_logs(pod).join(&start.name);
        lookup::earlier_runs(&status, &start.name).max(lookup::logged_runs(&folder))
    }

    fn note_image_error(&mut self, pod: &Pod, container: &Container, error: ImageError) {
        let message = format!("Error: {}", error.reason);
        self.context.recorder.container_warning(pod, &container.name, "Failed", message);
        let waiting = Waiting { reason: error.reason.to_owned(), message: error.message };
        self.hold_container(pod, &container.name, waiting, error.until);
    }
}
