//! cluster-autoscaler: sizes Auto Scaling groups by what pods need.
//!
//! Pods that the scheduler finds no node for make a group grow, if a node of it would take them; nodes
//! that are little used, and whose pods fit elsewhere, go. It speaks the APIs of Kubernetes, EC2 Auto
//! Scaling, EC2 and EKS, and works with any server of these. Decisions are pure functions of what was
//! observed ([`scale_up::plan`], [`scale_down::plan`]), by the scheduler's own predicates.
//!
//! Upstream: `kubernetes/autoscaler`, `cluster-autoscaler`, with the provider `aws`.
//! Deviation: one group grows per pass; no ProvisioningRequests, CapacityBuffers or dynamic resource
//! allocation (a pod with claims of devices is judged without them).

use api_kube as _;

mod act;
mod autoscaler;
mod aws;
pub mod command;
mod expander;
pub mod flags;
mod metrics;
mod node;
mod observe;
mod options;
mod registry;
pub mod scale_down;
pub mod scale_up;
mod server;
mod snapshot;
mod status;
mod template;
#[cfg(test)]
mod testing;
mod world;

use std::{sync::Arc, time::Duration};

use clock::Clock;
pub use controller::lease::Election;
use controller::{Recorder, lease::Elector};
use kube::Client;
use lifecycle::Scope;
use tokio::net::TcpListener;

pub use crate::{
    aws::{Cloud, Discovery, FixedGroup},
    expander::{Expander, Priorities},
    options::{
        Backoff, Drain, GroupOptions, Limits, Options, PriorityGrace, ScaleDown, Similarity,
    },
    registry::{Finding, NotSafe, Problem, Readiness, Registry},
    template::Template,
    world::{Controllers, Failure, Group, Instance, PodFact, World},
};

/// Settings of [`run`].
pub struct Config {
    pub options: Options,
    /// Without it nobody is asked.
    pub election: Option<Election>,
    /// Where `/metrics` and `/health-check` are served.
    pub listener: Option<TcpListener>,
    /// The ConfigMap with the status, if one is to be written.
    pub status_name: Option<String>,
    /// A pass comes sooner when pods need a node.
    pub frequent_loops: bool,
    pub max_inactivity: Duration,
    pub max_failing: Duration,
}

/// How the autoscaler's work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to end, and nothing of it goes on.
    Asked,
    /// Another one works now.
    LostLease,
}

/// How long what was begun may take to end, and the release of the lease after it.
const END: Duration = Duration::from_secs(5);

/// Runs until `asked` is over or the lease is lost. All that it does is done below `scope`, which is
/// over then; a lease that is held is released after that.
pub async fn run(
    client: Client,
    cloud: Cloud,
    config: Config,
    clock: Clock,
    scope: Scope,
    asked: impl Future<Output = ()>,
) -> Ended {
    let mut elector = config.election.clone().map(|it| Elector::new(client.clone(), it, clock));
    let ended = tokio::select! {
        () = work(client, cloud, config, clock, scope.clone(), elector.as_mut()) => {
            Ended::LostLease
        }
        () = asked => Ended::Asked,
    };
    let is_over = scope.drain(END).await;
    // Whoever takes it over must be the only one that works.
    if let (Ended::Asked, true, Some(elector)) = (ended, is_over, &mut elector)
        && tokio::time::timeout(END, elector.release()).await.is_err()
    {
        tracing::warn!("the lease was not released in time");
    }
    ended
}

/// Ends when the lease is lost.
async fn work(
    client: Client,
    cloud: Cloud,
    config: Config,
    clock: Clock,
    scope: Scope,
    mut elector: Option<&mut Elector>,
) {
    let metrics = Arc::new(metrics::Metrics::default());
    let (inactivity, failing) = (config.max_inactivity, config.max_failing);
    let liveness = Arc::new(server::Liveness::new(clock, inactivity, failing));
    if let Some(listener) = config.listener {
        let (pages, health) = (metrics.clone(), liveness.clone());
        let service =
            tower::service_fn(move |request| server::serve(request, pages.clone(), health.clone()));
        let served = transport::serve(listener, None, service, scope.child());
        drop(scope.spawn("server", served));
    }
    if let Some(elector) = &mut elector {
        elector.acquire().await;
    }
    let stores = observe::Stores::new(&client, &scope);
    let observed = stores.clone();
    let recorder = Recorder::new(client.clone(), "cluster-autoscaler", clock, &scope);
    let actor = act::Actor {
        client,
        cloud: Arc::new(cloud),
        nodes: stores.nodes.clone(),
        recorder,
        metrics,
        options: Arc::new(config.options),
        clock,
        scope: scope.clone(),
        removals: Arc::default(),
        status: Arc::default(),
    };
    let autoscaler = autoscaler::Autoscaler {
        stores,
        actor,
        status_name: config.status_name,
        registry: Registry::default(),
        memory: scale_down::Memory::default(),
        transitions: status::Transitions::default(),
    };
    let is_eager = config.frequent_loops;
    // The first look takes as long as it takes: the lease is kept meanwhile.
    let working = async {
        observed.synced().await;
        autoscaler.run(liveness, is_eager).await;
    };
    match elector {
        None => working.await,
        Some(elector) => tokio::select! {
            () = working => {}
            () = elector.hold() => {}
        },
    }
}
