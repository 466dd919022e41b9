//! kube-controller-manager: the loops that make the cluster what its objects ask for.
//!
//! All controllers run in one process over one set of [`caches`]. Each is observe, plan, apply;
//! the plans are pure functions with tests beside them.
//!
//! Upstream: `pkg/controller`. Deviation: no per-controller switches; one process runs all of
//! them.

use api_kube as _;

mod attach_detach;
mod bootstrap_token;
mod caches;
mod certificates;
mod claim;
mod cluster_role_aggregation;
pub mod command;
mod config;
mod cron_job;
mod daemon_set;
mod deployment;
mod discovery;
mod disruption;
mod endpoints;
mod ephemeral_volume;
mod expand;
mod expectations;
mod garbage_collector;
mod handover;
mod horizontal;
mod job;
mod legacy_token_cleaner;
mod local_path;
mod namespace;
mod node_lifecycle;
mod persistent_volume;
mod pod_control;
mod pod_gc;
mod pods;
mod replica_set;
mod resource_claim;
mod resource_quota;
mod revisions;
mod service_account;
mod service_account_token;
mod stateful_set;
mod storage_protection;
mod trust_bundle;
mod ttl;
mod ttl_after_finished;

use std::sync::Arc;

use clock::Clock;
use controller::Recorder;
use kube::Client;
use lifecycle::Scope;

pub use self::config::{Config, NodeNamesCheck};
use self::{caches::Caches, garbage_collector::Graph};

/// What every controller has.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) scope: Scope,
    pub(crate) caches: Caches,
    pub(crate) config: Config,
    /// The metadata of everything.
    pub(crate) objects: Arc<Graph>,
}

impl Context {
    pub(crate) fn recorder(&self, component: &'static str) -> Recorder {
        Recorder::new(self.client.clone(), component, self.clock, &self.scope)
    }
}

impl Context {
    fn start<F>(&self, name: &str, run: impl FnOnce(Context) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(self.scope.spawn(name, run(self.clone())));
    }
}

/// Runs all controllers until `scope` is cancelled.
pub async fn run(client: Client, config: Config, clock: Clock, scope: Scope) {
    let caches = Caches::new(&client, &scope);
    caches.synced().await;
    let objects = Arc::new(Graph::new());
    let context = Context { client, clock, scope: scope.clone(), caches, config, objects };
    context.start("attachdetach", attach_detach::run);
    context.start("tokencleaner", bootstrap_token::run);
    context.start("certificates", certificates::run);
    context.start("clusterrole-aggregation", cluster_role_aggregation::run);
    context.start("cronjob", cron_job::run);
    context.start("daemonset", daemon_set::run);
    context.start("deployment", deployment::run);
    context.start("disruption", disruption::run);
    context.start("endpoints", endpoints::run);
    context.start("endpoint-mirroring", endpoints::mirroring::run);
    context.start("ephemeral-volume", ephemeral_volume::run);
    context.start("garbage-collector", garbage_collector::run);
    context.start("horizontal-pod-autoscaler", horizontal::run);
    context.start("job", job::run);
    context.start("legacy-serviceaccount-token-cleaner", legacy_token_cleaner::run);
    context.start("local-path", local_path::run);
    context.start("namespace", namespace::run);
    context.start("node-lifecycle", node_lifecycle::run);
    context.start("persistentvolume-expander", expand::run);
    context.start("persistentvolume-binder", persistent_volume::run);
    context.start("podgc", pod_gc::run);
    context.start("replicaset", replica_set::run);
    context.start("resource-claim", resource_claim::run);
    context.start("resourcequota", resource_quota::run);
    context.start("serviceaccount", service_account::run);
    context.start("serviceaccount-token", service_account_token::run);
    context.start("statefulset", stateful_set::run);
    context.start("storage-protection", storage_protection::run);
    context.start("trust-bundle", trust_bundle::run);
    context.start("ttl", ttl::run);
    context.start("ttl-after-finished", ttl_after_finished::run);
    scope.cancelled().await;
}
