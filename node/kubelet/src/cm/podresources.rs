//! Tells agents on the node which CPUs, memory and devices containers have
//! (`pod-resources/kubelet.sock`).
//!
//! Upstream: `pkg/kubelet/apis/podresources/server_v1.go`. Pods that have ended are not listed.

use std::{io, path::Path, sync::Arc};

use api_kubelet::pod_resources::{
    self as v1,
    pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer},
};
use k8s_openapi::api::core::v1::{Container, Pod};
use lifecycle::Scope;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, async_trait};

use super::{ContainerManager, devicemanager::Devices, memorymanager::state::Block};
use crate::{
    paths::make_private,
    pod::{Kind, PodExt, init_kind},
    pod_workers::PodWorkers,
};

type Reply<T> = Result<Response<T>, Status>;

struct Lister {
    manager: Arc<ContainerManager>,
    workers: Arc<PodWorkers>,
}

pub(crate) fn serve(
    manager: Arc<ContainerManager>,
    workers: Arc<PodWorkers>,
    root: &Path,
    scope: &Scope,
) -> io::Result<()> {
    let folder = root.join("pod-resources");
    make_private(&folder)?;
    let listener = transport::unix_listen(&folder.join("kubelet.sock"))?;
    let server = tonic::transport::Server::builder()
        .add_service(PodResourcesListerServer::new(Lister { manager, workers }))
        .serve_with_incoming(UnixListenerStream::new(listener));
    drop(scope.spawn("pod-resources", server));
    Ok(())
}

#[async_trait]
impl PodResourcesLister for Lister {
    async fn list(
        &self,
        _: Request<v1::ListPodResourcesRequest>,
    ) -> Reply<v1::ListPodResourcesResponse> {
        let pods = self.workers.pods();
        let active = pods.iter().filter(|it| is_active(it));
        let pod_resources = active.map(|it| self.resources(it)).collect();
        Ok(Response::new(v1::ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<v1::AllocatableResourcesRequest>,
    ) -> Reply<v1::AllocatableResourcesResponse> {
        let (cpus, memory, devices) = self.manager.allocatable();
        Ok(Response::new(v1::AllocatableResourcesResponse {
            devices: device_list(devices),
            cpu_ids: cpus,
            memory: memory_list(&memory),
        }))
    }

    async fn get(
        &self,
        request: Request<v1::GetPodResourcesRequest>,
    ) -> Reply<v1::GetPodResourcesResponse> {
        let v1::GetPodResourcesRequest { pod_name, pod_namespace } = request.into_inner();
        let Some(pod) = self.workers.find(&pod_namespace, &pod_name) else {
            let text = format!("pod {pod_name} in namespace {pod_namespace} not found");
            return Err(Status::unknown(text));
        };
        let pod_resources = Some(self.resources(&pod));
        Ok(Response::new(v1::GetPodResourcesResponse { pod_resources }))
    }
}

fn is_active(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

impl Lister {
    fn resources(&self, pod: &Pod) -> v1::PodResources {
        let spec = PodExt::spec(pod);
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|it| init_kind(it) == Kind::Sidecar);
        let containers = sidecars.chain(&spec.containers).map(|it| self.container(pod, it));
        v1::PodResources {
            name: pod.name().to_owned(),
            namespace: pod.namespace().to_owned(),
            containers: containers.collect(),
        }
    }

    fn container(&self, pod: &Pod, container: &Container) -> v1::ContainerResources {
        let (cpu_ids, memory, devices) = self.manager.of_container(pod, &container.name);
        v1::ContainerResources {
            name: container.name.clone(),
            devices: device_list(devices),
            cpu_ids,
            memory: memory_list(&memory),
            dynamic_resources: self.manager.dra.of_container(pod, container),
        }
    }
}

fn device_list(devices: Devices) -> Vec<v1::ContainerDevices> {
    let mut list = Vec::new();
    for (resource_name, nodes) in devices {
        for (node, device_ids) in nodes {
            let topology = (node >= 0).then(|| topology(&[node]));
            list.push(v1::ContainerDevices {
                resource_name: resource_name.clone(),
                device_ids,
                topology,
            });
        }
    }
    list
}

fn memory_list(blocks: &[Block]) -> Vec<v1::ContainerMemory> {
    let one = |it: &Block| {
        let nodes: Vec<_> = it.numa_affinity.iter().map(|it| i64::from(*it)).collect();
        v1::ContainerMemory {
            memory_type: it.kind.clone(),
            size: it.size,
            topology: Some(topology(&nodes)),
        }
    };
    blocks.iter().map(one).collect()
}

fn topology(nodes: &[i64]) -> v1::TopologyInfo {
    v1::TopologyInfo { nodes: nodes.iter().map(|it| v1::NumaNode { id: *it }).collect() }
}
