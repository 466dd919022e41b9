//! CIDRs with exceptions as ranges of addresses that do not overlap.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// All addresses from the first to the last, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    is_ipv6: bool,
    first: u128,
    last: u128,
}

impl Range {
    /// Of `10.0.0.0/8` or `10.0.0.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let net: IpNet = match text.parse::<IpAddr>() {
            Ok(address) => address.into(),
            Err(_) => text.parse().ok()?,
        };
        let (first, last) = (number(net.network()), number(net.broadcast()));
        Some(Self { is_ipv6: net.addr().is_ipv6(), first, last })
    }

    pub fn is_ipv6(&self) -> bool {
        self.is_ipv6
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        self.is_ipv6 == address.is_ipv6() && (self.first..=self.last).contains(&number)
    }

    /// What is left of it without `hole`.
    fn without(self, hole: &Self) -> Vec<Self> {
        if hole.is_ipv6 != self.is_ipv6 || hole.first > self.last || hole.last < self.first {
            return vec![self];
        }
        let mut left = Vec::new();
        if hole.first > self.first {
            left.push(Self { last: hole.first - 1, ..self });
        }
        if hole.last < self.last {
            left.push(Self { first: hole.last + 1, ..self });
        }
        left
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.is_ipv6 {
            return Ipv6Addr::from_bits(number).into();
        }
        Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into()
    }
}

/// As nft writes it: `10.0.0.1`, or `10.0.0.1-10.0.0.9`.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address(self.first))?;
        if self.first != self.last {
            write!(f, "-{}", self.address(self.last))?;
        }
        Ok(())
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(it) => it.to_bits().into(),
        IpAddr::V6(it) => it.to_bits(),
    }
}

/// Ranges in order, none of which overlaps another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    /// The union of CIDRs, each without its exceptions. What cannot be read covers nothing.
    pub fn of<'a>(blocks: impl Iterator<Item = (&'a str, &'a [String])>) -> Self {
        let mut all = Vec::new();
        for (cidr, except) in blocks {
            let mut left: Vec<Range> = Range::parse(cidr).into_iter().collect();
            for hole in except.iter().filter_map(|it| Range::parse(it)) {
                left = left.into_iter().flat_map(|it| it.without(&hole)).collect();
            }
            all.extend(left);
        }
        all.sort();
        let mut merged: Vec<Range> = Vec::new();
        for range in all {
            match merged.last_mut() {
                // Those that only touch stay apart, so that one may come or go by itself.
                Some(last) if last.is_ipv6 == range.is_ipv6 && range.first <= last.last => {
                    last.last = last.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Range> {
        self.0.iter()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|it| it.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(blocks: &[(&str, &[&str])]) -> Vec<String> {
        let owned: Vec<(&str, Vec<String>)> = blocks
            .iter()
            .map(|(cidr, except)| (*cidr, except.iter().map(|it| (*it).to_owned()).collect()))
            .collect();
        let ranges = Ranges::of(owned.iter().map(|(cidr, except)| (*cidr, except.as_slice())));
        ranges.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn exceptions_are_cut_out_and_other_blocks_fill_them_again() {
        assert_eq!(
            text(&[("10.0.0.0/24", &["10.0.0.0/26", "10.0.0.255/32"])]),
            ["10.0.0.64-10.0.0.254"]
        );
        assert_eq!(
            text(&[("10.0.0.0/24", &["10.0.0.128/25"]), ("10.0.0.200", &[])]),
            ["10.0.0.0-10.0.0.127", "10.0.0.200"]
        );
        assert_eq!(text(&[("10.0.0.0/24", &["10.0.0.0/8"])]), [""; 0]);
    }

    #[test]
    fn what_overlaps_is_one_range_and_families_stay_apart() {
        assert_eq!(
            text(&[("::/0", &[]), ("0.0.0.0/0", &[]), ("10.0.0.0/8", &[]), ("nonsense", &[])]),
            ["0.0.0.0-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
        );
        assert_eq!(text(&[("10.0.0.1", &[]), ("10.0.0.2", &[])]), ["10.0.0.1", "10.0.0.2"]);
    }
}
