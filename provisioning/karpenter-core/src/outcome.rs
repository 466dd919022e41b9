//! What was decided, as a value that can be printed, compared and carried out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use api_kube::karpenter::{NodeSelectorRequirement, capacity_types, labels};
use resources::Amounts;
use serde::Serialize;

use crate::{
    bits::Bits,
    catalog::number,
    engine::Engine,
    explain::{Barren, Miss},
    requirement::{Requirement, Requirements},
    snapshot::attach::is_attachment,
    state::Claim,
    world::MinValues,
};

/// A NodeClaim says no more instance types than these (upstream's `MaxInstanceTypes`).
pub const MOST_INSTANCE_TYPES: usize = 600;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub claims: Vec<NewClaim>,
    /// Pods that go to nodes that there are: places in the world's lists.
    pub existing: Vec<(usize, usize)>,
    /// All pods that have a place, in the order in which they got it.
    pub order: Vec<usize>,
    pub unschedulable: Vec<Unschedulable>,
    pub barren: Vec<Barren>,
    /// US dollars per hour, each new node at its cheapest option.
    pub price: f64,
    /// What first-fit decreasing alone would cost.
    pub first_fit_price: f64,
    /// How many pods that would leave without a place; limits may hold for fewer nodes then.
    pub first_fit_left_over: usize,
    /// No choice of nodes for these pods costs less.
    pub lower_bound: f64,
}

/// A NodeClaim to be made.
#[derive(Clone, Debug)]
pub struct NewClaim {
    pub pool: String,
    /// What the pool and the pods ask for; the types are apart.
    pub requirements: Requirements,
    /// What it may be, the cheapest first; shared by those that may be the same.
    pub options: Arc<Vec<OptionOf>>,
    /// What its pods and daemons request.
    pub requests: Amounts,
    /// Places in the world's list.
    pub pods: Vec<usize>,
    /// It has fewer values to choose among than its pool's `minValues` want; its requirements want no
    /// more than there are.
    pub is_relaxed: bool,
}

/// An instance type in a zone, bought in one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OptionOf {
    pub instance_type: Arc<str>,
    pub zone: Arc<str>,
    pub capacity_type: Arc<str>,
    /// The capacity reservation whose room it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Arc<str>>,
    /// US dollars per hour.
    pub price: f64,
}

/// A pod without a place.
#[derive(Clone, Debug)]
pub struct Unschedulable {
    /// Its place in the world's list.
    pub pod: usize,
    /// The nearest miss, in a sentence.
    pub reason: String,
    /// Per NodePool how far it got, the nearest first.
    pub misses: Vec<Miss>,
}

/// The options that claims may be, by what they are: thousands of claims have few hundreds of them.
#[derive(Debug, Default)]
pub(crate) struct Spelled(HashMap<(usize, Bits), Arc<Vec<OptionOf>>>);

impl Spelled {
    fn options(&mut self, engine: &Engine, pool: usize, options: &Bits) -> Arc<Vec<OptionOf>> {
        let catalog = &engine.catalogs[pool];
        let spell = || {
            let each = options.iter().map(|it| {
                let (zone, capacity_type) = catalog.place(it);
                OptionOf {
                    instance_type: catalog.kind(it).name.clone(),
                    zone,
                    capacity_type,
                    reservation: catalog.offering(it).reservation.as_ref().map(|it| it.id.clone()),
                    price: catalog.choices[it].price,
                }
            });
            Arc::new(each.collect())
        };
        self.0.entry((pool, options.clone())).or_insert_with(spell).clone()
    }
}

/// What a new node may be in the end. One for which a reservation has room takes it or is not made:
/// its pods are looked at again then, and nothing dearer comes instead. Where the pool wants several
/// values to choose among, the choice stays.
fn kept(engine: &Engine, claim: &Claim) -> (Requirements, Bits) {
    let set = engine.set(claim.pool, claim.set);
    let (mut requirements, mut options) = (set.requirements.clone(), claim.options.clone());
    let held = claim.reservation.filter(|_| !set.has_min_values);
    let of_it = held.and_then(|it| engine.catalogs[claim.pool].of_reservation(it));
    if let Some((held, of_it)) = held.zip(of_it) {
        options.keep(of_it);
        requirements.add(labels::CAPACITY_TYPE, Requirement::one(capacity_types::RESERVED));
        let id = engine.reservations.id(held);
        requirements.add(labels::CAPACITY_RESERVATION_ID, Requirement::one(id));
    }
    (requirements, options)
}

/// Wants no more values than the options have. Says whether that is fewer than it was.
fn relax(engine: &Engine, claim: &Claim, requirements: &mut Requirements, options: &Bits) -> bool {
    if engine.world.min_values == MinValues::Strict
        || !engine.set(claim.pool, claim.set).has_min_values
    {
        return false;
    }
    let catalog = &engine.catalogs[claim.pool];
    let wanted = requirements.clone();
    let mut is_relaxed = false;
    for (key, requirement) in wanted.iter() {
        let left = number(catalog.values_in(key, options).len());
        if requirement.min_values.is_some_and(|it| it > left) {
            is_relaxed = true;
            let mut fewer = requirement.clone();
            fewer.min_values = Some(left);
            requirements.set(key, fewer);
        }
    }
    is_relaxed
}

impl NewClaim {
    pub(crate) fn new(engine: &Engine, claim: &Claim, spelled: &mut Spelled) -> Self {
        let catalog = &engine.catalogs[claim.pool];
        let mut requested = engine.dimensions.amounts(&claim.requested);
        let (mut requirements, options) = kept(engine, claim);
        let is_relaxed = relax(engine, claim, &mut requirements, &options);
        // The least that daemons take on any of the types.
        let kinds = options.iter().map(|it| catalog.choices[it].kind as usize);
        let least = kinds.min_by(|a, b| catalog.overhead[*a].cmp(&catalog.overhead[*b]));
        if let Some(kind) = least {
            requested.add(&engine.dimensions.amounts(&catalog.overhead[kind]));
        }
        // That is for nodes that there are.
        requested.scalars.retain(|name, _| !is_attachment(name));
        Self {
            pool: engine.world.pools[claim.pool].name.clone(),
            requirements,
            options: spelled.options(engine, claim.pool, &options),
            requests: requested,
            pods: claim.pods.iter().map(|it| *it as usize).collect(),
            is_relaxed,
        }
    }

    /// US dollars per hour, of the cheapest option.
    pub fn price(&self) -> f64 {
        self.options.first().map_or(0.0, |it| it.price)
    }

    /// The instance types with the price of the cheapest option of each, the cheapest first.
    pub fn types(&self) -> Vec<(Arc<str>, f64)> {
        let mut seen: BTreeMap<&str, ()> = BTreeMap::new();
        let firsts = self.options.iter().filter(|it| seen.insert(&it.instance_type, ()).is_none());
        firsts.map(|it| (it.instance_type.clone(), it.price)).collect()
    }

    /// The requirements of the NodeClaim, its instance types and capacity types included.
    pub fn to_api(&self) -> Vec<NodeSelectorRequirement> {
        let types = self.types();
        let names = types.iter().take(MOST_INSTANCE_TYPES).map(|(name, _)| &**name);
        let capacity = self.options.iter().map(|it| &*it.capacity_type);
        let mut all = self.requirements.clone();
        all.add(labels::INSTANCE_TYPE, Requirement::of(names));
        all.add(labels::CAPACITY_TYPE, Requirement::of(capacity));
        all.to_api()
    }
}
