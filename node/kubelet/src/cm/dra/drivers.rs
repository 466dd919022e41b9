//! The drivers that have registered themselves, and what is asked of them.
//!
//! Two instances of a driver may be there while it is replaced: the newer one is asked. When the last
//! is gone, the cluster is told after a while that the node offers its devices no more, unless it comes
//! back meanwhile.
//!
//! Upstream: `pkg/kubelet/cm/dra/plugin`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    /// The newest has the highest number.
    pub instance: u64,
    service: &'static str,
    pub channel: api_cri::Channel,
    pub gone: CancellationToken,
}

pub(super) struct Drivers {
    client: Client,
    node: String,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The instances of each, in the order in which they came.
    drivers: BTreeMap<String, Vec<Driver>>,
    /// What is under way to withdraw what a driver offered that has gone. Its return ends it.
    withdrawals: BTreeMap<String, CancellationToken>,
    /// How many instances there have been.
    count: u64,
}

impl Drivers {
    pub(super) fn new(client: Client, node: String) -> Self {
        Self { client, node, known: Mutex::default() }
    }

    pub(super) fn get(&self, name: &str) -> Result<Driver, DraError> {
        let known = self.known.lock();
        let newest = known.drivers.get(name).and_then(|it| it.last());
        newest.cloned().ok_or_else(|| DraError::NotRegistered(name.to_owned()))
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
        if known.drivers.get(name).is_some_and(|all| all.iter().any(|it| it.endpoint == endpoint)) {
            // One instance does not take the place of another one.
            return Err(format!(
                "endpoint {endpoint} already registered for DRA driver plugin {name}"
            ));
        }
        known.count += 1;
        let (instance, gone) = (known.count, CancellationToken::new());
        let driver = Driver { endpoint: endpoint.to_owned(), instance, service, channel, gone };
        known.drivers.entry(name.to_owned()).or_default().push(driver.clone());
        if let Some(withdrawal) = known.withdrawals.remove(name) {
            withdrawal.cancel();
        }
        Ok(driver)
    }

    /// Where it was the last instance, what ends the withdrawal of its slices, which begins with this.
    fn remove(&self, name: &str, endpoint: &str) -> Option<CancellationToken> {
        let mut known = self.known.lock();
        let all = known.drivers.get_mut(name)?;
        let at = all.iter().position(|it| it.endpoint == endpoint)?;
        all.remove(at).gone.cancel();
        if !all.is_empty() {
            return None;
        }
        known.drivers.remove(name);
        let withdrawal = CancellationToken::new();
        known.withdrawals.insert(name.to_owned(), withdrawal.clone());
        Some(withdrawal)
    }

    /// The withdrawal of a driver's slices has ended, unless the driver is back or has gone once more.
    fn withdrawn(&self, name: &str, withdrawal: &CancellationToken) {
        if !withdrawal.is_cancelled() {
            self.known.lock().withdrawals.remove(name);
        }
    }

    /// Which slices are to go: those of one driver, or of all that have not registered.
    fn fields(&self, driver: Option<&str>) -> String {
        let own = format!("spec.nodeName={}", self.node);
        match driver {
            Some(driver) => format!("spec.driver={driver},{own}"),
            None => {
                let known = self.known.lock();
                let others = known.drivers.keys().map(|it| format!(",spec.driver!={it}"));
                own + &others.collect::<String>()
            }
        }
    }

    /// Deletes the slices of this node, of one driver or of all that are not there, for as long as it
    /// takes.
    pub(super) async fn withdraw(&self, driver: Option<&str>) {
        let api = Api::<ResourceSlice>::all(self.client.clone());
        let how = DeleteParams::default();
        let mut retry = FIRST_RETRY;
        loop {
            let fields = self.fields(driver);
            let list = ListParams::default().fields(&fields);
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
            let Some(back) = self.0.drivers.remove(name, endpoint) else { return };
            info!(driver = name, "a DRA driver has gone");
            let (manager, name) = (self.0.clone(), name.to_owned());
            drop(self.0.scope.spawn("resource-slices", async move {
                let withdrawing = async {
                    tokio::time::sleep(WITHDRAW_DELAY).await;
                    manager.drivers.withdraw(Some(&name)).await;
                };
                if back.run_until_cancelled(withdrawing).await.is_some() {
                    manager.drivers.withdrawn(&name, &back);
                }
            }));
        })
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use lifecycle::Scope;

    use super::*;

    const DRIVER: &str = "gpu.example.com";

    /// A manager on an API server that notes which slices are deleted, and fails the first time.
    fn manager(root: &std::path::Path) -> (Arc<DraManager>, Arc<Mutex<Vec<String>>>) {
        let deleted = Arc::<Mutex<Vec<String>>>::default();
        let noted = deleted.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let mut noted = noted.lock();
            noted.push(request.uri().query().unwrap_or_default().to_owned());
            let code = if noted.len() == 1 { 500 } else { 200 };
            let list = r#"{"kind":"Status","apiVersion":"v1","status":"Success"}"#;
            let response =
                Response::builder().status(code).body(Body::from(list.as_bytes().to_vec()));
            std::future::ready(response)
        });
        let parts = super::super::Parts {
            client: Client::new(service, "default"),
            node: "n",
            root,
            metrics: Arc::default(),
            scope: Scope::new(),
            changed: Arc::default(),
        };
        (Arc::new(DraManager::new(parts).unwrap()), deleted)
    }

    #[tokio::test(start_paused = true)]
    async fn slices_stay_where_their_driver_is_back_and_go_where_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (manager, deleted) = manager(folder.path());
        let registry = handler(&manager);
        let versions = ["v1.DRAPlugin".to_owned()];
        let almost = WITHDRAW_DELAY - Duration::from_secs(1);
        registry.register(DRIVER, "/a.sock", &versions).await.unwrap();
        registry.unregister(DRIVER, "/a.sock").await;
        tokio::time::sleep(almost).await;
        registry.register(DRIVER, "/b.sock", &versions).await.unwrap();
        registry.register(DRIVER, "/c.sock", &versions).await.unwrap();
        registry.unregister(DRIVER, "/b.sock").await;
        tokio::time::sleep(WITHDRAW_DELAY * 2).await;
        // It goes once more, which has a delay of its own.
        registry.unregister(DRIVER, "/c.sock").await;
        tokio::time::sleep(almost).await;
        assert_eq!(*deleted.lock(), Vec::<String>::new());
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(deleted.lock().len(), 1, "which the server refuses");
        // It is back between two attempts.
        registry.register(DRIVER, "/d.sock", &versions).await.unwrap();
        tokio::time::sleep(WITHDRAW_DELAY).await;
        assert_eq!(deleted.lock().len(), 1);
        registry.unregister(DRIVER, "/d.sock").await;
        tokio::time::sleep(WITHDRAW_DELAY * 10).await;
        assert_eq!(deleted.lock().len(), 2);
        assert!(manager.drivers.known.lock().withdrawals.is_empty());
        manager.scope.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_withdrawn_at_the_start_is_not_what_a_driver_offers_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (manager, deleted) = manager(folder.path());
        let withdrawing = manager.drivers.withdraw(None);
        let coming = async {
            tokio::time::sleep(FIRST_RETRY / 2).await;
            let versions = ["v1.DRAPlugin".to_owned()];
            handler(&manager).register(DRIVER, "/a.sock", &versions).await.unwrap();
        };
        tokio::join!(withdrawing, coming);
        let asked: Vec<_> = deleted.lock().iter().map(|it| it.contains(DRIVER)).collect();
        assert_eq!(asked, [false, true]);
        manager.scope.cancel();
    }

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
