//! Netlink messages as bytes: a header, a fixed part, and aligned attributes.
//!
//! Source: Linux `include/uapi/linux/netlink.h` and `rtnetlink.h`. Integers are in host order but
//! for addresses and ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const HEADER_LEN: usize = 16;
/// Set on attributes that hold attributes.
const NESTED: u16 = 0x8000;
/// Without the flags for nesting and byte order.
const KIND_MASK: u16 = 0x3fff;

fn aligned(len: usize) -> usize {
    (len + 3) & !3
}

/// A request under construction.
#[derive(Clone, Debug)]
pub struct Request {
    bytes: Vec<u8>,
}

/// Where a nested attribute began; see [`Request::nest`].
#[derive(Debug)]
#[must_use = "a nest has to be ended"]
pub struct Nest(usize);

impl Request {
    /// A request of `kind` (`RTM_…`) with `flags` (`NLM_F_…`) that begins with `fixed`.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        let mut request = Self { bytes };
        request.raw(fixed);
        request
    }

    /// Appends bytes without an attribute header, padded.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(4 + value.len()).expect("no attribute of ours is 64 KiB long");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
    }

    pub fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// A string with its terminating zero.
    pub fn string(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    pub fn ip(&mut self, kind: u16, value: IpAddr) {
        match value {
            IpAddr::V4(ip) => self.attribute(kind, &ip.octets()),
            IpAddr::V6(ip) => self.attribute(kind, &ip.octets()),
        }
    }

    /// Begins an attribute that holds what is appended until [`Self::end`].
    pub fn nest(&mut self, kind: u16) -> Nest {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0u16.to_ne_bytes());
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        Nest(start)
    }

    pub fn end(&mut self, nest: Nest) {
        let len = u16::try_from(self.bytes.len() - nest.0).expect("no nest of ours is 64 KiB long");
        self.bytes[nest.0..nest.0 + 2].copy_from_slice(&len.to_ne_bytes());
    }

    /// The bytes to send, numbered `sequence`.
    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(self.bytes.len()).expect("no request of ours is 4 GiB long");
        self.bytes[0..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A received message, cut but not interpreted.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// Cuts a datagram into messages; stops at the first that does not fit.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(bytes, 0)? as usize;
        if len < HEADER_LEN || len > bytes.len() {
            return None;
        }
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            payload: &bytes[HEADER_LEN..len],
        };
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in `bytes`, as (kind, value).
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & KIND_MASK;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

pub fn string_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// `AF_INET` or `AF_INET6`.
pub(crate) fn family_of(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

pub(crate) const AF_UNSPEC: u8 = 0;
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut request = Request::new(16, 5, &[7; 6]);
        request.string(3, "eth0");
        let nest = request.nest(18);
        request.u32(1, 42);
        request.end(nest);
        let bytes = request.finish(9);

        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 1);
        let message = all[0];
        assert_eq!((message.kind, message.flags, message.sequence), (16, 5, 9));
        let found: Vec<_> = attributes(&message.payload[8..]).collect();
        assert_eq!(string_of(found[0].1), "eth0");
        assert_eq!(found[1].0, 18);
        let inner: Vec<_> = attributes(found[1].1).collect();
        assert_eq!(u32_at(inner[0].1, 0), Some(42));
    }

    #[test]
    fn cut_messages_and_attributes_end_the_iteration_without_a_panic() {
        let mut request = Request::new(16, 5, &[]);
        request.string(3, "a-long-name");
        let bytes = request.finish(1);
        for len in 0..bytes.len() {
            assert_eq!(messages(&bytes[..len]).count(), 0, "cut at {len}");
        }
        for len in 0..bytes.len() - HEADER_LEN {
            let _ = attributes(&bytes[HEADER_LEN..HEADER_LEN + len]).count();
        }
        assert_eq!(attributes(&[0, 0, 0, 0, 1]).count(), 0, "a length of zero is no attribute");
    }
}
