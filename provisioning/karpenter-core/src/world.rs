//! What a decision is made from.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_kube::karpenter::{NodePool, capacity_types, labels};
use k8s_openapi::api::core::v1::Taint;
use resources::{Amounts, Quantity};
use scheduling::{HostPort, PodInfo};

use crate::requirement::{Requirement, Requirements};

/// Labels of namespaces, by name.
pub type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub pools: Vec<Pool>,
    pub nodes: Vec<Node>,
    /// The pods to find a place for.
    pub pods: Vec<Arc<PodInfo>>,
    /// A pod of each DaemonSet, as it would be on a node.
    pub daemons: Vec<Arc<PodInfo>>,
    pub namespaces: Namespaces,
    pub preferences: Preferences,
    pub min_values: MinValues,
}

/// What becomes of a requirement's `minValues` where so many values are not to be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinValues {
    /// No node is made.
    #[default]
    Strict,
    /// As many as there are have to do.
    BestEffort,
}

/// Whether preferences are tried as if they had to hold, before they are given up one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preferences {
    #[default]
    Respect,
    Ignore,
}

/// A NodePool with the instance types that its class offers.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    pub name: String,
    pub weight: i32,
    /// The template's requirements and labels.
    pub requirements: Requirements,
    pub taints: Vec<Taint>,
    pub limits: Option<Limits>,
    /// What its nodes have already.
    pub used: Used,
    pub types: Arc<[InstanceType]>,
}

/// What a pool may have in all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// By resource; `cpu` in thousandths.
    pub amounts: BTreeMap<String, i64>,
    pub nodes: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used {
    pub amounts: Amounts,
    pub nodes: i64,
}

impl Pool {
    /// As the object says; `types` are those of its class, `used` what its nodes have.
    pub fn new(pool: &NodePool, types: Arc<[InstanceType]>, used: Used) -> Self {
        let template = &pool.spec.template;
        let mut requirements = Requirements::from_api(&template.spec.requirements);
        requirements.add_all(&Requirements::from_labels(&template.metadata.labels));
        requirements.add(labels::NODE_POOL, Requirement::one(pool.name()));
        let limits = pool.spec.limits.as_ref().map(|limits| {
            let mut read = Limits::default();
            for (name, quantity) in limits {
                let quantity: Quantity = quantity.0.parse().unwrap_or_default();
                match name.as_str() {
                    "nodes" => read.nodes = Some(quantity.value()),
                    "cpu" => drop(read.amounts.insert(name.clone(), quantity.millis())),
                    _ => drop(read.amounts.insert(name.clone(), quantity.value())),
                }
            }
            read
        });
        Self {
            name: pool.name().to_owned(),
            weight: pool.spec.weight.unwrap_or(0),
            requirements,
            taints: template.spec.taints.clone(),
            limits,
            used,
            types,
        }
    }
}

/// The order in which pools are tried: the heavier first, then by name from the end of the alphabet.
pub(crate) fn by_weight(pools: &mut [Pool]) {
    pools.sort_by(|a, b| b.weight.cmp(&a.weight).then_with(|| b.name.cmp(&a.name)));
}

/// A node that there is, or that is on its way.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// Without startup taints and those that go by themselves.
    pub taints: Vec<Taint>,
    pub allocatable: Amounts,
    /// What is on it, daemons included.
    pub pods: Vec<Arc<PodInfo>>,
    /// What daemons will take that are not there yet.
    pub reserved: Amounts,
    /// The host's ports that these will take.
    pub ports: Vec<HostPort>,
    pub is_initialized: bool,
}

/// One instance type, as a class offers it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstanceType {
    pub name: Arc<str>,
    /// Its labels, without those of its offerings.
    pub labels: BTreeMap<String, String>,
    pub capacity: Amounts,
    pub allocatable: Amounts,
    pub offerings: Vec<Offering>,
}

/// A zone and a way to pay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offering {
    /// Zone, zone id, capacity type, and those of a reservation.
    pub labels: BTreeMap<String, String>,
    /// US dollars per hour.
    pub price: f64,
    /// Not known to be out of capacity.
    pub is_available: bool,
    /// A NodeOverlay has said its price.
    pub is_overlaid: bool,
    /// The capacity reservation whose room it takes.
    pub reservation: Option<Reservation>,
}

/// Room that is paid for already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub id: Arc<str>,
    /// How many instances more there is room for.
    pub left: u32,
}

impl Offering {
    pub fn new(zone: &str, capacity_type: &str, price: f64) -> Self {
        let pairs = [(labels::ZONE, zone), (labels::CAPACITY_TYPE, capacity_type)];
        let labels = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Self { labels, price, is_available: true, is_overlaid: false, reservation: None }
    }

    /// Of a reservation, which costs next to nothing more than it does anyway: a ten millionth of the
    /// On-Demand price, so that the cheaper type still is the cheaper one.
    pub fn reserved(zone: &str, reservation: Reservation, on_demand: f64) -> Self {
        let mut it = Self::new(zone, capacity_types::RESERVED, on_demand / 10_000_000.0);
        it.labels.insert(labels::CAPACITY_RESERVATION_ID.to_owned(), reservation.id.to_string());
        it.is_available = reservation.left > 0;
        it.reservation = Some(reservation);
        it
    }

    pub fn zone(&self) -> &str {
        self.labels.get(labels::ZONE).map_or("", String::as_str)
    }

    pub fn capacity_type(&self) -> &str {
        self.labels.get(labels::CAPACITY_TYPE).map_or("", String::as_str)
    }
}

/// The resources that anything in the world names, as places in a vector.
#[derive(Clone, Debug)]
pub(crate) struct Dimensions(Vec<String>);

/// Amounts by [`Dimensions`].
pub(crate) type Vector = Box<[i64]>;

impl Dimensions {
    pub(crate) fn of(world: &World) -> Self {
        let pods = world.pods.iter().chain(&world.daemons).map(|it| &it.requests);
        let limits = world.pools.iter().filter_map(|it| it.limits.as_ref());
        let mut extra: BTreeSet<&str> =
            pods.flat_map(|it| it.scalars.keys()).map(|it| &**it).collect();
        extra.extend(limits.flat_map(|it| it.amounts.keys()).map(|it| &**it));
        let placed = world.nodes.iter().flat_map(|it| &it.pods);
        extra.extend(placed.flat_map(|it| it.requests.scalars.keys()).map(|it| &**it));
        let mut names: Vec<String> =
            ["cpu", "memory", "pods", "ephemeral-storage"].map(str::to_owned).into();
        names.extend(
            extra
                .into_iter()
                .filter(|it| !["cpu", "memory", "pods", "ephemeral-storage"].contains(it))
                .map(str::to_owned),
        );
        Self(names)
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn vector(&self, amounts: &Amounts) -> Vector {
        self.0.iter().map(|it| amounts.amount(it)).collect()
    }

    pub(crate) fn amounts(&self, vector: &[i64]) -> Amounts {
        let mut amounts = Amounts::default();
        for (name, amount) in self.0.iter().zip(vector) {
            if *amount != 0 {
                amounts.set(name, *amount);
            }
        }
        amounts
    }
}
