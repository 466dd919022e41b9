//! Keeps this machine in line with EC2's records: routers, interfaces, hosts.
//!
//! Level-triggered: a pass looks at the records and at the machine, applies the networks, and starts
//! what is missing for each instance. What takes long (a boot, a shutdown) runs beside the loop, one
//! task per instance, and wakes it when it ends.
//!
//! What fails for one instance or one VPC holds up no other: it is reported or tried again, and the
//! pass goes on.
//!
//! **Invariant:** EC2 hears of a state only after the machine is in it.

mod step;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clock::Clock;
use ipnet::Ipv4Net;
use latency::Latency;
use lifecycle::Scope;
use parking_lot::Mutex;
use pki::Ca;
use region_ec2::{
    Ec2, State,
    records::{HostReport, Instance, InstanceState, StatusCheck},
};
use region_eks::Eks;
use region_elasticloadbalancing::ElasticLoadBalancing;
use region_host::{HostError, HostSpec, Hosts, Observed};
use region_vpc::{Router, VpcSpec};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use self::step::{Step, Wanted};
use super::{
    consoles::Consoles,
    endpoints::{Endpoints, PublicApi},
    load_balancers::LoadBalancers,
    region::Region,
    world::{self, ControlPlanes, Names},
};

/// How long an instance may take to shut down in order before its power goes.
const GRACE: Duration = Duration::from_secs(180);
/// How long interfaces may take to be in their namespaces.
const PLACING: Duration = Duration::from_secs(60);
/// How soon all of a VPC is looked at after its rules alone were changed: changes often come several
/// at a time, and one that comes during a look waits for it.
const LOOK: Duration = Duration::from_millis(250);
/// How soon an instance that took no configuration of an interface is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How soon a pass that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How soon an instance that did not come up again is booted once more.
const REBOOT_RETRY: Duration = Duration::from_secs(5);

/// See the module. Clones share the state.
#[derive(Clone)]
pub(crate) struct Driver(Arc<Inner>);

/// What the driver works with on this machine.
pub(crate) struct Machine {
    pub(crate) hosts: Hosts,
    pub(crate) names: Names,
    pub(crate) ami: PathBuf,
    pub(crate) endpoints: Endpoints,
    pub(crate) consoles: Consoles,
    pub(crate) load_balancers: LoadBalancers,
}

struct Inner {
    ec2: Arc<Ec2>,
    eks: Eks,
    hosts: Hosts,
    names: Names,
    ami: PathBuf,
    endpoints: Endpoints,
    consoles: Consoles,
    load_balancers: LoadBalancers,
    load_balancing: Arc<ElasticLoadBalancing>,
    clock: Clock,
    latency: Latency,
    scope: Scope,
    woken: Notify,
    /// Instances with a task under way.
    busy: Mutex<BTreeSet<String>>,
    /// Instances whose end is waited for.
    followed: Mutex<BTreeSet<String>>,
    /// When instances were last booted again.
    booted: Mutex<BTreeMap<String, tokio::time::Instant>>,
    routers: Mutex<BTreeMap<String, (Router, VpcSpec)>>,
    /// The interfaces that are in place, as of the last pass.
    placed: watch::Sender<BTreeSet<String>>,
}

/// What a pass has left to do in VPCs.
#[derive(Default)]
struct Networks {
    /// They are not as they should be.
    failed: BTreeSet<String>,
    /// Their rules are, and nothing else was looked at.
    partial: BTreeSet<String>,
    /// Some instance takes no configuration of an interface.
    has_refused: bool,
}

impl Driver {
    pub(crate) fn new(region: &Region, machine: Machine, clock: Clock, scope: Scope) -> Self {
        let Machine { hosts, names, ami, endpoints, consoles, load_balancers } = machine;
        Self(Arc::new(Inner {
            ec2: region.ec2.clone(),
            eks: region.eks.clone(),
            hosts,
            names,
            ami,
            endpoints,
            consoles,
            load_balancers,
            load_balancing: region.load_balancing.clone(),
            clock,
            latency: region.latency,
            scope,
            woken: Notify::new(),
            busy: Mutex::default(),
            followed: Mutex::default(),
            booted: Mutex::default(),
            routers: Mutex::default(),
            placed: watch::Sender::default(),
        }))
    }

    /// Runs passes until it is dropped.
    pub(crate) async fn run(self) {
        let (mut changes, mut stored) = (self.0.ec2.changes(), self.0.eks.changes());
        let mut balanced = self.0.load_balancing.changes();
        loop {
            changes.mark_unchanged();
            stored.mark_unchanged();
            balanced.mark_unchanged();
            let public = world::public_endpoints(&self.0.eks.clusters());
            let wait = self.pass().await.unwrap_or_else(|error| {
                warn!("a pass over the machine failed, it is tried again: {error:#}");
                Some(RETRY)
            });
            let due = async {
                match wait {
                    None => std::future::pending().await,
                    Some(wait) => tokio::time::sleep(wait).await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { break },
                changed = balanced.changed() => if changed.is_err() { break },
                () = self.has_other_endpoints(&mut stored, &public) => {}
                () = self.0.woken.notified() => {}
                () = due => {}
            }
        }
    }

    /// Ends when clusters' public endpoints, or whom they let in, are no longer these: EC2 does not
    /// know of that.
    async fn has_other_endpoints(
        &self,
        stored: &mut watch::Receiver<u64>,
        public: &BTreeMap<Ipv4Addr, Vec<Ipv4Net>>,
    ) {
        while stored.changed().await.is_ok() {
            if world::public_endpoints(&self.0.eks.clusters()) != *public {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Waits until these interfaces are in their namespaces. Says whether they are in time.
    pub(crate) async fn await_placed(&self, interfaces: &[String]) -> bool {
        let mut placed = self.0.placed.subscribe();
        self.0.woken.notify_one();
        let are_there =
            |set: &BTreeSet<String>| interfaces.iter().all(|interface| set.contains(interface));
        // The sender lives as long as `self`.
        matches!(tokio::time::timeout(PLACING, placed.wait_for(are_there)).await, Ok(Ok(_)))
    }

    /// Has a cluster's API server answer on its public address, in every VPC's router.
    pub(crate) fn publish(&self, address: Ipv4Addr, api: PublicApi) {
        self.0.endpoints.publish(address, api);
        self.0.woken.notify_one();
    }

    /// See [`Endpoints::vouch`].
    pub(crate) fn vouch(&self, cluster: &Ca, scope: &Scope) -> anyhow::Result<()> {
        self.0.endpoints.vouch(cluster, scope)
    }

    /// Says how long the next pass can wait if nothing changes; `None`: for ever.
    async fn pass(&self) -> anyhow::Result<Option<Duration>> {
        let inner = &self.0;
        let settled = inner.ec2.settle().map_err(|fault| anyhow::anyhow!("EC2: {fault}"))?;
        let state = inner.ec2.view();
        let (mut planes, mut failed) = self.control_planes();
        let has_nodes = inner.load_balancers.prepare(&state, &mut planes);
        let pending = || state.instances.iter().filter(|it| it.state == InstanceState::Pending);
        self.prepare(&state).await;
        let networks = self.apply_networks(&state, &planes).await;
        failed.extend(networks.failed);
        // Of one whose task ends from here on, an older state was observed.
        let busy = inner.busy.lock().clone();
        let observed = inner.hosts.observe()?;
        for instance in state.instances.iter() {
            // Nothing boots into a VPC that is not there, or whose links nobody has looked at.
            let vpc = &instance.vpc_id;
            let has_network = !failed.contains(vpc) && !networks.partial.contains(vpc);
            if !has_network && instance.state == InstanceState::Pending {
                continue;
            }
            if busy.contains(&instance.id) {
                continue;
            }
            match observed.get(&instance.id).map(Result::as_ref).transpose() {
                Ok(observed) => self.drive(&state, instance, observed),
                Err(error) => {
                    let (id, error) = (&instance.id, telemetry::chain(error));
                    warn!(instance = id, %error, "an instance cannot be observed");
                    self.mend(&state, instance);
                }
            }
        }
        self.remove_strangers(&state, &observed);
        inner.consoles.forget(|id| state.instances.get(id).is_some());
        let powers = pending().filter_map(|it| self.until_power(it));
        let again = (!failed.is_empty() || !has_nodes).then_some(RETRY);
        let rest = (!networks.partial.is_empty()).then_some(LOOK);
        let refused = networks.has_refused.then_some(ASK_AGAIN);
        let settled = settled.map(|at| inner.clock.until(at));
        Ok(powers.chain(settled).chain(again).chain(rest).chain(refused).min())
    }

    /// Makes the folders and namespaces of those that are to boot. One that cannot be had ends as
    /// on AWS: the instance is terminated with `Server.InternalError`.
    async fn prepare(&self, state: &State) {
        let inner = &self.0;
        let pending = state.instances.iter().filter(|it| it.state == InstanceState::Pending);
        // One that is starting has been prepared, and its folder is its task's.
        let is_due = |it: &&Instance| self.until_power(it).is_none() && !self.is_busy(&it.id);
        for instance in pending.filter(is_due) {
            let spec = world::host(state, instance, &inner.ami, &inner.names);
            let Some(spec) = spec else { continue };
            if let Err(error) = inner.hosts.prepare(&spec).await {
                let reason = telemetry::chain(&error).to_string();
                warn!(instance = instance.id, reason, "an instance could not be prepared");
                self.report(&instance.id, &HostReport::Failed(reason));
            }
        }
    }

    fn is_busy(&self, id: &str) -> bool {
        self.0.busy.lock().contains(id)
    }

    /// How long EC2 takes before it powers the instance on; `None` once it has.
    fn until_power(&self, instance: &Instance) -> Option<Duration> {
        let passed = self.0.clock.now().duration_since(instance.launched_at);
        latency::rest(self.0.latency.launch, passed)
    }

    /// Namespaces of control planes exist before their interfaces are put in. Says too which
    /// clusters have none.
    fn control_planes(&self) -> (ControlPlanes, BTreeSet<String>) {
        let mut planes = ControlPlanes::new();
        let mut failed = BTreeSet::new();
        for cluster in self.0.eks.clusters() {
            let name = self.0.names.control_plane(&cluster.name);
            if !cluster.interfaces.is_empty()
                && let Err(error) = linux_netns::create(&name)
            {
                let (cluster, error) = (&cluster.name, telemetry::chain(&error));
                warn!(cluster, %error, "a control plane has no namespace; it is tried again");
                failed.insert(cluster.clone());
                continue;
            }
            for (index, interface) in cluster.interfaces.iter().enumerate() {
                planes.insert(interface.id.clone(), (name.clone(), index));
            }
        }
        (planes, failed)
    }

    async fn apply_networks(&self, state: &State, planes: &ControlPlanes) -> Networks {
        let mut placed = BTreeSet::new();
        let mut networks = Networks::default();
        let public = world::public_endpoints(&self.0.eks.clusters());
        let specs = world::vpcs(state, planes, &public, &self.0.names);
        for spec in &specs {
            match self.apply_network(spec).await {
                Ok((its, is_partial, has_refused)) => {
                    placed.extend(its);
                    networks.has_refused |= has_refused;
                    if is_partial {
                        networks.partial.insert(spec.id.clone());
                    }
                }
                Err(error) => {
                    warn!(vpc = spec.id, "a VPC failed, it is tried again: {error:#}");
                    networks.failed.insert(spec.id.clone());
                }
            }
        }
        networks.failed.extend(self.remove_routers(&specs).await);
        self.0.load_balancers.apply(state, &specs, &placed);
        self.0.placed.send_replace(placed);
        networks
    }

    /// The interfaces of the VPC that are in place, whether that was seen in part only, and whether an
    /// instance takes no configuration.
    async fn apply_network(&self, spec: &VpcSpec) -> anyhow::Result<(Vec<String>, bool, bool)> {
        let applied = self.router(spec).apply(spec).await.context("its router")?;
        let has_refused = !applied.unconfigured.is_empty();
        let waiting: BTreeSet<_> =
            applied.waiting.into_iter().chain(applied.unconfigured).collect();
        let is_placed = |it: &&region_vpc::Eni| {
            matches!(it.location, region_vpc::Location::Netns { .. }) && !waiting.contains(&it.id)
        };
        self.0.endpoints.ensure(spec).context("its endpoints")?;
        let placed = spec.enis.iter().filter(is_placed).map(|it| it.id.clone()).collect();
        Ok((placed, applied.is_partial, has_refused))
    }

    fn router(&self, spec: &VpcSpec) -> Router {
        let mut routers = self.0.routers.lock();
        let new = || {
            let router = Router::new(&spec.netns);
            match self.0.names.way_out(&spec.id) {
                Some(egress) => router.with_egress(egress),
                None => router,
            }
        };
        let (router, known) =
            routers.entry(spec.id.clone()).or_insert_with(|| (new(), spec.clone()));
        *known = spec.clone();
        router.clone()
    }

    /// The VPCs whose routers could not be removed.
    async fn remove_routers(&self, specs: &[VpcSpec]) -> BTreeSet<String> {
        let gone: Vec<_> = {
            let mut routers = self.0.routers.lock();
            let is_gone = |id: &String| specs.iter().all(|it| it.id != *id);
            let ids: Vec<_> = routers.keys().filter(|id| is_gone(id)).cloned().collect();
            ids.into_iter().filter_map(|id| routers.remove(&id)).collect()
        };
        let mut failed = BTreeSet::new();
        for (router, spec) in gone {
            self.0.endpoints.remove(&spec.id);
            if let Err(error) = router.remove().await {
                warn!(vpc = spec.id, error = %telemetry::chain(&error), "a router stays for now");
                failed.insert(spec.id.clone());
                self.0.routers.lock().insert(spec.id.clone(), (router, spec));
            }
        }
        failed
    }

    /// Starts what the instance needs next, unless something is under way.
    fn drive(&self, state: &State, instance: &Instance, observed: Option<&Observed>) {
        let is_waiting =
            instance.state == InstanceState::Pending && self.until_power(instance).is_some();
        if is_waiting || self.is_busy(&instance.id) {
            return;
        }
        let id = &instance.id;
        let spec = || world::host(state, instance, &self.0.ami, &self.0.names);
        match step::next(Wanted::of(instance), observed) {
            Step::Nothing => {}
            Step::Start => drop(spec().map(|it| self.start(it))),
            Step::Reboot => drop(spec().map(|it| self.reboot(it))),
            Step::Follow => {
                if instance.check != StatusCheck::Ok {
                    self.report(id, &HostReport::Started);
                }
                self.follow(id);
            }
            Step::ReportStopped => self.report(id, &HostReport::Stopped),
            Step::ReportPowerLost => self.power_lost(id),
            Step::ReportLost => self.report(id, &HostReport::Terminated),
            Step::Stop => self.stop(id),
            Step::Hibernate => self.hibernate(id),
            Step::Terminate => self.terminate(id),
        }
    }

    /// Runs `work` for an instance if nothing runs for it yet, and wakes the loop at its end.
    fn once<F>(&self, id: &str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if !self.0.busy.lock().insert(id.to_owned()) {
            return;
        }
        let (driver, id) = (self.clone(), id.to_owned());
        drop(self.0.scope.spawn("instance", async move {
            work.await;
            driver.0.busy.lock().remove(&id);
            driver.0.woken.notify_one();
        }));
    }

    fn start(&self, spec: HostSpec) {
        let driver = self.clone();
        let id = spec.instance_id.clone();
        self.once(&id, async move {
            let report = match driver.0.hosts.ensure(&spec).await {
                Ok(_) => HostReport::Started,
                Err(error) => HostReport::Failed(telemetry::chain(&error).to_string()),
            };
            info!(instance = spec.instance_id, ?report, "instance start");
            driver.report(&spec.instance_id, &report);
        });
    }

    fn reboot(&self, spec: HostSpec) {
        let (driver, id) = (self.clone(), spec.instance_id.clone());
        self.once(&id, async move {
            let report = match driver.0.hosts.reboot(&spec, GRACE).await {
                Ok(()) => {
                    let now = tokio::time::Instant::now();
                    driver.0.booted.lock().insert(spec.instance_id.clone(), now);
                    HostReport::Started
                }
                Err(error) => {
                    let instance = &spec.instance_id;
                    warn!(instance, error = %telemetry::chain(&error), "reboot failed");
                    HostReport::Unbootable
                }
            };
            driver.report(&spec.instance_id, &report);
            if report == HostReport::Unbootable {
                tokio::time::sleep(REBOOT_RETRY).await;
            }
        });
    }

    /// One that ends again and again right after its boot does so at a measured pace.
    fn power_lost(&self, id: &str) {
        let last = self.0.booted.lock().get(id).copied();
        match last.and_then(|it| REBOOT_RETRY.checked_sub(it.elapsed())) {
            Some(rest) if !rest.is_zero() => self.once(id, tokio::time::sleep(rest)),
            _ => self.report(id, &HostReport::PowerLost),
        }
    }

    /// What the machine has written down of the instance cannot be read. EC2's records say all but
    /// whether it runs, so it is written down anew and boots again; its end needs no knowledge.
    fn mend(&self, state: &State, instance: &Instance) {
        let id = &instance.id;
        match instance.state {
            InstanceState::Terminated => return,
            InstanceState::ShuttingDown => return self.terminate(id),
            _ => {}
        }
        let Some(spec) = world::host(state, instance, &self.0.ami, &self.0.names) else { return };
        let (driver, wanted) = (self.clone(), instance.state);
        self.once(id, async move {
            let Err(error) = driver.0.hosts.mend(&spec).await else { return };
            let (id, error) = (&spec.instance_id, telemetry::chain(&error).to_string());
            warn!(instance = id, error, "an instance cannot be mended");
            let report = match wanted {
                InstanceState::Pending => HostReport::Failed(error),
                _ => HostReport::Unbootable,
            };
            driver.report(id, &report);
            tokio::time::sleep(REBOOT_RETRY).await;
        });
    }

    fn stop(&self, id: &str) {
        let (driver, instance) = (self.clone(), id.to_owned());
        self.once(id, async move {
            let at_least = tokio::time::sleep(driver.0.latency.stop);
            let (stopped, ()) = tokio::join!(driver.0.hosts.stop(&instance, GRACE), at_least);
            match stopped {
                Ok(()) => driver.report(&instance, &HostReport::Stopped),
                Err(error) => {
                    warn!(instance, error = %telemetry::chain(&error), "stop failed");
                    tokio::time::sleep(RETRY).await;
                }
            }
        });
    }

    /// One that cannot is shut down, as EC2 then hears that it keeps no memory.
    fn hibernate(&self, id: &str) {
        let (driver, instance) = (self.clone(), id.to_owned());
        self.once(id, async move {
            let at_least = tokio::time::sleep(driver.0.latency.stop);
            let (stopped, ()) = tokio::join!(driver.0.hosts.hibernate(&instance), at_least);
            match stopped {
                Ok(()) => driver.report(&instance, &HostReport::Stopped),
                Err(error) => {
                    warn!(instance, error = %telemetry::chain(&error), "it does not hibernate");
                    driver.report(&instance, &HostReport::NotHibernated);
                }
            }
        });
    }

    fn terminate(&self, id: &str) {
        let (driver, instance) = (self.clone(), id.to_owned());
        self.once(id, async move {
            let hosts = &driver.0.hosts;
            let at_least = tokio::time::sleep(driver.0.latency.terminate);
            let (stopped, ()) = tokio::join!(hosts.stop(&instance, GRACE), at_least);
            if let Err(error) = stopped {
                // The order is lost, not the end: what runs is found by its cgroup.
                warn!(instance, error = %telemetry::chain(&error), "not shut down in order");
            }
            driver.0.consoles.keep(&instance);
            match hosts.terminate(&driver.0.names.remains(&instance)).await {
                Ok(()) => {
                    driver.0.booted.lock().remove(&instance);
                    driver.report(&instance, &HostReport::Terminated);
                }
                Err(error) => {
                    warn!(instance, error = %telemetry::chain(&error), "termination failed");
                    tokio::time::sleep(RETRY).await;
                }
            }
        });
    }

    /// Wakes the loop when the instance's PID 1 ends; that it begins to, EC2 hears at once.
    fn follow(&self, id: &str) {
        if !self.0.followed.lock().insert(id.to_owned()) {
            return;
        }
        let (driver, instance) = (self.clone(), id.to_owned());
        drop(self.0.scope.spawn("instance end", async move {
            let hosts = &driver.0.hosts;
            let ended = tokio::select! {
                ended = hosts.ended(&instance) => ended,
                () = hosts.switches_off(&instance) => {
                    driver.report(&instance, &HostReport::PoweringOff);
                    hosts.ended(&instance).await
                }
            };
            if let Err(error) = ended {
                warn!(instance, error = %telemetry::chain(&error), "cannot follow an instance");
            }
            driver.0.followed.lock().remove(&instance);
            driver.0.woken.notify_one();
        }));
    }

    /// Hosts of instances that EC2 does not know (any more).
    fn remove_strangers(
        &self,
        state: &State,
        observed: &BTreeMap<String, Result<Observed, HostError>>,
    ) {
        for id in observed.keys() {
            let is_known =
                state.instances.get(id).is_some_and(|it| it.state != InstanceState::Terminated);
            if is_known {
                continue;
            }
            let (driver, instance) = (self.clone(), id.clone());
            self.once(id, async move {
                if let Err(error) =
                    driver.0.hosts.terminate(&driver.0.names.remains(&instance)).await
                {
                    warn!(instance, error = %telemetry::chain(&error), "removal failed");
                    tokio::time::sleep(RETRY).await;
                }
            });
        }
    }

    fn report(&self, id: &str, report: &HostReport) {
        if let Err(fault) = self.0.ec2.report(id, report) {
            warn!(instance = id, %fault, "EC2 did not take a report");
        }
    }
}
