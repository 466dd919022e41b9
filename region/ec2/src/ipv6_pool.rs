//! IPv6 blocks and addresses: what the region gives to VPCs, and what a subnet gives to interfaces.
//!
//! The first four addresses of a subnet and the last one are reserved. Others are drawn at random,
//! as EC2 draws them; a `/80` prefix is drawn where no address is, and addresses where no prefix is.
//!
//! **Invariant:** nothing here is remembered; what is taken follows from the records alone.
//!
//! Deviation: Amazon's blocks come from the documentation range of RFC 3849 (2001:db8::/32), so that
//! they never are someone's.

use std::{collections::BTreeSet, net::Ipv6Addr};

use aws_wire::Fault;
use ipnet::Ipv6Net;

use crate::{faults, records::Subnet, state::State};

/// What blocks of VPCs are taken of.
const REGION: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32);
/// The length of a VPC's block that Amazon provides.
const VPC_LEN: u8 = 56;
/// The length of a prefix that an interface gets.
pub(crate) const PREFIX_LEN: u8 = 80;
/// The most draws before a subnet counts as full; only one of a few addresses ever gets there.
const DRAWS: usize = 4096;

/// A block for a VPC that no other one has.
pub(crate) fn block_for_vpc(state: &State) -> Result<Ipv6Net, Fault> {
    let taken: BTreeSet<Ipv6Net> =
        state.vpcs.iter().flat_map(|it| &it.ipv6_cidrs).map(|it| it.cidr).collect();
    let drawn = (0..DRAWS).map(|_| inside(REGION, VPC_LEN)).find(|it| !taken.contains(it));
    drawn.ok_or_else(|| faults::invalid("The region has no free IPv6 CIDR block."))
}

/// A random block of `len` bits inside of `net`.
fn inside(net: Ipv6Net, len: u8) -> Ipv6Net {
    let random = u128::from_be_bytes(entropy::bytes());
    let host = u128::MAX.checked_shr(net.prefix_len().into()).unwrap_or(0);
    let address = Ipv6Addr::from(u128::from(net.network()) | (random & host));
    Ipv6Net::new_assert(address, len).trunc()
}

/// The addresses of one subnet during one call.
#[derive(Debug)]
pub(crate) struct Ipv6Pool {
    cidr: Ipv6Net,
    addresses: BTreeSet<Ipv6Addr>,
    prefixes: BTreeSet<Ipv6Net>,
}

impl Ipv6Pool {
    /// A fault where the subnet has no IPv6 block.
    pub(crate) fn of(state: &State, subnet: &Subnet) -> Result<Self, Fault> {
        let Some(block) = &subnet.ipv6_cidr else {
            return Err(faults::invalid(format!(
                "The subnet '{}' does not have an IPv6 CIDR block.",
                subnet.id
            )));
        };
        let interfaces = || state.network_interfaces.iter().filter(|it| it.subnet_id == subnet.id);
        Ok(Self {
            cidr: block.cidr,
            addresses: interfaces().flat_map(|it| it.ipv6_addresses.iter().copied()).collect(),
            prefixes: interfaces().flat_map(|it| it.ipv6_prefixes.iter().copied()).collect(),
        })
    }

    fn is_reserved(&self, address: Ipv6Addr) -> bool {
        let (first, last) = (u128::from(self.cidr.network()), u128::from(self.cidr.broadcast()));
        let number = u128::from(address);
        number < first + 4 || number == last
    }

    fn is_taken(&self, address: Ipv6Addr) -> bool {
        self.addresses.contains(&address) || self.prefixes.iter().any(|it| it.contains(&address))
    }

    /// Takes an address.
    pub(crate) fn take(&mut self) -> Result<Ipv6Addr, Fault> {
        let is_free = |it: &Ipv6Addr| !self.is_reserved(*it) && !self.is_taken(*it);
        let drawn = (0..DRAWS).map(|_| inside(self.cidr, 128).addr()).find(is_free);
        let address = drawn.ok_or_else(exhausted)?;
        self.addresses.insert(address);
        Ok(address)
    }

    /// Takes this very address.
    pub(crate) fn take_address(&mut self, address: Ipv6Addr) -> Result<(), Fault> {
        if !self.cidr.contains(&address) {
            return Err(faults::invalid(format!(
                "Address {address} does not fall within the subnet's address range"
            )));
        }
        if self.is_reserved(address) {
            return Err(faults::invalid(format!(
                "Address {address} is in subnet's reserved address range"
            )));
        }
        if self.is_taken(address) {
            return Err(in_use(address));
        }
        self.addresses.insert(address);
        Ok(())
    }

    /// Takes a `/80`.
    pub(crate) fn take_prefix(&mut self) -> Result<Ipv6Net, Fault> {
        let drawn = (0..DRAWS).map(|_| inside(self.cidr, PREFIX_LEN));
        let prefix = drawn.into_iter().find(|it| self.has_room_for(it)).ok_or_else(|| {
            Fault::new(
                "InsufficientCidrBlocks",
                "The specified subnet does not have enough free cidr blocks to satisfy the request.",
            )
        })?;
        self.prefixes.insert(prefix);
        Ok(prefix)
    }

    /// Takes this very `/80`.
    pub(crate) fn take_this_prefix(&mut self, prefix: Ipv6Net) -> Result<(), Fault> {
        let is_block = prefix.prefix_len() == PREFIX_LEN && prefix.trunc() == prefix;
        if !is_block || !self.cidr.contains(&prefix) {
            return Err(faults::invalid_value("ipv6Prefix", prefix));
        }
        if !self.has_room_for(&prefix) {
            return Err(in_use(prefix));
        }
        self.prefixes.insert(prefix);
        Ok(())
    }

    /// Nobody has an address of it, and neither end of the subnet is in it.
    fn has_room_for(&self, prefix: &Ipv6Net) -> bool {
        let is_end =
            prefix.contains(&self.cidr.network()) || prefix.contains(&self.cidr.broadcast());
        !is_end
            && !self.prefixes.contains(prefix)
            && !self.addresses.iter().any(|it| prefix.contains(it))
    }
}

fn exhausted() -> Fault {
    Fault::new(
        "InsufficientFreeAddressesInSubnet",
        "The specified subnet does not have enough free addresses to satisfy the request.",
    )
}

fn in_use(what: impl std::fmt::Display) -> Fault {
    Fault::new("InvalidIPAddress.InUse", format!("Address {what} is in use."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Ipv6CidrAssociation;

    fn pool(cidr: &str) -> Ipv6Pool {
        let block = Ipv6CidrAssociation { id: String::new(), cidr: cidr.parse().unwrap() };
        let subnet = Subnet { ipv6_cidr: Some(block), ..Subnet::default() };
        Ipv6Pool::of(&State::default(), &subnet).unwrap()
    }

    #[test]
    fn addresses_and_prefixes_never_overlap_and_leave_the_ends_alone() {
        let mut pool = pool("2001:db8:0:1::/64");
        let prefix = pool.take_prefix().unwrap();
        let inside = Ipv6Addr::from(u128::from(prefix.network()) + 9);
        assert_eq!(pool.take_address(inside).unwrap_err().code, "InvalidIPAddress.InUse");
        let address = pool.take().unwrap();
        assert!(!prefix.contains(&address));
        let around = Ipv6Net::new_assert(address, PREFIX_LEN).trunc();
        assert_eq!(pool.take_this_prefix(around).unwrap_err().code, "InvalidIPAddress.InUse");
        for reserved in ["2001:db8:0:1::", "2001:db8:0:1::3", "2001:db8:0:1:ffff:ffff:ffff:ffff"] {
            assert!(pool.take_address(reserved.parse().unwrap()).is_err(), "{reserved}");
        }
        assert!(pool.take_this_prefix("2001:db8:0:1::/80".parse().unwrap()).is_err());
        assert!(pool.take_this_prefix("2001:db8:0:1:1::/96".parse().unwrap()).is_err());
        assert!(pool.take_this_prefix("2001:db8:0:2:1::/80".parse().unwrap()).is_err());
    }

    #[test]
    fn a_subnet_without_a_block_gives_nothing() {
        let fault = Ipv6Pool::of(&State::default(), &Subnet::default()).unwrap_err();
        assert_eq!(fault.code, "InvalidParameterValue");
    }
}
