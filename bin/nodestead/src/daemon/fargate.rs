//! The Fargate webhook of a cluster: it listens in the control plane's network, and EKS has the API
//! server ask there as long as the cluster has Fargate profiles.

use std::net::SocketAddr;

use lifecycle::Scope;
use pki::Identity;
use region_eks::{FargateEndpoint, FargateWebhook};
use transport::{Place, tls};

const PORT: u16 = 23_445;

/// Listens in `place`; `identity` is for 127.0.0.1, and `ca_pem` who signed it.
pub(crate) fn start(
    webhook: FargateWebhook,
    identity: &Identity,
    ca_pem: &str,
    place: &Place,
    scope: &Scope,
) -> anyhow::Result<FargateEndpoint> {
    let listener = place.listen(SocketAddr::from(([127, 0, 0, 1], PORT)))?;
    let tls = Some(tls::server(identity, None)?);
    let serving = transport::serve(listener, tls, webhook, scope.clone());
    drop(scope.spawn("Fargate webhook", serving));
    let url = format!("https://127.0.0.1:{PORT}/mutate");
    Ok(FargateEndpoint { url, ca_pem: ca_pem.to_owned() })
}
