//! `service.kubernetes.io/topology-mode: Auto`: each zone gets endpoints in proportion to the CPU of
//! its nodes, so that most traffic stays within its zone and no endpoint is overloaded by that.
//!
//! A zone whose endpoints have to serve more than a fifth above the average cannot be: where whole
//! endpoints cannot be shared out so, nobody gets hints. Counted in whole numbers, in the unit of one
//! endpoint times all CPU.
//!
//! Upstream: `k8s.io/endpointslice/topologycache`, KEP-2433.

use std::{collections::BTreeMap, sync::Arc};

use controller::object;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::{Endpoint, EndpointHints, ForZone},
};
use resources::node_allocatable;

use super::slices::Draft;

pub(super) const ENABLED: &str = "TopologyAwareHintsEnabled";
pub(super) const DISABLED: &str = "TopologyAwareHintsDisabled";
const ANNOTATION: &str = "service.kubernetes.io/topology-mode";
/// Its name before Kubernetes 1.27; it goes before the other one.
const OLD_ANNOTATION: &str = "service.kubernetes.io/topology-aware-hints";
/// Nodes that run the control plane do not count.
const EXCLUDED: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

const NO_NODE_INFORMATION: &str =
    "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
const TOO_FEW: &str = "Insufficient number of endpoints";
const OVERLOAD: &str = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold";
const NO_ZONE: &str = "One or more endpoints do not have a zone specified";

/// Allocatable CPU of the ready nodes of each zone, in thousandths. Empty where a node does not tell.
pub(super) type CpuByZone = BTreeMap<String, i128>;

/// What a zone is to have, in the unit of one endpoint times all CPU.
struct Allocation {
    maximum: i128,
    desired: i128,
}

type Counts = BTreeMap<String, i128>;

pub(super) fn is_wanted(service: &Service) -> bool {
    let old = object::annotation(service, OLD_ANNOTATION);
    let mode = old.or_else(|| object::annotation(service, ANNOTATION));
    matches!(mode, Some("Auto" | "auto"))
}

/// What of a node counts here. `None`: the node does not.
pub(super) fn facts(node: &Node) -> Option<(&str, i64)> {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_deref());
    let mut conditions = conditions.unwrap_or_default().iter();
    let is_ready = conditions.any(|it| it.type_ == "Ready" && it.status == "True");
    let is_excluded = EXCLUDED.iter().any(|it| object::label(node, it).is_some());
    let zone = super::zone(Some(node)).unwrap_or_default();
    (is_ready && !is_excluded).then(|| (zone, node_allocatable(node).cpu_millis))
}

pub(super) fn cpu_by_zone(nodes: &[Arc<Node>]) -> CpuByZone {
    let mut zones = CpuByZone::new();
    for (zone, cpu) in nodes.iter().filter_map(|it| facts(it)) {
        if zone.is_empty() || cpu <= 0 {
            return CpuByZone::new();
        }
        *zones.entry(zone.to_owned()).or_default() += i128::from(cpu);
    }
    zones
}

/// Hints all endpoints of one family. Slices that do not change keep their hints as long as no zone
/// has more of them than it may. The error says why there are none now.
pub(super) fn hint(drafts: &mut [&mut Draft], cpu: &CpuByZone) -> Result<(), String> {
    let hinted = try_hint(drafts, cpu);
    if hinted.is_err() {
        drafts.iter_mut().flat_map(|it| &mut it.endpoints).for_each(|it| it.hints = None);
    }
    hinted
}

fn try_hint(drafts: &mut [&mut Draft], cpu: &CpuByZone) -> Result<(), String> {
    let ready = drafts.iter().flat_map(|it| &it.endpoints).filter(|it| is_ready(it)).count();
    let total: i128 = cpu.values().sum();
    let allocations = allocations(cpu, total, i128::try_from(ready).unwrap_or(i128::MAX))?;
    let mut hinted = Counts::new();
    for draft in drafts.iter_mut().filter(|it| !it.is_changed) {
        match kept(&draft.endpoints, &hinted, &allocations) {
            Some(more) => {
                more.into_iter()
                    .for_each(|(zone, count)| *hinted.entry(zone).or_default() += count);
            }
            None => draft.is_changed = true,
        }
    }
    start_at_home(changed(drafts), &mut hinted)?;
    let (giving, receiving) = exchange(&allocations, &hinted, total);
    move_between(changed(drafts), giving, receiving);
    Ok(())
}

/// The endpoints of all slices that are written anyway.
fn changed<'a>(drafts: &'a mut [&mut Draft]) -> impl Iterator<Item = &'a mut Endpoint> {
    drafts.iter_mut().filter(|it| it.is_changed).flat_map(|it| &mut it.endpoints)
}

fn allocations(
    cpu: &CpuByZone,
    total: i128,
    count: i128,
) -> Result<BTreeMap<&str, Allocation>, String> {
    if cpu.len() < 2 {
        return Err(NO_NODE_INFORMATION.to_owned());
    }
    let refused = |why: &str| format!("{why} ({count} endpoints, {} zones)", cpu.len());
    if i128::try_from(cpu.len()).is_ok_and(|zones| zones > count) {
        return Err(refused(TOO_FEW));
    }
    // A fifth more than its share is what an endpoint may get.
    let minimum = |cpu: i128| (cpu * count * 5 + total * 6 - 1) / (total * 6);
    let left = count - cpu.values().map(|it| minimum(*it)).sum::<i128>();
    if left < 0 {
        return Err(refused(OVERLOAD));
    }
    let zones = cpu.iter().map(|(zone, cpu)| {
        let minimum = minimum(*cpu);
        let desired = (cpu * count).max(minimum * total);
        (zone.as_str(), Allocation { maximum: minimum + left, desired })
    });
    Ok(zones.collect())
}

/// The hints of a slice by zone, where it can keep them.
fn kept(
    endpoints: &[Endpoint],
    hinted: &Counts,
    allocations: &BTreeMap<&str, Allocation>,
) -> Option<Counts> {
    let mut counts = Counts::new();
    for endpoint in endpoints.iter().filter(|it| is_ready(it)) {
        let zones = endpoint.hints.as_ref()?.for_zones.as_ref()?;
        if zones.is_empty() {
            return None;
        }
        zones.iter().for_each(|it| *counts.entry(it.name.clone()).or_default() += 1);
    }
    let fits = |(zone, count): (&String, &i128)| {
        let before = hinted.get(zone).copied().unwrap_or(0);
        allocations.get(zone.as_str()).is_some_and(|it| before + count <= it.maximum)
    };
    counts.iter().all(fits).then_some(counts)
}

/// Everybody is for its own zone first.
fn start_at_home<'a>(
    endpoints: impl Iterator<Item = &'a mut Endpoint>,
    hinted: &mut Counts,
) -> Result<(), String> {
    for endpoint in endpoints {
        endpoint.hints = None;
        if !is_ready(endpoint) {
            continue;
        }
        let zone = endpoint.zone.as_deref().filter(|it| !it.is_empty()).ok_or(NO_ZONE)?;
        *hinted.entry(zone.to_owned()).or_default() += 1;
        endpoint.hints = Some(for_zone(zone));
    }
    Ok(())
}

/// How many endpoints zones with too many give, and how many those with too few get. Less than half
/// an endpoint is not worth it.
fn exchange(
    allocations: &BTreeMap<&str, Allocation>,
    hinted: &Counts,
    total: i128,
) -> (Counts, Counts) {
    let (mut over, mut under) = (Counts::new(), Counts::new());
    for (zone, it) in allocations {
        let surplus = hinted.get(*zone).copied().unwrap_or(0) * total - it.desired;
        let side = if surplus > 0 { &mut over } else { &mut under };
        side.insert((*zone).to_owned(), surplus.abs());
    }
    let most = |side: &Counts| {
        side.iter().max_by_key(|(_, it)| **it).map(|(zone, it)| (zone.clone(), *it))
    };
    let (mut giving, mut receiving) = (Counts::new(), Counts::new());
    while let (Some((from, more)), Some((to, less))) = (most(&over), most(&under)) {
        if more * 2 < total || less * 2 < total || more.max(less) < total {
            break;
        }
        over.insert(from.clone(), more - total);
        under.insert(to.clone(), less - total);
        *giving.entry(from).or_default() += 1;
        *receiving.entry(to).or_default() += 1;
    }
    (giving, receiving)
}

fn move_between<'a>(
    endpoints: impl Iterator<Item = &'a mut Endpoint>,
    mut giving: Counts,
    mut receiving: Counts,
) {
    for endpoint in endpoints.filter(|it| is_ready(it)) {
        let left = endpoint.zone.as_ref().and_then(|it| giving.get_mut(it)).filter(|it| **it > 0);
        let Some(left) = left else { continue };
        let Some((zone, room)) = receiving.iter_mut().find(|it| *it.1 > 0) else { return };
        (*left, *room) = (*left - 1, *room - 1);
        endpoint.hints = Some(for_zone(zone));
    }
}

fn for_zone(name: &str) -> EndpointHints {
    let zones = vec![ForZone { name: name.to_owned() }];
    EndpointHints { for_zones: Some(zones), ..EndpointHints::default() }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|it| it.ready) == Some(true)
}

#[cfg(test)]
mod tests;
