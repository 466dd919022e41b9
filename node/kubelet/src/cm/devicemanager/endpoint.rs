//! A device plugin as the kubelet calls it.
//!
//! Upstream: `pkg/kubelet/cm/devicemanager/endpoint.go`.
//!
//! **Invariant:** no call here waits for ever; only the stream of devices does, and it ends with its
//! plugin.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use api_kubelet::device_plugin::{
    self as v1beta1, device_plugin_client::DevicePluginClient as Client,
};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

use super::state::Ids;

/// Upstream's limit for a plugin that is asked for its options, and for `PreStartContainer`.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const PRE_START_LIMIT: Duration = Duration::from_secs(30);
/// Upstream has none here: a plugin may reset a device in `Allocate`.
const ALLOCATE_LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    client: Client<api_cri::Channel>,
    pub socket: PathBuf,
    /// Ends the stream of devices.
    pub gone: CancellationToken,
    pub options: v1beta1::DevicePluginOptions,
}

/// A call that failed, as upstream words it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct PluginError(String);

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, PluginError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => {
            let (code, message) = (crate::cri::code_name(status.code()), status.message());
            Err(PluginError(format!("rpc error: code = {code} desc = {message}")))
        }
        Err(_) => {
            let text = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
            Err(PluginError(text.to_owned()))
        }
    }
}

impl Endpoint {
    pub(super) async fn connect(socket: &Path) -> Result<Self, PluginError> {
        let channel = api_cri::connect(&socket.display().to_string())
            .map_err(|error| PluginError(error.to_string()))?;
        let mut client = Client::new(channel);
        let asked = client.get_device_plugin_options(v1beta1::Empty {});
        let options = within(CONNECT_LIMIT, asked).await.map_err(|error| {
            PluginError(format!("failed to get device plugin options: {error}"))
        })?;
        let (socket, gone) = (socket.to_owned(), CancellationToken::new());
        Ok(Self { client, socket, gone, options })
    }

    /// The devices, again with every change.
    pub(super) async fn list_and_watch(
        &self,
    ) -> Result<Streaming<v1beta1::ListAndWatchResponse>, PluginError> {
        let mut client = self.client.clone();
        within(CONNECT_LIMIT, client.list_and_watch(v1beta1::Empty {})).await
    }

    pub(super) async fn allocate(
        &self,
        ids: &Ids,
    ) -> Result<Vec<v1beta1::ContainerAllocateResponse>, PluginError> {
        let devices_ids = ids.iter().cloned().collect();
        let container_requests = vec![v1beta1::ContainerAllocateRequest { devices_ids }];
        let mut client = self.client.clone();
        let call = client.allocate(v1beta1::AllocateRequest { container_requests });
        Ok(within(ALLOCATE_LIMIT, call).await?.container_responses)
    }

    /// Empty when the plugin does not care.
    pub(super) async fn preferred(
        &self,
        available: &Ids,
        must_include: &Ids,
        size: usize,
    ) -> Result<Ids, PluginError> {
        if !self.options.get_preferred_allocation_available {
            return Ok(Ids::new());
        }
        let request = v1beta1::ContainerPreferredAllocationRequest {
            available_device_ids: available.iter().cloned().collect(),
            must_include_device_ids: must_include.iter().cloned().collect(),
            allocation_size: i32::try_from(size).unwrap_or(i32::MAX),
        };
        let request = v1beta1::PreferredAllocationRequest { container_requests: vec![request] };
        let mut client = self.client.clone();
        let reply = within(ALLOCATE_LIMIT, client.get_preferred_allocation(request)).await;
        let reply = reply.map_err(|error| {
            PluginError(format!(
                "device plugin GetPreferredAllocation rpc failed with err: {error}"
            ))
        })?;
        let first = reply.container_responses.into_iter().next().unwrap_or_default();
        Ok(first.device_ids.into_iter().collect())
    }

    pub(super) async fn pre_start(&self, ids: &Ids) -> Result<(), PluginError> {
        let devices_ids = ids.iter().cloned().collect();
        let mut client = self.client.clone();
        let call = client.pre_start_container(v1beta1::PreStartContainerRequest { devices_ids });
        within(PRE_START_LIMIT, call).await.map(drop).map_err(|error| {
            PluginError(format!("device plugin PreStartContainer rpc failed with err: {error}"))
        })
    }
}
