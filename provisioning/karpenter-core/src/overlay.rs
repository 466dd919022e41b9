//! NodeOverlays: other prices and more resources of instance types than their cloud tells.
//!
//! An overlay is for the offerings whose labels, and those of their NodePool's template, its
//! requirements accept. The heaviest that says something of an offering's price, or of a resource of
//! a type, is the one that counts; equal ones go by their names from the end of the alphabet. One that
//! says what another of its weight has said already takes no effect, on no type of no pool.
//!
//! Upstream: `pkg/controllers/nodeoverlay` and `pkg/apis/v1alpha1` of kubernetes-sigs/karpenter.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use api_kube::karpenter::{NodeOverlay, NodePool, labels};
use resources::Quantity;

use crate::{
    requirement::Requirements,
    validate,
    world::{InstanceType, Offering},
};

/// What nobody but the cloud says.
const OWN: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pods"];

/// Why an overlay takes no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is wrong by itself.
    Faults(Vec<String>),
    /// Another of the same weight says the same.
    Conflict,
}

/// What is said of a price.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    To(f64),
    By(f64),
    Percent(f64),
}

impl Change {
    /// What an overlay says of prices, if it says anything; `Err`: nobody can tell what.
    fn of(overlay: &NodeOverlay) -> Result<Option<Self>, String> {
        let spec = &overlay.spec;
        match (&spec.price, &spec.price_adjustment) {
            (Some(_), Some(_)) => Err("cannot set both 'price' and 'priceAdjustment'".to_owned()),
            (Some(text), None) => match number(text) {
                Some(price) => Ok(Some(Self::To(price))),
                None => Err(format!("price: {text} is no price")),
            },
            (None, Some(text)) => match Self::adjustment(text) {
                Some(change) => Ok(Some(change)),
                None => Err(format!("priceAdjustment: {text} is no adjustment of a price")),
            },
            (None, None) => Ok(None),
        }
    }

    fn adjustment(text: &str) -> Option<Self> {
        let (sign, rest) = match text.split_at_checked(1)? {
            ("+", rest) => (1.0, rest),
            ("-", rest) => (-1.0, rest),
            _ => return None,
        };
        match rest.strip_suffix('%') {
            None => Some(Self::By(sign * number(rest)?)),
            Some(percent) => {
                let percent = number(percent)?;
                (sign > 0.0 || percent <= 100.0).then_some(Self::Percent(sign * percent))
            }
        }
    }

    fn apply(self, price: f64) -> f64 {
        match self {
            Self::To(price) => price,
            Self::By(amount) => (price + amount).max(0.0),
            Self::Percent(percent) => price * (1.0 + percent / 100.0),
        }
    }
}

/// Digits, and a point among them.
fn number(text: &str) -> Option<f64> {
    let is_plain = text.chars().all(|it| it.is_ascii_digit() || it == '.');
    text.parse::<f64>().ok().filter(|it| is_plain && it.is_finite())
}

/// What is wrong with an overlay by itself; nothing where it can be used.
pub fn overlay_faults(overlay: &NodeOverlay) -> Vec<String> {
    let spec = &overlay.spec;
    let mut faults: Vec<String> = Change::of(overlay).err().into_iter().collect();
    for requirement in &spec.requirements {
        if let Some(fault) = validate::overlay_requirement_fault(requirement) {
            let (key, operator) = (&requirement.key, &requirement.operator);
            faults.push(format!("requirement {key} {operator}: {fault}"));
        }
    }
    for (name, amount) in &spec.capacity {
        if OWN.contains(&name.as_str()) {
            faults.push(format!("capacity {name}: invalid resource restricted"));
        } else if amount.0.parse::<Quantity>().is_err() {
            faults.push(format!("capacity {name}: {} is no quantity", amount.0));
        }
    }
    if spec.weight.is_some_and(|it| !(1..=10_000).contains(&it)) {
        faults.push("weight must be 1 to 10000".to_owned());
    }
    faults
}

/// The overlays that take effect, those that count first at the front.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlays(Vec<NodeOverlay>);

/// Who has said something already: by pool and type, of the price of an offering or of a resource.
#[derive(Default)]
struct Said<'a> {
    prices: HashMap<(&'a str, &'a str, usize), i32>,
    resources: HashMap<(&'a str, &'a str, &'a str), i32>,
}

impl Overlays {
    /// Of all overlays those that take effect in these pools with these types, and why the others do
    /// not, by their names.
    pub fn new(
        all: &[NodeOverlay],
        pools: &[(&NodePool, Arc<[InstanceType]>)],
    ) -> (Self, BTreeMap<String, Refusal>) {
        let mut sorted: Vec<&NodeOverlay> = all.iter().collect();
        sorted.sort_by(|a, b| weight(b).cmp(&weight(a)).then_with(|| b.name().cmp(a.name())));
        let mut refused = BTreeMap::new();
        let mut effective = Vec::new();
        let mut said = Said::default();
        for overlay in sorted {
            let faults = overlay_faults(overlay);
            if !faults.is_empty() {
                refused.insert(overlay.name().to_owned(), Refusal::Faults(faults));
            } else if said.add(overlay, pools) {
                effective.push(overlay.clone());
            } else {
                refused.insert(overlay.name().to_owned(), Refusal::Conflict);
            }
        }
        (Self(effective), refused)
    }

    /// A pool's types as they are with the overlays.
    pub fn apply(&self, pool: &NodePool, types: Arc<[InstanceType]>) -> Arc<[InstanceType]> {
        if self.0.is_empty() {
            return types;
        }
        let of_pool = pool_labels(pool);
        let read: Vec<(Requirements, &NodeOverlay)> =
            self.0.iter().map(|it| (Requirements::from_api(&it.spec.requirements), it)).collect();
        types.iter().map(|kind| laid_over(kind, &of_pool, &read)).collect()
    }
}

impl<'a> Said<'a> {
    /// Notes what an overlay says; `false`, and nothing, where that has been said with its weight.
    fn add(
        &mut self,
        overlay: &'a NodeOverlay,
        pools: &'a [(&'a NodePool, Arc<[InstanceType]>)],
    ) -> bool {
        let requirements = Requirements::from_api(&overlay.spec.requirements);
        let weight = weight(overlay);
        let has_price = matches!(Change::of(overlay), Ok(Some(_)));
        let (mut prices, mut resources) = (Vec::new(), Vec::new());
        for (pool, types) in pools {
            let of_pool = pool_labels(pool);
            for kind in types.iter() {
                let places = matched(kind, &of_pool, &requirements);
                if !places.is_empty() {
                    let names = overlay.spec.capacity.keys();
                    resources.extend(names.map(|it| (pool.name(), &*kind.name, it.as_str())));
                }
                if has_price {
                    prices.extend(places.into_iter().map(|at| (pool.name(), &*kind.name, at)));
                }
            }
        }
        let is_said = prices.iter().any(|it| self.prices.get(it) == Some(&weight))
            || resources.iter().any(|it| self.resources.get(it) == Some(&weight));
        if is_said {
            return false;
        }
        // None that comes later is heavier.
        self.prices.extend(prices.into_iter().map(|it| (it, weight)));
        self.resources.extend(resources.into_iter().map(|it| (it, weight)));
        true
    }
}

fn weight(overlay: &NodeOverlay) -> i32 {
    overlay.spec.weight.unwrap_or(0)
}

/// What a pool's nodes are labelled with whatever they become.
fn pool_labels(pool: &NodePool) -> BTreeMap<String, String> {
    let mut all = pool.spec.template.metadata.labels.clone();
    all.insert(labels::NODE_POOL.to_owned(), pool.name().to_owned());
    all
}

fn labels_of(
    kind: &InstanceType,
    offering: &Offering,
    of_pool: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = of_pool.clone();
    let own = kind.labels.iter().chain(&offering.labels);
    all.extend(own.map(|(key, value)| (key.clone(), value.clone())));
    all
}

/// The offerings of a type that an overlay is for.
fn matched(
    kind: &InstanceType,
    of_pool: &BTreeMap<String, String>,
    requirements: &Requirements,
) -> Vec<usize> {
    // Most types are told apart without looking at each offering.
    let is_possible = requirements
        .iter()
        .all(|(key, it)| kind.labels.get(&**key).is_none_or(|value| it.has(value)));
    if !is_possible {
        return Vec::new();
    }
    let offerings = kind.offerings.iter().enumerate();
    let wanted = offerings.filter(|(_, it)| requirements.accept(&labels_of(kind, it, of_pool)));
    wanted.map(|(at, _)| at).collect()
}

fn laid_over(
    kind: &InstanceType,
    of_pool: &BTreeMap<String, String>,
    overlays: &[(Requirements, &NodeOverlay)],
) -> InstanceType {
    let mut kind = kind.clone();
    let mut is_priced = vec![false; kind.offerings.len()];
    let mut amounts: BTreeMap<&str, i64> = BTreeMap::new();
    for (requirements, overlay) in overlays {
        let places = matched(&kind, of_pool, requirements);
        if places.is_empty() {
            continue;
        }
        for (name, amount) in &overlay.spec.capacity {
            let amount = amount.0.parse::<Quantity>().unwrap_or_default().value();
            amounts.entry(name.as_str()).or_insert(amount);
        }
        let Ok(Some(change)) = Change::of(overlay) else { continue };
        for at in places {
            if !std::mem::replace(&mut is_priced[at], true) {
                let offering = &mut kind.offerings[at];
                offering.price = change.apply(offering.price);
                offering.is_overlaid = true;
            }
        }
    }
    for (name, amount) in amounts {
        kind.capacity.set(name, amount);
        kind.allocatable.set(name, amount);
    }
    kind
}

#[cfg(test)]
mod tests;
