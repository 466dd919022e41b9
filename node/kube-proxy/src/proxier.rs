//! The state, and the kernel kept equal to it.
//!
//! What changes marks its Service dirty. A pass compiles the dirty Services anew, compares each with
//! what was compiled last, and applies the differences of all of them in one transaction. Where the
//! kernel refuses it (somebody deleted the table), the whole table is put in place.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use linux_nftables::{ApplyError, Nft, Table, Transaction};

use crate::{
    compile::{Fragment, Options, compile},
    conntrack::Expected,
    endpoint_slices::{Choice, Here, Slice, choose},
    ruleset::{Change, Ledger, base, whole},
    service_map::{Protocol, ServiceName, ServicePort},
};

/// What a load balancer asks a node about a Service.
pub type LocalCounts = BTreeMap<u16, (ServiceName, usize)>;

/// See the module.
#[derive(Debug)]
pub struct Proxier {
    here: Here,
    nft: Nft,
    services: BTreeMap<ServiceName, Vec<ServicePort>>,
    slices: HashMap<ServiceName, BTreeMap<String, Slice>>,
    /// Those that load balancers check by a port of their own.
    checked: BTreeSet<ServiceName>,
    claims: Claims,
    dirty: BTreeSet<ServiceName>,
    families: Vec<Family>,
    needs_whole: bool,
}

/// What one family's table holds.
#[derive(Debug)]
struct Family {
    options: Options,
    base: Table,
    ledger: Ledger,
    compiled: HashMap<ServiceName, Vec<(ServicePort, Choice)>>,
    no_local: NoLocal,
}

/// Ports of Services whose policy is `Local`, that have endpoints, but none on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoLocal {
    pub internal: usize,
    pub external: usize,
}

impl NoLocal {
    fn of(inputs: &[(ServicePort, Choice)]) -> Self {
        let is_remote = |choice: &Choice| choice.local.is_empty() && !choice.cluster.is_empty();
        let remote = || inputs.iter().filter(|(_, choice)| is_remote(choice));
        Self {
            internal: remote().filter(|(port, _)| port.is_internal_local).count(),
            external: remote().filter(|(p, _)| p.is_external_local && p.is_external()).count(),
        }
    }

    fn change(&mut self, old: Self, new: Self) {
        self.internal = self.internal + new.internal - old.internal;
        self.external = self.external + new.external - old.external;
    }
}

/// A pass that is planned and not yet applied.
#[derive(Debug, Default)]
pub struct Pass {
    transactions: Vec<Transaction>,
    /// UDP flows to endpoints that are no more.
    pub flows: Expected,
    pub services: usize,
    pub is_whole: bool,
}

impl Pass {
    pub fn is_empty(&self) -> bool {
        self.transactions.iter().all(Transaction::is_empty)
    }

    /// Puts it into the kernel.
    pub async fn apply(&self, nft: &Nft) -> Result<(), ApplyError> {
        for transaction in self.transactions.iter().filter(|it| !it.is_empty()) {
            nft.apply_async(transaction.clone()).await?;
        }
        Ok(())
    }
}

impl Proxier {
    pub fn new(nft: Nft, here: Here, options: Vec<Options>) -> Self {
        let family = |options| Family {
            base: base(&options),
            options,
            ledger: Ledger::default(),
            compiled: HashMap::new(),
            no_local: NoLocal::default(),
        };
        Self {
            here,
            nft,
            services: BTreeMap::new(),
            slices: HashMap::new(),
            checked: BTreeSet::new(),
            claims: Claims::default(),
            dirty: BTreeSet::new(),
            families: options.into_iter().map(family).collect(),
            needs_whole: true,
        }
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.here.node
    }

    pub fn nft(&self) -> &Nft {
        &self.nft
    }

    /// A Service as it is now; no ports: it is gone or not proxied. Says whether it changed.
    pub fn set_service(&mut self, name: &ServiceName, ports: Vec<ServicePort>) -> bool {
        let old = self.services.remove(name).unwrap_or_default();
        if old == ports {
            if !ports.is_empty() {
                self.services.insert(name.clone(), ports);
            }
            return false;
        }
        // Whoever else wants an address that this one had or takes is compiled anew.
        let others = self.claims.replace(name, &old, &ports);
        self.dirty.extend(others);
        let is_checked = ports.iter().any(|port| port.health_check_node_port.is_some());
        match is_checked {
            true => self.checked.insert(name.clone()),
            false => self.checked.remove(name),
        };
        if !ports.is_empty() {
            self.services.insert(name.clone(), ports);
        }
        self.dirty.insert(name.clone());
        true
    }

    /// A slice as it is now; `None`: it is gone. Says whether it changed.
    pub fn set_slice(
        &mut self,
        service: &ServiceName,
        slice_name: &str,
        slice: Option<Slice>,
    ) -> bool {
        let slices = self.slices.entry(service.clone()).or_default();
        let is_same = match slice {
            Some(slice) => slices.insert(slice_name.to_owned(), slice.clone()) == Some(slice),
            None => slices.remove(slice_name).is_none(),
        };
        if slices.is_empty() {
            self.slices.remove(service);
        }
        if !is_same {
            self.dirty.insert(service.clone());
        }
        !is_same
    }

    /// What the configuration and the node's addresses make of the rules; a change of it makes the
    /// whole table anew. The families stay those of the beginning.
    pub fn set_options(&mut self, options: Vec<Options>) {
        for (family, options) in self.families.iter_mut().zip(options) {
            if family.options != options {
                family.base = base(&options);
                family.options = options;
                self.needs_whole = true;
            }
        }
    }

    /// Whether something waits for the next pass.
    pub fn is_behind(&self) -> bool {
        self.needs_whole || !self.dirty.is_empty()
    }

    /// Where this node is; hints are followed anew.
    pub fn set_zone(&mut self, zone: Option<String>) {
        if self.here.zone != zone {
            self.here.zone = zone;
            self.dirty.extend(self.services.keys().cloned());
        }
    }

    /// Drops every Service that is not in `present`: after a new list.
    pub fn retain_services(&mut self, present: &BTreeSet<ServiceName>) {
        let gone: Vec<_> =
            self.services.keys().filter(|name| !present.contains(name)).cloned().collect();
        for name in gone {
            self.set_service(&name, Vec::new());
        }
    }

    /// Drops every slice that is not in `present`.
    pub fn retain_slices(&mut self, present: &BTreeSet<(ServiceName, String)>) {
        let names = self.slices.iter().flat_map(|(service, slices)| {
            slices.keys().map(|name| (service.clone(), name.clone()))
        });
        let gone: Vec<_> = names.filter(|it| !present.contains(it)).collect();
        for (service, name) in gone {
            self.set_slice(&service, &name, None);
        }
    }

    /// The next pass plans the whole table: the kernel is not known to hold what was planned.
    pub fn distrust(&mut self) {
        self.needs_whole = true;
    }

    /// Plans what brings the kernel up to date. It counts as applied: see [`Self::distrust`].
    pub fn plan(&mut self) -> Pass {
        let dirty = std::mem::take(&mut self.dirty);
        let is_whole = std::mem::take(&mut self.needs_whole);
        let mut pass = Pass { services: dirty.len(), is_whole, ..Pass::default() };
        for index in 0..self.families.len() {
            let mut changes = Vec::new();
            for name in &dirty {
                let new = self.compile_inputs(name, index);
                let family = &mut self.families[index];
                let old = match new.is_empty() {
                    true => family.compiled.remove(name).unwrap_or_default(),
                    false => family.compiled.insert(name.clone(), new.clone()).unwrap_or_default(),
                };
                if old == new {
                    continue;
                }
                pass.flows.add(&old, &new);
                family.no_local.change(NoLocal::of(&old), NoLocal::of(&new));
                if !is_whole {
                    let (old, new) = (family.merge(&old), family.merge(&new));
                    changes.push(Change { old, new });
                }
            }
            let family = &mut self.families[index];
            pass.transactions.push(match is_whole {
                true => family.whole(),
                false => family.ledger.change(&family.options, &family.base, &changes),
            });
        }
        pass
    }

    fn compile_inputs(&self, name: &ServiceName, family: usize) -> Vec<(ServicePort, Choice)> {
        let is_ipv4 = self.families[family].options.is_ipv4();
        let ports = self.services.get(name).into_iter().flatten();
        let nobody = BTreeMap::new();
        let slices = self.slices.get(name).unwrap_or(&nobody);
        ports
            .map(|port| {
                let port = self.claims.granted(port);
                let choice = choose(&port, slices.values(), is_ipv4, &self.here);
                (port, choice)
            })
            .collect()
    }

    /// The Services that load balancers check by a port of the node.
    pub fn local_counts(&self) -> LocalCounts {
        let nobody = BTreeMap::new();
        let mut counts = LocalCounts::new();
        for name in &self.checked {
            let slices = self.slices.get(name).unwrap_or(&nobody);
            for port in self.services.get(name).into_iter().flatten() {
                let Some(health) = port.health_check_node_port else { continue };
                let ready = [true, false].map(|is_ipv4| {
                    choose(port, slices.values(), is_ipv4, &self.here).ready_on_node
                });
                let entry = counts.entry(health).or_insert_with(|| (name.clone(), 0));
                entry.1 = ready.into_iter().fold(entry.1, usize::max);
            }
        }
        counts
    }

    /// For each family, which are those of [`Self::new`].
    pub fn no_local(&self) -> impl Iterator<Item = NoLocal> {
        self.families.iter().map(|family| family.no_local)
    }
}

impl Family {
    fn merge(&self, inputs: &[(ServicePort, Choice)]) -> Fragment {
        let mut merged = Fragment::default();
        for (port, choice) in inputs {
            let fragment = compile(port, choice, &self.options);
            merged.chains.extend(fragment.chains);
            merged.sets.extend(fragment.sets);
            merged.elements.extend(fragment.elements);
            merged.members.extend(fragment.members);
            merged.shared.extend(fragment.shared);
        }
        merged
    }

    fn whole(&mut self) -> Transaction {
        let fragments = self.compiled.values().map(|inputs| self.merge(inputs));
        let (table, ledger) = whole(&self.options, fragments);
        self.ledger = ledger;
        Transaction::replace(&table)
    }
}

/// Who wants which address and port, or node port: two Services with one must not make a map with two
/// entries for it. A cluster address goes before an external one, then the first name wins.
///
/// The API server lets no two Services have one cluster address or node port. But one may have taken
/// over what another had, and a new list tells of the one before it ends without the other.
#[derive(Debug, Default)]
struct Claims {
    wanted: HashMap<Claim, BTreeSet<(u8, ServiceName)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Claim {
    Address(IpAddr, Protocol, u16),
    NodePort(Protocol, u16),
}

impl Claims {
    fn of(ports: &[ServicePort]) -> BTreeSet<(u8, Claim)> {
        let mut claims = BTreeSet::new();
        for port in ports {
            let address = |ip: &IpAddr| Claim::Address(*ip, port.protocol, port.port);
            let external = port.external_ips.iter().chain(&port.load_balancer_ips);
            claims.extend(port.cluster_ips.iter().map(|ip| (0, address(ip))));
            claims.extend(external.map(|ip| (1, address(ip))));
            claims.extend(port.node_port.map(|number| (0, Claim::NodePort(port.protocol, number))));
        }
        claims
    }

    /// Gives back the Services that share an address with the old or the new ports.
    fn replace(
        &mut self,
        name: &ServiceName,
        old: &[ServicePort],
        new: &[ServicePort],
    ) -> BTreeSet<ServiceName> {
        let mut others = BTreeSet::new();
        for (rank, key) in Self::of(old) {
            if let Some(claimants) = self.wanted.get_mut(&key) {
                claimants.remove(&(rank, name.clone()));
                others.extend(claimants.iter().map(|(_, name)| name.clone()));
                if claimants.is_empty() {
                    self.wanted.remove(&key);
                }
            }
        }
        for (rank, key) in Self::of(new) {
            let claimants = self.wanted.entry(key).or_default();
            others.extend(claimants.iter().map(|(_, name)| name.clone()));
            claimants.insert((rank, name.clone()));
        }
        others.remove(name);
        others
    }

    /// The port without the addresses that somebody else has.
    fn granted(&self, port: &ServicePort) -> ServicePort {
        let has = |rank: u8, claim: Claim| {
            let first = self.wanted.get(&claim).and_then(BTreeSet::first);
            first.is_none_or(|(best, name)| *best == rank && *name == port.service)
        };
        let is_ours =
            |rank: u8| move |ip: &IpAddr| has(rank, Claim::Address(*ip, port.protocol, port.port));
        let mut granted = port.clone();
        granted.cluster_ips.retain(is_ours(0));
        granted.node_port.take_if(|number| !has(0, Claim::NodePort(port.protocol, *number)));
        granted.external_ips.retain(is_ours(1));
        granted.load_balancer_ips.retain(is_ours(1));
        granted.load_balancer_ips.retain(|ip| !granted.external_ips.contains(ip));
        granted
    }
}

#[cfg(test)]
mod tests;
