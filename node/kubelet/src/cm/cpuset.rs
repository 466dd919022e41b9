//! Sets of CPUs, in the kernel's list notation (`0-3,8`).
//!
//! Upstream: `k8s.io/utils/cpuset`.

use std::{collections::BTreeSet, fmt};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuSet(BTreeSet<u32>);

/// Text that is no list of CPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no list of CPUs")]
pub(crate) struct ParseCpuSetError {
    text: String,
}

impl CpuSet {
    pub(crate) fn parse(text: &str) -> Result<Self, ParseCpuSetError> {
        let wrong = || ParseCpuSetError { text: text.to_owned() };
        let mut set = BTreeSet::new();
        if text.trim().is_empty() {
            return Ok(Self(set));
        }
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u32 = first.trim().parse().map_err(|_| wrong())?;
            let last: u32 = last.trim().parse().map_err(|_| wrong())?;
            // More than any kernel numbers; a slip of the pen must not fill the memory.
            if first > last || last > 1 << 16 {
                return Err(wrong());
            }
            set.extend(first..=last);
        }
        Ok(Self(set))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).copied().collect())
    }

    pub(crate) fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    pub(crate) fn is_disjoint(&self, other: &Self) -> bool {
        self.0.is_disjoint(&other.0)
    }

    pub(crate) fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<T: IntoIterator<Item = u32>>(cpus: T) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for cpu in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        for (index, (first, last)) in ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_writes_them() {
        let cases =
            [("0-3,8", "0-3,8"), ("1,0,2", "0-2"), ("", ""), ("5\n", "5"), ("0,2,4", "0,2,4")];
        for (text, written) in cases {
            assert_eq!(CpuSet::parse(text).unwrap().to_string(), written, "{text}");
        }
        for text in ["3-1", "a", "1-", "0-4294967295", "1,,2"] {
            assert!(CpuSet::parse(text).is_err(), "{text}");
        }
    }
}
