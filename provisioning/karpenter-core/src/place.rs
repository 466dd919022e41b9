//! Finds a place for one pod: a node, a new node that is already planned, or one more.
//!
//! Upstream: `scheduler.go`, `nodeclaim.go`, `existingnode.go` of kubernetes-sigs/karpenter.

use crate::{
    bits::Bits,
    catalog::number,
    class::tolerates,
    engine::{ClassId, Engine, SetId, accepts},
    state::{Claim, Place, State, node_domain, with_one_reservation},
    topology::{Counter, DomainId, Group, KeyId, Kind},
    world::Vector,
};

/// How a place among several is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Upstream's: the new node with the fewest pods, one more only where none will do.
    #[default]
    FewestPods,
    /// Where the pod adds least to the price, one more new node included.
    LeastPrice,
}

/// What a place says to a pod.
enum Answer {
    Never,
    NotNow,
    Yes(Offer),
}

/// What becomes of a new node when the pod is on it.
pub(crate) struct Offer {
    set: SetId,
    options: Bits,
    pins: Vec<(KeyId, DomainId)>,
}

/// A key that matters to the pod, whether a node has to have it, and the domains that will do, the
/// best first.
type Need = (KeyId, bool, Vec<DomainId>);

/// Places one pod. `None`: nowhere, as things are.
pub(crate) fn place(
    engine: &mut Engine,
    state: &mut State,
    pod: u32,
    class: ClassId,
    choice: Choice,
) -> Option<Place> {
    engine.refresh(class);
    state.refresh(engine);
    let view = view(engine, state, class);
    if let Some(node) = on_node(engine, state, class, &view) {
        let request = &engine.classes[class].request;
        let bin = &mut state.nodes[node];
        bin.free.iter_mut().zip(request).for_each(|(free, it)| *free -= it);
        bin.ports.extend(engine.classes[class].pod.host_ports.iter().cloned());
        state.record(engine, pod, class, node);
        return Some(node);
    }
    let found = match choice {
        Choice::FewestPods => first(engine, state, class, &view),
        Choice::LeastPrice => cheapest(engine, state, class, &view),
    };
    if let Some((claim, offer)) = found {
        join(engine, state, pod, class, claim, offer);
        return Some(state.nodes.len() + claim);
    }
    let (pool, mut offer) = fresh(engine, state, class, &view)?;
    let reservation = state.hold(engine, pool, offer.set, &mut offer.options)?;
    let request = engine.classes[class].request.clone();
    let claim = Claim {
        pool,
        set: offer.set,
        room: vec![0; request.len()].into(),
        options: offer.options,
        requested: request,
        ports: engine.classes[class].pod.host_ports.clone(),
        pods: vec![pod],
        pins: offer.pins,
        reservation,
    };
    let place = state.open(engine, claim);
    settle(engine, state, place - state.nodes.len());
    state.record(engine, pod, class, place);
    Some(place)
}

fn on_node(engine: &Engine, state: &mut State, class: ClassId, view: &[Need]) -> Option<usize> {
    for at in 0..engine.node_order.len() {
        let node = engine.node_order[at];
        if state.nodes[node].is_gone || state.refused[class].has(node) {
            continue;
        }
        match ask_node(engine, state, class, node, view) {
            Answer::Never => state.refused[class].set(node),
            Answer::NotNow => {}
            Answer::Yes(_) => return Some(node),
        }
    }
    None
}

fn first(
    engine: &mut Engine,
    state: &mut State,
    class: ClassId,
    view: &[Need],
) -> Option<(usize, Offer)> {
    let shape = engine.classes[class].shape;
    let (mut never, mut full) = (Vec::new(), Vec::new());
    let mut found = None;
    for (_, claim) in &state.order {
        let claim = *claim as usize;
        let place = state.nodes.len() + claim;
        if state.refused[class].has(place) || state.full[shape].has(place) {
            continue;
        }
        match ask_claim(engine, state, class, claim, view) {
            Asked::Never => never.push(place),
            Asked::Full => full.push(place),
            Asked::NotNow => {}
            Asked::Yes(offer) => {
                found = Some((claim, offer));
                break;
            }
        }
    }
    never.into_iter().for_each(|it| state.refused[class].set(it));
    full.into_iter().for_each(|it| state.full[shape].set(it));
    found
}

/// The new node whose price grows least, where that is less than one more costs.
fn cheapest(
    engine: &mut Engine,
    state: &mut State,
    class: ClassId,
    view: &[Need],
) -> Option<(usize, Offer)> {
    let shape = engine.classes[class].shape;
    let (begin, until) = (state.nodes.len(), state.nodes.len() + state.claims.len());
    let mut best: Option<(f64, usize)> = None;
    let mut at = begin;
    while let Some(place) = state.refused[class].next_free(&state.full[shape], at, until) {
        at = place + 1;
        let claim = place - begin;
        let Some(more) = dearer(engine, state, class, claim, view) else { continue };
        if best.is_none_or(|(least, _)| more < least) {
            best = Some((more, claim));
        }
        if more <= 0.0 {
            break;
        }
    }
    let (more, claim) = best?;
    let Asked::Yes(offer) = ask_claim(engine, state, class, claim, view) else { return None };
    if more > 0.0
        && let Some((pool, fresh)) = fresh(engine, state, class, view)
        && engine.catalogs[pool].price(&fresh.options) < more
    {
        return None;
    }
    Some((claim, offer))
}

/// How much dearer a new node becomes with the pod; `None`: it is not for the pod, or not now.
///
/// Where no domain has to be fixed, that follows from the node's pods and the pod's shape alone: it
/// is worked out once for so many.
fn dearer(
    engine: &mut Engine,
    state: &mut State,
    class: ClassId,
    claim: usize,
    view: &[Need],
) -> Option<f64> {
    let (place, pods) = (state.nodes.len() + claim, number(state.claims[claim].pods.len()));
    let shape = engine.classes[class].shape;
    let is_pinned = is_pinned(&state.claims[claim], view);
    let known = state.asked[shape].get(claim).filter(|(of, _)| is_pinned && *of == pods);
    if let Some((_, more)) = known.copied() {
        return match by_topology(engine, state, class, claim, view) {
            Host::Yes => Some(more),
            Host::NotNow => None,
            Host::Never => {
                state.refused[class].set(place);
                None
            }
        };
    }
    match ask_claim(engine, state, class, claim, view) {
        Asked::Never => state.refused[class].set(place),
        Asked::Full => state.full[shape].set(place),
        Asked::NotNow => {}
        Asked::Yes(offer) => {
            let catalog = &engine.catalogs[state.claims[claim].pool];
            let more = catalog.price(&offer.options) - catalog.price(&state.claims[claim].options);
            if is_pinned {
                let asked = &mut state.asked[shape];
                if asked.len() <= claim {
                    asked.resize(claim + 1, (0, 0.0));
                }
                asked[claim] = (pods, more);
            }
            return Some(more);
        }
    }
    None
}

/// Whether all domains that matter to the pod are fixed already.
fn is_pinned(claim: &Claim, view: &[Need]) -> bool {
    view.iter().all(|(key, ..)| claim.pins.iter().any(|(it, _)| it == key))
}

fn join(engine: &Engine, state: &mut State, pod: u32, class: ClassId, at: usize, offer: Offer) {
    let claim = &mut state.claims[at];
    state.order.remove(&(number(claim.pods.len()), number(at)));
    let request = &engine.classes[class].request;
    claim.requested.iter_mut().zip(request).for_each(|(mine, it)| *mine += it);
    claim.ports.extend(engine.classes[class].pod.host_ports.iter().cloned());
    claim.pods.push(pod);
    (claim.set, claim.options, claim.pins) = (offer.set, offer.options, offer.pins);
    state.order.insert((number(claim.pods.len()), number(at)));
    state.release(engine, at);
    settle(engine, state, at);
    state.record(engine, pod, class, state.nodes.len() + at);
}

/// Works out how much room the best of the claim's options has left.
fn settle(engine: &Engine, state: &mut State, at: usize) {
    let claim = &mut state.claims[at];
    let most = engine.catalogs[claim.pool].most_room(&claim.options);
    claim.room =
        most.iter().zip(&claim.requested).map(|(all, taken)| all.saturating_sub(*taken)).collect();
}

/// One more new node, of the first pool that can have the pod.
fn fresh(
    engine: &mut Engine,
    state: &State,
    class: ClassId,
    view: &[Need],
) -> Option<(usize, Offer)> {
    for pool in 0..engine.catalogs.len() {
        if !engine.classes[class].pools[pool] {
            continue;
        }
        let Some(options) = affordable(engine, state, pool) else { continue };
        let place = state.nodes.len() + state.claims.len();
        if !by_host(engine, state, class, place).is_yes() {
            continue;
        }
        let request = engine.classes[class].request.clone();
        let base = Base { pool, set: 0, options: &options, pins: &[], wanted: &request };
        if let Answer::Yes(offer) = choose(engine, class, &base, view) {
            return Some((pool, offer));
        }
    }
    None
}

/// The options of a pool that its limits still allow, without those of reservations that are full.
pub(crate) fn affordable(engine: &Engine, state: &State, pool: usize) -> Option<Bits> {
    let mut options = within_limits(engine, state, pool)?;
    for (id, of_it) in &engine.catalogs[pool].reserved {
        if state.reserved[*id] == 0 {
            options.remove(of_it);
        }
    }
    (!options.is_empty()).then_some(options)
}

fn within_limits(engine: &Engine, state: &State, pool: usize) -> Option<Bits> {
    let mut options = engine.set(pool, 0).options.clone();
    let Some(left) = &state.left[pool] else { return Some(options) };
    if left.nodes.is_some_and(|it| it < 1) {
        return None;
    }
    let catalog = &engine.catalogs[pool];
    let is_over = |option: usize| {
        let capacity = &catalog.capacity[catalog.choices[option].kind as usize];
        left.amounts.iter().any(|(dimension, amount)| capacity[*dimension] > *amount)
    };
    let mut allowed = Bits::none(catalog.choices.len());
    options.iter().filter(|it| !is_over(*it)).for_each(|it| allowed.set(it));
    options.keep(&allowed).then_some(options)
}

#[derive(PartialEq, Eq)]
enum Host {
    Yes,
    Never,
    NotNow,
}

impl Host {
    fn is_yes(&self) -> bool {
        *self == Self::Yes
    }
}

/// What the groups of the hostname say.
fn by_host(engine: &Engine, state: &State, class: ClassId, place: Place) -> Host {
    let it = &engine.classes[class];
    for id in &it.owned {
        let (group, counter) = (&engine.groups.all[*id], &state.counters[*id]);
        let own = it.counted.contains(id);
        if group.key.is_none() && !group.allows(counter, place, own, 0) {
            // Only what follows others may find them there later.
            return if group.kind == Kind::Affinity { Host::NotNow } else { Host::Never };
        }
    }
    let is_repelled = |id: &usize| {
        engine.groups.all[*id].key.is_none() && state.counters[*id].owners.at(place) > 0
    };
    if it.counted.iter().any(is_repelled) { Host::Never } else { Host::Yes }
}

/// Which domains of each key will do now, those with the fewest pods first.
fn view(engine: &Engine, state: &State, class: ClassId) -> Vec<Need> {
    let it = &engine.classes[class];
    let each = it.keys.iter().map(|(key, is_needed)| {
        let of_key = |id: &&usize| engine.groups.all[**id].key == Some(*key);
        let owned: Vec<(&Group, &Counter, bool, i64)> = it
            .owned
            .iter()
            .filter(of_key)
            .map(|id| {
                let (group, counter) = (&engine.groups.all[*id], &state.counters[*id]);
                (group, counter, it.counted.contains(id), group.least(counter))
            })
            .collect();
        let counted: Vec<&Counter> =
            it.counted.iter().filter(of_key).map(|id| &state.counters[*id]).collect();
        let domains = 0..engine.groups.keys[*key].domains.len();
        let allowed = domains.filter(|domain| {
            owned
                .iter()
                .all(|(group, counter, own, least)| group.allows(counter, *domain, *own, *least))
                && counted.iter().all(|it| it.owners.at(*domain) == 0)
        });
        let mut allowed: Vec<DomainId> = allowed.collect();
        let spreads = owned.iter().filter(|(it, ..)| matches!(it.kind, Kind::Spread { .. }));
        let spreads: Vec<&Counter> = spreads.map(|(_, counter, ..)| *counter).collect();
        let weighed = if spreads.is_empty() { &counted } else { &spreads };
        allowed.sort_by_key(|at| weighed.iter().map(|it| it.matched.at(*at)).sum::<i64>());
        (*key, *is_needed, allowed)
    });
    each.collect()
}

fn ask_node(engine: &Engine, state: &State, class: ClassId, node: usize, view: &[Need]) -> Answer {
    let (it, bin) = (&engine.classes[class], &state.nodes[node]);
    if it.request.iter().zip(&bin.free).any(|(wanted, free)| *wanted > 0 && wanted > free) {
        return Answer::Never;
    }
    let known = &engine.world.nodes[node];
    if !tolerates(&known.taints, &it.pod.tolerations, it.tolerant) {
        return Answer::Never;
    }
    if !engine.alternatives(class).any(|it| accepts(it, known)) {
        return Answer::Never;
    }
    if collides(&it.pod.host_ports, &bin.ports) {
        return Answer::Never;
    }
    match by_host(engine, state, class, node) {
        Host::Never => return Answer::Never,
        Host::NotNow => return Answer::NotNow,
        Host::Yes => {}
    }
    for (key, is_needed, allowed) in view {
        match node_domain(engine, node, *key) {
            None if *is_needed => return Answer::Never,
            Some(domain) if !allowed.contains(&domain) => return Answer::NotNow,
            _ => {}
        }
    }
    Answer::Yes(Offer { set: 0, options: Bits::default(), pins: Vec::new() })
}

fn collides(mine: &[scheduling::HostPort], others: &[scheduling::HostPort]) -> bool {
    mine.iter().any(|mine| others.iter().any(|it| mine.collides_with(it)))
}

/// What a new node says to a pod.
enum Asked {
    /// It has no room for the pod's shape, and never will.
    Full,
    Never,
    NotNow,
    Yes(Offer),
}

fn ask_claim(
    engine: &mut Engine,
    state: &State,
    class: ClassId,
    at: usize,
    view: &[Need],
) -> Asked {
    let (it, claim) = (&engine.classes[class], &state.claims[at]);
    if it.request.iter().zip(&claim.room).any(|(wanted, room)| *wanted > 0 && wanted > room) {
        return Asked::Full;
    }
    if !it.pools[claim.pool] || collides(&it.pod.host_ports, &claim.ports) {
        return Asked::Full;
    }
    match by_topology(engine, state, class, at, view) {
        Host::Never => return Asked::Never,
        Host::NotNow => return Asked::NotNow,
        Host::Yes => {}
    }
    let wanted: Vector = it.request.iter().zip(&claim.requested).map(|(a, b)| a + b).collect();
    let base = Base {
        pool: claim.pool,
        set: claim.set,
        options: &claim.options,
        pins: &claim.pins,
        wanted: &wanted,
    };
    match choose(engine, class, &base, view) {
        Answer::Never => Asked::Full,
        Answer::NotNow => Asked::NotNow,
        Answer::Yes(offer) => Asked::Yes(offer),
    }
}

/// What the groups say of a new node, as far as its domains are fixed.
fn by_topology(engine: &Engine, state: &State, class: ClassId, at: usize, view: &[Need]) -> Host {
    let host = by_host(engine, state, class, state.nodes.len() + at);
    if !host.is_yes() {
        return host;
    }
    for (key, domain) in &state.claims[at].pins {
        let of_key = view.iter().find(|(it, ..)| it == key);
        if of_key.is_some_and(|(_, _, allowed)| !allowed.contains(domain)) {
            return Host::NotNow;
        }
    }
    Host::Yes
}

/// A new node before the pod is on it.
struct Base<'a> {
    pool: usize,
    set: SetId,
    options: &'a Bits,
    pins: &'a [(KeyId, DomainId)],
    /// What is requested with the pod.
    wanted: &'a [i64],
}

/// Tries the pod's alternatives in their order.
fn choose(engine: &mut Engine, class: ClassId, base: &Base, view: &[Need]) -> Answer {
    let mut answer = Answer::Never;
    for at in 0..engine.classes[class].alternatives.len() {
        let alternative = engine.classes[class].alternatives[at];
        let Some(set) = engine.joined(base.pool, base.set, alternative) else { continue };
        let mut options = base.options.clone();
        if !options.keep(&engine.set(base.pool, set).options) {
            continue;
        }
        let catalog = &engine.catalogs[base.pool];
        if !catalog.keep_roomy(&mut options, base.wanted) {
            continue;
        }
        // Those of pods that are there have been looked at.
        if !catalog.keep_free(&mut options, &engine.classes[class].pod.host_ports) {
            continue;
        }
        let offer = Offer { set, options, pins: base.pins.to_vec() };
        if view.is_empty() {
            if is_flexible(engine, base.pool, &offer) {
                return Answer::Yes(offer);
            }
            continue;
        }
        answer = Answer::NotNow;
        if let Some(offer) = pin(engine, base.pool, offer, view) {
            return Answer::Yes(offer);
        }
    }
    answer
}

/// Fixes the domain of each key.
///
/// A key that the pool's requirements alone define takes nothing from the options: the best domain
/// that they allow will do, whatever the others are. For the keys that types have each option has one
/// domain, so that there are no more ways to go on than options, however many domains each key has.
fn pin(engine: &mut Engine, pool: usize, mut offer: Offer, view: &[Need]) -> Option<Offer> {
    let mut of_types: Vec<&Need> = Vec::new();
    for need in view {
        let (key, is_needed, allowed) = need;
        // Whether a domain that is fixed will do has been asked before.
        if offer.pins.iter().any(|(it, _)| it == key) {
            continue;
        }
        let name = &engine.groups.keys[*key].name;
        if engine.catalogs[pool].has_label(name) {
            of_types.push(need);
            continue;
        }
        if engine.set(pool, offer.set).requirements.get(name).is_none() {
            if *is_needed {
                return None;
            }
            continue;
        }
        let (set, domain) = allowed
            .iter()
            .find_map(|it| Some((engine.pinned(pool, offer.set, *key, *it)?, *it)))?;
        offer.set = set;
        offer.pins.push((*key, domain));
    }
    pin_types(engine, pool, offer, &of_types)
}

/// Fixes the domains of labels that types have, in turn.
fn pin_types(engine: &mut Engine, pool: usize, offer: Offer, view: &[&Need]) -> Option<Offer> {
    let Some(((key, _, allowed), rest)) = view.split_first() else {
        return is_flexible(engine, pool, &offer).then_some(offer);
    };
    for domain in allowed {
        let Some(set) = engine.pinned(pool, offer.set, *key, *domain) else { continue };
        let mut options = offer.options.clone();
        if !options.keep(&engine.set(pool, set).options) {
            continue;
        }
        let mut pins = offer.pins.clone();
        pins.push((*key, *domain));
        if let Some(found) = pin_types(engine, pool, Offer { set, options, pins }, rest) {
            return Some(found);
        }
    }
    None
}

/// Whether the options are enough, also when the node is in one reservation at the most: what would
/// not be made in the end is no offer, and the next one is looked for.
fn is_flexible(engine: &Engine, pool: usize, offer: &Offer) -> bool {
    let mut reserved = engine.catalogs[pool].reserved.iter();
    let is_reserved = reserved.any(|(_, of_it)| offer.options.meets(of_it));
    match is_reserved {
        true => with_one_reservation(engine, pool, offer.set, &offer.options).is_some(),
        false => engine.is_flexible(pool, offer.set, &offer.options),
    }
}

#[cfg(test)]
mod tests;
