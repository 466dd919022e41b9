//! The pod identity webhook of a cluster: it listens in the control plane's network, and the API
//! server asks it there over TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clock::Clock;
use kube_apiserver::{ApiServer, request::UserInfo};
use lifecycle::Scope;
use pki::Identity;
use pod_identity_webhook::{Associations, Config, Endpoint, Webhook};
use transport::{Place, tls};

use super::region::REGION;

/// EKS's port for it.
const PORT: u16 = 23_443;
const USER: &str = "eks:pod-identity-mutating-webhook";
/// Of telling the API server about it. What takes longer goes on beside the rest.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(10);

/// What a webhook is made of.
pub(crate) struct Parts {
    /// For 127.0.0.1.
    pub(crate) identity: Identity,
    /// Who signed it, in PEM.
    pub(crate) ca_pem: String,
    /// Who signs AWS's endpoints in the VPC, in PEM.
    pub(crate) authority_pem: String,
    pub(crate) associations: Arc<dyn Associations>,
    /// Pods of the cluster have IPv6 addresses.
    pub(crate) is_ipv6: bool,
}

/// Listens in `place`, and has the API server ask there for each new pod.
pub(crate) async fn start(
    parts: Parts,
    api: &ApiServer,
    place: &Place,
    clock: Clock,
    scope: &Scope,
) -> anyhow::Result<()> {
    let client = api.client(UserInfo::new(USER, &[]));
    let config = Config {
        region: Some(REGION.to_owned()),
        sts_regional_endpoints: true,
        authority_pem: Some(parts.authority_pem),
        ..Config::default()
    };
    let config = if parts.is_ipv6 { config.for_ipv6() } else { config };
    let webhook = Webhook::new(client, config, parts.associations);
    let listener = place.listen(SocketAddr::from(([127, 0, 0, 1], PORT)))?;
    let tls = Some(tls::server(&parts.identity, None)?);
    let serving = transport::serve(listener, tls, webhook.service(), scope.clone());
    drop(scope.spawn("pod-identity-webhook", serving));
    let url = format!("https://127.0.0.1:{PORT}/mutate");
    let endpoint = Endpoint { url, ca_pem: parts.ca_pem };
    let announced = tokio::time::timeout(ANNOUNCE_LIMIT, webhook.announce(&endpoint)).await;
    if announced.is_err() {
        tracing::warn!("the API server does not know of the pod identity webhook yet");
    }
    let running = pod_identity_webhook::run(webhook, endpoint, clock, scope.child());
    drop(scope.spawn("pod-identity-audit", running));
    Ok(())
}
