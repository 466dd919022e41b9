//! On which NUMA nodes a resource can be had.

/// A set of NUMA nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NumaMask(u64);

impl NumaMask {
    pub(crate) fn of(nodes: impl IntoIterator<Item = u32>) -> Self {
        Self(nodes.into_iter().filter(|it| *it < 64).fold(0, |mask, node| mask | 1 << node))
    }

    pub(crate) fn count(self) -> u32 {
        self.0.count_ones()
    }

    pub(crate) fn contains(self, node: u32) -> bool {
        node < 64 && self.0 >> node & 1 == 1
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn is_subset(self, of: Self) -> bool {
        self.0 & of.0 == self.0
    }

    pub(crate) fn nodes(self) -> Vec<u32> {
        (0..64).filter(|it| self.contains(*it)).collect()
    }

    /// Fewer nodes, or as many with lower numbers.
    pub(crate) fn is_narrower_than(self, other: Self) -> bool {
        (self.count(), self.0) < (other.count(), other.0)
    }

    /// All sets of one, two, … of these nodes.
    pub(crate) fn all_of(nodes: &[u32]) -> Vec<Self> {
        (1..=nodes.len())
            .flat_map(|size| combinations(nodes, size))
            .map(|it| Self::of(it.iter().copied()))
            .collect()
    }
}

/// All choices of `size` of `items`, in order.
pub(crate) fn combinations(items: &[u32], size: usize) -> Vec<Vec<u32>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, first) in items.iter().enumerate() {
        for mut rest in combinations(&items[index + 1..], size - 1) {
            rest.insert(0, *first);
            all.push(rest);
        }
    }
    all
}

/// `None` as affinity: any node will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub affinity: Option<NumaMask>,
    pub is_preferred: bool,
}

/// What one provider says of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The resource has no topology.
    Indifferent,
    /// One of these; none of them when the list is empty.
    OneOf(Vec<Hint>),
}

/// Marks the narrowest possible hints as preferred.
pub(crate) fn prefer(masks: Vec<NumaMask>, least: u32) -> Vec<Hint> {
    masks
        .into_iter()
        .map(|it| Hint { affinity: Some(it), is_preferred: it.count() == least })
        .collect()
}
