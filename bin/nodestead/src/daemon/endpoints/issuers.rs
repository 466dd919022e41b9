//! What the endpoints show of themselves: one certificate for all services' names, and another one
//! for the issuers' pages, which every cluster's authority vouches for beside the region's.
//!
//! A pod that is to check its own token reads its issuer's pages, and trusts its cluster's authority
//! (`ca.crt`) and the public ones of its image: none of these knows the region's. So upstream's
//! conformance test of the discovery of issuers finds its way.
//! Deviation: on AWS a public authority signs the issuers' certificate, and no cluster's.

use std::{sync::Arc, time::Duration};

use clock::Clock;
use lifecycle::Scope;
use parking_lot::Mutex;
use pki::{Ca, Identity, Profile, Usage};
use rustls::ServerConfig;
use transport::tls::Named;

use super::REGION;

const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// See the module.
pub(super) struct Certificates {
    authority: Ca,
    /// The issuers', without what vouches for their authority.
    issuers: Identity,
    named: Arc<Named>,
    /// What the authorities of clusters say of the region's, each until its control plane ends.
    vouchers: Mutex<Vec<(Scope, String)>>,
}

impl Certificates {
    pub(super) fn new(authority: &Ca, clock: Clock) -> anyhow::Result<Self> {
        let authority = Ca::from_pem(authority.certificate_pem(), authority.key_pem())?;
        let issued = |names: Vec<String>| {
            authority.issue(&Profile {
                cn: format!("{REGION}.amazonaws.com"),
                organizations: Vec::new(),
                sans: names,
                usages: vec![Usage::Server],
                not_after: clock.now() + LIFE,
            })
        };
        let (issuers, others) = (issued(vec![host()])?, issued(names())?);
        let named = Named::new(&host(), &issuers, &others)?;
        Ok(Self { authority, issuers, named, vouchers: Mutex::default() })
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        self.named.server()
    }

    pub(super) fn vouch(&self, cluster: &Ca, scope: &Scope) -> anyhow::Result<()> {
        let voucher = cluster.vouch_for(&self.authority, &host())?;
        let mut vouchers = self.vouchers.lock();
        vouchers.retain(|(scope, _)| !scope.is_cancelled());
        vouchers.push((scope.clone(), voucher));
        let mut shown = self.issuers.clone();
        shown.certificate_pem.extend(vouchers.iter().map(|(_, pem)| pem.as_str()));
        Ok(self.named.replace(&shown)?)
    }
}

/// The issuers' host. Its certificate has no other name: no cluster vouches for another one.
fn host() -> String {
    format!("oidc.eks.{REGION}.amazonaws.com")
}

/// The names that the resolver gives the endpoints' address for.
fn names() -> Vec<String> {
    let names = [
        format!("*.{REGION}.amazonaws.com"),
        "*.amazonaws.com".to_owned(),
        format!("*.ecr.{REGION}.amazonaws.com"),
        format!("*.dkr.ecr.{REGION}.amazonaws.com"),
        format!("*.registry.{REGION}.amazonaws.com"),
        format!("*.eks.{REGION}.amazonaws.com"),
        format!("*.{REGION}.api.aws"),
    ];
    names.to_vec()
}

#[cfg(test)]
mod tests;
