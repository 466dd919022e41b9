//! Which ids may be given to pods, in blocks of one length.
//!
//! Upstream: `pkg/kubelet/userns/userns_manager.go`, `getKubeletMappings` in
//! `pkg/kubelet/kubelet_pods.go`.

/// Ids per pod, unless the configuration says otherwise; others are a multiple of it.
pub(super) const UNIT: u32 = 65_536;
/// The first id that the host does not use itself, and all from there on.
const DEFAULT: (u32, u32) = (UNIT, u32::MAX - UNIT + 1);

/// Why a range cannot serve this node's pods.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RangeError {
    #[error("kubelet user namespace length {length} is not a multiple of {UNIT}")]
    Length { length: u32 },
    #[error("kubelet user assigned ID {first} is not a multiple of {length}")]
    First { first: u32, length: u32 },
    #[error("kubelet user assigned ID {first} must be greater or equal to {length}")]
    HostsOwn { first: u32, length: u32 },
    #[error("kubelet user assigned IDs length {count} is not a multiple of {length}")]
    Count { count: u32, length: u32 },
    #[error("kubelet user assigned IDs are not enough to support {pods} pods")]
    TooFew { pods: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub first: u32,
    pub length: u32,
}

impl Block {
    fn end(self) -> u64 {
        u64::from(self.first) + u64::from(self.length)
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        u64::from(self.first) < other.end() && u64::from(other.first) < self.end()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    first: u32,
    length: u32,
    count: u32,
}

impl Range {
    /// `given` is the first id and how many there are, where the host says so.
    pub(super) fn new(
        given: Option<(u32, u32)>,
        length: u32,
        max_pods: i64,
    ) -> Result<Self, RangeError> {
        if length == 0 || !length.is_multiple_of(UNIT) {
            return Err(RangeError::Length { length });
        }
        // Of what is left of all ids only whole blocks can be given.
        let (first, ids) = given.unwrap_or_else(|| {
            let ids = DEFAULT.1 - (length - UNIT);
            (length, ids - ids % length)
        });
        if !first.is_multiple_of(length) {
            return Err(RangeError::First { first, length });
        }
        if first < length {
            return Err(RangeError::HostsOwn { first, length });
        }
        if !ids.is_multiple_of(length) {
            return Err(RangeError::Count { count: ids, length });
        }
        let count = ids / length;
        if i64::from(count) < max_pods {
            return Err(RangeError::TooFew { pods: max_pods });
        }
        Ok(Self { first, length, count })
    }

    pub(super) fn count(self) -> u64 {
        u64::from(self.count)
    }

    /// The first free block at or behind the one with this number, which begins anew after the last.
    pub(super) fn free_from<'a>(
        self,
        start: u64,
        used: impl Iterator<Item = &'a Block> + Clone,
    ) -> Option<Block> {
        let block = |number: u64| {
            let first = u64::from(self.first) + number % self.count() * u64::from(self.length);
            Some(Block { first: u32::try_from(first).ok()?, length: self.length })
        };
        (start..start + self.count())
            .filter_map(block)
            .find(|it| used.clone().all(|other| !it.overlaps(*other)))
    }
}

/// What `getsubids` prints: `0: kubelet 65536 2147483648`.
pub(super) fn parse_subordinate(text: &str) -> Result<(u32, u32), String> {
    let text = text.trim_matches('\n');
    if text.lines().count() != 1 {
        return Err(format!("error parsing line {text:?}: it must contain only one line"));
    }
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [_, _, first, count] = parts[..] else { return Err(format!("invalid line {text:?}")) };
    let number = |it: &str| {
        it.parse::<u32>().map_err(|error| format!("error parsing line {text:?}: {error}"))
    };
    Ok((number(first)?, number(count)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_range_is_all_but_the_hosts_own_ids() {
        let range = Range::new(None, UNIT, 110).unwrap();
        assert_eq!((range.first, range.count), (UNIT, 65_535));
        let last = range.free_from(65_534, [].iter()).unwrap();
        assert_eq!(last.end(), 1 << 32);
        let wide = Range::new(None, 16 * UNIT, 110).unwrap();
        assert_eq!((wide.first, wide.count), (16 * UNIT, 4095));
    }

    #[test]
    fn a_range_that_cannot_serve_is_refused_in_upstreams_words() {
        let why =
            |given, length, pods| Range::new(Some(given), length, pods).unwrap_err().to_string();
        assert_eq!(
            why((UNIT, UNIT * 200), 1000, 110),
            "kubelet user namespace length 1000 is not a multiple of 65536"
        );
        assert_eq!(
            why((100_000, UNIT * 200), UNIT, 110),
            "kubelet user assigned ID 100000 is not a multiple of 65536"
        );
        assert_eq!(
            why((0, UNIT * 200), UNIT, 110),
            "kubelet user assigned ID 0 must be greater or equal to 65536"
        );
        assert_eq!(
            why((UNIT, UNIT * 200 + 1), UNIT, 110),
            "kubelet user assigned IDs length 13107201 is not a multiple of 65536"
        );
        assert_eq!(
            why((UNIT, UNIT * 109), UNIT, 110),
            "kubelet user assigned IDs are not enough to support 110 pods"
        );
        assert!(Range::new(Some((UNIT, UNIT * 110)), UNIT, 110).is_ok());
    }

    #[test]
    fn blocks_are_given_round_the_end_until_none_is_left() {
        let range = Range::new(Some((UNIT, UNIT * 3)), UNIT, 3).unwrap();
        let mut used = Vec::new();
        for expected in [3, 1, 2] {
            let block = range.free_from(2, used.iter()).unwrap();
            assert_eq!(block.first, UNIT * expected);
            used.push(block);
        }
        assert_eq!(range.free_from(2, used.iter()), None);
        // One of another length, from before the configuration was changed, counts too.
        let old = [Block { first: UNIT, length: UNIT * 2 }];
        assert_eq!(range.free_from(0, old.iter()).unwrap().first, UNIT * 3);
    }

    #[test]
    fn the_tools_answer_is_one_line_of_four_words() {
        assert_eq!(parse_subordinate("0: kubelet 65536 2147483648\n"), Ok((65_536, 1 << 31)));
        assert_eq!(
            parse_subordinate("0: kubelet 1\n").unwrap_err(),
            "invalid line \"0: kubelet 1\""
        );
        let two = parse_subordinate("0: kubelet 1 2\n1: kubelet 3 4").unwrap_err();
        assert!(two.ends_with("it must contain only one line"), "{two}");
    }
}
