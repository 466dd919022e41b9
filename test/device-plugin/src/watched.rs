//! The side of a plugin that announces itself in the kubelet's `plugins_registry`.

use std::sync::Arc;

use api_csi::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
    registration_server::Registration,
};
use api_kubelet::device_plugin as v1beta1;
use tonic::{Request, Response, Status, async_trait};

use crate::Shared;

pub(crate) struct Watched(pub Arc<Shared>);

#[async_trait]
impl Registration for Watched {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "DevicePlugin".to_owned(),
            name: self.0.resource.clone(),
            // Where it announces itself is where it serves.
            endpoint: String::new(),
            supported_versions: vec![v1beta1::VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus { plugin_registered, error } = request.into_inner();
        let told = if plugin_registered { Ok(()) } else { Err(error) };
        self.0.told.lock().push(told);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
