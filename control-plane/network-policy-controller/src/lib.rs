//! The network policy controller: NetworkPolicies resolved into PolicyEndpoints, as EKS runs it
//! beside the API server of every cluster.
//!
//! A policy's change is resolved at once; what pods do is gathered for a second. What is there
//! already is kept, what differs is updated in place, and what is too much goes last, so that no pod
//! is without its rules in between.
//!
//! Upstream: aws/amazon-network-policy-controller-k8s.
//! Deviation: it makes the definition of PolicyEndpoints itself, and runs always: the ConfigMap
//! `amazon-vpc-cni` is not asked. No ApplicationNetworkPolicies and ClusterNetworkPolicies.

use api_kube as _;

pub mod command;
mod definition;
mod feed;
mod plan;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_kube::policy_endpoint::PolicyEndpoint;
use controller::{Action, ApplyError, Key, Queue, Store, StoreSpec, apply, object};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use kube::Client;
use lifecycle::Scope;
use network_policy::{Compiled, World};
use parking_lot::Mutex;

/// Policies worked on at once: upstream's `--max-concurrent-reconciles`.
const WORKERS: usize = 3;
const BY_POLICY: &str = "policy";

/// Upstream's flags.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many pods or peers one PolicyEndpoint holds.
    pub endpoint_chunk_size: usize,
    /// For how long changes of pods are gathered.
    pub pod_update_batch_period: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let pod_update_batch_period = Duration::from_secs(1);
        Self { endpoint_chunk_size: network_policy::CHUNK_SIZE, pod_update_batch_period }
    }
}

/// Runs until `scope` is cancelled.
pub async fn run(client: Client, config: Config, scope: Scope) {
    definition::ensure(&client).await;
    let context = Arc::new(Context {
        policies: controller::reflect(client.clone(), StoreSpec::default(), &scope),
        pods: controller::reflect(client.clone(), pods(), &scope),
        namespaces: controller::reflect(client.clone(), StoreSpec::default(), &scope),
        endpoints: controller::reflect(client.clone(), endpoints(), &scope),
        compiled: Mutex::default(),
        client,
        config,
    });
    context.policies.synced().await;
    context.pods.synced().await;
    context.namespaces.synced().await;
    context.endpoints.synced().await;
    let queue: Queue<Key> = Queue::new();
    feed::connect(&context, &queue);
    controller::run("network-policy", queue, WORKERS, move |key| {
        let context = context.clone();
        async move { context.reconcile(&key).await }
    })
    .await;
}

fn pods() -> StoreSpec<Pod> {
    StoreSpec::default().trim(|pod| {
        pod.metadata.annotations = None;
        if let Some(spec) = &mut pod.spec {
            spec.volumes = None;
            spec.affinity = None;
            spec.tolerations = None;
            for it in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
                (it.env, it.volume_mounts, it.resources) = (None, None, None);
                (it.command, it.args) = (None, None);
            }
        }
        if let Some(status) = &mut pod.status {
            (status.conditions, status.container_statuses) = (None, None);
            status.init_container_statuses = None;
        }
    })
}

fn endpoints() -> StoreSpec<PolicyEndpoint> {
    StoreSpec::default().index(BY_POLICY, |it| vec![policy_of(it).to_string()])
}

fn policy_of(endpoint: &PolicyEndpoint) -> Key {
    let policy = &endpoint.spec.policy_ref;
    Key::new(policy.namespace.clone(), policy.name.clone())
}

pub(crate) struct Context {
    client: Client,
    config: Config,
    policies: Store<NetworkPolicy>,
    pods: Store<Pod>,
    namespaces: Store<Namespace>,
    endpoints: Store<PolicyEndpoint>,
    /// The policies with their selectors parsed, as each was seen last.
    compiled: Mutex<BTreeMap<Key, Arc<Compiled>>>,
}

impl World for Context {
    fn pods_in(&self, namespace: &str) -> Vec<Arc<Pod>> {
        self.pods.in_namespace(namespace)
    }

    fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.namespaces.all()
    }
}

impl Context {
    async fn reconcile(&self, key: &Key) -> Result<Action, ApplyError> {
        let existing = self.endpoints.indexed(BY_POLICY, &key.to_string());
        let policy = self.policies.get(key).filter(|it| !object::is_terminating(&**it));
        let wanted = match &policy {
            Some(policy) => network_policy::resolve(policy, self, self.config.endpoint_chunk_size),
            None => Vec::new(),
        };
        let plan = plan::plan(&existing, policy.as_deref(), wanted);
        for endpoint in &plan.create {
            apply::create(&self.client, endpoint).await?;
        }
        for endpoint in &plan.update {
            apply::replace(&self.client, endpoint).await?;
        }
        for endpoint in &plan.delete {
            apply::delete(&self.client, &**endpoint).await?;
        }
        Ok(Action::Done)
    }
}
