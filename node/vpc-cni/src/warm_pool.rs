//! How many addresses a node wants beyond those that its pods have.
//!
//! Three ways to say it, in this order: `WARM_IP_TARGET` and `MINIMUM_IP_TARGET` count addresses,
//! `WARM_PREFIX_TARGET` counts /28 blocks (prefix mode), `WARM_ENI_TARGET` counts interfaces' worth
//! of addresses. "An interface's worth" is free addresses wherever they are, so an idle node has one
//! interface, not two.
//!
//! Addresses that rest after use count as available, as upstream has it.
//!
//! Source: reference/network_identity.md §1.3; upstream `docs/eni-and-ip-target.md` (the tests).

use ipam::addresses;

/// The addresses of a delegated block.
pub const PREFIX_SIZE: usize = 16;

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    pub warm_eni: usize,
    pub warm_ip: usize,
    pub minimum_ip: usize,
    pub warm_prefix: usize,
    pub is_prefix_mode: bool,
}

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    pub total: usize,
    pub assigned: usize,
    pub prefixes: usize,
    /// Prefixes of which no address is assigned.
    pub free_prefixes: usize,
}

impl Stock {
    pub fn available(&self) -> usize {
        self.total - self.assigned
    }
}

/// What the pool is compared with its targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// By this many addresses, or prefixes in prefix mode; `None`: by as many as an interface holds.
    TooLow {
        short: Option<usize>,
    },
    Right,
    /// By this many addresses, or prefixes in prefix mode.
    TooHigh {
        over: usize,
    },
}

impl Targets {
    /// Whether addresses are counted one by one.
    pub fn counts_addresses(&self) -> bool {
        self.warm_ip != 0 || self.minimum_ip != 0
    }

    /// Compares. `per_eni` is how many pods' addresses an interface holds.
    pub fn level(&self, stock: &Stock, per_eni: usize) -> Level {
        match (self.counts_addresses(), self.is_prefix_mode) {
            (true, false) => self.address_level(stock),
            (true, true) => self.prefix_level_by_addresses(stock),
            (false, true) => self.prefix_level(stock),
            (false, false) => self.eni_level(stock, per_eni),
        }
    }

    fn short(&self, stock: &Stock) -> usize {
        let for_warm = self.warm_ip.saturating_sub(stock.available());
        for_warm.max(self.minimum_ip.saturating_sub(stock.total))
    }

    fn over(&self, stock: &Stock) -> usize {
        let above_warm = stock.available().saturating_sub(self.warm_ip);
        above_warm.min(stock.total.saturating_sub(self.minimum_ip))
    }

    fn address_level(&self, stock: &Stock) -> Level {
        match (self.short(stock), self.over(stock)) {
            (0, 0) => Level::Right,
            (0, over) => Level::TooHigh { over },
            (short, _) => Level::TooLow { short: Some(short) },
        }
    }

    fn prefix_level_by_addresses(&self, stock: &Stock) -> Level {
        let short = self.short(stock).div_ceil(PREFIX_SIZE);
        if short > 0 {
            return Level::TooLow { short: Some(short) };
        }
        let for_warm = (stock.assigned + self.warm_ip).div_ceil(PREFIX_SIZE);
        let for_minimum = self.minimum_ip.div_ceil(PREFIX_SIZE);
        let needed = for_warm.max(for_minimum);
        match stock.free_prefixes.min(stock.prefixes.saturating_sub(needed)) {
            0 => Level::Right,
            over => Level::TooHigh { over },
        }
    }

    fn prefix_level(&self, stock: &Stock) -> Level {
        let missing = (PREFIX_SIZE * self.warm_prefix).saturating_sub(stock.available());
        match missing.div_ceil(PREFIX_SIZE) {
            0 if stock.free_prefixes > self.warm_prefix => {
                Level::TooHigh { over: stock.free_prefixes - self.warm_prefix }
            }
            0 => Level::Right,
            short => Level::TooLow { short: Some(short) },
        }
    }

    /// Single addresses are never given back in this mode; whole interfaces are, see
    /// [`Self::can_spare`].
    fn eni_level(&self, stock: &Stock, per_eni: usize) -> Level {
        let is_empty = self.warm_eni == 0 && stock.available() == 0;
        if is_empty || stock.available() < per_eni * self.warm_eni {
            Level::TooLow { short: None }
        } else {
            Level::Right
        }
    }

    /// Whether the pool stays above its targets without an interface that holds `stock_of_eni`.
    pub fn can_spare(&self, stock: &Stock, stock_of_eni: &Stock, per_eni: usize) -> bool {
        let total = stock.total.saturating_sub(stock_of_eni.total);
        let available = stock.available().saturating_sub(stock_of_eni.available());
        if self.counts_addresses() {
            return available >= self.warm_ip && total >= self.minimum_ip;
        }
        if self.is_prefix_mode {
            return available >= PREFIX_SIZE * self.warm_prefix;
        }
        stock.available() >= (self.warm_eni + 1) * per_eni
    }
}

/// A block's size is a fact of EC2; this keeps the constant and the arithmetic from diverging.
const _: () = assert!(PREFIX_SIZE == 1 << (32 - 28));

/// The addresses of `prefix`, in order.
pub fn of_prefix(prefix: ipnet::Ipv4Net) -> impl Iterator<Item = std::net::Ipv4Addr> {
    addresses(prefix)
}

#[cfg(test)]
mod tests;
