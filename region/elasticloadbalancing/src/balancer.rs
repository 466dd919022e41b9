//! The data plane: for each load balancer a node per interface, which listens, checks and carries.
//!
//! A node is in the namespace that its interface is in, so that all it receives and sends goes through
//! the VPC's router. What faces the internet listens on this machine's loopback too, for its users.
//!
//! [`Balancers::apply`] takes the whole wanted state; what has not changed is left alone, connections
//! above all.
//! **Invariant:** only instances in service get connections, and each node has a bounded number.
//!
//! Deviation: a node's TCP listener takes a connection before it has chosen an instance, and closes it
//! where there is none; a new instance is checked every second at first, unless the region is as slow
//! as AWS.

mod backend;
mod check;
mod front;
mod http;
mod idle;
mod node;
mod spec;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use lifecycle::Scope;
use parking_lot::Mutex;
use transport::Place;

use self::front::{Door, Fronts};
use self::node::Node;
pub use self::{
    check::Health,
    spec::{Admission, BalancerSpec, Front, HostSpec, Member, NodeSpec},
};

/// See the module. Clones share the state.
#[derive(Clone)]
pub struct Balancers(Arc<Inner>);

struct Inner {
    scope: Scope,
    /// How often a new instance is checked at first.
    eager: Option<Duration>,
    running: Mutex<BTreeMap<String, Running>>,
}

/// One load balancer.
struct Running {
    scope: Scope,
    spec: BalancerSpec,
    nodes: BTreeMap<String, Arc<Node>>,
    /// By node, and then those on this machine's loopback.
    fronts: BTreeMap<String, Fronts>,
    host: Fronts,
    shared: Arc<Mutex<Vec<Arc<Node>>>>,
}

/// How a load balancer does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub instances: usize,
    pub in_service: usize,
    /// Why it does not listen where it shall, in words.
    pub problems: Vec<String>,
}

impl Balancers {
    /// With `eager`, a new instance is checked that often at first.
    pub fn new(eager: Option<Duration>, scope: Scope) -> Self {
        Self(Arc::new(Inner { scope, eager, running: Mutex::default() }))
    }

    /// Makes the load balancers, by name, what they shall be.
    pub fn apply(&self, wanted: &BTreeMap<String, BalancerSpec>) {
        let mut running = self.0.running.lock();
        running.retain(|name, it| {
            let is_wanted = wanted.contains_key(name);
            if !is_wanted {
                it.scope.cancel();
            }
            is_wanted
        });
        for (name, spec) in wanted {
            let it = running.entry(name.clone()).or_insert_with(|| Running::new(&self.0.scope));
            if it.spec != *spec {
                it.update(spec, self.0.eager);
            }
        }
    }

    /// What the nodes have found out about instances.
    pub fn health(&self, name: &str) -> BTreeMap<String, Health> {
        self.0.running.lock().get(name).map(Running::health).unwrap_or_default()
    }

    pub fn status(&self, name: &str) -> Status {
        let running = self.0.running.lock();
        let Some(it) = running.get(name) else { return Status::default() };
        let fronts = it.fronts.values().chain([&it.host]);
        Status {
            instances: it.spec.instances.len(),
            in_service: it.health().values().filter(|it| **it == Health::InService).count(),
            problems: fronts.flat_map(Fronts::problems).collect(),
        }
    }

    /// What its name means: its nodes that have an instance in service, or all of them.
    pub fn addresses(&self, name: &str) -> Vec<Ipv4Addr> {
        let running = self.0.running.lock();
        let Some(it) = running.get(name) else { return Vec::new() };
        let address = |id: &String| it.spec.nodes.get(id).map(|it| it.address);
        let able = it.nodes.iter().filter(|(_, node)| node.is_able());
        let able: Vec<Ipv4Addr> = able.filter_map(|(id, _)| address(id)).collect();
        match able.is_empty() {
            true => it.nodes.keys().filter_map(address).collect(),
            false => able,
        }
    }
}

impl Running {
    fn new(scope: &Scope) -> Self {
        Self {
            scope: scope.child(),
            spec: BalancerSpec::default(),
            nodes: BTreeMap::new(),
            fronts: BTreeMap::new(),
            host: Fronts::default(),
            shared: Arc::default(),
        }
    }

    fn update(&mut self, spec: &BalancerSpec, eager: Option<Duration>) {
        let gone: BTreeSet<String> = self
            .nodes
            .keys()
            .filter(|id| self.spec.nodes.get(*id) != spec.nodes.get(*id))
            .cloned()
            .collect();
        for id in &gone {
            self.fronts.remove(id);
            if let Some(node) = self.nodes.remove(id) {
                node.end();
            }
        }
        for (id, wanted) in &spec.nodes {
            let new = || Arc::new(Node::new(wanted, eager, self.scope.child()));
            let node = self.nodes.entry(id.clone()).or_insert_with(new);
            node.update(spec);
            let door = Door::open(node.clone());
            let fronts = self.fronts.entry(id.clone()).or_default();
            fronts.update(
                &wanted.place,
                Ipv4Addr::UNSPECIFIED,
                &spec.listeners,
                &door,
                node.scope(),
            );
        }
        *self.shared.lock() = self.nodes.values().cloned().collect();
        match &spec.host {
            None => self.host = Fronts::default(),
            Some(host) => {
                let door = Door::guarded(self.shared.clone(), host.admits.clone());
                self.host.update(&Place::Here, host.address, &spec.listeners, &door, &self.scope);
            }
        }
        self.spec = spec.clone();
    }

    fn health(&self) -> BTreeMap<String, Health> {
        let mut merged: BTreeMap<String, Health> = BTreeMap::new();
        for (id, health) in self.nodes.values().flat_map(|it| it.health()) {
            let known = merged.entry(id).or_insert(health);
            *known = health.max(*known);
        }
        merged
    }
}
