//! The public endpoints of clusters: the API servers' sockets in the routers of all VPCs.
//!
//! Who gets to them is decided by the router's rules; here is only who answers.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context;
use kube_apiserver::ApiService;
use lifecycle::Scope;
use parking_lot::Mutex;
use region_vpc::VpcSpec;
use rustls::ServerConfig;
use transport::Place;

use super::HTTPS;

/// An API server that runs.
#[derive(Clone)]
pub(crate) struct PublicApi {
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) service: ApiService,
    /// Ends with the API server.
    pub(crate) scope: Scope,
}

/// See the module.
#[derive(Default)]
pub(super) struct Public {
    apis: Mutex<BTreeMap<Ipv4Addr, PublicApi>>,
    /// What listens, by VPC and address.
    served: Mutex<BTreeMap<(String, Ipv4Addr), Scope>>,
}

impl Public {
    pub(super) fn publish(&self, address: Ipv4Addr, api: PublicApi) {
        self.apis.lock().insert(address, api);
    }

    /// Makes the VPC's listeners those that it shall have, of the API servers that run.
    pub(super) fn ensure(&self, vpc: &VpcSpec) -> anyhow::Result<()> {
        let mut apis = self.apis.lock();
        apis.retain(|_, api| !api.scope.is_cancelled());
        let mut served = self.served.lock();
        served.retain(|(id, address), scope| {
            let is_wanted = *id != vpc.id || vpc.public_endpoints.contains_key(address);
            if !is_wanted {
                scope.cancel();
            }
            is_wanted && !scope.is_cancelled()
        });
        for address in vpc.public_endpoints.keys() {
            let Some(api) = apis.get(address) else { continue };
            let key = (vpc.id.clone(), *address);
            if served.contains_key(&key) {
                continue;
            }
            let socket = SocketAddr::from((*address, HTTPS));
            let listener = Place::named(&vpc.netns)
                .listen(socket)
                .with_context(|| format!("a cluster's public endpoint, {address}"))?;
            let scope = api.scope.child();
            let serving = transport::serve(
                listener,
                Some(api.tls.clone()),
                api.service.clone(),
                scope.clone(),
            );
            drop(scope.spawn("public endpoint", serving));
            served.insert(key, scope);
        }
        Ok(())
    }

    pub(super) fn remove(&self, vpc: &str) {
        self.served.lock().retain(|(id, _), scope| {
            if id == vpc {
                scope.cancel();
            }
            id != vpc
        });
    }
}
