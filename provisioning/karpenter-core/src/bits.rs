//! Sets of small numbers.

/// See the module. Sets that meet have the same length.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Bits(Box<[u64]>);

impl Bits {
    pub(crate) fn none(length: usize) -> Self {
        Self(vec![0; length.div_ceil(64)].into_boxed_slice())
    }

    pub(crate) fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub(crate) fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// Keeps what is in both; whether anything is.
    pub(crate) fn keep(&mut self, other: &Self) -> bool {
        let mut any = 0;
        for (mine, other) in self.0.iter_mut().zip(&other.0) {
            *mine &= other;
            any |= *mine;
        }
        any != 0
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, other) in self.0.iter_mut().zip(&other.0) {
            *mine |= other;
        }
    }

    pub(crate) fn remove(&mut self, other: &Self) {
        for (mine, other) in self.0.iter_mut().zip(&other.0) {
            *mine &= !other;
        }
    }

    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|it| *it == 0)
    }

    pub(crate) fn first(&self) -> Option<usize> {
        let at = self.0.iter().position(|it| *it != 0)?;
        Some(at * 64 + self.0[at].trailing_zeros() as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                if word == 0 {
                    return None;
                }
                let bit = word.trailing_zeros() as usize;
                word &= word - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

/// A set that grows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(Vec<u64>);

impl Marks {
    pub(crate) fn set(&mut self, at: usize) {
        if self.0.len() <= at / 64 {
            self.0.resize(at / 64 + 1, 0);
        }
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub(crate) fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// The first from `at` on, below `until`, that is in neither set: many that are go by at once.
    pub(crate) fn next_free(&self, other: &Self, at: usize, until: usize) -> Option<usize> {
        let mut word = at / 64;
        let mut skip = u64::MAX << (at % 64);
        while word * 64 < until {
            let of = |it: &Self| it.0.get(word).copied().unwrap_or(0);
            let free = !(of(self) | of(other)) & skip;
            if free != 0 {
                let found = word * 64 + free.trailing_zeros() as usize;
                return (found < until).then_some(found);
            }
            (word, skip) = (word + 1, u64::MAX);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        let (mut a, mut b) = (Bits::none(130), Bits::none(130));
        for it in [0, 64, 129] {
            a.set(it);
        }
        b.set(129);
        assert_eq!(a.iter().collect::<Vec<_>>(), [0, 64, 129]);
        assert_eq!((a.first(), a.meets(&b)), (Some(0), true));
        assert!(a.keep(&b));
        assert_eq!(a, b);
        assert!(!a.keep(&Bits::none(130)) && a.is_empty());
    }

    #[test]
    fn marks_grow() {
        let mut marks = Marks::default();
        marks.set(1000);
        assert!(marks.has(1000) && !marks.has(999) && !marks.has(5000));
    }

    #[test]
    fn what_is_in_neither_set_is_found_in_order() {
        let (mut a, mut b) = (Marks::default(), Marks::default());
        (0..70).filter(|it| it % 3 == 0).for_each(|it| a.set(it));
        (0..150).filter(|it| it % 3 == 1).for_each(|it| b.set(it));
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(next) = a.next_free(&b, at, 140) {
            found.push(next);
            at = next + 1;
        }
        let wanted: Vec<usize> = (0..140).filter(|it| !a.has(*it) && !b.has(*it)).collect();
        assert_eq!(found, wanted);
    }
}
