//! The NUMA nodes of the machine, and how far they are from each other.
//!
//! Upstream: `pkg/kubelet/cm/topologymanager/numa_info.go`.

use std::collections::BTreeMap;

use super::hint::NumaMask;
use crate::cm::topology::Topology;

#[derive(Clone, Debug, Default)]
pub(crate) struct Numa {
    distances: BTreeMap<u32, Vec<u64>>,
}

impl Numa {
    pub(crate) fn of(topology: &Topology) -> Self {
        let nodes = topology.nodes.iter();
        Self { distances: nodes.map(|(id, it)| (*id, it.distances.clone())).collect() }
    }

    pub(crate) fn count(&self) -> usize {
        self.distances.len()
    }

    pub(super) fn all(&self) -> NumaMask {
        NumaMask::of(self.distances.keys().copied())
    }

    /// Whether the nodes of `a` are nearer to each other on the average; the narrower where they are
    /// not.
    pub(super) fn is_closer(&self, a: NumaMask, b: NumaMask) -> bool {
        if a.count() != b.count() {
            return a.count() < b.count();
        }
        let (a_far, b_far) = (self.average(a), self.average(b));
        if (a_far - b_far).abs() < f64::EPSILON { a.is_narrower_than(b) } else { a_far < b_far }
    }

    fn average(&self, mask: NumaMask) -> f64 {
        let nodes = mask.nodes();
        let order: Vec<_> = self.distances.keys().copied().collect();
        let (mut sum, mut count) = (0_u64, 0_u32);
        for from in &nodes {
            for to in &nodes {
                let index = order.iter().position(|it| it == to);
                let distance = self.distances.get(from).zip(index).and_then(|(it, at)| it.get(at));
                sum += distance.copied().unwrap_or(0);
                count += 1;
            }
        }
        f64::from(u32::try_from(sum).unwrap_or(u32::MAX)) / f64::from(count.max(1))
    }
}
