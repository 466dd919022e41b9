//! Requests that go on to kubelets, pods and Services.
//!
//! Everything is dialled from one network namespace (the control plane's), so that a security group
//! that closes a kubelet's port breaks `logs` and `exec` here as it does on EKS.
//!
//! Deviation: streams are handed to the kubelet as they come; upstream turns WebSocket into SPDY
//! for kubelets that cannot speak it.

mod dial;
mod forward;
mod html;
mod kubelet;
mod log_socket;
mod target;
mod upgrade;
mod x509;

pub(crate) use self::{dial::Secure, upgrade::Tunnel};

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, Request, Response, header};
use lifecycle::Scope;
use rustls::ClientConfig;
use transport::{Body, Place, tls};

use crate::{
    authz::Objects,
    request::{RequestInfo, UserInfo},
    status::Status,
};

/// Where and as whom kubelets, pods and Services are dialled.
#[derive(Clone, Debug)]
pub struct Config {
    pub place: Place,
    /// The API server's identity for kubelets, and the authority of their serving certificates
    /// (`transport::tls::client`).
    pub kubelet_tls: Option<Arc<ClientConfig>>,
    /// Upstream's is 30 s.
    pub dial_limit: Duration,
    /// The owner of connections and tunnels.
    pub scope: Scope,
}

impl Default for Config {
    fn default() -> Self {
        let (place, scope) = (Place::Here, Scope::new());
        Self { place, kubelet_tls: None, dial_limit: Duration::from_secs(30), scope }
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    config: Config,
    objects: Arc<dyn Objects>,
}

impl Proxy {
    pub fn new(config: Config, objects: impl Objects) -> Self {
        Self { config, objects: Arc::new(objects) }
    }

    /// Answers `pods/{log,exec,attach,portforward,proxy}`, `nodes/proxy`, `services/proxy`. The
    /// request's upgrade (`hyper::upgrade::on`) is still to be taken.
    pub async fn connect(
        &self,
        _user: &UserInfo,
        info: &RequestInfo,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        // The caller's credentials are for us, not for whoever is behind us.
        strip_credentials(request.headers_mut());
        match (info.resource.as_str(), info.subresource.as_str()) {
            ("pods", "log") => self.log(info, request).await,
            ("pods", "exec" | "attach" | "portforward") => self.stream(info, request).await,
            ("pods" | "nodes" | "services", "proxy") => self.forward(info, request).await,
            _ => Err(Status::method_not_allowed(&info.verb, &info.group_resource())),
        }
    }
}

/// A ready endpoint of `name:port`, for whoever else asks Services.
pub(crate) fn service(
    objects: &dyn Objects,
    namespace: &str,
    name: &str,
) -> Result<SocketAddr, Status> {
    target::service(objects, namespace, name).map(|it| it.address)
}

/// A failed dial in the words of Go's `net` package.
pub(crate) fn dial_reason(address: SocketAddr, error: &io::Error) -> String {
    dial::told(address, error)
}

/// A request handed on as it is, but for what belongs to one connection; an upgrade, too.
pub(crate) async fn hand_on(
    config: &Config,
    address: SocketAddr,
    secure: Secure,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    strip_credentials(request.headers_mut());
    let path = request.uri().path_and_query().map_or("/", |it| it.as_str()).to_owned();
    if request.headers().contains_key(header::UPGRADE) {
        let answer = upgrade::tunnel(config, address, Some(secure), &path, request).await?;
        return Ok(match answer {
            upgrade::Answer::Switched(response) => response,
            upgrade::Answer::Refused(response) => forward::answer(response),
        });
    }
    let request = forward::request(request, &path, address)?;
    let sent = dial::send(config, address, Some(secure), request).await;
    sent.map(forward::answer)
        .map_err(|error| Status::unavailable(format!("error trying to reach service: {error}")))
}

/// How servers are asked that these authorities vouch for: what is wrong with their certificates is
/// told as Go tells it.
pub(crate) fn client(
    authorities: &str,
    identity: Option<&tls::Identity>,
) -> io::Result<Arc<ClientConfig>> {
    tls::client_telling(authorities, identity, x509::in_gos_order)
}

/// Where distributions keep the authorities that a machine trusts (Go's `crypto/x509` looks there).
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Those, where there are any.
pub(crate) fn machine_authorities() -> Option<String> {
    BUNDLES.iter().find_map(|it| std::fs::read_to_string(it).ok())
}

fn strip_credentials(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    let impersonation: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in impersonation {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;
