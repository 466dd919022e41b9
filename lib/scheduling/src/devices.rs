//! Devices of ResourceSlices, and which of them a pod's claims are given on a node.
//!
//! A node's devices are those of slices that name it, select it or stand for all nodes. Of a pool only
//! the newest generation counts, and only when all of its slices are there.
//!
//! Devices that must be made ready before their pod is bound (binding conditions) come last.
//!
//! Upstream: `k8s.io/dynamic-resource-allocation/structured`. Deviations: of CEL, selectors have
//! comparisons, logic, `in`, `has`, and the functions on strings, quantities and versions; other
//! expressions are refused by name. Taints of DeviceTaintRules, which upstream's servers have not by
//! default, are not known.

mod allocate;
mod capacity;
pub(crate) mod cel;
mod cel_value;
mod counters;
mod request;
mod shortfall;
mod taken;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::NodeSelector,
    resource::v1::{Device, ResourceSlice, ResourceSliceSpec},
};

pub use self::{
    allocate::{AllocateError, Binding, Effort, Given, tolerates_device},
    capacity::Consumed,
    request::{ClaimRequest, RequestError},
    taken::Taken,
};
use crate::{NodeInfo, affinity::matches_node_selector_terms};

/// A device anywhere in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    pub driver: String,
    pub pool: String,
    pub device: String,
}

/// What is known of a pod's claims, once per attempt. Given by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFact {
    /// What makes asking the nodes pointless.
    pub prerequisite: Option<String>,
    /// The nodes that claims which are allocated already are not bound to.
    pub elsewhere: BTreeSet<String>,
    /// The nodes that have devices for the others.
    pub nodes: BTreeSet<String>,
    /// The nodes of which that is not known: to find out takes too long.
    pub timed_out: BTreeSet<String>,
    /// What others fall short of; only where somebody asks why.
    pub details: BTreeMap<String, String>,
}

/// The devices that are offered.
#[derive(Debug, Default)]
pub struct Inventory<'a> {
    slices: Vec<&'a ResourceSlice>,
}

/// One device, and what it is a part of.
#[derive(Clone, Copy, Debug)]
struct Offer<'a> {
    spec: &'a ResourceSliceSpec,
    device: &'a Device,
    /// It is not at hand on every node.
    is_local: bool,
}

impl Offer<'_> {
    fn id(&self) -> DeviceId {
        DeviceId {
            driver: self.spec.driver.clone(),
            pool: self.spec.pool.name.clone(),
            device: self.device.name.clone(),
        }
    }

    fn is_shared(&self) -> bool {
        self.device.allow_multiple_allocations == Some(true)
    }

    fn must_be_readied(&self) -> bool {
        self.device.binding_conditions.as_ref().is_some_and(|it| !it.is_empty())
    }
}

impl<'a> Inventory<'a> {
    pub fn new(all: impl IntoIterator<Item = &'a ResourceSlice>) -> Self {
        let all: Vec<_> = all.into_iter().collect();
        // Of each pool the newest generation, and how many slices it has.
        let mut pools = BTreeMap::<(&str, &str), (i64, i64)>::new();
        for it in &all {
            let pool = &it.spec.pool;
            let newest = pools.entry((&it.spec.driver, &pool.name)).or_insert((i64::MIN, 0));
            if pool.generation > newest.0 {
                *newest = (pool.generation, 0);
            }
            newest.1 += i64::from(pool.generation == newest.0);
        }
        let is_whole = |it: &&ResourceSlice| {
            let pool = &it.spec.pool;
            let wanted = (pool.generation, pool.resource_slice_count);
            pools.get(&(it.spec.driver.as_str(), pool.name.as_str())) == Some(&wanted)
        };
        Self { slices: all.iter().copied().filter(is_whole).collect() }
    }

    fn on(&self, node: &NodeInfo) -> Vec<Offer<'a>> {
        let mut offers = Vec::new();
        for slice in &self.slices {
            let spec = &slice.spec;
            let is_per_device = spec.per_device_node_selection == Some(true);
            let place = (spec.node_name.as_deref(), spec.node_selector.as_ref());
            if !is_per_device && !is_at(node, place, spec.all_nodes) {
                continue;
            }
            for device in spec.devices.iter().flatten() {
                let place = (device.node_name.as_deref(), device.node_selector.as_ref());
                let is_here = !is_per_device || is_at(node, place, device.all_nodes);
                if !is_here {
                    continue;
                }
                let all = if is_per_device { device.all_nodes } else { spec.all_nodes };
                offers.push(Offer { spec, device, is_local: all != Some(true) });
            }
        }
        offers.sort_by_key(Offer::must_be_readied);
        offers
    }

    fn of_pool(&self, (driver, pool): (&str, &str)) -> impl Iterator<Item = Offer<'a>> {
        let slices = self.slices.iter().map(|it| &it.spec);
        let slices = slices.filter(move |it| it.driver == driver && it.pool.name == pool);
        slices.flat_map(|spec| {
            let devices = spec.devices.iter().flatten();
            devices.map(move |device| Offer { spec, device, is_local: false })
        })
    }
}

fn is_at(
    node: &NodeInfo,
    (name, selector): (Option<&str>, Option<&NodeSelector>),
    all: Option<bool>,
) -> bool {
    let selects = |it: &NodeSelector| {
        matches_node_selector_terms(&it.node_selector_terms, &node.name, &node.labels)
    };
    all == Some(true) || name.is_some_and(|it| it == node.name) || selector.is_some_and(selects)
}
