//! The registration's side of the driver.

use api_csi::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
    registration_server::Registration,
};
use tonic::{Request, Response, Status};

use super::Driver;

#[tonic::async_trait]
impl Registration for Driver {
    async fn get_info(
        &self,
        request: Request<InfoRequest>,
    ) -> Result<Response<PluginInfo>, Status> {
        self.enter("GetInfo", "", request.get_ref()).await?;
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: self.config.name.clone(),
            endpoint: self.config.socket.display().to_string(),
            supported_versions: self.config.versions.clone(),
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        let result = if status.plugin_registered { Ok(()) } else { Err(status.error) };
        self.state.lock().registered = Some(result);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
