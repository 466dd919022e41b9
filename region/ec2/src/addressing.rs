//! Which addresses of a subnet are taken, and which comes next.
//!
//! Five addresses of each subnet are reserved: the network's, `.1` (router), `.2` (DNS), `.3`
//! (future use) and the last. What is left is exactly what `AvailableIpAddressCount` says.
//!
//! What is reserved by a subnet CIDR reservation is free, but picked for prefixes, or by name, only.
//!
//! **Invariant:** nothing here is remembered; what is taken follows from the interfaces alone.

use std::{collections::BTreeSet, net::Ipv4Addr};

use aws_wire::Fault;
use ipnet::Ipv4Net;

use crate::{
    faults,
    records::{ReservationType, Subnet},
    state::State,
};

/// Addresses of a prefix, as the VPC CNI uses it.
pub(crate) const PREFIX_SIZE: u32 = 16;

/// The addresses of one subnet during one call.
pub(crate) struct Pool {
    cidr: Ipv4Net,
    first: u32,
    last: u32,
    taken: BTreeSet<u32>,
    cursor: u32,
    /// Where no single address is picked; the first kind is for prefixes.
    for_prefixes: Vec<Ipv4Net>,
    for_named: Vec<Ipv4Net>,
}

impl Pool {
    pub(crate) fn of(state: &State, subnet: &Subnet) -> Self {
        let (first, last) = usable(subnet.cidr);
        let mut taken = BTreeSet::new();
        for interface in state.network_interfaces.iter().filter(|it| it.subnet_id == subnet.id) {
            taken.extend(interface.addresses().map(u32::from));
            for prefix in &interface.prefixes {
                let begin = u32::from(prefix.network());
                taken.extend(begin..=u32::from(prefix.broadcast()));
            }
        }
        taken.retain(|it| (first..=last).contains(it));
        let cursor = subnet.cursor.clamp(first, last);
        let of = |kind| {
            let reservations = subnet.reservations.iter().filter(move |it| it.kind == kind);
            reservations.map(|it| it.cidr).collect()
        };
        Self {
            cidr: subnet.cidr,
            first,
            last,
            taken,
            cursor,
            for_prefixes: of(ReservationType::Prefix),
            for_named: of(ReservationType::Explicit),
        }
    }

    fn is_reserved(&self, address: u32) -> bool {
        let address = Ipv4Addr::from(address);
        self.for_prefixes.iter().chain(&self.for_named).any(|it| it.contains(&address))
    }

    /// How many addresses [`Self::take`] can give.
    fn pickable(&self) -> usize {
        if self.for_prefixes.is_empty() && self.for_named.is_empty() {
            return usize::try_from(self.free()).unwrap_or(usize::MAX);
        }
        let all = self.first..=self.last;
        all.filter(|it| !self.taken.contains(it) && !self.is_reserved(*it)).count()
    }

    /// How many addresses are free.
    pub(crate) fn free(&self) -> u32 {
        let size = self.last - self.first + 1;
        size - u32::try_from(self.taken.len()).unwrap_or(size)
    }

    /// Where the next search begins; kept with the subnet.
    pub(crate) fn cursor(&self) -> u32 {
        self.cursor
    }

    /// Takes the next free address.
    pub(crate) fn take(&mut self) -> Result<Ipv4Addr, Fault> {
        let ahead = (self.cursor..=self.last).chain(self.first..self.cursor);
        let is_free = |it: &u32| !self.taken.contains(it) && !self.is_reserved(*it);
        let Some(free) = ahead.into_iter().find(is_free) else {
            return Err(exhausted());
        };
        self.taken.insert(free);
        self.cursor = if free == self.last { self.first } else { free + 1 };
        Ok(Ipv4Addr::from(free))
    }

    /// Takes `count` addresses, or none.
    pub(crate) fn take_many(&mut self, count: usize) -> Result<Vec<Ipv4Addr>, Fault> {
        if self.pickable() < count {
            return Err(exhausted());
        }
        (0..count).map(|_| self.take()).collect()
    }

    /// Takes this very address.
    pub(crate) fn take_address(&mut self, address: Ipv4Addr) -> Result<(), Fault> {
        let number = u32::from(address);
        if !self.cidr.contains(&address) {
            return Err(faults::invalid(format!(
                "Address {address} does not fall within the subnet's address range"
            )));
        }
        if !(self.first..=self.last).contains(&number) {
            return Err(faults::invalid(format!(
                "Address {address} is in subnet's reserved address range"
            )));
        }
        if !self.taken.insert(number) {
            return Err(Fault::new(
                "InvalidIPAddress.InUse",
                format!("Address {address} is in use."),
            ));
        }
        Ok(())
    }

    /// Takes the lowest free `/28`, of what is reserved for prefixes first.
    pub(crate) fn take_prefix(&mut self) -> Result<Ipv4Net, Fault> {
        let network = u32::from(self.cidr.network());
        let end = u32::from(self.cidr.broadcast());
        let begins = (network..=end).step_by(PREFIX_SIZE as usize);
        let blocks = begins.filter_map(|it| Ipv4Net::new(Ipv4Addr::from(it), 28).ok());
        let mut fits: Vec<Ipv4Net> = blocks.filter(|it| self.has_room_for(it)).collect();
        let touches = |of: &[Ipv4Net], block: &Ipv4Net| {
            of.iter().any(|it| it.contains(block) || block.contains(it))
        };
        fits.retain(|it| !touches(&self.for_named, it));
        let is_meant = |it: &&Ipv4Net| touches(&self.for_prefixes, it);
        let Some(prefix) = fits.iter().find(is_meant).or(fits.first()).copied() else {
            return Err(Fault::new(
                "InsufficientCidrBlocks",
                "The specified subnet does not have enough free cidr blocks to satisfy the request.",
            ));
        };
        self.occupy(prefix);
        Ok(prefix)
    }

    /// Takes this very `/28`.
    pub(crate) fn take_this_prefix(&mut self, prefix: Ipv4Net) -> Result<(), Fault> {
        if prefix.prefix_len() != 28 || prefix.trunc() != prefix || !self.cidr.contains(&prefix) {
            return Err(faults::invalid_value("ipv4Prefix", prefix));
        }
        if !self.has_room_for(&prefix) {
            return Err(Fault::new(
                "InvalidIPAddress.InUse",
                format!("Prefix {prefix} is in use."),
            ));
        }
        self.occupy(prefix);
        Ok(())
    }

    /// A prefix must not touch a reserved address.
    fn has_room_for(&self, prefix: &Ipv4Net) -> bool {
        let (begin, end) = (u32::from(prefix.network()), u32::from(prefix.broadcast()));
        begin >= self.first && end <= self.last && self.taken.range(begin..=end).next().is_none()
    }

    fn occupy(&mut self, prefix: Ipv4Net) {
        self.taken.extend(u32::from(prefix.network())..=u32::from(prefix.broadcast()));
    }
}

fn exhausted() -> Fault {
    Fault::new(
        "InsufficientFreeAddressesInSubnet",
        "The specified subnet does not have enough free addresses to satisfy the request.",
    )
}

/// The first and the last address that may be given out. Subnets are `/28` or larger.
fn usable(cidr: Ipv4Net) -> (u32, u32) {
    (u32::from(cidr.network()) + 4, u32::from(cidr.broadcast()) - 1)
}

/// Addresses of the internet side. Deviation: they come from the documentation ranges of RFC 5737
/// (203.0.113.0/24, then 198.51.100.0/24), so that they never are someone's; 198.51.100.254 is the
/// AWS endpoints' own.
pub(crate) fn take_public(state: &State) -> Result<Ipv4Addr, Fault> {
    let mut taken: BTreeSet<Ipv4Addr> =
        state.addresses.iter().map(|it| it.public_address).collect();
    taken.extend(
        state
            .network_interfaces
            .iter()
            .flat_map(|it| it.public_addresses.iter().map(|it| it.public)),
    );
    let first = (2..255).map(|host| Ipv4Addr::new(203, 0, 113, host));
    let second = (1..254).map(|host| Ipv4Addr::new(198, 51, 100, host));
    first.chain(second).find(|it| !taken.contains(it)).ok_or_else(|| {
        Fault::new(
            "InsufficientAddressCapacity",
            "The region has no free public addresses left (506 of the documentation ranges).",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(cidr: &str, cursor: u32) -> Pool {
        let cidr: Ipv4Net = cidr.parse().unwrap();
        let (first, last) = usable(cidr);
        Pool {
            cidr,
            first,
            last,
            taken: BTreeSet::new(),
            cursor: cursor.clamp(first, last),
            for_prefixes: Vec::new(),
            for_named: Vec::new(),
        }
    }

    #[test]
    fn a_28_has_eleven_addresses_and_no_more() {
        let mut pool = pool("10.0.0.0/28", 0);
        assert_eq!(pool.free(), 11);
        let taken = pool.take_many(11).unwrap();
        assert_eq!(taken[0], Ipv4Addr::new(10, 0, 0, 4));
        assert_eq!(taken[10], Ipv4Addr::new(10, 0, 0, 14));
        assert_eq!(pool.take().unwrap_err().code, "InsufficientFreeAddressesInSubnet");
    }

    #[test]
    fn too_many_at_once_take_none() {
        let mut pool = pool("10.0.0.0/28", 0);
        assert!(pool.take_many(12).is_err());
        assert_eq!(pool.free(), 11);
    }

    #[test]
    fn a_released_address_is_the_last_to_be_given_out_again() {
        let begin = u32::from(Ipv4Addr::new(10, 0, 0, 10));
        let mut pool = pool("10.0.0.0/28", begin);
        assert_eq!(pool.take().unwrap(), Ipv4Addr::new(10, 0, 0, 10));
        let rest = pool.take_many(10).unwrap();
        assert_eq!(rest[9], Ipv4Addr::new(10, 0, 0, 9));
    }

    #[test]
    fn reserved_and_foreign_addresses_are_refused() {
        let mut pool = pool("10.0.0.0/28", 0);
        for (last, code) in [
            (2, "InvalidParameterValue"),
            (15, "InvalidParameterValue"),
            (99, "InvalidParameterValue"),
            (5, ""),
            (5, "InvalidIPAddress.InUse"),
        ] {
            let outcome = pool.take_address(Ipv4Addr::new(10, 0, 0, last));
            assert_eq!(outcome.map_or_else(|it| it.code.into_owned(), |()| String::new()), code);
        }
    }

    #[test]
    fn a_prefix_avoids_reserved_and_taken_blocks() {
        let mut pool = pool("10.0.0.0/26", 0);
        pool.take_address(Ipv4Addr::new(10, 0, 0, 20)).unwrap();
        assert_eq!(pool.take_prefix().unwrap().to_string(), "10.0.0.32/28");
        assert_eq!(pool.take_prefix().unwrap_err().code, "InsufficientCidrBlocks");
        assert_eq!(pool.free(), 59 - 1 - 16);
    }
}
