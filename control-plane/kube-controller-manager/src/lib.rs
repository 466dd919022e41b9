//! kube-controller-manager: the loops that make the cluster what its objects ask for.
//!
//! All controllers run in one process over one set of [`caches`]. Each is observe, plan, apply;
//! the plans are pure functions with tests beside them.
//!
//! They act as one identity, which needs the roles of all of them, or as the [`accounts`] that upstream's
//! have.
//!
//! Upstream: `pkg/controller`.

use api_kube as _;

mod accounts;
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
mod device_taint_eviction;
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
mod scale;
mod service_account;
mod service_account_token;
mod service_cidr;
mod stateful_set;
mod storage_protection;
mod switches;
mod trust_bundle;
mod ttl;
mod ttl_after_finished;

use std::sync::Arc;

use clock::Clock;
use controller::Recorder;
use kube::Client;
use lifecycle::Scope;

use self::{accounts::Accounts, caches::Caches, garbage_collector::Graph};
pub use self::{
    config::{Config, EvictionPace, NodeNamesCheck},
    horizontal::AutoscalerConfig,
    switches::Switches,
};

/// What every controller has.
#[derive(Clone)]
pub(crate) struct Context {
    /// Of the controller that has it.
    pub(crate) client: Client,
    pub(crate) accounts: Accounts,
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
    /// Whether the controller that upstream calls so is to run.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.config.controllers.is_on(name)
    }

    /// What a controller has that works beside another in one task.
    pub(crate) fn of(&self, name: &str) -> Self {
        Self { client: self.accounts.client(name), ..self.clone() }
    }

    /// Does a part of a controller's work that has a name of its own.
    pub(crate) async fn when_on(&self, name: &str, work: impl Future<Output = ()>) {
        if self.is_on(name) {
            work.await;
        }
    }

    /// Starts what does the work of these controllers, if one of them is to run, as the first of them.
    fn start<F>(&self, names: &[&str], run: impl FnOnce(Context) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if names.iter().any(|it| self.is_on(it)) {
            drop(self.scope.spawn(names[0], run(self.of(names[0]))));
        }
    }
}

/// Runs all controllers until `scope` is cancelled.
pub async fn run(client: Client, config: Config, clock: Clock, scope: Scope) {
    let caches = Caches::new(&client, &scope);
    let accounts = Accounts::new(client.clone(), config.accounts.clone(), clock);
    tokio::join!(caches.synced(), accounts.ensure(|name| config.controllers.is_on(name)));
    let objects = Arc::new(Graph::new());
    let context =
        Context { client, accounts, clock, scope: scope.clone(), caches, config, objects };
    context.start(&["persistentvolume-attach-detach-controller"], attach_detach::run);
    context.start(&["token-cleaner-controller"], bootstrap_token::run);
    context.start(
        &[
            "certificatesigningrequest-signing-controller",
            "certificatesigningrequest-approving-controller",
            "certificatesigningrequest-cleaner-controller",
        ],
        certificates::run,
    );
    context.start(&["clusterrole-aggregation-controller"], cluster_role_aggregation::run);
    context.start(&["cronjob-controller"], cron_job::run);
    context.start(&["daemonset-controller"], daemon_set::run);
    context.start(&["deployment-controller"], deployment::run);
    context.start(&["device-taint-eviction-controller"], device_taint_eviction::run);
    context.start(&["disruption-controller"], disruption::run);
    context.start(&["endpointslice-controller", "endpoints-controller"], endpoints::run);
    context.start(&["endpointslice-mirroring-controller"], endpoints::mirroring::run);
    context.start(&["ephemeral-volume-controller"], ephemeral_volume::run);
    context.start(
        &["garbage-collector-controller", "resourcequota-controller"],
        garbage_collector::run,
    );
    context.start(&["horizontal-pod-autoscaler-controller"], horizontal::run);
    context.start(&["job-controller"], job::run);
    drop(scope.spawn("local-path", local_path::run(context.clone())));
    context.start(&["namespace-controller"], namespace::run);
    context.start(&["node-lifecycle-controller", "taint-eviction-controller"], node_lifecycle::run);
    context.start(&["persistentvolume-binder-controller"], persistent_volume::run);
    context.start(&["pod-garbage-collector-controller"], pod_gc::run);
    context.start(&["replicaset-controller", "replicationcontroller-controller"], replica_set::run);
    context.start(&["resourceclaim-controller"], resource_claim::run);
    context.start(&["resourcequota-controller"], resource_quota::run);
    context.start(
        &["serviceaccount-controller", "root-ca-certificate-publisher-controller"],
        service_account::run,
    );
    context.start(&["service-cidr-controller"], service_cidr::run);
    context.start(&["statefulset-controller"], stateful_set::run);
    context.start(
        &[
            "persistentvolumeclaim-protection-controller",
            "persistentvolume-protection-controller",
            "volumeattributesclass-protection-controller",
        ],
        storage_protection::run,
    );
    context.start(
        &["kube-apiserver-serving-clustertrustbundle-publisher-controller"],
        trust_bundle::run,
    );
    context.start(&["ttl-controller"], ttl::run);
    context.start(&["ttl-after-finished-controller"], ttl_after_finished::run);
    context.start(&["persistentvolume-expander-controller"], expand::run);
    context.start(&["serviceaccount-token-controller"], service_account_token::run);
    context.start(&["legacy-serviceaccount-token-cleaner-controller"], legacy_token_cleaner::run);
    scope.cancelled().await;
}
