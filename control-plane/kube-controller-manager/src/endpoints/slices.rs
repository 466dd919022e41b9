//! Packs members into slices of at most a hundred, changing as few slices as possible.
//!
//! An endpoint stays in the slice that it is in. New ones fill slices that change anyway, then
//! slices with room, then new slices.
//!
//! Upstream: `k8s.io/endpointslice/reconciler.go`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use controller::object;
use k8s_openapi::{
    api::{
        core::v1::Service,
        discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    members::{Family, Member},
    topology::{self, CpuByZone},
};
use crate::deployment::safe;

/// Upstream's `maxEndpointsPerSlice`.
const CAPACITY: usize = 100;
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// One write.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Create(Box<EndpointSlice>),
    Update { old: Arc<EndpointSlice>, new: Box<EndpointSlice> },
    Delete(Arc<EndpointSlice>),
}

/// What users are told of hints: a warning, where there can be none.
#[derive(Debug, PartialEq)]
pub(super) struct Note {
    pub(super) is_warning: bool,
    pub(super) message: String,
}

/// A slice as it will be.
pub(super) struct Draft {
    old: Option<Arc<EndpointSlice>>,
    pub(super) endpoints: Vec<Endpoint>,
    /// Its endpoints are not those that it had: it is written anyway.
    pub(super) is_changed: bool,
}

/// Members that share address family and ports share slices.
type Group = (Family, String);

pub(super) fn is_managed(slice: &EndpointSlice) -> bool {
    object::label(slice, MANAGED_BY) == Some(MANAGER)
}

/// With `cpu`, hints follow it; else they are the members' own.
pub(super) fn plan(
    service: &Service,
    members: &[Member],
    existing: &[Arc<EndpointSlice>],
    cpu: Option<&CpuByZone>,
) -> (Vec<Step>, Vec<Note>) {
    let mut groups: BTreeMap<Group, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for member in members {
        let ports = sorted(&member.ports);
        let group = (member.family, key_of(&ports));
        let entry = groups.entry(group).or_insert_with(|| (ports, Vec::new()));
        entry.1.push(member.endpoint.clone());
    }
    if groups.is_empty() {
        // One empty slice says that the Service exists and has nobody.
        groups.insert((Family::Ipv4, key_of(&[])), (Vec::new(), Vec::new()));
    }
    let mut taken: HashSet<String> =
        existing.iter().filter_map(|it| it.metadata.name.clone()).collect();
    let mut by_group: HashMap<Group, Vec<Arc<EndpointSlice>>> = HashMap::new();
    let mut steps = Vec::new();
    for slice in existing {
        let family = if slice.address_type == "IPv6" { Family::Ipv6 } else { Family::Ipv4 };
        let group = (family, key_of(&sorted(slice.ports.as_deref().unwrap_or_default())));
        if groups.contains_key(&group) && !object::is_terminating(&**slice) {
            by_group.entry(group).or_default().push(slice.clone());
        } else {
            steps.push(Step::Delete(slice.clone()));
        }
    }
    let of_group = |(group, (ports, endpoints))| {
        let slices = by_group.remove(&group).unwrap_or_default();
        (group, ports, pack(endpoints, slices, cpu.is_some()))
    };
    let mut packed: Vec<(Group, Vec<EndpointPort>, Vec<Draft>)> =
        groups.into_iter().map(of_group).collect();
    let notes = cpu.map(|cpu| hint(&mut packed, existing, cpu)).unwrap_or_default();
    for (group, ports, drafts) in packed {
        steps.extend(write(service, &group, &ports, drafts, &mut taken));
    }
    (steps, notes)
}

/// Hints the endpoints of each family, and says what has come of it where that is news.
fn hint(
    packed: &mut [(Group, Vec<EndpointPort>, Vec<Draft>)],
    existing: &[Arc<EndpointSlice>],
    cpu: &CpuByZone,
) -> Vec<Note> {
    let mut notes = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let of_family = packed.iter_mut().filter(|(group, ..)| group.0 == family);
        let mut drafts: Vec<&mut Draft> = of_family.flat_map(|(.., drafts)| drafts).collect();
        if drafts.is_empty() {
            continue;
        }
        let mut known = existing.iter().filter(|it| it.address_type == family.as_str());
        let had_hints = known.any(|it| it.endpoints.iter().flatten().any(|it| it.hints.is_some()));
        let (is_warning, what) = match topology::hint(&mut drafts, cpu) {
            Ok(()) if had_hints => continue,
            Ok(()) => (false, "Topology Aware Hints has been enabled".to_owned()),
            Err(why) => (true, why),
        };
        let message = format!("{what}, addressType: {}", family.as_str());
        notes.push(Note { is_warning, message });
    }
    notes
}

/// `keeps_hints`: an endpoint's hints are those that it has, for now.
fn pack(
    mut endpoints: Vec<Endpoint>,
    slices: Vec<Arc<EndpointSlice>>,
    keeps_hints: bool,
) -> Vec<Draft> {
    if keeps_hints {
        let known = slices.iter().flat_map(|it| it.endpoints.iter().flatten());
        let known: HashMap<_, _> = known.map(|it| (identity(it), &it.hints)).collect();
        for it in &mut endpoints {
            it.hints = known.get(&identity(it)).copied().cloned().flatten();
        }
    }
    let mut wanted: HashMap<String, Endpoint> =
        endpoints.iter().map(|it| (identity(it), it.clone())).collect();
    let mut drafts: Vec<_> = slices.into_iter().map(|it| Draft::keeping(it, &mut wanted)).collect();
    // In the order of the pods, so that one input has one output.
    let mut new = endpoints.into_iter().filter(|it| wanted.contains_key(&identity(it))).peekable();
    drafts.sort_by_key(|it| !it.is_changed);
    for draft in &mut drafts {
        while draft.endpoints.len() < CAPACITY
            && let Some(endpoint) = new.next()
        {
            draft.endpoints.push(endpoint);
            draft.is_changed = true;
        }
    }
    while new.peek().is_some() {
        let endpoints = new.by_ref().take(CAPACITY).collect();
        drafts.push(Draft { old: None, endpoints, is_changed: true });
    }
    if drafts.is_empty() {
        drafts.push(Draft { old: None, endpoints: Vec::new(), is_changed: true });
    }
    drafts
}

impl Draft {
    /// What is left of a slice, with each endpoint as it is now.
    fn keeping(old: Arc<EndpointSlice>, wanted: &mut HashMap<String, Endpoint>) -> Self {
        let known = old.endpoints.clone().unwrap_or_default();
        let kept = known.iter().filter_map(|it| wanted.remove(&identity(it)));
        let endpoints: Vec<_> = kept.collect();
        let is_changed = endpoints != known;
        Self { old: Some(old), endpoints, is_changed }
    }
}

/// The same pod under the same address is the same endpoint, whatever its conditions.
fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref();
    let uid = target.and_then(|it| it.uid.as_deref()).unwrap_or_default();
    format!("{uid} {}", endpoint.addresses.join(","))
}

fn write(
    service: &Service,
    group: &Group,
    ports: &[EndpointPort],
    drafts: Vec<Draft>,
    taken: &mut HashSet<String>,
) -> Vec<Step> {
    let total = drafts.len();
    let (mut steps, mut kept) = (Vec::new(), 0);
    for draft in drafts {
        let is_empty = draft.endpoints.is_empty();
        let slice = new_slice(service, group, ports, draft.endpoints);
        match draft.old {
            Some(old) if is_empty && kept + 1 < total => {
                steps.push(Step::Delete(old));
                continue;
            }
            Some(old) => {
                let endpoints = |it: &EndpointSlice| it.endpoints.clone().unwrap_or_default();
                let is_same = endpoints(&old) == endpoints(&slice)
                    && old.metadata.labels == slice.metadata.labels
                    && old.metadata.owner_references == slice.metadata.owner_references;
                if !is_same {
                    steps.push(Step::Update { old, new: Box::new(slice) });
                }
            }
            None => {
                let mut slice = slice;
                let name = free_name(service, group, taken);
                taken.insert(name.clone());
                slice.metadata.name = Some(name);
                steps.push(Step::Create(Box::new(slice)));
            }
        }
        kept += 1;
    }
    steps
}

/// A name that a pass over the same, or an older, cache would choose again.
fn free_name(service: &Service, group: &Group, taken: &HashSet<String>) -> String {
    let meta = &service.metadata;
    let (name, uid) =
        (meta.name.as_deref().unwrap_or_default(), meta.uid.as_deref().unwrap_or_default());
    let mut number = 0_usize;
    loop {
        let seed = format!("{uid} {:?} {} {number}", group.0, group.1);
        let candidate = format!("{name}-{}", suffix(&seed));
        if !taken.contains(&candidate) {
            return candidate;
        }
        number += 1;
    }
}

/// Eight letters that follow from the seed.
pub(super) fn suffix(seed: &str) -> String {
    let hash = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    safe(&format!("{hash:016x}")).chars().take(8).collect()
}

fn new_slice(
    service: &Service,
    group: &Group,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![object::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: group.0.as_str().to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.to_vec()).filter(|it| !it.is_empty()),
    }
}

/// The Service's own labels, and those by which slices are found.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if service.spec.as_ref().and_then(|it| it.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn sorted(ports: &[EndpointPort]) -> Vec<EndpointPort> {
    let mut ports = ports.to_vec();
    ports.sort_by_cached_key(|it| key_of(std::slice::from_ref(it)));
    ports
}

pub(super) fn key_of(ports: &[EndpointPort]) -> String {
    let texts = ports.iter().map(|it| {
        format!(
            "{}/{}/{}/{}",
            it.name.as_deref().unwrap_or_default(),
            it.protocol.as_deref().unwrap_or("TCP"),
            it.port.unwrap_or(0),
            it.app_protocol.as_deref().unwrap_or_default()
        )
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Without hints by CPU.
    fn plan(service: &Service, members: &[Member], existing: &[Arc<EndpointSlice>]) -> Vec<Step> {
        super::plan(service, members, existing, None).0
    }

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "d", "uid": "s", "labels": { "a": "b" } },
            "spec": { "clusterIP": "None" },
        }))
        .unwrap()
    }

    fn member(number: usize, port: i32) -> Member {
        let endpoint = json!({ "addresses": [format!("10.0.{}.{}", number / 250, number % 250)],
            "targetRef": { "uid": format!("p{number}") }, "conditions": { "ready": true } });
        Member {
            family: Family::Ipv4,
            ports: vec![serde_json::from_value(json!({ "name": "http", "port": port })).unwrap()],
            endpoint: serde_json::from_value(endpoint).unwrap(),
        }
    }

    fn members(numbers: std::ops::Range<usize>) -> Vec<Member> {
        numbers.map(|it| member(it, 80)).collect()
    }

    /// What the cache would show after the steps.
    fn apply(mut slices: Vec<Arc<EndpointSlice>>, steps: Vec<Step>) -> Vec<Arc<EndpointSlice>> {
        for step in steps {
            match step {
                Step::Create(slice) => slices.push(Arc::new(*slice)),
                Step::Delete(old) => slices.retain(|it| it.metadata.name != old.metadata.name),
                Step::Update { old, mut new } => {
                    new.metadata.name = old.metadata.name.clone();
                    let at = slices.iter().position(|it| it.metadata.name == old.metadata.name);
                    slices[at.unwrap()] = Arc::new(*new);
                }
            }
        }
        slices
    }

    fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
        slices.iter().map(|it| it.endpoints.as_ref().map_or(0, Vec::len)).collect()
    }

    #[test]
    fn slices_hold_at_most_a_hundred_and_a_second_pass_changes_nothing() {
        let steps = plan(&service(), &members(0..250), &[]);
        let slices = apply(vec![], steps);
        assert_eq!(sizes(&slices), [100, 100, 50]);
        assert_eq!(plan(&service(), &members(0..250), &slices), []);
        let labels = slices[0].metadata.labels.as_ref().unwrap();
        assert_eq!(labels[SERVICE_NAME], "web");
        assert_eq!(labels[HEADLESS], "");
        assert_eq!(labels["a"], "b");
    }

    #[test]
    fn one_pod_more_or_less_changes_one_slice() {
        let slices = apply(vec![], plan(&service(), &members(0..250), &[]));
        let more = plan(&service(), &members(0..251), &slices);
        assert_eq!(more.len(), 1);
        assert_eq!(sizes(&apply(slices.clone(), more)), [100, 100, 51]);
        let less = plan(&service(), &members(1..250), &slices);
        assert_eq!(less.len(), 1);
        assert_eq!(sizes(&apply(slices, less)), [99, 100, 50]);
    }

    #[test]
    fn new_ports_move_everybody_and_a_service_without_pods_keeps_an_empty_slice() {
        let slices = apply(vec![], plan(&service(), &members(0..2), &[]));
        let moved =
            apply(slices.clone(), plan(&service(), &[member(0, 81), member(1, 81)], &slices));
        assert_eq!(sizes(&moved), [2]);
        assert_eq!(moved[0].ports.as_ref().unwrap()[0].port, Some(81));
        let empty = apply(moved.clone(), plan(&service(), &[], &moved));
        assert_eq!(sizes(&empty), [0]);
        assert_eq!(plan(&service(), &[], &empty), []);
    }

    #[test]
    fn a_stale_cache_chooses_the_same_names_again() {
        let name = |steps: &[Step]| match &steps[0] {
            Step::Create(slice) => slice.metadata.name.clone(),
            other => panic!("{other:?}"),
        };
        let first = plan(&service(), &members(0..1), &[]);
        let again = plan(&service(), &members(0..2), &[]);
        assert_eq!(name(&first), name(&again));
    }
}
