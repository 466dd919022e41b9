//! Which devices a container is given.
//!
//! Upstream: `devicesToAllocate` and `filterByAffinity` in `pkg/kubelet/cm/devicemanager/manager.go`.

use std::collections::BTreeMap;

use super::state::{AllocateDevicesError, Device, Ids, NO_NODE, State};
use crate::cm::topologymanager::{
    self,
    hint::{NumaMask, Wish},
};

/// A request for devices.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub pod: &'a str,
    pub container: &'a str,
    pub resource: &'a str,
    pub count: usize,
}

/// What is to be chosen from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Taken whatever the plugin prefers.
    pub fixed: Ids,
    pub missing: usize,
    /// In the order in which they are taken.
    pub tiers: [Ids; 2],
}

impl Choice {
    /// Everything that the plugin may choose from.
    pub(super) fn offered(&self) -> Ids {
        self.fixed.iter().chain(self.tiers.iter().flatten()).cloned().collect()
    }

    /// `preferred` comes first, as far as it was offered.
    pub(super) fn settle(&self, preferred: &Ids) -> Ids {
        let mut chosen = self.fixed.clone();
        let offered = self.offered();
        let wanted = preferred.iter().filter(|it| offered.contains(*it));
        let all = wanted.chain(self.tiers.iter().flatten());
        for id in all {
            if chosen.len() == self.fixed.len() + self.missing {
                break;
            }
            chosen.insert(id.clone());
        }
        chosen
    }
}

/// `None` when the container has its devices already.
pub(super) fn choose(
    state: &State,
    request: Request<'_>,
    hint: Option<NumaMask>,
) -> Result<Option<Choice>, AllocateDevicesError> {
    let Request { pod, container, resource, count } = request;
    let held = state.allocation(pod, container, resource);
    if let Some(from) = held.map(|it| it.ids().len()).filter(|it| *it != count) {
        return Err(AllocateDevicesError::Changed {
            pod: pod.to_owned(),
            container: container.to_owned(),
            resource: resource.to_owned(),
            from,
            to: count,
        });
    }
    let known = state.resources.get(resource);
    let known = known.ok_or_else(|| AllocateDevicesError::Unregistered(resource.to_owned()))?;
    let healthy = known.healthy();
    if healthy.is_empty() {
        return Err(AllocateDevicesError::NoneHealthy(resource.to_owned()));
    }
    if let Some(held) = held {
        if !held.ids().is_subset(&healthy) {
            return Err(AllocateDevicesError::NoLongerHealthy(resource.to_owned()));
        }
        return Ok(None);
    }
    let fixed: Ids = state.reusable_of(pod, resource).into_iter().take(count).collect();
    let missing = count - fixed.len();
    let in_use = state.in_use(resource);
    let available: Ids = healthy.difference(&in_use).cloned().collect();
    if available.len() < missing {
        return Err(AllocateDevicesError::Unavailable {
            resource: resource.to_owned(),
            requested: missing,
            available: available.len(),
        });
    }
    let hint = hint.filter(|_| known.has_topology());
    let (aligned, others) = by_affinity(&known.devices, available, hint);
    Ok(Some(narrow(fixed, missing, aligned, others)))
}

/// The plugin chooses among the aligned devices; when they are too few, all of them are taken, and it
/// chooses among the others.
fn narrow(mut fixed: Ids, mut missing: usize, aligned: Ids, others: [Ids; 2]) -> Choice {
    if missing < aligned.len() {
        return Choice { fixed, missing, tiers: [aligned, Ids::new()] };
    }
    missing -= aligned.len();
    fixed.extend(aligned);
    Choice { fixed, missing, tiers: others }
}

/// Those on a node of the hint, and the others: those on another node, those on none.
fn by_affinity(
    devices: &BTreeMap<String, Device>,
    available: Ids,
    hint: Option<NumaMask>,
) -> (Ids, [Ids; 2]) {
    let Some(hint) = hint else { return (Ids::new(), [available, Ids::new()]) };
    let (mut aligned, mut elsewhere, mut nowhere) = (Ids::new(), Ids::new(), Ids::new());
    for id in available {
        let nodes = devices.get(&id).map(|it| it.nodes.clone()).unwrap_or_default();
        if nodes.is_empty() {
            nowhere.insert(id);
        } else if nodes.iter().any(|it| contains(hint, *it)) {
            aligned.insert(id);
        } else {
            elsewhere.insert(id);
        }
    }
    (aligned, [elsewhere, nowhere])
}

fn contains(mask: NumaMask, node: i64) -> bool {
    u32::try_from(node).is_ok_and(|it| mask.contains(it))
}

/// By node, as the checkpoint has it.
pub(super) fn by_node(devices: &BTreeMap<String, Device>, ids: &Ids) -> BTreeMap<i64, Vec<String>> {
    let mut nodes: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for id in ids {
        let own = devices.get(id).map(|it| it.nodes.clone()).filter(|it| !it.is_empty());
        for node in own.unwrap_or_else(|| vec![NO_NODE]) {
            nodes.entry(node).or_default().push(id.clone());
        }
    }
    nodes
}

/// `held`: what the container has already.
pub(super) fn wish(
    state: &State,
    pod: &str,
    resource: &str,
    count: usize,
    held: &Ids,
    nodes: &[u32],
) -> Wish {
    let Some(known) = state.resources.get(resource) else { return Wish::Indifferent };
    if !known.has_topology() {
        return Wish::Indifferent;
    }
    let (available, reusable) = if held.is_empty() {
        let in_use = state.in_use(resource);
        let free: Ids = known.healthy().difference(&in_use).cloned().collect();
        (free, state.reusable_of(pod, resource))
    } else if held.len() == count {
        (held.clone(), Ids::new())
    } else {
        return Wish::OneOf(Vec::new());
    };
    if available.union(&reusable).count() < count {
        return Wish::OneOf(Vec::new());
    }
    let is_in = |id: &String, mask: NumaMask| {
        known.devices.get(id).is_some_and(|it| it.nodes.iter().any(|it| contains(mask, *it)))
    };
    let inside = |ids: &Ids, mask| ids.iter().filter(|it| is_in(it, mask)).count();
    let hints = topologymanager::hints(
        nodes,
        |mask| known.devices.keys().filter(|it| is_in(it, mask)).count() >= count,
        |mask| {
            inside(&reusable, mask) == reusable.len()
                && inside(&available, mask) + reusable.len() >= count
        },
    );
    Wish::OneOf(hints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cm::{devicemanager::state::Allocation, topologymanager::hint::Hint};

    const R: &str = "example.com/d";

    fn state(devices: &[(&str, bool, &[i64])]) -> State {
        let mut state = State::default();
        let known = state.resources.entry(R.to_owned()).or_default();
        for (id, is_healthy, nodes) in devices {
            let device = Device { is_healthy: *is_healthy, nodes: nodes.to_vec() };
            known.devices.insert((*id).to_owned(), device);
        }
        state
    }

    fn hold(state: &mut State, pod: &str, ids: &[&str]) {
        let devices = [(NO_NODE, ids.iter().map(|it| (*it).to_owned()).collect())].into();
        let allocation = Allocation { devices, ..Allocation::default() };
        let container = state.held.entry(pod.to_owned()).or_default().entry("c".to_owned());
        container.or_default().insert(R.to_owned(), allocation);
    }

    fn ask(state: &State, pod: &str, count: usize) -> Result<Option<Choice>, String> {
        let request = Request { pod, container: "c", resource: R, count };
        choose(state, request, None).map_err(|it| it.to_string())
    }

    fn ids(ids: &[&str]) -> Ids {
        ids.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn free_and_healthy_devices_are_given() {
        let mut state = state(&[("a", true, &[]), ("b", false, &[]), ("c", true, &[])]);
        hold(&mut state, "p", &["a"]);
        let choice = ask(&state, "q", 1).unwrap().unwrap();
        assert_eq!(choice.settle(&Ids::new()), ids(&["c"]));
        assert_eq!(
            ask(&state, "q", 2).unwrap_err(),
            "requested number of devices unavailable for example.com/d. Requested: 2, Available: 1"
        );
        assert_eq!(ask(&state, "p", 1), Ok(None), "it has them");
        assert_eq!(
            ask(&state, "p", 2).unwrap_err(),
            "pod \"p\" container \"c\" changed request for resource \"example.com/d\" from 1 to 2"
        );
    }

    #[test]
    fn devices_that_cannot_be_used_are_refused_in_upstreams_words() {
        let mut sick = state(&[("a", false, &[])]);
        let none = "no healthy devices present; cannot allocate unhealthy devices example.com/d";
        assert_eq!(ask(&sick, "p", 1).unwrap_err(), none);
        sick.resources.clear();
        let unknown = "cannot allocate unregistered device example.com/d";
        assert_eq!(ask(&sick, "p", 1).unwrap_err(), unknown);
        let mut half = state(&[("a", false, &[]), ("b", true, &[])]);
        hold(&mut half, "p", &["a"]);
        let gone = "previously allocated devices are no longer healthy; cannot allocate unhealthy devices example.com/d";
        assert_eq!(ask(&half, "p", 1).unwrap_err(), gone);
    }

    #[test]
    fn what_the_plugin_prefers_comes_first_and_nothing_that_was_not_offered() {
        let state = state(&[("a", true, &[]), ("b", true, &[]), ("c", true, &[])]);
        let choice = ask(&state, "p", 2).unwrap().unwrap();
        assert_eq!(choice.settle(&ids(&["c", "z"])), ids(&["a", "c"]));
        assert_eq!(choice.settle(&ids(&["a", "b", "c"])).len(), 2);
    }

    #[test]
    fn devices_of_the_hinted_node_come_first() {
        let state =
            state(&[("a", true, &[0]), ("b", true, &[1]), ("c", true, &[1]), ("d", true, &[])]);
        let request = |count| Request { pod: "p", container: "c", resource: R, count };
        let node1 = Some(NumaMask::of([1]));
        let one = choose(&state, request(1), node1).unwrap().unwrap();
        assert_eq!(one.settle(&ids(&["a"])), ids(&["b"]), "the plugin chooses among the aligned");
        let three = choose(&state, request(3), node1).unwrap().unwrap();
        assert_eq!(three.settle(&Ids::new()), ids(&["a", "b", "c"]));
    }

    #[test]
    fn hints_name_the_nodes_with_enough_devices() {
        let state = state(&[("a", true, &[0]), ("b", true, &[1]), ("c", true, &[1])]);
        let hints = |count| wish(&state, "p", R, count, &Ids::new(), &[0, 1]);
        let hint = |nodes: &[u32], is_preferred| Hint {
            affinity: Some(NumaMask::of(nodes.iter().copied())),
            is_preferred,
        };
        assert_eq!(hints(2), Wish::OneOf(vec![hint(&[1], true), hint(&[0, 1], false)]));
        assert_eq!(hints(3), Wish::OneOf(vec![hint(&[0, 1], true)]));
        assert_eq!(hints(4), Wish::OneOf(Vec::new()));
    }

    #[test]
    fn devices_of_init_containers_are_used_again() {
        let mut state = state(&[("a", true, &[]), ("b", true, &[])]);
        hold(&mut state, "p", &["a"]);
        state.note_reusable("p", "c", true);
        let request = Request { pod: "p", container: "main", resource: R, count: 1 };
        let choice = choose(&state, request, None).unwrap().unwrap();
        assert_eq!(choice.settle(&Ids::new()), ids(&["a"]));
    }
}
