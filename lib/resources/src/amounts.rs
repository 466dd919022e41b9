//! Amounts of resources as integers, for adding and comparing.
//!
//! CPU is in thousandths, all else in units (bytes, pods, devices), each rounded up once, as
//! upstream's scheduler does in `framework.Resource`. The four resources that every pod and node
//! has are plain fields, so that adding up thousands of pods touches no map.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::api::resource::Quantity as ApiQuantity};

use crate::{Format, Quantity};

/// How much of each resource. Missing means none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu_millis: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    pub pods: i64,
    /// Extended resources, huge pages, attachable volumes.
    pub scalars: BTreeMap<String, i64>,
}

impl Amounts {
    /// Reads an API resource list. Quantities that cannot be read count as zero: the API server
    /// has refused them before.
    pub fn from_list(list: Option<&BTreeMap<String, ApiQuantity>>) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            let quantity = Quantity::try_from(quantity).unwrap_or_default();
            let amount = if name == "cpu" { quantity.millis() } else { quantity.value() };
            amounts.set(name, amount);
        }
        amounts
    }

    /// Writes an API resource list without what is zero.
    pub fn to_list(&self) -> BTreeMap<String, ApiQuantity> {
        let mut list = BTreeMap::new();
        let mut put = |name: &str, quantity: Quantity| {
            if !quantity.is_zero() {
                list.insert(name.to_owned(), quantity.into());
            }
        };
        put("cpu", Quantity::from_millis(self.cpu_millis));
        put("memory", Quantity::new(self.memory, Format::BinarySi));
        put("ephemeral-storage", Quantity::new(self.ephemeral_storage, Format::BinarySi));
        put("pods", Quantity::new(self.pods, Format::DecimalSi));
        for (name, amount) in &self.scalars {
            put(name, Quantity::new(*amount, Format::DecimalSi));
        }
        list
    }

    /// The amount of `name`, in thousandths for `cpu`.
    pub fn amount(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu_millis,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            "pods" => self.pods,
            _ => self.scalars.get(name).copied().unwrap_or(0),
        }
    }

    pub fn set(&mut self, name: &str, amount: i64) {
        match name {
            "cpu" => self.cpu_millis = amount,
            "memory" => self.memory = amount,
            "ephemeral-storage" => self.ephemeral_storage = amount,
            "pods" => self.pods = amount,
            _ => drop(self.scalars.insert(name.to_owned(), amount)),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    /// Keeps the larger of each.
    pub fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.cpu_millis = with(self.cpu_millis, other.cpu_millis);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        self.pods = with(self.pods, other.pods);
        for (name, amount) in &other.scalars {
            let mine = self.scalars.get(name).copied().unwrap_or(0);
            self.scalars.insert(name.clone(), with(mine, *amount));
        }
    }
}

/// What pods may use of a node; its capacity where the node says nothing else.
pub fn node_allocatable(node: &Node) -> Amounts {
    let status = node.status.as_ref();
    match status.and_then(|it| it.allocatable.as_ref()) {
        Some(list) => Amounts::from_list(Some(list)),
        None => node_capacity(node),
    }
}

pub fn node_capacity(node: &Node) -> Amounts {
    Amounts::from_list(node.status.as_ref().and_then(|it| it.capacity.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(pairs: &[(&str, &str)]) -> BTreeMap<String, ApiQuantity> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), ApiQuantity((*v).to_owned()))).collect()
    }

    #[test]
    fn a_list_survives_the_round_trip() {
        let before = list(&[("cpu", "1930m"), ("memory", "7Gi"), ("nvidia.com/gpu", "2")]);
        assert_eq!(Amounts::from_list(Some(&before)).to_list(), before);
    }

    #[test]
    fn amounts_add_subtract_and_raise_by_resource() {
        let mut a = Amounts::from_list(Some(&list(&[("cpu", "1"), ("example.com/x", "1")])));
        let b = Amounts::from_list(Some(&list(&[("cpu", "500m"), ("memory", "1Ki")])));
        a.add(&b);
        assert_eq!((a.cpu_millis, a.memory, a.amount("example.com/x")), (1500, 1024, 1));
        a.subtract(&b);
        assert_eq!((a.cpu_millis, a.memory), (1000, 0));
        a.raise_to(&b);
        assert_eq!((a.cpu_millis, a.memory), (1000, 1024));
    }
}
