//! Which interfaces and addresses the node has, and which sandbox has which address.
//!
//! **Invariant:** an address is assigned to at most one sandbox and a sandbox has at most one
//! address; assigning to a known sandbox gives the address it has. That holds also where an interface
//! is out of sight for a while: its sandboxes keep their addresses until they give them back.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::warm_pool::{Stock, of_prefix};

/// What the runtime calls a sandbox's interface by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    pub network_name: String,
    #[serde(rename = "containerID")]
    pub container_id: String,
    pub if_name: String,
}

/// Whose sandbox it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    #[serde(rename = "k8sPodNamespace")]
    pub namespace: String,
    #[serde(rename = "k8sPodName")]
    pub name: String,
}

/// A network interface as IMDS describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedEni {
    pub id: String,
    pub mac: String,
    /// 0 is the primary.
    pub device_number: u32,
    pub primary_address: Ipv4Addr,
    pub subnet_id: String,
    pub subnet_cidr: Ipv4Net,
    pub security_groups: Vec<String>,
    pub addresses: BTreeSet<Ipv4Addr>,
    pub prefixes: BTreeSet<Ipv4Net>,
    /// Branches come in by it; it carries no pods itself.
    pub is_trunk: bool,
}

impl AttachedEni {
    pub fn is_primary(&self) -> bool {
        self.device_number == 0
    }

    /// The table of its routes.
    pub fn route_table(&self) -> u32 {
        if self.is_primary() { linux_netlink::TABLE_MAIN } else { self.device_number + 1 }
    }

    /// The subnet's router.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet_cidr.network()) + 1)
    }
}

/// An interface in the store.
#[derive(Clone, Debug)]
pub struct Eni {
    pub attached: AttachedEni,
    pub added: Timestamp,
    addresses: BTreeMap<Ipv4Addr, Slot>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    /// Of which delegated prefix it is; `None`: a secondary address.
    prefix: Option<Ipv4Net>,
    holder: Option<Key>,
    released: Option<Timestamp>,
}

/// A sandbox's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    pub address: Ipv4Addr,
    pub eni: String,
    pub device_number: u32,
    pub route_table: u32,
}

/// A row of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: Key,
    pub address: Ipv4Addr,
    pub pod: PodName,
    pub since: Timestamp,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Datastore {
    enis: BTreeMap<String, Eni>,
    rows: BTreeMap<Key, Row>,
    cooldown: Duration,
    is_prefix_mode: bool,
    excluded: Excluded,
}

/// The interfaces that carry no pods but those that they have already.
#[derive(Clone, Debug, Default)]
struct Excluded {
    /// Custom networking: the primary interface is not in the pods' subnet.
    is_primary: bool,
    /// Subnet discovery: these are tagged so.
    subnets: BTreeSet<String>,
}

impl Excluded {
    fn has(&self, eni: &AttachedEni) -> bool {
        self.is_primary && eni.is_primary() || self.subnets.contains(&eni.subnet_id)
    }

    /// Whether new pods may have addresses of it.
    fn leaves(&self, eni: &AttachedEni) -> bool {
        !(eni.is_trunk || self.has(eni))
    }
}

impl Datastore {
    pub fn new(cooldown: Duration, is_prefix_mode: bool) -> Self {
        Self {
            enis: BTreeMap::new(),
            rows: BTreeMap::new(),
            cooldown,
            is_prefix_mode,
            excluded: Excluded::default(),
        }
    }

    /// One whose primary interface carries no pods but those that it has already.
    pub fn without_primary(self, is_excluded: bool) -> Self {
        let excluded = Excluded { is_primary: is_excluded, ..self.excluded };
        Self { excluded, ..self }
    }

    /// Interfaces in these subnets, and in no others, carry no pods but those that they have already.
    pub fn exclude_subnets(&mut self, subnets: BTreeSet<String>) {
        self.excluded.subnets = subnets;
    }

    /// Whether new pods are kept off the interface by where it is.
    pub fn excludes(&self, eni: &AttachedEni) -> bool {
        self.excluded.has(eni)
    }

    pub fn enis(&self) -> impl Iterator<Item = &Eni> {
        self.enis.values()
    }

    /// The interfaces that new pods get addresses of.
    pub fn pod_enis(&self) -> impl Iterator<Item = &Eni> {
        self.enis.values().filter(move |eni| self.excluded.leaves(&eni.attached))
    }

    pub fn eni(&self, id: &str) -> Option<&Eni> {
        self.enis.get(id)
    }

    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// Takes what IMDS says about an interface: new addresses come in, and those that are gone go,
    /// but for those that sandboxes have (their pods are told by nobody, so they keep them).
    pub fn observe(&mut self, attached: AttachedEni, now: Timestamp) {
        let id = attached.id.clone();
        let mut wanted: BTreeMap<Ipv4Addr, Option<Ipv4Net>> =
            attached.addresses.iter().map(|address| (*address, None)).collect();
        for prefix in &attached.prefixes {
            wanted.extend(of_prefix(*prefix).map(|address| (address, Some(*prefix))));
        }
        wanted.remove(&attached.primary_address);
        let eni = self.enis.entry(id).or_insert_with(|| Eni {
            attached: attached.clone(),
            added: now,
            addresses: BTreeMap::new(),
        });
        eni.attached = attached;
        eni.addresses.retain(|address, slot| wanted.contains_key(address) || slot.holder.is_some());
        let mut absent = BTreeSet::new();
        for (address, prefix) in wanted {
            let slot = eni.addresses.entry(address).or_insert_with(|| {
                absent.insert(address);
                Slot::default()
            });
            slot.prefix = prefix;
        }
        // What was out of sight is still its sandbox's.
        for row in self.rows.values().filter(|row| absent.contains(&row.address)) {
            if let Some(slot) = eni.addresses.get_mut(&row.address) {
                slot.holder = Some(row.key.clone());
            }
        }
    }

    /// Forgets an interface that is not there any more, with its addresses: but for whose they are,
    /// since it may come back, or they as another's.
    pub fn remove_eni(&mut self, id: &str) {
        self.enis.remove(id);
    }

    /// Takes an interface out, so that nobody gets an address of it any more. `None` where one of
    /// its addresses came into use since the decision to give it back.
    pub fn take_idle_eni(&mut self, id: &str, now: Timestamp) -> Option<Eni> {
        let is_idle = self.enis.get(id).is_some_and(|eni| self.is_idle(eni, now));
        if is_idle { self.enis.remove(id) } else { None }
    }

    /// Takes those addresses out that are still free, before they go back to EC2.
    pub fn take_addresses(&mut self, id: &str, wanted: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
        let Some(eni) = self.enis.get_mut(id) else { return Vec::new() };
        let is_free = |address: &&Ipv4Addr| {
            eni.addresses.get(address).is_some_and(|slot| slot.holder.is_none())
        };
        let taken: Vec<Ipv4Addr> = wanted.iter().filter(is_free).copied().collect();
        for address in &taken {
            eni.addresses.remove(address);
            eni.attached.addresses.remove(address);
        }
        taken
    }

    /// Takes those prefixes out of which no address is in use, before they go back to EC2.
    pub fn take_prefixes(&mut self, id: &str, wanted: &[Ipv4Net]) -> Vec<Ipv4Net> {
        let Some(eni) = self.enis.get_mut(id) else { return Vec::new() };
        let is_free = |prefix: &&Ipv4Net| {
            let mut slots = eni.addresses.values().filter(|slot| slot.prefix == Some(**prefix));
            slots.all(|slot| slot.holder.is_none())
        };
        let taken: Vec<Ipv4Net> = wanted.iter().filter(is_free).copied().collect();
        for prefix in &taken {
            eni.attached.prefixes.remove(prefix);
            eni.addresses.retain(|_, slot| slot.prefix != Some(*prefix));
        }
        taken
    }

    /// Gives the sandbox an address, or the one it has; `None` when none is free.
    pub fn assign(&mut self, key: &Key, pod: &PodName, now: Timestamp) -> Option<Assigned> {
        if let Some(row) = self.rows.get(key) {
            match self.describe(row.address) {
                Some(assigned) => return Some(assigned),
                // Its interface went: it gets another one.
                None => drop(self.rows.remove(key)),
            }
        }
        let (cooldown, is_prefix_mode) = (self.cooldown, self.is_prefix_mode);
        let excluded = &self.excluded;
        // Lower devices first, so that later interfaces empty and can be given back; on each the
        // address that rested longest.
        let mut enis: Vec<&mut Eni> =
            self.enis.values_mut().filter(|eni| excluded.leaves(&eni.attached)).collect();
        enis.sort_by_key(|eni| eni.attached.device_number);
        let (address, slot) = enis.into_iter().find_map(|eni| {
            let slots = eni.addresses.iter_mut();
            slots
                .filter(|(_, slot)| slot.prefix.is_some() == is_prefix_mode)
                .filter(|(_, slot)| slot.is_ready(cooldown, now))
                .min_by_key(|(_, slot)| slot.released)
        })?;
        slot.holder = Some(key.clone());
        slot.released = None;
        let address = *address;
        let row = Row { key: key.clone(), address, pod: pod.clone(), since: now };
        self.rows.insert(key.clone(), row);
        self.describe(address)
    }

    /// What the sandbox has.
    pub fn assigned(&self, key: &Key) -> Option<Assigned> {
        self.describe(self.rows.get(key)?.address)
    }

    /// The sandbox's row, also where its interface is out of sight.
    pub fn row(&self, key: &Key) -> Option<&Row> {
        self.rows.get(key)
    }

    /// Takes the sandbox's address back; `None` for one that has none.
    pub fn release(&mut self, key: &Key, now: Timestamp) -> Option<Assigned> {
        let row = self.rows.remove(key)?;
        let assigned = self.describe(row.address);
        if let Some(slot) = self.slot_mut(row.address) {
            slot.holder = None;
            slot.released = Some(now);
        }
        assigned
    }

    /// Undoes an assignment that nobody has heard of: the address need not rest.
    pub fn undo(&mut self, key: &Key) {
        let Some(row) = self.rows.remove(key) else { return };
        if let Some(slot) = self.slot_mut(row.address) {
            slot.holder = None;
        }
    }

    /// Puts a row of the checkpoint back. `false` where the address belongs to no interface, in which
    /// case nobody else gets it when it comes, or is another sandbox's.
    pub fn restore(&mut self, row: Row) -> bool {
        if self.rows.values().any(|it| it.address == row.address) {
            return false;
        }
        let slot = self.slot_mut(row.address);
        let is_there = slot.is_some();
        if let Some(slot) = slot {
            (slot.holder, slot.released) = (Some(row.key.clone()), None);
        }
        self.rows.insert(row.key.clone(), row);
        is_there
    }

    /// What the pool holds, of the kind that new pods get.
    pub fn stock(&self) -> Stock {
        self.pod_enis().map(|eni| eni.stock(self.is_prefix_mode)).fold(
            Stock::default(),
            |sum, it| Stock {
                total: sum.total + it.total,
                assigned: sum.assigned + it.assigned,
                prefixes: sum.prefixes + it.prefixes,
                free_prefixes: sum.free_prefixes + it.free_prefixes,
            },
        )
    }

    /// How many addresses there are, and how many of them pods have: of both kinds and of all interfaces.
    pub fn counts(&self) -> (usize, usize) {
        let slots = || self.enis.values().flat_map(|eni| eni.addresses.values());
        (slots().count(), slots().filter(|slot| slot.holder.is_some()).count())
    }

    pub fn stock_of(&self, eni: &Eni) -> Stock {
        eni.stock(self.is_prefix_mode)
    }

    /// Whether none of its addresses is in use or resting.
    pub fn is_idle(&self, eni: &Eni, now: Timestamp) -> bool {
        eni.addresses.values().all(|slot| slot.is_ready(self.cooldown, now))
    }

    /// Secondary addresses that can go back to EC2: free, and rested.
    pub fn idle_addresses(&self, eni: &Eni, now: Timestamp) -> Vec<Ipv4Addr> {
        let slots = eni.addresses.iter().rev();
        slots
            .filter(|(_, slot)| slot.prefix.is_none() && slot.is_ready(self.cooldown, now))
            .map(|(address, _)| *address)
            .collect()
    }

    /// Prefixes that can go back to EC2: none of their addresses in use or resting.
    pub fn idle_prefixes(&self, eni: &Eni, now: Timestamp) -> Vec<Ipv4Net> {
        let is_idle = |prefix: &&Ipv4Net| {
            let mut slots = eni.addresses.values().filter(|slot| slot.prefix == Some(**prefix));
            slots.all(|slot| slot.is_ready(self.cooldown, now))
        };
        eni.attached.prefixes.iter().rev().filter(is_idle).copied().collect()
    }

    /// How many addresses rest.
    pub fn resting(&self, now: Timestamp) -> usize {
        self.resting_slots(now).count()
    }

    fn resting_slots(&self, now: Timestamp) -> impl Iterator<Item = &Slot> {
        let slots = self.pod_enis().flat_map(|eni| eni.addresses.values());
        slots.filter(move |slot| slot.holder.is_none() && !slot.is_ready(self.cooldown, now))
    }

    fn describe(&self, address: Ipv4Addr) -> Option<Assigned> {
        let eni = self.enis.values().find(|eni| eni.addresses.contains_key(&address))?;
        Some(Assigned {
            address,
            eni: eni.attached.id.clone(),
            device_number: eni.attached.device_number,
            route_table: eni.attached.route_table(),
        })
    }

    fn slot_mut(&mut self, address: Ipv4Addr) -> Option<&mut Slot> {
        self.enis.values_mut().find_map(|eni| eni.addresses.get_mut(&address))
    }
}

impl Eni {
    /// Secondary addresses, and prefixes, of the sixteen-fold kind too: what counts against the
    /// instance type's limit.
    pub fn used_slots(&self) -> usize {
        let secondary = self.addresses.values().filter(|slot| slot.prefix.is_none()).count();
        secondary + self.attached.prefixes.len()
    }

    /// How many of its addresses pods have.
    pub fn assigned(&self) -> usize {
        self.addresses.values().filter(|slot| slot.holder.is_some()).count()
    }

    /// How many addresses of each CIDR pods have: of a prefix, or of a single address.
    pub fn assigned_by_cidr(&self) -> BTreeMap<Ipv4Net, usize> {
        let mut found = BTreeMap::new();
        for (address, slot) in &self.addresses {
            let cidr = slot.prefix.unwrap_or_else(|| (*address).into());
            *found.entry(cidr).or_default() += usize::from(slot.holder.is_some());
        }
        found
    }

    /// Its addresses and who holds them, for introspection.
    pub fn holders(&self) -> impl Iterator<Item = (Ipv4Addr, Option<&Key>, Option<Timestamp>)> {
        self.addresses.iter().map(|(address, slot)| (*address, slot.holder.as_ref(), slot.released))
    }

    fn stock(&self, is_prefix_mode: bool) -> Stock {
        let counted = || self.addresses.values().filter(|it| it.prefix.is_some() == is_prefix_mode);
        let used: BTreeSet<_> =
            counted().filter(|it| it.holder.is_some()).filter_map(|it| it.prefix).collect();
        Stock {
            total: counted().count(),
            assigned: counted().filter(|it| it.holder.is_some()).count(),
            prefixes: self.attached.prefixes.len(),
            free_prefixes: self.attached.prefixes.len().saturating_sub(used.len()),
        }
    }
}

impl Slot {
    /// Whether a sandbox can have it.
    fn is_ready(&self, cooldown: Duration, now: Timestamp) -> bool {
        let has_rested = self.released.is_none_or(|released| released + cooldown <= now);
        self.holder.is_none() && has_rested
    }
}

#[cfg(test)]
mod tests;
