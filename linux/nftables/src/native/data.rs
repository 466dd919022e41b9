//! Keys and values of sets as bytes.
//!
//! Source: nft(8), data types; Linux `nf_tables.h`: a concatenation's parts are padded to four
//! bytes. Addresses and ports are in network order, other numbers in the host's.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::Set;

/// One part of a key or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    /// What `numgen` gives.
    Number,
}

/// What a set's elements are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) key: Vec<Part>,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A set, not a map.
    Nothing,
    Verdict,
    Data(Vec<Part>),
}

/// A verdict as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict<'a> {
    pub(super) code: i32,
    pub(super) chain: Option<&'a str>,
}

impl Layout {
    /// `None`: it has a type that is not spoken here, or elements that are ranges.
    pub(super) fn of(set: &Set) -> Option<Self> {
        if set.flags.iter().any(|flag| !matches!(*flag, "dynamic" | "timeout")) {
            return None;
        }
        let value = match set.value.as_deref() {
            None => Value::Nothing,
            Some("verdict") => Value::Verdict,
            Some(value) => Value::Data(parts(value)?),
        };
        let key = set.key.strip_prefix("type ").or_else(|| set.key.strip_prefix("typeof "))?;
        Some(Self { key: parts(key)?, value })
    }
}

fn parts(text: &str) -> Option<Vec<Part>> {
    text.split(" . ")
        .map(|part| match part.trim() {
            "ipv4_addr" | "ip daddr" | "ip saddr" => Some(Part::Ipv4),
            "ipv6_addr" | "ip6 daddr" | "ip6 saddr" => Some(Part::Ipv6),
            "inet_proto" | "meta l4proto" => Some(Part::Protocol),
            "inet_service" | "tcp dport" | "udp dport" | "sctp dport" | "th dport" => {
                Some(Part::Port)
            }
            number if number.starts_with("numgen random mod ") => Some(Part::Number),
            _ => None,
        })
        .collect()
}

/// `10.0.0.1 . tcp . 80` as bytes.
pub(super) fn encode(text: &str, layout: &[Part]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4 * layout.len());
    let mut parts = text.split(" . ");
    for part in layout {
        append(parts.next()?.trim(), *part, &mut bytes)?;
        if layout.len() > 1 {
            bytes.resize((bytes.len() + 3) & !3, 0);
        }
    }
    parts.next().is_none().then_some(bytes)
}

fn append(text: &str, part: Part, bytes: &mut Vec<u8>) -> Option<()> {
    match part {
        Part::Ipv4 => bytes.extend_from_slice(&text.parse::<Ipv4Addr>().ok()?.octets()),
        Part::Ipv6 => bytes.extend_from_slice(&text.parse::<Ipv6Addr>().ok()?.octets()),
        Part::Protocol => bytes.push(protocol(text)?),
        Part::Port => bytes.extend_from_slice(&text.parse::<u16>().ok()?.to_be_bytes()),
        Part::Number => bytes.extend_from_slice(&text.parse::<u32>().ok()?.to_ne_bytes()),
    }
    Some(())
}

fn protocol(name: &str) -> Option<u8> {
    match name {
        "tcp" => Some(6),
        "udp" => Some(17),
        "sctp" => Some(132),
        number => number.parse().ok(),
    }
}

/// `goto web`, `drop`
pub(super) fn verdict(text: &str) -> Option<Verdict<'_>> {
    let (word, chain) = match text.split_once(' ') {
        Some((word, chain)) => (word, Some(chain.trim())),
        None => (text, None),
    };
    let code = match (word, chain) {
        ("drop", None) => 0,
        ("accept", None) => 1,
        ("continue", None) => -1,
        ("jump", Some(_)) => -3,
        ("goto", Some(_)) => -4,
        ("return", None) => -5,
        _ => return None,
    };
    Some(Verdict { code, chain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_concatenation_are_padded_and_a_single_one_is_not() {
        let service = parts("ipv4_addr . inet_proto . inet_service").unwrap();
        assert_eq!(
            encode("10.0.0.1 . tcp . 80", &service).unwrap(),
            [10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0]
        );
        assert_eq!(encode("80", &[Part::Port]).unwrap(), [0, 80]);
        assert_eq!(encode("7", &[Part::Number]).unwrap(), 7u32.to_ne_bytes());
        assert_eq!(encode("fd00::1", &[Part::Ipv6]).unwrap().len(), 16);
    }

    #[test]
    fn what_is_not_spoken_is_left_to_nft() {
        assert_eq!(encode("10.0.0.1", &[Part::Ipv4, Part::Port]), None);
        assert_eq!(encode("10.0.0.1 . 80 . 1", &[Part::Ipv4, Part::Port]), None);
        assert_eq!(encode("10.0.0.0/8", &[Part::Ipv4]), None);
        assert_eq!(encode("http", &[Part::Port]), None);
        assert_eq!(Layout::of(&Set::of("ipv4_addr").flag("interval")), None);
        assert_eq!(Layout::of(&Set::map("ifname", "verdict")), None);
        assert_eq!(verdict("queue"), None);
        assert_eq!(verdict("goto web"), Some(Verdict { code: -4, chain: Some("web") }));
    }
}
