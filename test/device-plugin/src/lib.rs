//! A device plugin (`v1beta1`) with devices that a test adds, breaks and takes away.
//!
//! It is a real gRPC server on a Unix socket, and registers as every plugin does. `Allocate` answers
//! with a variable, a mount, an annotation and the host's `/dev/null` under the device's name, so that
//! a test sees in the container what it was given. Drivers of dynamic resources are in [`dra`].

pub mod dra;
mod watched;

use std::{collections::BTreeMap, io, path::Path, pin::Pin, sync::Arc, time::Duration};

use api_csi::registration::registration_server::RegistrationServer as WatchedServer;
use api_kubelet::device_plugin::{
    self as v1beta1,
    device_plugin_server::{DevicePlugin as Service, DevicePluginServer},
    registration_client::RegistrationClient,
};
use futures::{Stream, StreamExt};
use lifecycle::Scope;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::{Request, Response, Status, async_trait};

use self::watched::Watched;

type Reply<T> = Result<Response<T>, Status>;

/// A plugin that runs until it is stopped or dropped.
pub struct DevicePlugin {
    shared: Arc<Shared>,
    scope: Scope,
}

struct Shared {
    resource: String,
    devices: watch::Sender<Vec<v1beta1::Device>>,
    options: v1beta1::DevicePluginOptions,
    calls: Mutex<Vec<(&'static str, Vec<String>)>>,
    faults: Mutex<BTreeMap<&'static str, Status>>,
    /// What `GetPreferredAllocation` answers.
    preferred: Mutex<Vec<String>>,
    cdi: Mutex<Vec<String>>,
    /// What it was told in `plugins_registry`.
    told: Mutex<Vec<Result<(), String>>>,
    scope: Scope,
}

/// A healthy device on a NUMA node, or on none.
pub fn device(id: &str, node: Option<i64>) -> v1beta1::Device {
    let topology = node.map(|id| v1beta1::TopologyInfo { nodes: vec![v1beta1::NumaNode { id }] });
    v1beta1::Device { id: id.to_owned(), health: v1beta1::HEALTHY.to_owned(), topology }
}

impl DevicePlugin {
    /// Serves at `FOLDER/NAME.sock`. It is not registered yet, unless the folder is the kubelet's
    /// `plugins_registry`.
    pub fn serve(
        folder: &Path,
        name: &str,
        resource: &str,
        devices: Vec<v1beta1::Device>,
        options: v1beta1::DevicePluginOptions,
    ) -> io::Result<Self> {
        let scope = Scope::new();
        let shared = Arc::new(Shared {
            resource: resource.to_owned(),
            devices: watch::channel(devices).0,
            options,
            calls: Mutex::default(),
            faults: Mutex::default(),
            preferred: Mutex::default(),
            cdi: Mutex::default(),
            told: Mutex::default(),
            scope: scope.clone(),
        });
        let listener = transport::unix_listen(&folder.join(format!("{name}.sock")))?;
        let server = tonic::transport::Server::builder()
            .add_service(DevicePluginServer::new(Plugin(shared.clone())))
            .add_service(WatchedServer::new(Watched(shared.clone())))
            .serve_with_incoming(UnixListenerStream::new(listener));
        drop(scope.spawn("device-plugin", server));
        Ok(Self { shared, scope })
    }

    /// Registers with the kubelet whose folder of device plugins this is.
    pub async fn register(&self, folder: &Path, name: &str) -> Result<(), Status> {
        self.register_as(folder, name, v1beta1::VERSION).await
    }

    pub async fn register_as(
        &self,
        folder: &Path,
        name: &str,
        version: &str,
    ) -> Result<(), Status> {
        let socket = folder.join("kubelet.sock").display().to_string();
        let channel = api_cri::connect(&socket).map_err(|it| Status::unknown(it.to_string()))?;
        let request = v1beta1::RegisterRequest {
            version: version.to_owned(),
            endpoint: format!("{name}.sock"),
            resource_name: self.shared.resource.clone(),
            options: Some(self.shared.options),
        };
        RegistrationClient::new(channel).register(request).await.map(drop)
    }

    /// Tells the kubelet of these devices from now on.
    pub fn set_devices(&self, devices: Vec<v1beta1::Device>) {
        self.shared.devices.send_replace(devices);
    }

    pub fn set_health(&self, id: &str, is_healthy: bool) {
        let health = if is_healthy { v1beta1::HEALTHY } else { v1beta1::UNHEALTHY };
        self.shared.devices.send_modify(|devices| {
            for it in devices.iter_mut().filter(|it| it.id == id) {
                it.health = health.to_owned();
            }
        });
    }

    /// What `GetPreferredAllocation` answers.
    pub fn prefer(&self, ids: &[&str]) {
        *self.shared.preferred.lock() = ids.iter().map(|it| (*it).to_owned()).collect();
    }

    /// CDI devices that `Allocate` names.
    pub fn set_cdi(&self, names: &[&str]) {
        *self.shared.cdi.lock() = names.iter().map(|it| (*it).to_owned()).collect();
    }

    /// The next call of this name fails.
    pub fn inject(&self, call: &'static str, status: Status) {
        self.shared.faults.lock().insert(call, status);
    }

    /// What was asked so far, and for which devices.
    pub fn calls(&self) -> Vec<(&'static str, Vec<String>)> {
        self.shared.calls.lock().clone()
    }

    /// What the kubelet has told it in `plugins_registry`.
    pub fn told(&self) -> Vec<Result<(), String>> {
        self.shared.told.lock().clone()
    }

    /// Ends: nobody is accepted any more, and the stream of devices closes.
    pub async fn stop(&self) {
        self.scope.drain(Duration::from_secs(1)).await;
    }
}

impl Drop for DevicePlugin {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

struct Plugin(Arc<Shared>);

impl Plugin {
    fn enter(&self, call: &'static str, ids: &[String]) -> Result<(), Status> {
        self.0.calls.lock().push((call, ids.to_vec()));
        self.0.faults.lock().remove(call).map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Service for Plugin {
    type ListAndWatchStream =
        Pin<Box<dyn Stream<Item = Result<v1beta1::ListAndWatchResponse, Status>> + Send>>;

    async fn get_device_plugin_options(
        &self,
        _: Request<v1beta1::Empty>,
    ) -> Reply<v1beta1::DevicePluginOptions> {
        self.enter("GetDevicePluginOptions", &[])?;
        Ok(Response::new(self.0.options))
    }

    async fn list_and_watch(&self, _: Request<v1beta1::Empty>) -> Reply<Self::ListAndWatchStream> {
        self.enter("ListAndWatch", &[])?;
        let stream = WatchStream::new(self.0.devices.subscribe());
        let stream = stream.map(|devices| Ok(v1beta1::ListAndWatchResponse { devices }));
        // Connections outlive the listener; a plugin that has ended says nothing more.
        let scope = self.0.scope.clone();
        let stream = stream.take_until(async move { scope.cancelled().await });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<v1beta1::PreferredAllocationRequest>,
    ) -> Reply<v1beta1::PreferredAllocationResponse> {
        let first = request.into_inner().container_requests.into_iter().next().unwrap_or_default();
        self.enter("GetPreferredAllocation", &first.available_device_ids)?;
        let device_ids = self.0.preferred.lock().clone();
        let container_responses =
            vec![v1beta1::ContainerPreferredAllocationResponse { device_ids }];
        Ok(Response::new(v1beta1::PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<v1beta1::AllocateRequest>,
    ) -> Reply<v1beta1::AllocateResponse> {
        let mut container_responses = Vec::new();
        for it in request.into_inner().container_requests {
            self.enter("Allocate", &it.devices_ids)?;
            container_responses.push(self.response(&it.devices_ids));
        }
        Ok(Response::new(v1beta1::AllocateResponse { container_responses }))
    }

    async fn pre_start_container(
        &self,
        request: Request<v1beta1::PreStartContainerRequest>,
    ) -> Reply<v1beta1::PreStartContainerResponse> {
        self.enter("PreStartContainer", &request.into_inner().devices_ids)?;
        Ok(Response::new(v1beta1::PreStartContainerResponse {}))
    }
}

impl Plugin {
    fn response(&self, ids: &[String]) -> v1beta1::ContainerAllocateResponse {
        let device = |id: &String| v1beta1::DeviceSpec {
            container_path: format!("/dev/{id}"),
            host_path: "/dev/null".to_owned(),
            permissions: "rw".to_owned(),
        };
        let mount = v1beta1::Mount {
            container_path: "/etc/device-plugin".to_owned(),
            host_path: "/etc".to_owned(),
            read_only: true,
        };
        let cdi = self.0.cdi.lock().clone();
        v1beta1::ContainerAllocateResponse {
            envs: [("DEVICES".to_owned(), ids.join(","))].into(),
            mounts: vec![mount],
            devices: ids.iter().map(device).collect(),
            annotations: [("device-plugin".to_owned(), self.0.resource.clone())].into(),
            cdi_devices: cdi.into_iter().map(|name| v1beta1::CdiDevice { name }).collect(),
        }
    }
}
