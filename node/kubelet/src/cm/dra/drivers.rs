//! The drivers that have registered themselves, and what is asked of them.
//!
//! Two instances of a driver may be there while it is replaced: the newer one is asked. When the last
//! is gone, the cluster is told after a while that the node offers its devices no more.
//!
//! Upstream: `pkg/kubelet/cm/dra/plugin`.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use api_kubelet::{
    dra::{self, dra_plugin_client::DraPluginClient},
    dra_v1beta1::{self, dra_plugin_client::DraPluginClient as BetaClient},
};
use futures::future::BoxFuture;
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{debug, info};

use super::{DraError, DraManager};
use crate::plugins::Handler;

/// Newest first.
const SERVICES: [&str; 2] = [dra::SERVICE, dra_v1beta1::SERVICE];
/// Of one call.
const LIMIT: Duration = Duration::from_secs(45);
/// A driver that is replaced has this long to come back.
const WITHDRAW_DELAY: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// One instance of a driver.
#[derive(Clone)]
pub(super) struct Driver {
    endpoint: String,
    service: &'static str,
    pub channel: api_cri::Channel,
    pub gone: CancellationToken,
}

pub(super) struct Drivers {
    client: Client,
    node: String,
    /// In the order in which they came.
    known: Mutex<BTreeMap<String, Vec<Driver>>>,
}

impl Drivers {
    pub(super) fn new(client: Client, node: String) -> Self {
        Self { client, node, known: Mutex::default() }
    }

    pub(super) fn get(&self, name: &str) -> Result<Driver, DraError> {
        let known = self.known.lock();
        let newest = known.get(name).and_then(|it| it.last());
        newest.cloned().ok_or_else(|| DraError::NotRegistered(name.to_owned()))
    }

    fn is_there(&self, name: &str) -> bool {
        self.known.lock().contains_key(name)
    }

    fn add(&self, name: &str, endpoint: &str, services: &[String]) -> Result<Driver, String> {
        let service = choose(services).map_err(|error| {
            format!(
                "invalid supported gRPC versions of DRA driver plugin {name} at endpoint {endpoint}: {error}"
            )
        })?;
        let channel = api_cri::connect(endpoint).map_err(|error| {
            format!(
                "create gRPC connection to DRA driver {name} plugin at endpoint {endpoint}: {error}"
            )
        })?;
        let mut known = self.known.lock();
        if known.get(name).is_some_and(|all| all.iter().any(|it| it.endpoint == endpoint)) {
            // One instance does not take the place of another one.
            return Err(format!(
                "endpoint {endpoint} already registered for DRA driver plugin {name}"
            ));
        }
        let gone = CancellationToken::new();
        let driver = Driver { endpoint: endpoint.to_owned(), service, channel, gone };
        known.entry(name.to_owned()).or_default().push(driver.clone());
        Ok(driver)
    }

    /// Says whether it was the last instance.
    fn remove(&self, name: &str, endpoint: &str) -> bool {
        let mut known = self.known.lock();
        let Some(all) = known.get_mut(name) else { return false };
        let Some(at) = all.iter().position(|it| it.endpoint == endpoint) else { return false };
        all.remove(at).gone.cancel();
        let is_last = all.is_empty();
        if is_last {
            known.remove(name);
        }
        is_last
    }

    /// Deletes the slices of this node, of one driver or of all, for as long as it takes.
    pub(super) fn withdraw(&self, driver: Option<&str>) -> impl Future<Output = ()> + use<> {
        let mut fields = format!("spec.nodeName={}", self.node);
        if let Some(driver) = driver {
            fields = format!("spec.driver={driver},{fields}");
        }
        let api = Api::<ResourceSlice>::all(self.client.clone());
        async move {
            let list = ListParams::default().fields(&fields);
            let how = DeleteParams::default();
            let mut retry = FIRST_RETRY;
            loop {
                let deleted = api.delete_collection(&how, &list);
                match tokio::time::timeout(LIMIT, deleted).await {
                    Ok(Ok(_)) => return,
                    // The cluster has no such resource.
                    Ok(Err(kube::Error::Api(status))) if status.code == 404 => return,
                    Ok(Err(error)) => {
                        let error = telemetry::chain(&error).to_string();
                        debug!(fields, error, "ResourceSlices were not deleted");
                    }
                    Err(_) => debug!(fields, "ResourceSlices were not deleted in time"),
                }
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }
}

/// The plugin's own order counts.
fn choose(services: &[String]) -> Result<&'static str, String> {
    if services.is_empty() {
        return Err("empty list of supported gRPC services (aka supported versions)".to_owned());
    }
    let known = |it: &String| SERVICES.into_iter().find(|known| known == it);
    services.iter().find_map(known).ok_or_else(|| {
        let quoted = |all: &mut dyn Iterator<Item = &str>| {
            all.map(|it| format!("{it:?}")).collect::<Vec<_>>().join(" ")
        };
        format!(
            "none of services supported by the plugin ([{}]) are supported by the kubelet ([{}])",
            quoted(&mut services.iter().map(String::as_str)),
            quoted(&mut SERVICES.into_iter())
        )
    })
}

impl Driver {
    /// The full name of a call, for the metrics.
    pub(super) fn method(&self, call: &str) -> String {
        let version = self.service.split('.').next().unwrap_or_default();
        format!("/k8s.io.kubelet.pkg.apis.dra.{version}.DRAPlugin/{call}")
    }

    pub(super) async fn prepare(
        &self,
        claims: Vec<dra::Claim>,
    ) -> Result<dra::NodePrepareResourcesResponse, Status> {
        let (request, channel) =
            (dra::NodePrepareResourcesRequest { claims }, self.channel.clone());
        if self.service == dra_v1beta1::SERVICE {
            return within(BetaClient::new(channel).node_prepare_resources(request)).await;
        }
        within(DraPluginClient::new(channel).node_prepare_resources(request)).await
    }

    pub(super) async fn unprepare(
        &self,
        claims: Vec<dra::Claim>,
    ) -> Result<dra::NodeUnprepareResourcesResponse, Status> {
        let request = dra::NodeUnprepareResourcesRequest { claims };
        let channel = self.channel.clone();
        if self.service == dra_v1beta1::SERVICE {
            return within(BetaClient::new(channel).node_unprepare_resources(request)).await;
        }
        within(DraPluginClient::new(channel).node_unprepare_resources(request)).await
    }
}

async fn within<T>(
    asked: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    let late = || Status::deadline_exceeded("context deadline exceeded");
    let reply = tokio::time::timeout(LIMIT, asked).await.map_err(|_| late())?;
    reply.map(tonic::Response::into_inner)
}

/// So that one registry can hold it.
pub(crate) fn handler(manager: &Arc<DraManager>) -> Arc<dyn Handler> {
    Arc::new(Registry(manager.clone()))
}

struct Registry(Arc<DraManager>);

impl Handler for Registry {
    fn kind(&self) -> &'static str {
        "DRAPlugin"
    }

    fn register<'a>(
        &'a self,
        name: &'a str,
        endpoint: &'a str,
        versions: &'a [String],
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let driver = self.0.drivers.add(name, endpoint, versions)?;
            info!(driver = name, endpoint, service = driver.service, "a DRA driver has registered");
            let following = self.0.clone().follow_health(name.to_owned(), driver);
            drop(self.0.scope.spawn("dra-health", following));
            self.0.driver_came.notify_one();
            Ok(())
        })
    }

    fn unregister<'a>(&'a self, name: &'a str, endpoint: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if !self.0.drivers.remove(name, endpoint) {
                return;
            }
            info!(driver = name, "a DRA driver has gone");
            let (manager, name) = (self.0.clone(), name.to_owned());
            drop(self.0.scope.spawn("resource-slices", async move {
                tokio::time::sleep(WITHDRAW_DELAY).await;
                if !manager.drivers.is_there(&name) {
                    manager.drivers.withdraw(Some(&name)).await;
                }
            }));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_service_that_both_know_is_spoken() {
        let choose =
            |all: &[&str]| choose(&all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert_eq!(choose(&["v1alpha1.DRAResourceHealth", "v1.DRAPlugin"]), Ok(dra::SERVICE));
        assert_eq!(choose(&["v1beta1.DRAPlugin", "v1.DRAPlugin"]), Ok(dra_v1beta1::SERVICE));
        assert_eq!(
            choose(&["1.0.0"]).unwrap_err(),
            "none of services supported by the plugin ([\"1.0.0\"]) are supported by the kubelet ([\"v1.DRAPlugin\" \"v1beta1.DRAPlugin\"])"
        );
        assert!(choose(&[]).unwrap_err().starts_with("empty list"));
    }
}
