//! The EKS Auth service: a pod's token for credentials of its service account's role.
//!
//! The agent on the pod's node calls it with the node role's rights. In this order: the token's
//! shape, the cluster, the token itself (the cluster's own API server says whose it is: signature,
//! issuer, audience, expiry, and that its pod and account still are), the association, and then STS
//! in the name of `pods.eks.amazonaws.com`, so that the role's trust policy decides.
//!
//! **Invariant:** the credentials belong to the association of the account that the token proves;
//! nothing else in the request has a say.
//!
//! Upstream: Amazon EKS Auth API reference; EKS user guide, "Understand how EKS Pod Identity works".
//! AWS documents no tie between the token and the caller: whoever may call
//! `eks-auth:AssumeRoleForPodIdentity` for the cluster can use a pod's token from anywhere, another
//! node included. It is the same here, and `eksNodeName`, `instanceId` and `zone` are notes.
//! Deviation: the session's name has at most ten characters of the cluster's and of the pod's name;
//! how AWS shortens them is not documented.

mod assume;
mod clusters;
mod errors;
mod token;

use std::sync::{Arc, OnceLock};

use aws_eks_auth::AssumeRoleForPodIdentity;
use clock::Clock;
use region_gateway::{Gateway, Routes};

pub use self::{
    clusters::{Association, Clusters, Target},
    errors::EksAuthError,
};

/// The service that assumes the roles, and the audience of the tokens.
pub const SERVICE: &str = "pods.eks.amazonaws.com";

/// See the crate.
pub struct EksAuth {
    account: String,
    region: String,
    gateway: Gateway,
    clock: Clock,
    clusters: OnceLock<Arc<dyn Clusters>>,
}

impl EksAuth {
    pub fn new(account: &str, region: &str, gateway: &Gateway, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            account: account.to_owned(),
            region: region.to_owned(),
            gateway: gateway.clone(),
            clock,
            clusters: OnceLock::new(),
        })
    }

    /// Until this is called the service is unavailable. A second call changes nothing.
    pub fn connect(&self, clusters: Arc<dyn Clusters>) {
        drop(self.clusters.set(clusters));
    }
}

/// The table for the gateway.
pub fn routes(eks_auth: &Arc<EksAuth>) -> Routes {
    Routes::new().operation::<AssumeRoleForPodIdentity, _>(eks_auth.clone())
}

#[cfg(test)]
mod tests;
