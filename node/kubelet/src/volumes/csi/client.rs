//! A driver as this kubelet calls it: each call with a deadline, counted, its failure in gRPC's words.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use api_csi::{
    NodeClient,
    v1::{self, node_service_capability::rpc::Type as CapabilityType},
};
use tokio::time::Instant;
use tonic::{Code, Response, Status};

use crate::{cri::code_name, metrics::Metrics};

/// Upstream's `csiTimeout`.
const LIMIT: Duration = Duration::from_secs(120);

/// A call that a driver refused or did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {} desc = {message}", code_name(*.code))]
pub(crate) struct RpcError {
    pub call: &'static str,
    pub code: Code,
    pub message: String,
}

impl RpcError {
    /// Whether the driver has finished with the call; otherwise it may still be at it.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(
            self.code,
            Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Unavailable
                | Code::ResourceExhausted
                | Code::Aborted
        )
    }
}

/// A driver that has registered itself. Clones share the connection, which comes back by itself.
#[derive(Clone)]
pub(crate) struct Driver {
    pub endpoint: PathBuf,
    client: NodeClient,
    name: String,
    metrics: Arc<Metrics>,
}

/// What a driver's node service can do beside publishing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub stages: bool,
    pub has_stats: bool,
    pub expands: bool,
    pub knows_single_writers: bool,
    pub sets_group: bool,
}

impl Driver {
    pub(super) fn new(
        name: &str,
        endpoint: PathBuf,
        channel: tonic::transport::Channel,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { endpoint, client: NodeClient::new(channel), name: name.to_owned(), metrics }
    }

    async fn call<T>(
        &self,
        call: &'static str,
        reply: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, RpcError> {
        let begun = Instant::now();
        let result = in_time(call, reply).await;
        let code = result.as_ref().err().map_or(Code::Ok, |it| it.code);
        let method = format!("/csi.v1.Node/{call}");
        let labels = [
            ("driver_name", self.name.as_str()),
            ("grpc_status_code", code_name(code)),
            ("method_name", method.as_str()),
            ("migrated", "false"),
        ];
        self.metrics.observe("csi_operations_seconds", &labels, begun.elapsed());
        result
    }

    pub(super) async fn info(&self) -> Result<v1::NodeGetInfoResponse, RpcError> {
        let mut client = self.client.clone();
        self.call("NodeGetInfo", client.node_get_info(v1::NodeGetInfoRequest {})).await
    }

    pub(super) async fn capabilities(&self) -> Result<Capabilities, RpcError> {
        let mut client = self.client.clone();
        let asked = client.node_get_capabilities(v1::NodeGetCapabilitiesRequest {});
        let reply = self.call("NodeGetCapabilities", asked).await?;
        let named: Vec<i32> = reply
            .capabilities
            .into_iter()
            .filter_map(|it| it.r#type)
            .map(|v1::node_service_capability::Type::Rpc(rpc)| rpc.r#type)
            .collect();
        let has = |wanted: CapabilityType| named.contains(&(wanted as i32));
        Ok(Capabilities {
            stages: has(CapabilityType::StageUnstageVolume),
            has_stats: has(CapabilityType::GetVolumeStats),
            expands: has(CapabilityType::ExpandVolume),
            knows_single_writers: has(CapabilityType::SingleNodeMultiWriter),
            sets_group: has(CapabilityType::VolumeMountGroup),
        })
    }

    pub(super) async fn stage(&self, request: v1::NodeStageVolumeRequest) -> Result<(), RpcError> {
        let mut client = self.client.clone();
        self.call("NodeStageVolume", client.node_stage_volume(request)).await.map(drop)
    }

    pub(super) async fn unstage(
        &self,
        request: v1::NodeUnstageVolumeRequest,
    ) -> Result<(), RpcError> {
        let mut client = self.client.clone();
        self.call("NodeUnstageVolume", client.node_unstage_volume(request)).await.map(drop)
    }

    pub(super) async fn publish(
        &self,
        request: v1::NodePublishVolumeRequest,
    ) -> Result<(), RpcError> {
        let mut client = self.client.clone();
        self.call("NodePublishVolume", client.node_publish_volume(request)).await.map(drop)
    }

    pub(super) async fn unpublish(
        &self,
        request: v1::NodeUnpublishVolumeRequest,
    ) -> Result<(), RpcError> {
        let mut client = self.client.clone();
        self.call("NodeUnpublishVolume", client.node_unpublish_volume(request)).await.map(drop)
    }

    pub(super) async fn expand(
        &self,
        request: v1::NodeExpandVolumeRequest,
    ) -> Result<v1::NodeExpandVolumeResponse, RpcError> {
        let mut client = self.client.clone();
        self.call("NodeExpandVolume", client.node_expand_volume(request)).await
    }

    pub(super) async fn stats(
        &self,
        request: v1::NodeGetVolumeStatsRequest,
    ) -> Result<v1::NodeGetVolumeStatsResponse, RpcError> {
        let mut client = self.client.clone();
        self.call("NodeGetVolumeStats", client.node_get_volume_stats(request)).await
    }
}

async fn in_time<T>(
    call: &'static str,
    reply: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, RpcError> {
    match tokio::time::timeout(LIMIT, reply).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => {
            Err(RpcError { call, code: status.code(), message: status.message().to_owned() })
        }
        Err(_) => Err(RpcError {
            call,
            code: Code::DeadlineExceeded,
            message: "context deadline exceeded".to_owned(),
        }),
    }
}
