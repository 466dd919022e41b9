//! The service controller: each Service of type LoadBalancer has a load balancer, and shows it.
//!
//! A Service that wants one gets a finalizer first, so that it cannot go before its load balancer has.
//! A pass makes the load balancer anew what it shall be if the Service differs from what was made last,
//! and gives it the nodes of now if only they differ. What failed is tried again after five seconds,
//! then ever more rarely, up to five minutes.
//!
//! Upstream: `k8s.io/cloud-provider/controllers/service`.

mod needs;
mod nodes;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use controller::{Action, ApplyError, Change, Key, Queue, Recorder, Store, apply};
use k8s_openapi::api::core::v1::{LoadBalancerStatus, Node, Service};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;

use crate::aws::{Aws, ProviderError};

const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// Services worked on at once.
const WORKERS: usize = 4;
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// See the module.
pub(crate) struct Services {
    client: Client,
    provider: Aws,
    services: Store<Service>,
    nodes: Store<Node>,
    recorder: Recorder,
    known: Mutex<HashMap<Key, Known>>,
}

/// What was done for a Service.
#[derive(Default)]
struct Known {
    /// As it was when its load balancer was last made what it shall be.
    ensured: Option<Arc<Service>>,
    /// The nodes that it was given.
    nodes: BTreeSet<String>,
    failures: u32,
}

impl Services {
    pub(crate) fn new(
        client: Client,
        provider: Aws,
        services: Store<Service>,
        nodes: Store<Node>,
        recorder: Recorder,
    ) -> Self {
        Self { client, provider, services, nodes, recorder, known: Mutex::default() }
    }

    /// For ever.
    pub(crate) async fn run(self) {
        self.services.synced().await;
        self.nodes.synced().await;
        let queue: Queue<Key> = Queue::new();
        let (feed, recorder) = (queue.clone(), self.recorder.clone());
        self.services.subscribe(move |change| {
            if is_due(change, &recorder) {
                feed.add(change.key.clone());
            }
        });
        let (feed, services) = (queue.clone(), self.services.clone());
        self.nodes.subscribe(move |change| {
            if nodes::is_due(change) {
                let all = services.all();
                let wanting = all.iter().filter(|it| needs::wants(it));
                wanting.for_each(|it| feed.add(Key::of(&**it)));
            }
        });
        let it = Arc::new(self);
        controller::run("service", queue, WORKERS, move |key| {
            let it = it.clone();
            async move { it.reconcile(&key).await }
        })
        .await;
    }

    async fn reconcile(&self, key: &Key) -> Result<Action, ApplyError> {
        let failures = match self.pass(key).await {
            Ok(()) => {
                if let Some(known) = self.known.lock().get_mut(key) {
                    known.failures = 0;
                }
                return Ok(Action::Done);
            }
            Err(Failure::Kubernetes(error)) => return Err(error),
            Err(Failure::Cloud(message)) => {
                tracing::warn!(service = %key, message, "a load balancer is not as it shall be");
                let mut known = self.known.lock();
                let known = known.entry(key.clone()).or_default();
                known.failures += 1;
                known.failures
            }
        };
        let doubled = FIRST_RETRY.saturating_mul(1 << (failures - 1).min(10));
        Ok(Action::After(doubled.min(LAST_RETRY)))
    }

    async fn pass(&self, key: &Key) -> Result<(), Failure> {
        let ensured = self.known.lock().get(key).and_then(|it| it.ensured.clone());
        let service = self.services.get(key);
        let is_other = |old: &Service| service.as_ref().is_none_or(|it| it.uid() != old.uid());
        if let Some(old) = ensured.filter(|it| is_other(it)) {
            // Only one whose finalizer somebody took away can go without us.
            self.delete_gone(&old).await?;
            self.known.lock().remove(key);
        }
        let Some(service) = service else {
            self.known.lock().remove(key);
            return Ok(());
        };
        if needs::cleanup(&service) {
            self.clean_up(&service).await?;
            self.known.lock().remove(key);
        } else if needs::wants(&service) {
            self.keep(key, service).await?;
        }
        Ok(())
    }

    async fn keep(&self, key: &Key, service: Arc<Service>) -> Result<(), Failure> {
        let nodes = nodes::eligible(&self.nodes.all());
        let names: BTreeSet<String> = nodes.iter().map(ResourceExt::name_any).collect();
        let (is_ensured, has_nodes) = {
            let known = self.known.lock();
            let it = known.get(key);
            let ensured = it.and_then(|it| it.ensured.as_ref());
            (
                ensured.is_some_and(|it| !needs::differ(it, &service)),
                it.is_some_and(|it| it.nodes == names),
            )
        };
        match (is_ensured, has_nodes) {
            (true, true) => return Ok(()),
            (true, false) => self.update(&service, &nodes).await?,
            (false, _) => self.ensure(&service, &nodes).await?,
        }
        let mut known = self.known.lock();
        let known = known.entry(key.clone()).or_default();
        (known.ensured, known.nodes) = (Some(service), names);
        Ok(())
    }

    async fn ensure(&self, service: &Service, nodes: &[Node]) -> Result<(), Failure> {
        self.recorder.normal(service, "EnsuringLoadBalancer", "Ensuring load balancer");
        self.add_finalizer(service).await?;
        if nodes.is_empty() {
            self.warn_of_no_nodes(service);
        }
        let status = match self.provider.ensure(service, nodes).await {
            Ok(status) => status,
            Err(ProviderError::Elsewhere) => return Ok(()),
            Err(error) => {
                return Err(
                    self.failed(service, format!("failed to ensure load balancer: {error}"))
                );
            }
        };
        self.recorder.normal(service, "EnsuredLoadBalancer", "Ensured load balancer");
        self.show(service, status).await
    }

    async fn update(&self, service: &Service, nodes: &[Node]) -> Result<(), Failure> {
        let error = match self.provider.update(service, nodes).await {
            Err(ProviderError::Elsewhere) => return Ok(()),
            Ok(()) if nodes.is_empty() => {
                self.warn_of_no_nodes(service);
                return Ok(());
            }
            Ok(()) => {
                let told = "Updated load balancer with new hosts";
                self.recorder.normal(service, "UpdatedLoadBalancer", told);
                return Ok(());
            }
            Err(error) => error,
        };
        // It is an error only if there is one to update.
        if matches!(self.provider.exists(service).await, Ok(false)) {
            return Ok(());
        }
        let names: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
        let names = names.join(" ");
        let told = format!("Error updating load balancer with new hosts [{names}]: {error}");
        self.recorder.warn(service, "UpdateLoadBalancerFailed", &told);
        Err(Failure::Cloud(told))
    }

    async fn clean_up(&self, service: &Service) -> Result<(), Failure> {
        let exists = self.provider.exists(service).await.map_err(|error| {
            let told = format!("failed to check if load balancer exists before cleanup: {error}");
            self.failed(service, told)
        })?;
        if exists {
            self.recorder.normal(service, "DeletingLoadBalancer", "Deleting load balancer");
            self.provider.delete(service).await.map_err(|error| {
                self.failed(service, format!("failed to delete load balancer: {error}"))
            })?;
        }
        // One that is to live on shows that it has none any more, before it is given up.
        if service.metadata.deletion_timestamp.is_none() {
            self.show(service, LoadBalancerStatus::default()).await?;
        }
        self.remove_finalizer(service).await?;
        self.recorder.normal(service, "DeletedLoadBalancer", "Deleted load balancer");
        Ok(())
    }

    async fn delete_gone(&self, service: &Service) -> Result<(), Failure> {
        self.recorder.normal(service, "DeletingLoadBalancer", "Deleting load balancer");
        if let Err(error) = self.provider.delete(service).await {
            let told = format!("Error deleting load balancer: {error}");
            self.recorder.warn(service, "DeleteLoadBalancerFailed", &told);
            return Err(Failure::Cloud(told));
        }
        self.recorder.normal(service, "DeletedLoadBalancer", "Deleted load balancer");
        Ok(())
    }

    fn warn_of_no_nodes(&self, service: &Service) {
        let told = "There are no available nodes for LoadBalancer";
        self.recorder.warn(service, "UnAvailableLoadBalancer", told);
    }

    fn failed(&self, service: &Service, message: String) -> Failure {
        let told = format!("Error syncing load balancer: {message}");
        self.recorder.warn(service, "SyncLoadBalancerFailed", &told);
        Failure::Cloud(message)
    }

    async fn add_finalizer(&self, service: &Service) -> Result<(), Failure> {
        let mut finalizers = service.finalizers().to_vec();
        if finalizers.iter().any(|it| it == FINALIZER) {
            return Ok(());
        }
        finalizers.push(FINALIZER.to_owned());
        self.set_finalizers(service, finalizers).await
    }

    async fn remove_finalizer(&self, service: &Service) -> Result<(), Failure> {
        let mut finalizers = service.finalizers().to_vec();
        finalizers.retain(|it| it != FINALIZER);
        match self.set_finalizers(service, finalizers).await {
            Err(Failure::Kubernetes(error)) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    /// A list is replaced as a whole: not over somebody else's change, nor on another Service.
    async fn set_finalizers(
        &self,
        service: &Service,
        finalizers: Vec<String>,
    ) -> Result<(), Failure> {
        let patch = json!({ "metadata": {
            "finalizers": finalizers,
            "resourceVersion": service.resource_version(),
            "uid": service.uid(),
        }});
        let namespace = service.namespace().unwrap_or_default();
        let patched =
            apply::patch::<Service>(&self.client, &namespace, &service.name_any(), &patch).await;
        patched.map(drop).map_err(Failure::Kubernetes)
    }

    async fn show(&self, service: &Service, status: LoadBalancerStatus) -> Result<(), Failure> {
        let shown = service.status.as_ref().and_then(|it| it.load_balancer.clone());
        if shown.unwrap_or_default().ingress.unwrap_or_default()
            == status.ingress.clone().unwrap_or_default()
        {
            return Ok(());
        }
        let patch = json!({ "loadBalancer": { "ingress": status.ingress } });
        let namespace = service.namespace().unwrap_or_default();
        let name = service.name_any();
        match apply::patch_status::<Service, _>(&self.client, &namespace, &name, &patch).await {
            Err(error) if !error.is_not_found() => Err(Failure::Kubernetes(error)),
            _ => Ok(()),
        }
    }
}

/// Why a pass was not finished.
enum Failure {
    /// AWS's, or a Service that asks for what cannot be: an event tells of it.
    Cloud(String),
    Kubernetes(ApplyError),
}

fn is_due(change: &Change<Service>, recorder: &Recorder) -> bool {
    match (&change.old, &change.new) {
        (None, Some(new)) => needs::wants(new) || needs::cleanup(new),
        (Some(old), Some(new)) => {
            if let Some((reason, message)) = needs::event(old, new) {
                recorder.normal(&**new, reason, message);
            }
            needs::update(old, new) || needs::cleanup(new)
        }
        (Some(old), None) => needs::wants(old),
        (None, None) => false,
    }
}
