//! The container runtime as the kubelet calls it: each call with a deadline and a named error.
//!
//! **Invariant:** no call here waits for ever; a runtime that hangs becomes an error of the pod whose
//! call hung, and of no other.

pub(crate) mod snapshots;
mod tasks;

use std::{collections::HashMap, future::Future, path::Path, sync::Arc, time::Duration};

use api_cri::{Channel, EventsClient, ImageClient, RuntimeClient, TasksClient, containerd, v1};
use tokio::time::Instant;
use tonic::{Code, Response, Status, Streaming};

use crate::metrics::Metrics;

/// Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub(crate) struct Runtime {
    runtime: RuntimeClient,
    images: ImageClient,
    events: EventsClient,
    tasks: TasksClient,
    limit: Duration,
    metrics: Arc<Metrics>,
}

/// The file systems of a runtime, as far as it tells of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileSystems {
    pub images: Option<v1::FilesystemUsage>,
    pub containers: Option<v1::FilesystemUsage>,
}

/// Where one is.
pub(crate) fn mountpoint(usage: &v1::FilesystemUsage) -> Option<&Path> {
    usage.fs_id.as_ref().map(|it| Path::new(&it.mountpoint))
}

/// A CRI call that failed.
///
/// Its text is the runtime's own, in the form that upstream's kubelet puts into events.
#[derive(Clone, Debug, thiserror::Error)]
#[error("rpc error: code = {} desc = {message}", code_name(*.code))]
pub(crate) struct CriError {
    pub(crate) call: &'static str,
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl CriError {
    pub(crate) fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }

    pub(crate) fn is_unimplemented(&self) -> bool {
        self.code == Code::Unimplemented
    }
}

pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// Longer than any CRI list of a full node.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// A pull has no deadline of its own upstream; it fails when it makes no progress. This is the
/// outermost bound.
const PULL_LIMIT: Duration = Duration::from_secs(30 * 60);
/// What upstream adds to a stop's own timeout.
const STOP_MARGIN: Duration = Duration::from_secs(120);

impl Runtime {
    /// `images` may be another service than the containers'.
    pub(crate) fn new(
        channel: Channel,
        images: Channel,
        limit: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            runtime: RuntimeClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            images: ImageClient::new(images).max_decoding_message_size(MAX_MESSAGE),
            tasks: TasksClient::new(channel.clone()),
            events: EventsClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
            limit,
            metrics,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts a call under upstream's name for it.
    fn count(&self, call: &str, took: Duration, is_good: bool) {
        let name = operation(call);
        let labels = [("operation_type", name.as_str())];
        self.metrics.add("kubelet_runtime_operations_total", &labels, 1.0);
        self.metrics.observe("kubelet_runtime_operations_duration_seconds", &labels, took);
        if !is_good {
            self.metrics.add("kubelet_runtime_operations_errors_total", &labels, 1.0);
        }
    }

    async fn call<T>(
        &self,
        call: &'static str,
        limit: Duration,
        reply: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CriError> {
        let started = Instant::now();
        let reply = tokio::time::timeout(limit, reply).await;
        self.count(call, started.elapsed(), matches!(reply, Ok(Ok(_))));
        match reply {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => {
                Err(CriError { call, code: status.code(), message: describe(&status) })
            }
            Err(_) => Err(CriError {
                call,
                code: Code::DeadlineExceeded,
                message: "context deadline exceeded".to_owned(),
            }),
        }
    }

    pub(crate) async fn version(&self) -> Result<v1::VersionResponse, CriError> {
        let request = v1::VersionRequest { version: "0.1.0".to_owned() };
        self.call("Version", self.limit, self.runtime.clone().version(request)).await
    }

    /// How the runtime is, and what it can do.
    pub(crate) async fn status(&self) -> Result<v1::StatusResponse, CriError> {
        let request = v1::StatusRequest { verbose: false };
        self.call("Status", self.limit, self.runtime.clone().status(request)).await
    }

    /// What the runtime tells of itself beside its status, such as its configuration.
    pub(crate) async fn info(&self) -> Result<HashMap<String, String>, CriError> {
        let request = v1::StatusRequest { verbose: true };
        Ok(self.call("Status", self.limit, self.runtime.clone().status(request)).await?.info)
    }

    pub(crate) async fn run_sandbox(
        &self,
        config: v1::PodSandboxConfig,
        handler: &str,
    ) -> Result<String, CriError> {
        let request =
            v1::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        // Twice the limit, as upstream: the CNI plugin runs in this call.
        let reply = self.runtime.clone();
        let reply = async move { reply.clone().run_pod_sandbox(request).await };
        Ok(self.call("RunPodSandbox", self.limit * 2, reply).await?.pod_sandbox_id)
    }

    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), CriError> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let mut client = self.runtime.clone();
        self.call("StopPodSandbox", self.limit, client.stop_pod_sandbox(request)).await?;
        Ok(())
    }

    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), CriError> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let mut client = self.runtime.clone();
        self.call("RemovePodSandbox", self.limit, client.remove_pod_sandbox(request)).await?;
        Ok(())
    }

    pub(crate) async fn sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatus, CriError> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let mut client = self.runtime.clone();
        let reply =
            self.call("PodSandboxStatus", self.limit, client.pod_sandbox_status(request)).await?;
        Ok(reply.status.unwrap_or_default())
    }

    pub(crate) async fn list_sandboxes(
        &self,
        label: Option<(&str, &str)>,
    ) -> Result<Vec<v1::PodSandbox>, CriError> {
        let filter = label.map(|(key, value)| v1::PodSandboxFilter {
            label_selector: [(key.to_owned(), value.to_owned())].into(),
            ..Default::default()
        });
        let request = v1::ListPodSandboxRequest { filter };
        let mut client = self.runtime.clone();
        Ok(self.call("ListPodSandbox", self.limit, client.list_pod_sandbox(request)).await?.items)
    }

    pub(crate) async fn list_containers(
        &self,
        label: Option<(&str, &str)>,
    ) -> Result<Vec<v1::Container>, CriError> {
        let filter = label.map(|(key, value)| v1::ContainerFilter {
            label_selector: [(key.to_owned(), value.to_owned())].into(),
            ..Default::default()
        });
        let request = v1::ListContainersRequest { filter };
        let mut client = self.runtime.clone();
        let reply = self.call("ListContainers", self.limit, client.list_containers(request));
        Ok(reply.await?.containers)
    }

    pub(crate) async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, CriError> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let mut client = self.runtime.clone();
        let reply = self.call("CreateContainer", self.limit, client.create_container(request));
        Ok(reply.await?.container_id)
    }

    pub(crate) async fn start_container(&self, id: &str) -> Result<(), CriError> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        let mut client = self.runtime.clone();
        self.call("StartContainer", self.limit, client.start_container(request)).await?;
        Ok(())
    }

    /// Asks the process to end, and kills it after `grace`.
    pub(crate) async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CriError> {
        let timeout = whole_seconds(grace);
        let request = v1::StopContainerRequest { container_id: id.to_owned(), timeout };
        let mut client = self.runtime.clone();
        let reply = client.stop_container(request);
        self.call("StopContainer", grace.saturating_add(STOP_MARGIN), reply).await?;
        Ok(())
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        let mut client = self.runtime.clone();
        self.call("RemoveContainer", self.limit, client.remove_container(request)).await?;
        Ok(())
    }

    pub(crate) async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus, CriError> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let mut client = self.runtime.clone();
        let reply = self.call("ContainerStatus", self.limit, client.container_status(request));
        Ok(reply.await?.status.unwrap_or_default())
    }

    /// Changes what a container may use; what is empty or zero stays as it is.
    pub(crate) async fn update_container_resources(
        &self,
        id: &str,
        resources: v1::LinuxContainerResources,
    ) -> Result<(), CriError> {
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(resources),
            annotations: Default::default(),
        };
        let mut client = self.runtime.clone();
        let reply = client.update_container_resources(request);
        self.call("UpdateContainerResources", self.limit, reply).await?;
        Ok(())
    }

    pub(crate) async fn reopen_log(&self, id: &str) -> Result<(), CriError> {
        let request = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
        let mut client = self.runtime.clone();
        self.call("ReopenContainerLog", self.limit, client.reopen_container_log(request)).await?;
        Ok(())
    }

    /// Runs a command in a container and waits for it, at most `limit`.
    pub(crate) async fn exec_sync(
        &self,
        id: &str,
        command: &[String],
        limit: Duration,
    ) -> Result<v1::ExecSyncResponse, CriError> {
        let timeout = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        let request =
            v1::ExecSyncRequest { container_id: id.to_owned(), cmd: command.to_vec(), timeout };
        let mut client = self.runtime.clone();
        // The runtime enforces the command's own limit; ours catches a runtime that hangs.
        let outer = limit.saturating_add(Duration::from_secs(5));
        self.call("ExecSync", outer, client.exec_sync(request)).await
    }

    /// Writes the state of a container into an archive.
    pub(crate) async fn checkpoint(
        &self,
        id: &str,
        location: &str,
        limit: Duration,
    ) -> Result<(), CriError> {
        let request = v1::CheckpointContainerRequest {
            container_id: id.to_owned(),
            location: location.to_owned(),
            timeout: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        };
        let mut client = self.runtime.clone();
        let outer = limit.saturating_add(Duration::from_secs(5));
        self.call("CheckpointContainer", outer, client.checkpoint_container(request)).await?;
        Ok(())
    }

    /// The URL at which the runtime streams this exec.
    pub(crate) async fn exec(&self, request: v1::ExecRequest) -> Result<String, CriError> {
        let mut client = self.runtime.clone();
        Ok(self.call("Exec", self.limit, client.exec(request)).await?.url)
    }

    pub(crate) async fn attach(&self, request: v1::AttachRequest) -> Result<String, CriError> {
        let mut client = self.runtime.clone();
        Ok(self.call("Attach", self.limit, client.attach(request)).await?.url)
    }

    pub(crate) async fn port_forward(&self, sandbox: &str) -> Result<String, CriError> {
        let request =
            v1::PortForwardRequest { pod_sandbox_id: sandbox.to_owned(), port: Vec::new() };
        let mut client = self.runtime.clone();
        Ok(self.call("PortForward", self.limit, client.port_forward(request)).await?.url)
    }

    /// The bytes of memory that a container uses, where the runtime counts them.
    pub(crate) async fn container_memory(&self, id: &str) -> Result<Option<u64>, CriError> {
        let request = v1::ContainerStatsRequest { container_id: id.to_owned() };
        let mut client = self.runtime.clone();
        let reply = self.call("ContainerStats", self.limit, client.container_stats(request));
        let memory = reply.await?.stats.and_then(|it| it.memory).unwrap_or_default();
        let bytes = memory.usage_bytes.or(memory.working_set_bytes);
        Ok(bytes.map(|it| it.value))
    }

    pub(crate) async fn container_stats(&self) -> Result<Vec<v1::ContainerStats>, CriError> {
        let request = v1::ListContainerStatsRequest { filter: None };
        let mut client = self.runtime.clone();
        let reply = client.list_container_stats(request);
        Ok(self.call("ListContainerStats", self.limit, reply).await?.stats)
    }

    // === Images ===

    pub(crate) async fn list_images(&self) -> Result<Vec<v1::Image>, CriError> {
        let request = v1::ListImagesRequest { filter: None };
        let mut client = self.images.clone();
        Ok(self.call("ListImages", self.limit, client.list_images(request)).await?.images)
    }

    pub(crate) async fn image_status(&self, image: &str) -> Result<Option<v1::Image>, CriError> {
        let request = v1::ImageStatusRequest { image: Some(spec(image)), verbose: false };
        let mut client = self.images.clone();
        Ok(self.call("ImageStatus", self.limit, client.image_status(request)).await?.image)
    }

    /// Pulls, and says under which reference the runtime knows the image.
    pub(crate) async fn pull_image(
        &self,
        image: &str,
        auth: Option<v1::AuthConfig>,
        sandbox_config: Option<v1::PodSandboxConfig>,
    ) -> Result<String, CriError> {
        let request = v1::PullImageRequest { image: Some(spec(image)), auth, sandbox_config };
        let mut client = self.images.clone();
        Ok(self.call("PullImage", PULL_LIMIT, client.pull_image(request)).await?.image_ref)
    }

    pub(crate) async fn remove_image(&self, image: &str) -> Result<(), CriError> {
        let request = v1::RemoveImageRequest { image: Some(spec(image)) };
        let mut client = self.images.clone();
        self.call("RemoveImage", self.limit, client.remove_image(request)).await?;
        Ok(())
    }

    /// Where the runtime keeps images, and where containers write.
    pub(crate) async fn file_systems(&self) -> Result<FileSystems, CriError> {
        let mut client = self.images.clone();
        let reply = client.image_fs_info(v1::ImageFsInfoRequest {});
        let told = self.call("ImageFsInfo", self.limit, reply).await?;
        let images = told.image_filesystems.into_iter().next();
        let containers = told.container_filesystems.into_iter().next();
        // Older runtimes say nothing of containers, and have them beside their images.
        Ok(FileSystems { containers: containers.or_else(|| images.clone()), images })
    }

    // === Events ===

    /// CRI's event stream: containerd 1.7 and CRI-O have it, containerd 1.6 answers `Unimplemented`.
    pub(crate) async fn cri_events(
        &self,
    ) -> Result<Streaming<v1::ContainerEventResponse>, CriError> {
        let mut client = self.runtime.clone();
        let reply = client.get_container_events(v1::GetEventsRequest {});
        self.call("GetContainerEvents", self.limit, reply).await
    }

    /// containerd's own event stream, of the namespace in which its CRI plug-in works.
    pub(crate) async fn containerd_events(
        &self,
    ) -> Result<Streaming<containerd::Envelope>, CriError> {
        let filters = ["/tasks/exit", "/tasks/oom", "/tasks/delete"]
            .map(|topic| format!("namespace==k8s.io,topic==\"{topic}\""))
            .to_vec();
        let mut client = self.events.clone();
        let reply = client.subscribe(containerd::SubscribeRequest { filters });
        self.call("Subscribe", self.limit, reply).await
    }
}

/// CRI counts whole seconds: of what has begun nothing is taken away, as the process is killed then.
fn whole_seconds(grace: Duration) -> i64 {
    let seconds = grace.as_secs().saturating_add(u64::from(grace.subsec_nanos() > 0));
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// `ListPodSandbox` is `list_podsandbox` upstream, and so on.
fn operation(call: &str) -> String {
    let call = call.replace("PodSandbox", "Podsandbox").replace("ContainerStats", "Containerstats");
    let mut name = String::new();
    for char in call.chars() {
        if char.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(char.to_lowercase());
    }
    name.replace("containerstats", "container_stats")
}

fn spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec { image: image.to_owned(), annotations: Default::default() }
}

/// tonic hides why a connection failed in the sources of the status.
fn describe(status: &Status) -> String {
    use std::error::Error;
    let mut innermost: Option<&dyn Error> = status.source();
    while let Some(source) = innermost.and_then(|it| it.source()) {
        innermost = Some(source);
    }
    match innermost {
        Some(source) if status.code() == Code::Unavailable || status.code() == Code::Unknown => {
            format!("{}: {source}", status.message())
        }
        _ => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_of_which_a_moment_has_passed_is_not_a_second_shorter() {
        let of = |millis| whole_seconds(Duration::from_millis(millis));
        assert_eq!([of(5000), of(4999), of(4001), of(4000), of(0)], [5, 5, 5, 4, 0]);
        assert_eq!(whole_seconds(Duration::MAX), i64::MAX);
    }
}
