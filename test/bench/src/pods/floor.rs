//! The floor: the CRI calls that any kubelet must make for a pod, made bare.
//!
//! Sandbox (with the node's CNI), container, start: on the same containerd, with the same image, and
//! with the same configuration (`config`).

use std::time::{Duration, Instant};

use anyhow::Context;
use api_cri::{
    ImageClient, RuntimeClient,
    v1::{
        ContainerFilter, ContainerState, ContainerStateValue, CreateContainerRequest,
        ListContainersRequest, ListImagesRequest, PodSandboxConfig, RemovePodSandboxRequest,
        RunPodSandboxRequest, StartContainerRequest, StopPodSandboxRequest,
    },
};
use futures::{StreamExt, TryStreamExt};
use nix::sys::signal::{Signal, kill};

mod config;

use super::{LIMIT, exits::SETTLE};
use crate::rows::median;

const SAMPLES: u32 = 10;
const IMAGE: &str = "busybox";

/// The median of [`SAMPLES`] pods, run by the runtime's `handler` (its default one if empty).
pub(crate) async fn measure(socket: &str, handler: &str) -> anyhow::Result<Duration> {
    let channel = api_cri::connect(socket)?;
    let mut runtime = RuntimeClient::new(channel.clone());
    let image = image(ImageClient::new(channel)).await?;
    let mut samples = Vec::new();
    for index in 0..SAMPLES {
        samples.push(pod(&mut runtime, &image, handler, index).await?);
    }
    Ok(median(&samples))
}

async fn image(mut images: ImageClient) -> anyhow::Result<String> {
    let list = images.list_images(ListImagesRequest::default()).await?.into_inner();
    let is_it = |tags: &[String]| tags.iter().any(|it| it.contains(IMAGE));
    let found = list.images.into_iter().find(|it| is_it(&it.repo_tags));
    Ok(found.context("the node has no busybox image")?.id)
}

/// From the end of a container's process to the answer of the runtime that tells of it, asked over
/// and over.
pub(crate) async fn exit(socket: &str) -> anyhow::Result<Duration> {
    let channel = api_cri::connect(socket)?;
    let mut runtime = RuntimeClient::new(channel.clone());
    let image = image(ImageClient::new(channel)).await?;
    let mut samples = Vec::new();
    for index in 2000..2000 + SAMPLES {
        let sandbox = start(&mut runtime, &image, "", index).await?;
        tokio::time::sleep(SETTLE).await;
        let process = super::exits::process(&format!("{}", 8_000_000 + index));
        let started = Instant::now();
        kill(process.context("the container's process")?, Signal::SIGKILL)?;
        while is_running(&mut runtime, &sandbox).await? {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        samples.push(started.elapsed());
        remove(&mut runtime, sandbox).await?;
    }
    Ok(median(&samples))
}

async fn is_running(runtime: &mut RuntimeClient, sandbox: &str) -> anyhow::Result<bool> {
    let filter = ContainerFilter {
        pod_sandbox_id: sandbox.to_owned(),
        state: Some(ContainerStateValue { state: ContainerState::ContainerRunning as i32 }),
        ..ContainerFilter::default()
    };
    let request = ListContainersRequest { filter: Some(filter) };
    Ok(!runtime.list_containers(request).await?.into_inner().containers.is_empty())
}

/// How long it takes to run so many pods, so many at once.
pub(crate) async fn together(
    socket: &str,
    handler: &str,
    count: u32,
    at_once: usize,
) -> anyhow::Result<Duration> {
    let channel = api_cri::connect(socket)?;
    let runtime = RuntimeClient::new(channel.clone());
    let image = &image(ImageClient::new(channel)).await?;
    let started = Instant::now();
    let pods = (0..count).map(|index| {
        let mut runtime = runtime.clone();
        async move { start(&mut runtime, image, handler, 1000 + index).await }
    });
    let pods = futures::stream::iter(pods).buffer_unordered(at_once);
    let sandboxes: Vec<_> = pods.try_collect().await?;
    let taken = started.elapsed();
    for sandbox in sandboxes {
        remove(&mut runtime.clone(), sandbox).await?;
    }
    Ok(taken)
}

async fn pod(
    runtime: &mut RuntimeClient,
    image: &str,
    handler: &str,
    index: u32,
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let sandbox = start(runtime, image, handler, index).await?;
    let taken = started.elapsed();
    remove(runtime, sandbox).await?;
    Ok(taken)
}

async fn start(
    runtime: &mut RuntimeClient,
    image: &str,
    handler: &str,
    index: u32,
) -> anyhow::Result<String> {
    let name = format!("floor{handler}-{index}");
    let config = config::sandbox(&name);
    let sandbox = sandbox(runtime, &config, handler).await?;
    let container = config::container(&name, image, 8_000_000 + index);
    let container = runtime
        .create_container(CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(container),
            sandbox_config: Some(config),
        })
        .await?
        .into_inner()
        .container_id;
    runtime.start_container(StartContainerRequest { container_id: container }).await?;
    Ok(sandbox)
}

/// Tries again for a while, as a kubelet does: many at once need more addresses than are warm.
async fn sandbox(
    runtime: &mut RuntimeClient,
    config: &PodSandboxConfig,
    handler: &str,
) -> anyhow::Result<String> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let (config, runtime_handler) = (Some(config.clone()), handler.to_owned());
        let request = RunPodSandboxRequest { config, runtime_handler };
        match runtime.run_pod_sandbox(request).await {
            Ok(answer) => return Ok(answer.into_inner().pod_sandbox_id),
            Err(error)
                if error.message().contains("no available IP") && Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn remove(runtime: &mut RuntimeClient, pod_sandbox_id: String) -> anyhow::Result<()> {
    let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
    runtime.stop_pod_sandbox(stop).await?;
    runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await?;
    Ok(())
}
