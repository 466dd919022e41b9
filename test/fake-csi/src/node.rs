//! The driver's identity and node services.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use api_csi::v1::{
    self, identity_server::Identity, node_server::Node, volume_capability::AccessType,
};
use tonic::{Request, Response, Status};

use super::{Capability, Driver};

type Reply<T> = Result<Response<T>, Status>;

fn failed(error: impl ToString) -> Status {
    Status::internal(error.to_string())
}

fn is_mounted(path: &Path) -> Result<bool, Status> {
    let mounts = linux_mount::mounts().map_err(failed)?;
    Ok(mounts.iter().any(|it| it.target == path))
}

/// Binds `source` on `target`, once.
fn bind(source: &Path, target: &Path, read_only: bool) -> Result<(), Status> {
    if is_mounted(target)? {
        return Ok(());
    }
    linux_mount::bind(source, target).map_err(failed)?;
    if read_only {
        linux_mount::remount_readonly(target).map_err(failed)?;
    }
    Ok(())
}

/// Unmounts as a driver does: what is in use stays.
fn unmount(target: &Path) -> Result<(), Status> {
    if is_mounted(target)? {
        linux_mount::unmount(target).map_err(failed)?;
    }
    Ok(())
}

fn ignore_missing(result: io::Result<()>) -> Result<(), Status> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

impl Driver {
    fn can(&self, capability: Capability) -> bool {
        self.config.capabilities.contains(&capability)
    }

    fn folder(&self, id: &str) -> Result<PathBuf, Status> {
        let folder = self.config.storage.join(id);
        fs::create_dir_all(&folder).map_err(failed)?;
        Ok(folder)
    }

    fn is_block(capability: Option<&v1::VolumeCapability>) -> bool {
        matches!(capability.and_then(|it| it.access_type.as_ref()), Some(AccessType::Block(_)))
    }

    fn publish_files(&self, it: &v1::NodePublishVolumeRequest) -> Result<(), Status> {
        let target = Path::new(&it.target_path);
        let source = if it.staging_target_path.is_empty() {
            if self.can(Capability::StageUnstageVolume)
                && !it.volume_context.contains_key("csi.storage.k8s.io/ephemeral")
            {
                return Err(Status::failed_precondition("the volume is not staged"));
            }
            self.folder(&it.volume_id)?
        } else {
            let staged = PathBuf::from(&it.staging_target_path);
            if !is_mounted(&staged)? {
                return Err(Status::failed_precondition("the volume is not staged"));
            }
            staged
        };
        if let Err(error) = fs::create_dir(target)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(failed(error));
        }
        bind(&source, target, it.readonly)
    }

    fn publish_device(&self, it: &v1::NodePublishVolumeRequest) -> Result<(), Status> {
        let device = it.volume_context.get("device");
        let device = device.ok_or_else(|| Status::invalid_argument("no device is named"))?;
        let target = Path::new(&it.target_path);
        if !target.exists() {
            fs::write(target, []).map_err(failed)?;
        }
        bind(Path::new(device), target, false)
    }
}

#[tonic::async_trait]
impl Identity for Driver {
    async fn get_plugin_info(
        &self,
        _: Request<v1::GetPluginInfoRequest>,
    ) -> Reply<v1::GetPluginInfoResponse> {
        let name = self.config.name.clone();
        Ok(Response::new(v1::GetPluginInfoResponse {
            name,
            vendor_version: "1".to_owned(),
            ..Default::default()
        }))
    }

    async fn probe(&self, _: Request<v1::ProbeRequest>) -> Reply<v1::ProbeResponse> {
        let ready = Some(v1::BoolValue { value: true });
        Ok(Response::new(v1::ProbeResponse { ready }))
    }
}

#[tonic::async_trait]
impl Node for Driver {
    async fn node_stage_volume(
        &self,
        request: Request<v1::NodeStageVolumeRequest>,
    ) -> Reply<v1::NodeStageVolumeResponse> {
        let it = request.into_inner();
        self.enter("NodeStageVolume", &it.volume_id, &it).await?;
        if !Self::is_block(it.volume_capability.as_ref()) {
            let folder = self.folder(&it.volume_id)?;
            bind(&folder, Path::new(&it.staging_target_path), false)?;
        }
        Ok(Response::new(v1::NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<v1::NodeUnstageVolumeRequest>,
    ) -> Reply<v1::NodeUnstageVolumeResponse> {
        let it = request.into_inner();
        self.enter("NodeUnstageVolume", &it.volume_id, &it).await?;
        unmount(Path::new(&it.staging_target_path))?;
        Ok(Response::new(v1::NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<v1::NodePublishVolumeRequest>,
    ) -> Reply<v1::NodePublishVolumeResponse> {
        let it = request.into_inner();
        self.enter("NodePublishVolume", &it.volume_id, &it).await?;
        if Self::is_block(it.volume_capability.as_ref()) {
            self.publish_device(&it)?;
        } else {
            self.publish_files(&it)?;
        }
        Ok(Response::new(v1::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<v1::NodeUnpublishVolumeRequest>,
    ) -> Reply<v1::NodeUnpublishVolumeResponse> {
        let it = request.into_inner();
        self.enter("NodeUnpublishVolume", &it.volume_id, &it).await?;
        let target = Path::new(&it.target_path);
        unmount(target)?;
        let is_folder = target.is_dir();
        ignore_missing(if is_folder { fs::remove_dir(target) } else { fs::remove_file(target) })?;
        Ok(Response::new(v1::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<v1::NodeGetVolumeStatsRequest>,
    ) -> Reply<v1::NodeGetVolumeStatsResponse> {
        let it = request.into_inner();
        self.enter("NodeGetVolumeStats", &it.volume_id, &it).await?;
        let files = fs::read_dir(&it.volume_path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Status::not_found("the volume is not there"),
            _ => failed(error),
        })?;
        let used: u64 =
            files.flatten().filter_map(|it| it.metadata().ok()).map(|it| it.len()).sum();
        let used = i64::try_from(used).unwrap_or(i64::MAX);
        let total = 1 << 20;
        let unit = v1::volume_usage::Unit::Bytes as i32;
        let usage = vec![v1::VolumeUsage { available: total - used, total, used, unit }];
        let condition = v1::VolumeCondition { abnormal: false, message: "fine".to_owned() };
        let volume_condition = Some(condition);
        Ok(Response::new(v1::NodeGetVolumeStatsResponse { usage, volume_condition }))
    }

    async fn node_expand_volume(
        &self,
        request: Request<v1::NodeExpandVolumeRequest>,
    ) -> Reply<v1::NodeExpandVolumeResponse> {
        let it = request.into_inner();
        self.enter("NodeExpandVolume", &it.volume_id, &it).await?;
        if !is_mounted(Path::new(&it.volume_path))? {
            return Err(Status::not_found("the volume is not published"));
        }
        let capacity_bytes = it.capacity_range.unwrap_or_default().required_bytes;
        Ok(Response::new(v1::NodeExpandVolumeResponse { capacity_bytes }))
    }

    async fn node_get_capabilities(
        &self,
        request: Request<v1::NodeGetCapabilitiesRequest>,
    ) -> Reply<v1::NodeGetCapabilitiesResponse> {
        self.enter("NodeGetCapabilities", "", request.get_ref()).await?;
        let capabilities = self.config.capabilities.iter().map(|it| {
            let rpc = v1::node_service_capability::Rpc { r#type: *it as i32 };
            let r#type = Some(v1::node_service_capability::Type::Rpc(rpc));
            v1::NodeServiceCapability { r#type }
        });
        let capabilities = capabilities.collect();
        Ok(Response::new(v1::NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        request: Request<v1::NodeGetInfoRequest>,
    ) -> Reply<v1::NodeGetInfoResponse> {
        self.enter("NodeGetInfo", "", request.get_ref()).await?;
        let segments = self.config.topology.clone().into_iter().collect();
        Ok(Response::new(v1::NodeGetInfoResponse {
            node_id: self.config.node_id.clone(),
            max_volumes_per_node: self.config.max_volumes,
            accessible_topology: Some(v1::Topology { segments }),
        }))
    }
}
