//! The runtime service, and containerd's events. What processes do is in [`crate::process`].

use std::{pin::Pin, time::Duration};

use api_cri::{
    containerd::{self, events_server::Events},
    v1::{self, runtime_service_server::RuntimeService},
};
use futures::{Stream, StreamExt};
use prost::Message;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    FakeCri,
    state::{Container, Sandbox},
};

type Reply<T> = Result<Response<T>, Status>;
type Flow<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) fn missing(kind: &str, id: &str) -> Status {
    Status::not_found(format!("an error occurred when try to find {kind} \"{id}\": not found"))
}

fn has_labels(
    own: &std::collections::HashMap<String, String>,
    wanted: &std::collections::HashMap<String, String>,
) -> bool {
    wanted.iter().all(|(key, value)| own.get(key) == Some(value))
}

/// What is empty or zero stays as it is.
fn update(known: &mut v1::LinuxContainerResources, new: v1::LinuxContainerResources) {
    let number = |known: &mut i64, new: i64| {
        if new != 0 {
            *known = new;
        }
    };
    number(&mut known.cpu_shares, new.cpu_shares);
    number(&mut known.cpu_quota, new.cpu_quota);
    number(&mut known.cpu_period, new.cpu_period);
    number(&mut known.memory_limit_in_bytes, new.memory_limit_in_bytes);
    if !new.cpuset_cpus.is_empty() {
        known.cpuset_cpus = new.cpuset_cpus;
    }
    if !new.cpuset_mems.is_empty() {
        known.cpuset_mems = new.cpuset_mems;
    }
}

#[async_trait]
impl RuntimeService for FakeCri {
    type GetContainerEventsStream = Flow<v1::ContainerEventResponse>;

    async fn version(&self, _: Request<v1::VersionRequest>) -> Reply<v1::VersionResponse> {
        let given = self.state.lock().version.clone();
        let (runtime_name, runtime_version) =
            given.unwrap_or_else(|| ("fake".to_owned(), "v1.0.0".to_owned()));
        Ok(Response::new(v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name,
            runtime_version,
            runtime_api_version: "v1".to_owned(),
        }))
    }

    /// As containerd 1.6, which does not know the call.
    async fn checkpoint_container(
        &self,
        _: Request<v1::CheckpointContainerRequest>,
    ) -> Reply<v1::CheckpointContainerResponse> {
        Err(Status::unimplemented(
            "unknown method CheckpointContainer for service runtime.v1.RuntimeService",
        ))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Reply<v1::StatusResponse> {
        let (is_network_ready, runtime_handlers, features) = {
            let state = self.state.lock();
            (state.is_network_ready, state.announced.clone(), state.features)
        };
        let condition =
            |kind: &str, status: bool, reason: &str, message: &str| v1::RuntimeCondition {
                r#type: kind.to_owned(),
                status,
                reason: if status { String::new() } else { reason.to_owned() },
                message: if status { String::new() } else { message.to_owned() },
            };
        let message = "Network plugin returns error: cni plugin not initialized";
        let conditions = vec![
            condition("RuntimeReady", true, "", ""),
            condition("NetworkReady", is_network_ready, "NetworkPluginNotReady", message),
        ];
        let status = Some(v1::RuntimeStatus { conditions });
        let told = v1::StatusResponse { status, runtime_handlers, features, ..Default::default() };
        Ok(Response::new(told))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Reply<v1::RunPodSandboxResponse> {
        let v1::RunPodSandboxRequest { config, runtime_handler } = request.into_inner();
        let config = config.unwrap_or_default();
        let name = config.metadata.clone().unwrap_or_default().name;
        self.enter("RunPodSandbox", &name)?;
        if !runtime_handler.is_empty() && !self.state.lock().handlers.contains(&runtime_handler) {
            return Err(Status::unknown(format!(
                "failed to get sandbox runtime: no runtime for \"{runtime_handler}\" is configured"
            )));
        }
        let mut state = self.state.lock();
        let id = state.id("sandbox");
        let ip = format!("10.0.0.{}", state.number() % 250 + 1);
        let created_at = self.nanos();
        state.sandboxes.insert(id.clone(), Sandbox { config, is_ready: true, created_at, ip });
        Ok(Response::new(v1::RunPodSandboxResponse { pod_sandbox_id: id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Reply<v1::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.enter("StopPodSandbox", &self.name_of(&id))?;
        let inside: Vec<_> = {
            let mut state = self.state.lock();
            if let Some(sandbox) = state.sandboxes.get_mut(&id) {
                sandbox.is_ready = false;
            }
            let own = state.containers.iter().filter(|(_, it)| it.sandbox == id);
            own.map(|(id, _)| id.clone()).collect()
        };
        for container in inside {
            self.finish(&container, 137, "Error");
        }
        Ok(Response::new(v1::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Reply<v1::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.enter("RemovePodSandbox", &self.name_of(&id))?;
        let mut state = self.state.lock();
        state.sandboxes.remove(&id);
        state.containers.retain(|_, it| it.sandbox != id);
        Ok(Response::new(v1::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Reply<v1::PodSandboxStatusResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let state = self.state.lock();
        let it = state.sandboxes.get(&id).ok_or_else(|| missing("sandbox", &id))?;
        let context = it.config.linux.clone().and_then(|it| it.security_context);
        let options = context.and_then(|it| it.namespace_options);
        let is_host =
            options.as_ref().is_some_and(|it| it.network == v1::NamespaceMode::Node as i32);
        let ip = if is_host { String::new() } else { it.ip.clone() };
        let status = v1::PodSandboxStatus {
            id: id.clone(),
            metadata: it.config.metadata.clone(),
            state: i32::from(!it.is_ready),
            created_at: it.created_at,
            network: Some(v1::PodSandboxNetworkStatus { ip, additional_ips: Vec::new() }),
            linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options }) }),
            labels: it.config.labels.clone(),
            annotations: it.config.annotations.clone(),
            runtime_handler: String::new(),
        };
        let status = Some(status);
        Ok(Response::new(v1::PodSandboxStatusResponse { status, ..Default::default() }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Reply<v1::ListPodSandboxResponse> {
        let wanted = request.into_inner().filter.unwrap_or_default().label_selector;
        let mut state = self.state.lock();
        state.lists += 1;
        let items = state
            .sandboxes
            .iter()
            .filter(|(_, it)| has_labels(&it.config.labels, &wanted))
            .map(|(id, it)| v1::PodSandbox {
                id: id.clone(),
                metadata: it.config.metadata.clone(),
                state: i32::from(!it.is_ready),
                created_at: it.created_at,
                labels: it.config.labels.clone(),
                ..Default::default()
            })
            .collect();
        Ok(Response::new(v1::ListPodSandboxResponse { items }))
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Reply<v1::CreateContainerResponse> {
        let request = request.into_inner();
        let config = request.config.unwrap_or_default();
        let name = config.metadata.clone().unwrap_or_default().name;
        self.enter("CreateContainer", &name)?;
        let created_at = self.nanos();
        let mut state = self.state.lock();
        let sandbox = request.pod_sandbox_id;
        if !state.sandboxes.get(&sandbox).is_some_and(|it| it.is_ready) {
            return Err(missing("sandbox", &sandbox));
        }
        let id = state.id("container");
        let container = Container {
            sandbox,
            config,
            log_directory: request.sandbox_config.unwrap_or_default().log_directory,
            created_at,
            started_at: 0,
            finished_at: 0,
            state: v1::ContainerState::ContainerCreated,
            code: 0,
            reason: String::new(),
        };
        state.containers.insert(id.clone(), container);
        Ok(Response::new(v1::CreateContainerResponse { container_id: id }))
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Reply<v1::StartContainerResponse> {
        let id = request.into_inner().container_id;
        let name = self.name_of(&id);
        self.enter("StartContainer", &name)?;
        let script = self.state.lock().scripts.get(&name).cloned().unwrap_or_default();
        tokio::time::sleep(script.start_takes).await;
        {
            let mut state = self.state.lock();
            let it = state.containers.get_mut(&id).ok_or_else(|| missing("container", &id))?;
            if it.state != v1::ContainerState::ContainerCreated {
                return Err(Status::failed_precondition("container is not in created state"));
            }
            it.state = v1::ContainerState::ContainerRunning;
            it.started_at = self.nanos();
        }
        let started = containerd::TaskEvent { container_id: id.clone() };
        self.tell("/tasks/start", &id, started.encode_to_vec());
        if let Some(lives) = script.lives {
            let this = self.clone();
            let life = async move {
                tokio::time::sleep(lives).await;
                this.finish(&id, script.code, if script.code == 0 { "Completed" } else { "Error" });
            };
            drop(self.scope.spawn("container", life));
        }
        Ok(Response::new(v1::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Reply<v1::StopContainerResponse> {
        let v1::StopContainerRequest { container_id, timeout } = request.into_inner();
        let name = self.name_of(&container_id);
        self.enter("StopContainer", &name)?;
        self.state.lock().graces.insert(name, timeout);
        let grace = Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
        self.end(&container_id, grace).await;
        Ok(Response::new(v1::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Reply<v1::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        self.enter("RemoveContainer", &self.name_of(&id))?;
        let mut state = self.state.lock();
        let is_running = state
            .containers
            .get(&id)
            .is_some_and(|it| it.state == v1::ContainerState::ContainerRunning);
        if is_running {
            return Err(Status::failed_precondition("container is still running"));
        }
        state.containers.remove(&id);
        Ok(Response::new(v1::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Reply<v1::ListContainersResponse> {
        let wanted = request.into_inner().filter.unwrap_or_default().label_selector;
        let mut state = self.state.lock();
        state.lists += 1;
        let containers = state
            .containers
            .iter()
            .filter(|(_, it)| has_labels(&it.config.labels, &wanted))
            .map(|(id, it)| v1::Container {
                id: id.clone(),
                pod_sandbox_id: it.sandbox.clone(),
                metadata: it.config.metadata.clone(),
                image: it.config.image.clone(),
                state: it.state as i32,
                created_at: it.created_at,
                labels: it.config.labels.clone(),
                annotations: it.config.annotations.clone(),
                ..Default::default()
            })
            .collect();
        Ok(Response::new(v1::ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Reply<v1::ContainerStatusResponse> {
        let status = Some(self.container_status_of(&request.into_inner().container_id)?);
        Ok(Response::new(v1::ContainerStatusResponse { status, ..Default::default() }))
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Reply<v1::ExecSyncResponse> {
        let name = self.name_of(&request.into_inner().container_id);
        self.enter("ExecSync", &name)?;
        let script = self.state.lock().scripts.get(&name).cloned().unwrap_or_default();
        tokio::time::sleep(script.exec_takes).await;
        let exit_code = script.exec_code;
        Ok(Response::new(v1::ExecSyncResponse { exit_code, ..Default::default() }))
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Reply<v1::UpdateContainerResourcesResponse> {
        let v1::UpdateContainerResourcesRequest { container_id, linux, .. } = request.into_inner();
        let name = self.name_of(&container_id);
        self.enter("UpdateContainerResources", &name)?;
        let mut state = self.state.lock();
        let it = state.containers.get_mut(&container_id);
        let it = it.ok_or_else(|| missing("container", &container_id))?;
        let known = it.config.linux.as_mut().and_then(|it| it.resources.as_mut());
        if let (Some(known), Some(new)) = (known, linux) {
            update(known, new);
        }
        Ok(Response::new(v1::UpdateContainerResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Reply<v1::ReopenContainerLogResponse> {
        self.enter("ReopenContainerLog", &self.name_of(&request.into_inner().container_id))?;
        Ok(Response::new(v1::ReopenContainerLogResponse {}))
    }

    async fn update_runtime_config(
        &self,
        _: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Reply<v1::UpdateRuntimeConfigResponse> {
        Ok(Response::new(v1::UpdateRuntimeConfigResponse {}))
    }

    async fn list_container_stats(
        &self,
        _: Request<v1::ListContainerStatsRequest>,
    ) -> Reply<v1::ListContainerStatsResponse> {
        Ok(Response::new(v1::ListContainerStatsResponse::default()))
    }

    // What this runtime does not do, it says as containerd says what it does not do.

    async fn exec(&self, _: Request<v1::ExecRequest>) -> Reply<v1::ExecResponse> {
        Err(Status::unimplemented("the fake runtime does not stream"))
    }

    async fn attach(&self, _: Request<v1::AttachRequest>) -> Reply<v1::AttachResponse> {
        Err(Status::unimplemented("the fake runtime does not stream"))
    }

    async fn port_forward(
        &self,
        _: Request<v1::PortForwardRequest>,
    ) -> Reply<v1::PortForwardResponse> {
        Err(Status::unimplemented("the fake runtime does not stream"))
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Reply<v1::ContainerStatsResponse> {
        let name = self.name_of(&request.into_inner().container_id);
        let memory = self.state.lock().scripts.get(&name).map_or(0, |it| it.memory);
        let usage_bytes = Some(v1::UInt64Value { value: memory });
        let memory = Some(v1::MemoryUsage { usage_bytes, ..Default::default() });
        let stats = Some(v1::ContainerStats { memory, ..Default::default() });
        Ok(Response::new(v1::ContainerStatsResponse { stats }))
    }

    async fn pod_sandbox_stats(
        &self,
        _: Request<v1::PodSandboxStatsRequest>,
    ) -> Reply<v1::PodSandboxStatsResponse> {
        Err(Status::unimplemented("the fake runtime measures nothing"))
    }

    async fn list_pod_sandbox_stats(
        &self,
        _: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Reply<v1::ListPodSandboxStatsResponse> {
        Err(Status::unimplemented("the fake runtime measures nothing"))
    }

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Reply<Self::GetContainerEventsStream> {
        Err(Status::unimplemented("method GetContainerEvents not implemented"))
    }
}

#[async_trait]
impl Events for FakeCri {
    type SubscribeStream = Flow<containerd::Envelope>;

    async fn subscribe(
        &self,
        _: Request<containerd::SubscribeRequest>,
    ) -> Reply<Self::SubscribeStream> {
        let stream = BroadcastStream::new(self.events.subscribe());
        let stream = stream.filter_map(|it| async { it.ok().map(Ok) });
        Ok(Response::new(Box::pin(stream)))
    }
}
