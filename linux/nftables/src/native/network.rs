//! An address, or a network in CIDR notation, as bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) address: Vec<u8>,
    prefix: usize,
}

impl Network {
    pub(super) fn parse(text: &str, is_ipv4: bool) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<usize>().ok()?)),
            None => (text, None),
        };
        let address = match is_ipv4 {
            true => address.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
            false => address.parse::<Ipv6Addr>().ok()?.octets().to_vec(),
        };
        let bits = address.len() * 8;
        let prefix = prefix.unwrap_or(bits);
        if prefix == 0 || prefix > bits {
            return None;
        }
        let mut network = Self { address, prefix };
        if let Some(mask) = network.mask() {
            network.address.iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
        }
        Some(network)
    }

    /// `None` for one address.
    pub(super) fn mask(&self) -> Option<Vec<u8>> {
        let bits = self.address.len() * 8;
        let ones = |byte: usize| self.prefix.saturating_sub(byte * 8).min(8);
        let mask = |byte: usize| u8::try_from(0xff00_u16 >> ones(byte) & 0xff).unwrap_or(0xff);
        (self.prefix < bits).then(|| (0..self.address.len()).map(mask).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_as_many_ones_as_the_prefix_says() {
        let mask = |text| Network::parse(text, true).unwrap().mask();
        assert_eq!(mask("10.0.0.0/8"), Some(vec![255, 0, 0, 0]));
        assert_eq!(mask("10.0.0.0/20"), Some(vec![255, 255, 240, 0]));
        assert_eq!(mask("10.0.0.1/32"), None);
        assert_eq!(Network::parse("10.1.2.3/8", true).unwrap().address, [10, 0, 0, 0]);
        assert_eq!(Network::parse("10.0.0.0/33", true), None);
    }
}
