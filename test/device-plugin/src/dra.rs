//! A driver of dynamic resources (`v1` and `v1beta1`) that prepares what a test says.
//!
//! It is a real gRPC server on one Unix socket in the kubelet's `plugins_registry`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api_csi::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
    registration_server::{Registration, RegistrationServer},
};
use api_kubelet::{
    dra::{self, dra_plugin_server as v1},
    dra_health::{
        self, NodeWatchResourcesRequest, NodeWatchResourcesResponse,
        dra_resource_health_server::{DraResourceHealth, DraResourceHealthServer},
    },
    dra_v1beta1::dra_plugin_server as v1beta1,
};
use futures::{Stream, StreamExt};
use lifecycle::Scope;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::{Request, Response, Status, async_trait};

type Reply<T> = Result<Response<T>, Status>;

/// A call, and the names of the claims that it was about.
pub type Call = (&'static str, Vec<String>);

/// A driver that runs until it is stopped or dropped.
pub struct DraDriver {
    shared: Arc<Shared>,
    scope: Scope,
}

struct Shared {
    name: String,
    services: Vec<String>,
    /// What each claim is given.
    devices: Mutex<Vec<dra::Device>>,
    health: watch::Sender<Vec<dra_health::DeviceHealth>>,
    calls: Mutex<Vec<Call>>,
    faults: Mutex<BTreeMap<&'static str, Status>>,
    failing: Mutex<BTreeMap<&'static str, Status>>,
    /// Claims that a call fails for, and with which words.
    claim_faults: Mutex<BTreeMap<&'static str, String>>,
    told: Mutex<Vec<Result<(), String>>>,
    /// Calls of this name are not answered.
    held: watch::Sender<&'static str>,
    /// The claims (by UID) that a call is about which is not answered yet.
    under_way: Mutex<BTreeSet<String>>,
    has_overlapped: AtomicBool,
    scope: Scope,
}

/// A device of the pool `pool`.
pub fn device(name: &str, requests: &[&str], cdi: &[&str]) -> dra::Device {
    let list = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect();
    dra::Device {
        request_names: list(requests),
        pool_name: "pool".to_owned(),
        device_name: name.to_owned(),
        cdi_device_ids: list(cdi),
        share_id: None,
    }
}

impl DraDriver {
    /// Serves in the kubelet's `plugins_registry`, as the driver `name` with these services.
    pub fn serve(registry: &Path, name: &str, services: &[&str]) -> io::Result<Self> {
        fs::create_dir_all(registry)?;
        let scope = Scope::new();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            services: services.iter().map(|it| (*it).to_owned()).collect(),
            devices: Mutex::default(),
            health: watch::channel(Vec::new()).0,
            calls: Mutex::default(),
            faults: Mutex::default(),
            failing: Mutex::default(),
            claim_faults: Mutex::default(),
            told: Mutex::default(),
            held: watch::channel("").0,
            under_way: Mutex::default(),
            has_overlapped: AtomicBool::new(false),
            scope: scope.clone(),
        });
        let listener = transport::unix_listen(&registry.join(format!("{name}-reg.sock")))?;
        let driver = || Driver(shared.clone());
        let server = tonic::transport::Server::builder()
            .add_service(RegistrationServer::new(driver()))
            .add_service(v1::DraPluginServer::new(driver()))
            .add_service(v1beta1::DraPluginServer::new(driver()))
            .add_service(DraResourceHealthServer::new(driver()))
            .serve_with_incoming(UnixListenerStream::new(listener));
        drop(scope.spawn("dra-driver", server));
        Ok(Self { shared, scope })
    }

    /// What each claim is given from now on.
    pub fn set_devices(&self, devices: Vec<dra::Device>) {
        *self.shared.devices.lock() = devices;
    }

    /// Tells the kubelet of the health of one device of the pool `pool`.
    pub fn set_health(&self, device: &str, health: dra_health::HealthStatus, message: &str) {
        let device = dra_health::DeviceIdentifier {
            pool_name: "pool".to_owned(),
            device_name: device.to_owned(),
        };
        self.shared.health.send_replace(vec![dra_health::DeviceHealth {
            device: Some(device),
            health: health.into(),
            message: message.to_owned(),
            ..dra_health::DeviceHealth::default()
        }]);
    }

    /// The next call of this name fails.
    pub fn inject(&self, call: &'static str, status: Status) {
        self.shared.faults.lock().insert(call, status);
    }

    /// Calls of this name fail until they are told otherwise.
    pub fn fail(&self, call: &'static str, status: Option<Status>) {
        let mut failing = self.shared.failing.lock();
        match status {
            Some(status) => drop(failing.insert(call, status)),
            None => drop(failing.remove(call)),
        }
    }

    /// The next call of this name fails for the claims that it is about.
    pub fn inject_claim(&self, call: &'static str, error: &str) {
        self.shared.claim_faults.lock().insert(call, error.to_owned());
    }

    /// Calls of this name are not answered until another is held; the empty name holds none.
    pub fn hold(&self, call: &'static str) {
        self.shared.held.send_replace(call);
    }

    /// Whether something was asked for a claim while another call for it was not answered yet.
    pub fn has_overlapped(&self) -> bool {
        self.shared.has_overlapped.load(Ordering::Relaxed)
    }

    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().clone()
    }

    /// What the kubelet has told it.
    pub fn told(&self) -> Vec<Result<(), String>> {
        self.shared.told.lock().clone()
    }

    /// Ends; its socket stays behind, as after the death of a process.
    pub async fn stop(&self) {
        self.scope.drain(Duration::from_secs(1)).await;
    }
}

impl Drop for DraDriver {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

struct Driver(Arc<Shared>);

/// A call that is not answered yet.
struct UnderWay<'a> {
    shared: &'a Shared,
    claims: Vec<String>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.shared.under_way.lock();
        under_way.retain(|it| !self.claims.contains(it));
    }
}

impl Driver {
    async fn enter(&self, call: &'static str, claims: &[dra::Claim]) -> Result<String, Status> {
        let uids: Vec<_> = claims.iter().map(|it| it.uid.clone()).collect();
        for uid in &uids {
            if !self.0.under_way.lock().insert(uid.clone()) {
                self.0.has_overlapped.store(true, Ordering::Relaxed);
            }
        }
        let _under_way = UnderWay { shared: &self.0, claims: uids };
        let answer = self.answer(call, claims);
        drop(self.0.held.subscribe().wait_for(|it| *it != call).await);
        answer
    }

    fn answer(&self, call: &'static str, claims: &[dra::Claim]) -> Result<String, Status> {
        let names = claims.iter().map(|it| it.name.clone()).collect();
        self.0.calls.lock().push((call, names));
        let failing = self.0.failing.lock().get(call).cloned();
        if let Some(status) = self.0.faults.lock().remove(call).or(failing) {
            return Err(status);
        }
        Ok(self.0.claim_faults.lock().remove(call).unwrap_or_default())
    }

    async fn prepare(
        &self,
        call: &'static str,
        request: dra::NodePrepareResourcesRequest,
    ) -> Reply<dra::NodePrepareResourcesResponse> {
        let error = self.enter(call, &request.claims).await?;
        let devices = self.0.devices.lock().clone();
        let answer = dra::NodePrepareResourceResponse { devices, error };
        let claims = request.claims.into_iter().map(|it| (it.uid, answer.clone())).collect();
        Ok(Response::new(dra::NodePrepareResourcesResponse { claims }))
    }

    async fn unprepare(
        &self,
        call: &'static str,
        request: dra::NodeUnprepareResourcesRequest,
    ) -> Reply<dra::NodeUnprepareResourcesResponse> {
        let error = self.enter(call, &request.claims).await?;
        let answer = dra::NodeUnprepareResourceResponse { error };
        let claims = request.claims.into_iter().map(|it| (it.uid, answer.clone())).collect();
        Ok(Response::new(dra::NodeUnprepareResourcesResponse { claims }))
    }
}

#[async_trait]
impl v1::DraPlugin for Driver {
    async fn node_prepare_resources(
        &self,
        request: Request<dra::NodePrepareResourcesRequest>,
    ) -> Reply<dra::NodePrepareResourcesResponse> {
        self.prepare("NodePrepareResources", request.into_inner()).await
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<dra::NodeUnprepareResourcesRequest>,
    ) -> Reply<dra::NodeUnprepareResourcesResponse> {
        self.unprepare("NodeUnprepareResources", request.into_inner()).await
    }
}

#[async_trait]
impl v1beta1::DraPlugin for Driver {
    async fn node_prepare_resources(
        &self,
        request: Request<dra::NodePrepareResourcesRequest>,
    ) -> Reply<dra::NodePrepareResourcesResponse> {
        self.prepare("v1beta1 NodePrepareResources", request.into_inner()).await
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<dra::NodeUnprepareResourcesRequest>,
    ) -> Reply<dra::NodeUnprepareResourcesResponse> {
        self.unprepare("v1beta1 NodeUnprepareResources", request.into_inner()).await
    }
}

#[async_trait]
impl DraResourceHealth for Driver {
    type NodeWatchResourcesStream =
        Pin<Box<dyn Stream<Item = Result<NodeWatchResourcesResponse, Status>> + Send>>;

    async fn node_watch_resources(
        &self,
        _: Request<NodeWatchResourcesRequest>,
    ) -> Reply<Self::NodeWatchResourcesStream> {
        let stream = WatchStream::new(self.0.health.subscribe());
        let stream = stream.map(|devices| Ok(NodeWatchResourcesResponse { devices }));
        let scope = self.0.scope.clone();
        let stream = stream.take_until(async move { scope.cancelled().await });
        Ok(Response::new(Box::pin(stream)))
    }
}

#[async_trait]
impl Registration for Driver {
    async fn get_info(&self, _: Request<InfoRequest>) -> Reply<PluginInfo> {
        Ok(Response::new(PluginInfo {
            r#type: "DRAPlugin".to_owned(),
            name: self.0.name.clone(),
            // Where it announces itself is where it serves.
            endpoint: String::new(),
            supported_versions: self.0.services.clone(),
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Reply<RegistrationStatusResponse> {
        let RegistrationStatus { plugin_registered, error } = request.into_inner();
        self.0.told.lock().push(if plugin_registered { Ok(()) } else { Err(error) });
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
