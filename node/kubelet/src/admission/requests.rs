//! What a pod asks of the node, of every resource.
//!
//! The larger of the containers' sum and the largest init step, with sidecars counted on both sides;
//! what the pod asks as a whole wins over both; the overhead comes on top.
//!
//! Upstream: `PodRequests` in `component-helpers/resource/helpers.go`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    pod::{Kind, PodExt, init_kind},
    quantity,
};

/// Amounts by name: CPU in thousandths, everything else in whole units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests(BTreeMap<String, i64>);

impl Requests {
    pub(crate) fn of(pod: &Pod) -> Self {
        let spec = PodExt::spec(pod);
        let (mut sidecars, mut largest_init) = (Self::default(), Self::default());
        for container in spec.init_containers.iter().flatten() {
            let own = Self::of_container(container);
            if init_kind(container) == Kind::Sidecar {
                sidecars = sidecars.plus(&own);
                largest_init = largest_init.max(&sidecars);
            } else {
                largest_init = largest_init.max(&sidecars.plus(&own));
            }
        }
        let regular = spec.containers.iter().map(Self::of_container);
        let mut all = regular.fold(sidecars, |sum, it| sum.plus(&it)).max(&largest_init);
        if let Some(whole) = &spec.resources {
            let is_podwide =
                |it: &str| matches!(it, "cpu" | "memory") || it.starts_with("hugepages-");
            let whole = Self::read(whole).0.into_iter().filter(|(name, _)| is_podwide(name));
            all.0.extend(whole);
        }
        all.plus(&Self::amounts(spec.overhead.iter().flatten()))
    }

    fn of_container(container: &Container) -> Self {
        container.resources.as_ref().map(Self::read).unwrap_or_default()
    }

    /// A limit without a request is the request, as the API server defaults it.
    fn read(resources: &ResourceRequirements) -> Self {
        let mut all = Self::amounts(resources.limits.iter().flatten());
        all.0.extend(Self::amounts(resources.requests.iter().flatten()).0);
        all
    }

    fn amounts<'a>(list: impl Iterator<Item = (&'a String, &'a Quantity)>) -> Self {
        let amount = |(name, quantity): (&String, &Quantity)| {
            let read = if name == "cpu" { quantity::milli } else { quantity::value };
            Some((name.clone(), read(quantity)?))
        };
        Self(list.filter_map(amount).collect())
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        self.merged(other, i64::saturating_add)
    }

    fn max(&self, other: &Self) -> Self {
        self.merged(other, i64::max)
    }

    fn merged(&self, other: &Self, merge: impl Fn(i64, i64) -> i64) -> Self {
        let mut all = self.0.clone();
        for (name, amount) in &other.0 {
            let known = all.entry(name.clone()).or_default();
            *known = merge(*known, *amount);
        }
        Self(all)
    }

    pub(crate) fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// CPU, memory, storage, and then the others.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (&str, i64)> {
        const FIRST: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
        let first = FIRST.into_iter().filter_map(|name| Some((name, *self.0.get(name)?)));
        let others = self.0.iter().map(|(name, amount)| (name.as_str(), *amount));
        first.chain(others.filter(|(name, _)| !FIRST.contains(name)))
    }
}
