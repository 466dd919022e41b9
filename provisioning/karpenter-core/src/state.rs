//! Where the pods are so far: what each node has left, each new node's options, who counts where.
//!
//! It can be copied: a simulation begins with a copy of the state that there is.

use std::collections::BTreeSet;

use scheduling::HostPort;

use crate::{
    bits::{Bits, Marks},
    catalog::number,
    engine::{ClassId, Engine, SetId},
    topology::{Counter, Counts, DomainId, Group, GroupId, KeyId, Kind},
    world::Vector,
};

/// A place: nodes first, then new nodes, in the order in which they were made.
pub(crate) type Place = usize;

/// A node that there is.
#[derive(Clone, Debug)]
pub(crate) struct NodeBin {
    pub(crate) free: Vector,
    pub(crate) ports: Vec<HostPort>,
    /// It is about to go: nothing may be placed there.
    pub(crate) is_gone: bool,
}

/// A node to be made.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) pool: usize,
    pub(crate) set: SetId,
    pub(crate) options: Bits,
    pub(crate) requested: Vector,
    /// The most room that any of its options has left.
    pub(crate) room: Vector,
    pub(crate) ports: Vec<HostPort>,
    pub(crate) pods: Vec<u32>,
    /// The domains that are fixed.
    pub(crate) pins: Vec<(KeyId, DomainId)>,
    /// The reservation that has room kept for it.
    pub(crate) reservation: Option<usize>,
}

/// What a pool's limits leave.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    /// By dimension: its number and what is left.
    pub(crate) amounts: Vec<(usize, i64)>,
    pub(crate) nodes: Option<i64>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) nodes: Vec<NodeBin>,
    pub(crate) claims: Vec<Claim>,
    /// New nodes, those with the fewest pods first.
    pub(crate) order: BTreeSet<(u32, u32)>,
    pub(crate) counters: Vec<Counter>,
    /// Per class: places that have refused it for good.
    pub(crate) refused: Vec<Marks>,
    /// Per shape: places that it does not fit on, and never will.
    pub(crate) full: Vec<Marks>,
    /// Per shape and new node: with how many pods it was asked last, and how much dearer it becomes.
    pub(crate) asked: Vec<Vec<(u32, f64)>>,
    pub(crate) left: Vec<Option<Left>>,
    /// Per reservation: for how many nodes more it has room.
    pub(crate) reserved: Vec<u32>,
    /// In the order in which they were placed.
    pub(crate) placed: Vec<(u32, ClassId, Place)>,
}

impl State {
    pub(crate) fn new(engine: &Engine) -> Self {
        let nodes = engine.world.nodes.iter().map(|node| {
            let mut free = node.allocatable.clone();
            free.subtract(&node.reserved);
            node.pods.iter().for_each(|it| free.subtract(&it.requests));
            NodeBin {
                free: engine.dimensions.vector(&free),
                ports: {
                    let taken = node.pods.iter().flat_map(|it| &it.host_ports);
                    taken.chain(&node.ports).cloned().collect()
                },
                is_gone: false,
            }
        });
        let mut state = Self {
            nodes: nodes.collect(),
            claims: Vec::new(),
            order: BTreeSet::new(),
            counters: Vec::new(),
            refused: Vec::new(),
            full: Vec::new(),
            asked: Vec::new(),
            left: engine.world.pools.iter().map(|it| left(engine, it)).collect(),
            reserved: engine.reservations.left(),
            placed: Vec::new(),
        };
        state.refresh(engine);
        state
    }

    /// Takes notice of groups and classes that are new to the engine.
    pub(crate) fn refresh(&mut self, engine: &Engine) {
        for group in self.counters.len()..engine.groups.all.len() {
            self.counters.push(self.counted(engine, group));
        }
        if self.refused.len() < engine.classes.len() {
            self.refused.resize_with(engine.classes.len(), Marks::default);
            self.full.resize_with(engine.shapes.len(), Marks::default);
            self.asked.resize_with(engine.shapes.len(), Vec::new);
        }
    }

    /// Every place may be asked again: something may go that had kept pods off it.
    pub(crate) fn forget_refusals(&mut self) {
        self.refused.iter_mut().for_each(|it| *it = Marks::default());
        self.asked.iter_mut().for_each(Vec::clear);
    }

    fn counted(&self, engine: &Engine, id: GroupId) -> Counter {
        let mut counter = Counter::default();
        for (node, bin) in self.nodes.iter().enumerate() {
            if !bin.is_gone {
                count_node(engine, id, node, &mut counter, 1);
            }
        }
        for (_, class, place) in &self.placed {
            self.count(engine, id, *class, *place, &mut counter);
        }
        counter
    }

    /// Counts one placed pod of a class for one group.
    fn count(
        &self,
        engine: &Engine,
        id: GroupId,
        class: ClassId,
        place: Place,
        counter: &mut Counter,
    ) {
        let group = &engine.groups.all[id];
        let Some(at) = self.domain(engine, group, place) else { return };
        let class = &engine.classes[class];
        if engine.groups.selects(id, class.label) {
            let (may, will) = match place.checked_sub(self.nodes.len()) {
                Some(claim) => engine.counts(group, &self.claims[claim]),
                None => {
                    let counts = !group.ignored_nodes.get(place).is_some_and(|it| *it);
                    (counts, counts)
                }
            };
            if may {
                counter.matched.add(at, 1);
            }
            if will {
                counter.certain.add(at, 1);
            }
        }
        if group.kind == Kind::AntiAffinity && class.owned.contains(&id) {
            counter.owners.add(at, 1);
        }
    }

    /// Where a place counts for a group: itself, or its domain of the group's key.
    fn domain(&self, engine: &Engine, group: &Group, place: Place) -> Option<usize> {
        let Some(key) = group.key else { return Some(place) };
        match place.checked_sub(self.nodes.len()) {
            None => node_domain(engine, place, key),
            Some(claim) => {
                self.claims[claim].pins.iter().find(|(it, _)| *it == key).map(|(_, it)| *it)
            }
        }
    }

    /// A pod of the class is at the place from now on.
    pub(crate) fn record(&mut self, engine: &Engine, pod: u32, class: ClassId, place: Place) {
        let it = &engine.classes[class];
        let mut counters = std::mem::take(&mut self.counters);
        for id in it.counted.iter().chain(it.owned.iter().filter(|id| !it.counted.contains(id))) {
            self.count(engine, *id, class, place, &mut counters[*id]);
        }
        self.counters = counters;
        self.placed.push((pod, class, place));
    }

    /// Takes a node away with all that is on it.
    pub(crate) fn remove_node(&mut self, engine: &Engine, node: usize) {
        if std::mem::replace(&mut self.nodes[node].is_gone, true) {
            return;
        }
        for (id, counter) in self.counters.iter_mut().enumerate() {
            count_node(engine, id, node, counter, -1);
        }
    }

    /// Keeps room in a reservation for a new node that may be one of these, as
    /// [`with_one_reservation`] says. `None`: too few options are left; else which it is, if any.
    pub(crate) fn hold(
        &mut self,
        engine: &Engine,
        pool: usize,
        set: SetId,
        options: &mut Bits,
    ) -> Option<Option<usize>> {
        let (left, held) = with_one_reservation(engine, pool, set, options)?;
        *options = left;
        if let Some(held) = held {
            self.reserved[held] -= 1;
        }
        Some(held)
    }

    /// Gives room back that a new node can no longer take.
    pub(crate) fn release(&mut self, engine: &Engine, at: usize) {
        let claim = &mut self.claims[at];
        let Some(held) = claim.reservation else { return };
        let of_it = engine.catalogs[claim.pool].of_reservation(held);
        if !of_it.is_some_and(|it| claim.options.meets(it)) {
            claim.reservation = None;
            self.reserved[held] += 1;
        }
    }

    pub(crate) fn open(&mut self, engine: &Engine, claim: Claim) -> Place {
        let pool = claim.pool;
        if let Some(left) = &mut self.left[pool] {
            let catalog = &engine.catalogs[pool];
            for (dimension, amount) in &mut left.amounts {
                let kinds = claim.options.iter().map(|it| catalog.choices[it].kind as usize);
                let most = kinds.map(|it| catalog.capacity[it][*dimension]).max();
                *amount -= most.unwrap_or(0);
            }
            left.nodes = left.nodes.map(|it| it - 1);
        }
        self.order.insert((number(claim.pods.len()), number(self.claims.len())));
        self.claims.push(claim);
        self.nodes.len() + self.claims.len() - 1
    }
}

/// Of what a new node may be, what is left when it takes the room of one reservation, the cheapest, or
/// of none where that leaves too few; and which it is. `None`: either way too few options are left.
pub(crate) fn with_one_reservation(
    engine: &Engine,
    pool: usize,
    set: SetId,
    options: &Bits,
) -> Option<(Bits, Option<usize>)> {
    let catalog = &engine.catalogs[pool];
    let found = catalog.reserved.iter().filter_map(|(id, of_it)| {
        let mut own = options.clone();
        own.keep(of_it);
        Some((own.first()?, *id))
    });
    let mut left = options.clone();
    let Some((_, held)) = found.min() else { return Some((left, None)) };
    for (_, of_it) in catalog.reserved.iter().filter(|(id, _)| *id != held) {
        left.remove(of_it);
    }
    if engine.is_flexible(pool, set, &left) {
        return Some((left, Some(held)));
    }
    if let Some(of_it) = catalog.of_reservation(held) {
        left.remove(of_it);
    }
    engine.is_flexible(pool, set, &left).then_some((left, None))
}

pub(crate) fn node_domain(engine: &Engine, node: usize, key: KeyId) -> Option<DomainId> {
    let key = &engine.groups.keys[key];
    key.domain(engine.world.nodes[node].labels.get(&*key.name)?)
}

/// Counts what is on a node for one group, or takes it away again.
fn count_node(engine: &Engine, id: GroupId, node: usize, counter: &mut Counter, by: i64) {
    let group = &engine.groups.all[id];
    let at = match group.key {
        None => Some(node),
        Some(key) => node_domain(engine, node, key),
    };
    let Some(at) = at else { return };
    let add = |counts: &mut Counts, count: usize| {
        if count > 0 {
            counts.add(at, by * i64::try_from(count).unwrap_or(i64::MAX));
        }
    };
    if !group.ignored_nodes.get(node).is_some_and(|it| *it) {
        let members = engine.members[node].iter();
        let count = members.filter(|it| engine.groups.selects(id, **it)).count();
        add(&mut counter.matched, count);
        add(&mut counter.certain, count);
    }
    add(&mut counter.owners, engine.owners[node].iter().filter(|it| **it == id).count());
}

fn left(engine: &Engine, pool: &crate::world::Pool) -> Option<Left> {
    let limits = pool.limits.as_ref()?;
    let names = engine.dimensions.names().iter().enumerate();
    let amounts = names.filter_map(|(at, name)| {
        let limit = limits.amounts.get(name)?;
        Some((at, limit.saturating_sub(pool.used.amounts.amount(name))))
    });
    let nodes = limits.nodes.map(|it| it - pool.used.nodes);
    Some(Left { amounts: amounts.collect(), nodes })
}
