//! Address accounting of one IPv4 subnet, as a VPC does it.
//!
//! Five addresses of each subnet belong to AWS: the network's own, the router's (+1), the
//! resolver's (+2), one kept for later (+3) and the broadcast address. The rest is handed out one
//! by one or in aligned blocks of sixteen (/28, prefix delegation). A bitmap holds it all: a /16 is
//! 8 KiB, and a block is one 16-bit word of it.
//!
//! **Invariant:** `free()` is exactly what `take_next` can still give. A call that fails has
//! changed nothing.
//!
//! Beside the accounting: [`Survey`], who holds a subnet's addresses; [`forecast()`], when it runs
//! out; [`layout`], how many pods a layout of subnets can hold.
//!
//! Source: VPC User Guide, "Subnet sizing"; EC2 User Guide, "Prefix delegation".

mod forecast;
pub mod layout;
mod survey;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

pub use self::{
    forecast::{Forecast, SHORTEST, Sample, forecast},
    survey::{Holder, Survey},
};

/// The largest and smallest subnet that AWS makes.
const SIZES: std::ops::RangeInclusive<u8> = 16..=28;
/// The addresses of a delegated prefix, and their bits in the map.
pub const BLOCK: u32 = 16;
const BLOCK_LEN: u8 = 28;
/// Network, router, resolver, future use, broadcast.
pub const RESERVED: u32 = 5;

/// The addresses of a subnet: which are taken, and which are free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetAddresses {
    cidr: Ipv4Net,
    /// A bit for each address, set where it is taken or reserved; a word is a /28.
    blocks: Vec<u16>,
    free: u32,
    /// Where the next search begins, so that an address is not given again at once.
    cursor: u32,
}

/// The subnet cannot be accounted for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{cidr}` is not a subnet: its prefix length has to be between 16 and 28")]
pub struct SubnetSizeError {
    pub cidr: Ipv4Net,
}

/// Why an address or a block was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    #[error("`{what}` is not in subnet `{cidr}`")]
    OutOfRange { what: Ipv4Net, cidr: Ipv4Net },
    #[error("`{address}` is one of the five reserved addresses of subnet `{cidr}`")]
    Reserved { address: Ipv4Addr, cidr: Ipv4Net },
    #[error("`{address}` is in use")]
    InUse { address: Ipv4Addr },
    #[error("`{prefix}` is not a /28 block")]
    NotABlock { prefix: Ipv4Net },
    #[error("subnet `{cidr}` has {free} free addresses, not {wanted}")]
    Exhausted { cidr: Ipv4Net, free: u32, wanted: u32 },
    #[error("subnet `{cidr}` has {free} free /28 blocks, not {wanted}")]
    Fragmented { cidr: Ipv4Net, free: u32, wanted: u32 },
}

impl SubnetAddresses {
    /// A subnet of which only the reserved addresses are taken.
    pub fn new(cidr: Ipv4Net) -> Result<Self, SubnetSizeError> {
        let cidr = cidr.trunc();
        if !SIZES.contains(&cidr.prefix_len()) {
            return Err(SubnetSizeError { cidr });
        }
        let size = 1u32 << (32 - cidr.prefix_len());
        let mut blocks = vec![0u16; (size / BLOCK) as usize];
        blocks[0] |= 0b1111;
        if let Some(last) = blocks.last_mut() {
            *last |= 1 << (BLOCK - 1);
        }
        Ok(Self { cidr, blocks, free: size - RESERVED, cursor: 0 })
    }

    pub fn cidr(&self) -> Ipv4Net {
        self.cidr
    }

    /// `AvailableIpAddressCount`.
    pub fn free(&self) -> u32 {
        self.free
    }

    /// How many blocks [`Self::take_prefixes`] can give.
    pub fn free_blocks(&self) -> u32 {
        u32::try_from(self.blocks.iter().filter(|block| **block == 0).count()).unwrap_or(u32::MAX)
    }

    /// The router's address.
    pub fn gateway(&self) -> Ipv4Addr {
        self.address(1)
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.cidr.contains(&address)
    }

    pub fn is_reserved(&self, address: Ipv4Addr) -> bool {
        self.offset(address).is_some_and(|offset| offset < 4 || offset == self.size() - 1)
    }

    /// Whether the address is taken (reserved addresses are).
    pub fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.offset(address).is_some_and(|offset| self.is_set(offset))
    }

    /// Takes this address.
    pub fn take(&mut self, address: Ipv4Addr) -> Result<(), TakeError> {
        let Some(offset) = self.offset(address) else {
            return Err(TakeError::OutOfRange { what: address.into(), cidr: self.cidr });
        };
        if self.is_reserved(address) {
            return Err(TakeError::Reserved { address, cidr: self.cidr });
        }
        if self.is_set(offset) {
            return Err(TakeError::InUse { address });
        }
        self.set(offset);
        Ok(())
    }

    /// Takes the next free address; one that was just released comes last.
    pub fn take_next(&mut self) -> Result<Ipv4Addr, TakeError> {
        match self.find_free(self.cursor, self.size()).or_else(|| self.find_free(0, self.cursor)) {
            None => Err(self.exhausted(1)),
            Some(offset) => {
                self.set(offset);
                self.cursor = (offset + 1) % self.size();
                Ok(self.address(offset))
            }
        }
    }

    /// Takes `wanted` addresses or none.
    pub fn take_many(&mut self, wanted: u32) -> Result<Vec<Ipv4Addr>, TakeError> {
        if self.free < wanted {
            return Err(self.exhausted(wanted));
        }
        (0..wanted).map(|_| self.take_next()).collect()
    }

    /// Takes `wanted` free /28 blocks or none.
    pub fn take_prefixes(&mut self, wanted: u32) -> Result<Vec<Ipv4Net>, TakeError> {
        let free = self.free_blocks();
        if free < wanted {
            return Err(TakeError::Fragmented { cidr: self.cidr, free, wanted });
        }
        let empty = (0u32..).zip(&self.blocks).filter(|(_, block)| **block == 0);
        let chosen: Vec<u32> = empty.map(|(index, _)| index).take(wanted as usize).collect();
        Ok(chosen.into_iter().map(|index| self.fill(index)).collect())
    }

    /// Takes this /28 block.
    pub fn take_prefix(&mut self, prefix: Ipv4Net) -> Result<(), TakeError> {
        let index = self.block(prefix)?;
        let bits = self.blocks[index as usize];
        if bits != 0 {
            let address = self.address(index * BLOCK + bits.trailing_zeros());
            return Err(match self.is_reserved(address) {
                true => TakeError::Reserved { address, cidr: self.cidr },
                false => TakeError::InUse { address },
            });
        }
        self.fill(index);
        Ok(())
    }

    /// Gives an address back. Reserved and free ones stay as they are.
    pub fn release(&mut self, address: Ipv4Addr) {
        if let Some(offset) = self.offset(address)
            && self.is_set(offset)
            && !self.is_reserved(address)
        {
            self.blocks[(offset / BLOCK) as usize] &= !(1 << (offset % BLOCK));
            self.free += 1;
        }
    }

    /// Gives a block back.
    pub fn release_prefix(&mut self, prefix: Ipv4Net) {
        if self.block(prefix).is_ok() {
            addresses(prefix).for_each(|address| self.release(address));
        }
    }

    /// The first free offset in `start..end`; full blocks are skipped by their word.
    fn find_free(&self, start: u32, end: u32) -> Option<u32> {
        let mut offset = start;
        while offset < end {
            if self.blocks[(offset / BLOCK) as usize] == u16::MAX {
                offset = (offset / BLOCK + 1) * BLOCK;
            } else if self.is_set(offset) {
                offset += 1;
            } else {
                return Some(offset);
            }
        }
        None
    }

    fn exhausted(&self, wanted: u32) -> TakeError {
        TakeError::Exhausted { cidr: self.cidr, free: self.free, wanted }
    }

    /// All addresses, the reserved ones too.
    pub fn size(&self) -> u32 {
        1 << (32 - self.cidr.prefix_len())
    }

    fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        let contained = self.cidr.contains(&address);
        contained.then(|| u32::from(address) - u32::from(self.cidr.network()))
    }

    fn address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + offset)
    }

    fn is_set(&self, offset: u32) -> bool {
        self.blocks[(offset / BLOCK) as usize] & (1 << (offset % BLOCK)) != 0
    }

    fn set(&mut self, offset: u32) {
        self.blocks[(offset / BLOCK) as usize] |= 1 << (offset % BLOCK);
        self.free -= 1;
    }

    /// The index of an aligned block of this subnet.
    fn block(&self, prefix: Ipv4Net) -> Result<u32, TakeError> {
        if prefix.prefix_len() != BLOCK_LEN || prefix.trunc() != prefix {
            return Err(TakeError::NotABlock { prefix });
        }
        match self.offset(prefix.network()) {
            Some(offset) => Ok(offset / BLOCK),
            None => Err(TakeError::OutOfRange { what: prefix, cidr: self.cidr }),
        }
    }

    fn fill(&mut self, index: u32) -> Ipv4Net {
        self.blocks[index as usize] = u16::MAX;
        self.free -= BLOCK;
        let base = self.address(index * BLOCK);
        Ipv4Net::new(base, BLOCK_LEN).expect("28 is a prefix length")
    }
}

/// Whether two networks share an address: the CIDRs of a VPC and of its subnets may not.
pub fn overlaps(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// All addresses of `prefix`: what a delegated /28 gives to pods.
pub fn addresses(prefix: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    (u32::from(prefix.network())..=u32::from(prefix.broadcast())).map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests;
