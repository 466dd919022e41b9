//! The service: load balancers in the store, one transaction per change, and a way to EC2.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use aws_wire::{Client, Fault};
use clock::Clock;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use region_gateway::Caller;
use region_store::{Bucket, OpenStoreError, Store, Transaction};
use tokio::sync::{Notify, watch};

use crate::{Balancers, faults, records::LoadBalancer};

/// What the service is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    pub account: String,
    pub region: String,
    /// Of these addresses each load balancer that faces the internet gets one, for this machine's
    /// users: a part of 127.0.0.0/8 that no other region has.
    pub host_network: Ipv4Net,
}

/// See the module. Clones share the state.
#[derive(Clone)]
pub struct ElasticLoadBalancing(Arc<Inner>);

struct Inner {
    config: Config,
    clock: Clock,
    store: Store,
    load_balancers: Bucket<LoadBalancer>,
    ec2: Client,
    balancers: Balancers,
    /// Interfaces are made and removed by one at a time.
    settling: tokio::sync::Mutex<()>,
    unsettled: Notify,
    revision: watch::Sender<u64>,
}

/// What an operation may look at.
pub(crate) struct Call {
    pub(crate) now: Timestamp,
}

impl ElasticLoadBalancing {
    /// `ec2` acts as the service: `Gateway::client_as(REQUESTER)`.
    pub fn open(
        store: &Store,
        config: Config,
        ec2: Client,
        balancers: Balancers,
        clock: Clock,
    ) -> Result<Self, OpenStoreError> {
        Ok(Self(Arc::new(Inner {
            config,
            clock,
            store: store.clone(),
            load_balancers: store.bucket("elasticloadbalancing/load-balancers")?,
            ec2,
            balancers,
            settling: tokio::sync::Mutex::default(),
            unsettled: Notify::new(),
            revision: watch::Sender::default(),
        })))
    }

    /// All load balancers, by name.
    pub fn load_balancers(&self) -> Vec<Arc<LoadBalancer>> {
        self.0.load_balancers.list()
    }

    /// What carries their connections.
    pub fn balancers(&self) -> &Balancers {
        &self.0.balancers
    }

    /// Sees a new number after every change of a load balancer.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn ec2(&self) -> &Client {
        &self.0.ec2
    }

    pub(crate) fn settling(&self) -> &tokio::sync::Mutex<()> {
        &self.0.settling
    }

    pub(crate) fn unsettled(&self) -> &Notify {
        &self.0.unsettled
    }

    pub(crate) fn call(&self, _caller: &Caller) -> Call {
        Call { now: self.0.clock.now() }
    }

    pub(crate) fn get(&self, name: &str) -> Result<Arc<LoadBalancer>, Fault> {
        self.0.load_balancers.get(name).ok_or_else(|| faults::no_load_balancer(name))
    }

    pub(crate) fn transaction<R>(
        &self,
        change: impl FnOnce(&mut Transaction, &Bucket<LoadBalancer>) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let store = &self.0.store;
        let result = store.transaction(|it| change(it, &self.0.load_balancers))?;
        self.0.revision.send_modify(|it| *it += 1);
        Ok(result)
    }

    pub(crate) fn update<R>(
        &self,
        name: &str,
        change: impl FnOnce(&mut LoadBalancer) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.transaction(|transaction, all| {
            let current = transaction.get(all, name);
            let current = current.ok_or_else(|| faults::no_load_balancer(name))?;
            let mut changed = LoadBalancer::clone(&current);
            let result = change(&mut changed)?;
            if changed != *current {
                transaction.put(all, name, changed);
            }
            Ok(result)
        })
    }

    /// The first address for this machine's users that nobody has.
    pub(crate) fn free_host_address(&self, all: &[Arc<LoadBalancer>]) -> Option<Ipv4Addr> {
        let taken: BTreeSet<Ipv4Addr> = all.iter().filter_map(|it| it.host_address).collect();
        self.config().host_network.hosts().find(|it| !taken.contains(it))
    }
}
