//! A pool's instance types as sets of options: what a requirement leaves, what has room.
//!
//! An option is one offering of one type. Options are in the order of their price, so the first of
//! a set is its cheapest. What each value of each label selects, and what has how much room, is
//! worked out once; a decision is then a few ANDs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use scheduling::{HostPort, PodInfo, find_untolerated};

use crate::{
    bits::Bits,
    requirement::{Requirement, Requirements},
    snapshot::attach::{ENOUGH, is_attachment},
    world::{Dimensions, InstanceType, Offering, Pool, Vector, World},
};

/// One offering of one type, by its places in the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) kind: u32,
    offering: u32,
    pub(crate) price: f64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Catalog {
    types: Arc<[InstanceType]>,
    pub(crate) choices: Vec<Choice>,
    /// What is not out of capacity.
    pub(crate) available: Bits,
    /// Per type: what is left for pods when the daemons are there.
    pub(crate) room: Vec<Vector>,
    /// Per type: what daemons take.
    pub(crate) overhead: Vec<Vector>,
    /// Ports of the host that daemons take, and the options that they do on.
    ports: Vec<(HostPort, Bits)>,
    /// Per type: what counts against the pool's limits.
    pub(crate) capacity: Vec<Vector>,
    /// The options of each reservation that some of them are of, by the engine's numbers.
    pub(crate) reserved: Vec<(usize, Bits)>,
    /// Per option: its zone and how it is paid for.
    places: Vec<(Arc<str>, Arc<str>)>,
    enough: Vec<Enough>,
    labels: HashMap<Arc<str>, Label>,
}

/// The reservations that any offering of any pool is of, with the room that they have.
#[derive(Debug, Default)]
pub(crate) struct Reservations(Vec<(Arc<str>, u32)>);

impl Reservations {
    pub(crate) fn of(world: &World) -> Self {
        let mut known: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        let types = world.pools.iter().flat_map(|it| it.types.iter());
        for it in types.flat_map(|it| &it.offerings).filter_map(|it| it.reservation.as_ref()) {
            let left = known.entry(it.id.clone()).or_insert(it.left);
            *left = it.left.min(*left);
        }
        Self(known.into_iter().collect())
    }

    fn number(&self, id: &str) -> Option<usize> {
        self.0.binary_search_by(|(it, _)| (**it).cmp(id)).ok()
    }

    pub(crate) fn id(&self, number: usize) -> &Arc<str> {
        &self.0[number].0
    }

    /// The room of each.
    pub(crate) fn left(&self) -> Vec<u32> {
        self.0.iter().map(|(_, left)| *left).collect()
    }
}

/// For one resource: the options that have at least so much, by amount.
#[derive(Debug)]
struct Enough {
    amounts: Vec<i64>,
    options: Vec<Bits>,
}

/// For one label: the options with each value, and those without the label.
#[derive(Debug)]
struct Label {
    values: BTreeMap<Arc<str>, Bits>,
    absent: Bits,
}

impl Catalog {
    pub(crate) fn new(
        world: &World,
        pool: &Pool,
        dimensions: &Dimensions,
        reservations: &Reservations,
    ) -> Self {
        let types = pool.types.clone();
        let mut choices = Vec::new();
        for (kind, it) in types.iter().enumerate() {
            for (offering, offered) in it.offerings.iter().enumerate() {
                choices.push(Choice {
                    kind: number(kind),
                    offering: number(offering),
                    price: offered.price,
                });
            }
        }
        choices.sort_by(|a, b| {
            a.price.total_cmp(&b.price).then(a.kind.cmp(&b.kind)).then(a.offering.cmp(&b.offering))
        });
        let overhead: Vec<Vector> =
            types.iter().map(|it| overhead(world, pool, it, dimensions)).collect();
        let room: Vec<Vector> = types
            .iter()
            .zip(&overhead)
            .map(|(it, taken)| {
                let mut all = dimensions.vector(&it.allocatable);
                // Its drivers have not said how many volumes it may have.
                let volumes = dimensions.names().iter().zip(all.iter_mut());
                let volumes = volumes.filter(|(name, _)| is_attachment(name));
                volumes.for_each(|(_, amount)| *amount = ENOUGH);
                all.iter().zip(taken).map(|(all, taken)| all.saturating_sub(*taken)).collect()
            })
            .collect();
        let capacity = types.iter().map(|it| dimensions.vector(&it.capacity)).collect();
        let mut catalog = Self {
            available: Bits::none(choices.len()),
            types,
            choices,
            room,
            overhead,
            ports: Vec::new(),
            capacity,
            reserved: Vec::new(),
            places: Vec::new(),
            enough: Vec::new(),
            labels: HashMap::new(),
        };
        catalog.index(dimensions);
        catalog.reserved = catalog.reserved(reservations);
        catalog.ports = catalog.ports(world, pool);
        catalog
    }

    fn index(&mut self, dimensions: &Dimensions) {
        for at in 0..self.choices.len() {
            if self.offering(at).is_available {
                self.available.set(at);
            }
        }
        let mut names: BTreeMap<&str, Arc<str>> = BTreeMap::new();
        for at in 0..self.choices.len() {
            let choice = self.choices[at];
            let it = &self.types[choice.kind as usize].offerings[choice.offering as usize];
            let mut shared =
                |name| names.entry(name).or_insert_with_key(|it| Arc::from(*it)).clone();
            let place = (shared(it.zone()), shared(it.capacity_type()));
            self.places.push(place);
        }
        self.enough = (0..dimensions.len()).map(|it| self.enough(it)).collect();
        let mut labels: HashMap<Arc<str>, Label> = HashMap::new();
        let none = Bits::none(self.choices.len());
        for at in 0..self.choices.len() {
            let (kind, offering) = (self.kind(at), self.offering(at));
            for (key, value) in kind.labels.iter().chain(&offering.labels) {
                let label = labels
                    .entry(key.as_str().into())
                    .or_insert_with(|| Label { values: BTreeMap::new(), absent: none.clone() });
                let options = label.values.entry(value.as_str().into());
                options.or_insert_with(|| none.clone()).set(at);
            }
        }
        for label in labels.values_mut() {
            let mut present = none.clone();
            label.values.values().for_each(|it| present.add(it));
            (0..self.choices.len())
                .filter(|at| !present.has(*at))
                .for_each(|at| label.absent.set(at));
        }
        self.labels = labels;
    }

    fn reserved(&self, reservations: &Reservations) -> Vec<(usize, Bits)> {
        let mut found: BTreeMap<usize, Bits> = BTreeMap::new();
        for at in 0..self.choices.len() {
            let of = self.offering(at).reservation.as_ref();
            if let Some(id) = of.and_then(|it| reservations.number(&it.id)) {
                found.entry(id).or_insert_with(|| Bits::none(self.choices.len())).set(at);
            }
        }
        found.into_iter().collect()
    }

    fn ports(&self, world: &World, pool: &Pool) -> Vec<(HostPort, Bits)> {
        let mut found: HashMap<HostPort, Bits> = HashMap::new();
        if world.daemons.iter().all(|it| it.host_ports.is_empty()) {
            return Vec::new();
        }
        for (at, choice) in self.choices.iter().enumerate() {
            let daemons = daemons(world, pool, &self.types[choice.kind as usize]);
            for port in daemons.flat_map(|it| &it.host_ports) {
                let none = || Bits::none(self.choices.len());
                found.entry(port.clone()).or_insert_with(none).set(at);
            }
        }
        found.into_iter().collect()
    }

    /// Keeps the options on which no daemon takes any of these ports; whether any is left.
    pub(crate) fn keep_free(&self, options: &mut Bits, ports: &[HostPort]) -> bool {
        let taken = |it: &&(HostPort, Bits)| ports.iter().any(|port| port.collides_with(&it.0));
        self.ports.iter().filter(taken).for_each(|(_, of_it)| options.remove(of_it));
        !options.is_empty()
    }

    /// The options of one reservation.
    pub(crate) fn of_reservation(&self, id: usize) -> Option<&Bits> {
        self.reserved.iter().find(|(it, _)| *it == id).map(|(_, options)| options)
    }

    fn enough(&self, dimension: usize) -> Enough {
        let mut amounts: Vec<i64> = self.room.iter().map(|it| it[dimension]).collect();
        amounts.sort_unstable();
        amounts.dedup();
        let mut options: Vec<Bits> =
            amounts.iter().map(|_| Bits::none(self.choices.len())).collect();
        for (at, choice) in self.choices.iter().enumerate() {
            let has = self.room[choice.kind as usize][dimension];
            let until = amounts.partition_point(|it| *it <= has);
            options[..until].iter_mut().for_each(|it| it.set(at));
        }
        Enough { amounts, options }
    }

    pub(crate) fn kind(&self, option: usize) -> &InstanceType {
        &self.types[self.choices[option].kind as usize]
    }

    pub(crate) fn offering(&self, option: usize) -> &Offering {
        let choice = self.choices[option];
        &self.types[choice.kind as usize].offerings[choice.offering as usize]
    }

    /// The zone of an option, and its capacity type.
    pub(crate) fn place(&self, option: usize) -> (Arc<str>, Arc<str>) {
        self.places[option].clone()
    }

    pub(crate) fn has_label(&self, key: &str) -> bool {
        self.labels.contains_key(key)
    }

    /// What a requirement on a label that the types have leaves of all options.
    pub(crate) fn selected(&self, key: &str, requirement: &Requirement) -> Option<Bits> {
        let label = self.labels.get(key)?;
        let mut selected = match requirement.allows_absence() {
            true => label.absent.clone(),
            false => Bits::none(self.choices.len()),
        };
        let values = label.values.iter().filter(|(value, _)| requirement.has(value));
        values.for_each(|(_, options)| selected.add(options));
        Some(selected)
    }

    /// Keeps the options that have room for `wanted`; whether any is left.
    pub(crate) fn keep_roomy(&self, options: &mut Bits, wanted: &[i64]) -> bool {
        let mut any = true;
        for (enough, amount) in self.enough.iter().zip(wanted) {
            if *amount <= 0 {
                continue;
            }
            let at = enough.amounts.partition_point(|it| it < amount);
            match enough.options.get(at) {
                Some(roomy) => any = options.keep(roomy),
                None => return false,
            }
            if !any {
                return false;
            }
        }
        any
    }

    /// The most of each resource that any of the options has room for.
    pub(crate) fn most_room(&self, options: &Bits) -> Vector {
        let mut most: Vector = vec![i64::MIN; self.enough.len()].into();
        for (most, enough) in most.iter_mut().zip(&self.enough) {
            let found = enough.options.iter().rposition(|it| it.meets(options));
            *most = found.map_or(i64::MIN, |at| enough.amounts[at]);
        }
        most
    }

    /// The values of a label that some of the options have.
    pub(crate) fn values_in(&self, key: &str, options: &Bits) -> Vec<Arc<str>> {
        let label = self.labels.get(key).into_iter();
        let values = label.flat_map(|it| &it.values);
        values.filter(|(_, it)| it.meets(options)).map(|(value, _)| value.clone()).collect()
    }

    /// All values of a label.
    pub(crate) fn values(&self, key: &str) -> impl Iterator<Item = &Arc<str>> {
        self.labels.get(key).into_iter().flat_map(|it| it.values.keys())
    }

    /// Whether as many values as wanted are left for each requirement that wants some.
    pub(crate) fn is_flexible(&self, requirements: &Requirements, options: &Bits) -> bool {
        requirements.iter().all(|(key, it)| {
            it.min_values.is_none_or(|least| self.values_in(key, options).len() >= least as usize)
        })
    }

    /// The price of the cheapest option.
    pub(crate) fn price(&self, options: &Bits) -> f64 {
        options.first().map_or(f64::INFINITY, |at| self.choices[at].price)
    }
}

/// What daemons take on a node of a type.
fn overhead(world: &World, pool: &Pool, kind: &InstanceType, dimensions: &Dimensions) -> Vector {
    let mut taken: Vector = vec![0; dimensions.len()].into();
    for daemon in daemons(world, pool, kind) {
        let wanted = dimensions.vector(&daemon.requests);
        let each = taken.iter_mut().zip(&wanted);
        each.for_each(|(taken, it)| *taken = taken.saturating_add(*it));
    }
    taken
}

/// The daemons that there are on a node of a type.
fn daemons<'a>(
    world: &'a World,
    pool: &'a Pool,
    kind: &InstanceType,
) -> impl Iterator<Item = &'a PodInfo> {
    let mut node = pool.requirements.clone();
    node.add_all(&Requirements::from_labels(&kind.labels));
    world.daemons.iter().map(|it| &**it).filter(move |daemon| {
        let effects = ["NoSchedule", "NoExecute"];
        if find_untolerated(&pool.taints, &daemon.tolerations, &effects).is_some() {
            return false;
        }
        let selector = Requirements::from_labels(&daemon.node_selector);
        match daemon.required_nodes.as_deref() {
            None => node.conflict(&selector).is_none(),
            Some(terms) => terms.iter().any(|term| {
                let mut wanted = selector.clone();
                wanted.add_all(&Requirements::from_term(term));
                node.conflict(&wanted).is_none()
            }),
        }
    })
}

/// Places in lists that are far shorter than 2^32.
pub(crate) fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
