//! Where device plugins register: the kubelet's own socket, and the kubelet's plugin watcher.
//!
//! Upstream: `pkg/kubelet/cm/devicemanager/plugin/v1beta1`.

use std::{fs, io, os::unix::fs::FileTypeExt, path::Path, sync::Arc};

use api_kubelet::device_plugin::{
    self as v1beta1,
    registration_server::{Registration, RegistrationServer},
};
use futures::future::BoxFuture;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, async_trait};
use tracing::debug;

use super::DeviceManager;
use crate::{cm::requests, paths::make_private, plugins::Handler};

const SOCKET: &str = "kubelet.sock";

struct Registrar(Arc<DeviceManager>);

impl DeviceManager {
    /// Listens for plugins. Sockets of an earlier run are removed, which is how plugins learn that they
    /// have to register again.
    pub(crate) fn serve(self: &Arc<Self>) -> io::Result<()> {
        make_private(&self.folder)?;
        for entry in fs::read_dir(&self.folder)?.flatten() {
            if entry.file_type().is_ok_and(|it| it.is_socket()) {
                drop(fs::remove_file(entry.path()));
            }
        }
        let listener = transport::unix_listen(&self.folder.join(SOCKET))?;
        let server = tonic::transport::Server::builder()
            .add_service(RegistrationServer::new(Registrar(self.clone())))
            .serve_with_incoming(UnixListenerStream::new(listener));
        drop(self.scope.spawn("device-plugin-registration", server));
        Ok(())
    }

    /// A plugin has announced itself, here or to the plugin watcher.
    pub(crate) async fn register(
        self: &Arc<Self>,
        resource: &str,
        endpoint: &str,
        versions: &[String],
    ) -> Result<(), String> {
        if !versions.iter().any(|it| it == v1beta1::VERSION) {
            return Err(format!(
                "requested API version {versions:?} is not supported by kubelet. Supported version is [\"v1beta1\"]"
            ));
        }
        if !requests::is_extended(resource) {
            return Err(format!("the ResourceName \"{resource}\" is invalid"));
        }
        self.connect(resource, endpoint).await.map_err(|error| error.to_string())
    }

    /// The socket of a plugin of the plugin watcher is gone. Another one may serve the resource since.
    fn unregister(&self, resource: &str, endpoint: &str) {
        let socket = self.folder.join(endpoint);
        if self.is_served_at(resource, &socket) {
            self.disconnect(resource);
        }
    }

    fn is_served_at(&self, resource: &str, socket: &Path) -> bool {
        let state = self.state.lock();
        let known = state.resources.get(resource).and_then(|it| it.endpoint.as_ref());
        known.is_some_and(|it| it.socket == socket)
    }
}

/// Device plugins of `plugins_registry`.
struct Registry(Arc<DeviceManager>);

/// So that one registry can hold it.
pub(crate) fn handler(manager: &Arc<DeviceManager>) -> Arc<dyn Handler> {
    Arc::new(Registry(manager.clone()))
}

impl Handler for Registry {
    fn kind(&self) -> &'static str {
        "DevicePlugin"
    }

    fn register<'a>(
        &'a self,
        name: &'a str,
        endpoint: &'a str,
        versions: &'a [String],
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.0.register(name, endpoint, versions))
    }

    fn unregister<'a>(&'a self, name: &'a str, endpoint: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.0.unregister(name, endpoint) })
    }
}

#[async_trait]
impl Registration for Registrar {
    async fn register(
        &self,
        request: Request<v1beta1::RegisterRequest>,
    ) -> Result<Response<v1beta1::Empty>, Status> {
        let v1beta1::RegisterRequest { version, endpoint, resource_name, .. } =
            request.into_inner();
        if version != v1beta1::VERSION {
            return Err(Status::unknown(format!(
                "requested API version \"{version}\" is not supported by kubelet. Supported version is [\"v1beta1\"]"
            )));
        }
        match self.0.register(&resource_name, &endpoint, &[version]).await {
            Ok(()) => Ok(Response::new(v1beta1::Empty {})),
            Err(error) => {
                debug!(resource = resource_name, error, "a device plugin was refused");
                Err(Status::unknown(error))
            }
        }
    }
}
