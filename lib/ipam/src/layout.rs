//! How many pods a layout of subnets can hold, under each way in which the VPC CNI takes addresses.
//!
//! Simulated, not estimated: nodes are placed zone by zone as an Auto Scaling group does, each into
//! the emptiest subnet of its zone, and then take addresses in turn from real bitmaps until no pod
//! more gets one. So fragments that hold no /28, and primary addresses of interfaces, count as they
//! do on EC2.
//!
//! Upstream: amazon-vpc-cni-k8s `docs/eni-and-ip-target.md`, `docs/prefix-and-ip-target.md`;
//! amazon-eks-ami's rule for max pods.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{BLOCK, SubnetAddresses};

/// How the CNI takes addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// One by one.
    Secondary,
    /// In blocks of sixteen (`ENABLE_PREFIX_DELEGATION`).
    Prefix,
    /// One by one, from the pods' own subnets (`AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG`).
    Custom,
    /// In blocks, from the pods' own subnets.
    CustomPrefix,
}

impl Mode {
    pub const ALL: [Self; 4] = [Self::Secondary, Self::Prefix, Self::Custom, Self::CustomPrefix];

    pub fn is_custom(self) -> bool {
        matches!(self, Self::Custom | Self::CustomPrefix)
    }

    pub fn is_prefix(self) -> bool {
        matches!(self, Self::Prefix | Self::CustomPrefix)
    }
}

/// A subnet of the layout.
#[derive(Clone, Debug)]
pub struct Place {
    pub name: String,
    pub zone: String,
    pub addresses: SubnetAddresses,
}

/// Where nodes, and in custom networking pods, get their addresses.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub nodes: Vec<Place>,
    pub pods: Vec<Place>,
}

/// So many nodes of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    pub instance_type: String,
    pub enis: u32,
    /// The primary included.
    pub addresses_per_eni: u32,
    pub vcpus: u32,
    pub count: u32,
}

/// Pods that use the node's own address: `aws-node` and `kube-proxy`.
const ON_HOST: u32 = 2;

impl Fleet {
    pub fn of(kind: &instance_types::InstanceType, count: u32) -> Self {
        Self {
            instance_type: kind.name.to_owned(),
            enis: kind.enis,
            addresses_per_eni: kind.ipv4_per_eni,
            vcpus: kind.vcpus,
            count,
        }
    }

    /// What `maxPods` should be.
    pub fn max_pods(&self, mode: Mode) -> u32 {
        let enis = self.enis.saturating_sub(u32::from(mode.is_custom()));
        let slots = enis * self.addresses_per_eni.saturating_sub(1);
        if !mode.is_prefix() {
            return slots + ON_HOST;
        }
        let cap = if self.vcpus < 30 { 110 } else { 250 };
        (slots * BLOCK + ON_HOST).min(cap)
    }

    /// What a node without pods holds under the CNI's defaults: one interface's worth of addresses,
    /// or one prefix.
    pub fn idle_addresses(&self, mode: Mode) -> u32 {
        let pool = if mode.is_prefix() { BLOCK } else { self.addresses_per_eni.saturating_sub(1) };
        1 + pool + u32::from(mode.is_custom())
    }
}

/// What a layout holds in one mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub mode: Mode,
    /// Nodes that got an address, of those that were asked for.
    pub nodes: u32,
    pub nodes_wanted: u32,
    /// Pods with an address of their own.
    pub pods: u32,
    /// What the instance types allow.
    pub pods_wanted: u32,
    /// Addresses that the nodes hold before the first pod comes.
    pub idle_addresses: u32,
    /// Subnets that had no more to give.
    pub exhausted: BTreeSet<String>,
    /// Nodes for which the layout has no subnet of their zone.
    pub homeless: u32,
}

impl Outcome {
    pub fn is_enough(&self) -> bool {
        self.nodes == self.nodes_wanted && self.pods == self.pods_wanted
    }
}

/// Places the fleets and fills them.
pub fn simulate(layout: &Layout, fleets: &[Fleet], mode: Mode) -> Outcome {
    let mut world = World { places: layout.nodes.clone(), exhausted: BTreeSet::new() };
    let first_pod_place = world.places.len();
    world.places.extend(layout.pods.iter().cloned());
    let pod_places: Vec<usize> = (first_pod_place..world.places.len()).collect();
    let node_places: Vec<usize> = (0..first_pod_place).collect();
    let mut outcome = Outcome {
        mode,
        nodes: 0,
        nodes_wanted: fleets.iter().map(|it| it.count).sum(),
        pods: 0,
        pods_wanted: fleets.iter().map(|it| it.count * (it.max_pods(mode) - ON_HOST)).sum(),
        idle_addresses: 0,
        exhausted: BTreeSet::new(),
        homeless: 0,
    };
    let mut zones: Vec<String> = layout.nodes.iter().map(|it| it.zone.clone()).collect();
    zones.sort_unstable();
    zones.dedup();
    let mut nodes = Vec::new();
    for (number, fleet) in
        fleets.iter().flat_map(|it| std::iter::repeat_n(it, it.count as usize)).enumerate()
    {
        // The zone whose turn it is; others where it is full.
        let mut turn = zones.iter().cycle().skip(number % zones.len().max(1)).take(zones.len());
        let Some(home) = turn.find_map(|zone| world.emptiest(&node_places, zone)) else {
            world.exhausted.extend(layout.nodes.iter().map(|it| it.name.clone()));
            continue;
        };
        world.take(home);
        outcome.nodes += 1;
        outcome.idle_addresses += fleet.idle_addresses(mode);
        let place = match mode.is_custom() {
            false => Some(home),
            true => world.emptiest_at_all(&pod_places, &layout.zone_of(home)),
        };
        match place {
            Some(place) => nodes.push(Node::new(fleet, mode, place)),
            None => outcome.homeless += 1,
        }
    }
    // Each in turn, until nobody gets more.
    while nodes.iter_mut().fold(false, |any, node| node.grow(&mut world) || any) {}
    outcome.pods = nodes.iter().map(|it| it.pods).sum();
    outcome.exhausted = world.exhausted;
    outcome
}

/// The most nodes of this type that the layout holds with all their pods.
pub fn most_nodes(layout: &Layout, fleet: &Fleet, mode: Mode) -> u32 {
    let free = |places: &[Place]| places.iter().map(|it| it.addresses.free()).sum::<u32>();
    let pods = fleet.max_pods(mode) - ON_HOST;
    let (mut enough, mut too_many) =
        (0, (free(&layout.nodes) + free(&layout.pods)) / pods.max(1) + 1);
    while enough + 1 < too_many {
        let count = enough.midpoint(too_many);
        let fleet = Fleet { count, ..fleet.clone() };
        match simulate(layout, &[fleet], mode).is_enough() {
            true => enough = count,
            false => too_many = count,
        }
    }
    enough
}

impl Layout {
    fn zone_of(&self, place: usize) -> String {
        self.nodes.get(place).map(|it| it.zone.clone()).unwrap_or_default()
    }
}

struct World {
    places: Vec<Place>,
    exhausted: BTreeSet<String>,
}

impl World {
    fn emptiest(&self, of: &[usize], zone: &str) -> Option<usize> {
        self.emptiest_at_all(of, zone).filter(|it| self.places[*it].addresses.free() > 0)
    }

    fn emptiest_at_all(&self, of: &[usize], zone: &str) -> Option<usize> {
        let here = of.iter().copied().filter(|it| self.places[*it].zone == zone);
        here.max_by_key(|it| (self.places[*it].addresses.free(), std::cmp::Reverse(*it)))
    }

    fn take(&mut self, place: usize) -> bool {
        let is_taken = self.places[place].addresses.take_next().is_ok();
        self.note(place, is_taken)
    }

    fn take_block(&mut self, place: usize) -> bool {
        let is_taken = self.places[place].addresses.take_prefixes(1).is_ok();
        self.note(place, is_taken)
    }

    fn note(&mut self, place: usize, is_taken: bool) -> bool {
        if !is_taken {
            self.exhausted.insert(self.places[place].name.clone());
        }
        is_taken
    }
}

struct Node {
    place: usize,
    is_prefix: bool,
    /// Room for addresses or prefixes on the interfaces that there are.
    room: u32,
    per_eni: u32,
    enis_left: u32,
    pods: u32,
    wanted: u32,
}

impl Node {
    fn new(fleet: &Fleet, mode: Mode, place: usize) -> Self {
        let per_eni = fleet.addresses_per_eni.saturating_sub(1);
        Self {
            place,
            is_prefix: mode.is_prefix(),
            room: if mode.is_custom() { 0 } else { per_eni },
            per_eni,
            enis_left: fleet.enis.saturating_sub(1),
            pods: 0,
            wanted: fleet.max_pods(mode) - ON_HOST,
        }
    }

    /// Takes one address or block more; `false` where there is none to take.
    fn grow(&mut self, world: &mut World) -> bool {
        if self.pods >= self.wanted {
            return false;
        }
        if self.room == 0 {
            if self.enis_left == 0 || !world.take(self.place) {
                return false;
            }
            self.enis_left -= 1;
            self.room = self.per_eni;
        }
        let (is_taken, gain) = match self.is_prefix {
            true => (world.take_block(self.place), BLOCK),
            false => (world.take(self.place), 1),
        };
        if is_taken {
            self.room -= 1;
            self.pods = (self.pods + gain).min(self.wanted);
        }
        is_taken
    }
}

#[cfg(test)]
mod tests;
