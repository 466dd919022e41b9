//! The machine's half of the way out: a link, a table for it, and the forwarding switch.
//!
//! **Invariant:** all of it carries a name that begins with `nst-`, and nothing else of the machine
//! is changed but `net.ipv4.ip_forward`, where it was 0. That it was is remembered by a table of its
//! own, [`FORWARDING`], which all regions of the machine share: the last one that goes puts the
//! switch back. The kernel remembers, and no file, because a reboot clears both together.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linux_netlink::Netlink;
use linux_nftables::{Chain, ChainKind, Family, Hook, HookPoint, Nft, Table, priority, quote};
use nix::fcntl::{Flock, FlockArg};

use crate::ApplyError;

/// How the names of all our links and tables begin.
const PREFIX: &str = "nst-";
/// The table that is there while forwarding is on because of us.
const FORWARDING: &str = "nst-forwarding";
const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
const SWITCH_V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
/// What one region at a time locks; the folder is there on every machine.
const LOCKED: &str = "/run";
/// Transfer networks come from here: no VPC can have such addresses, and no router passes them on.
const POOL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 192, 0), 18);
/// What IPv6 has between a router and the machine: here, by the same numbers (RFC 4193).
const POOL_V6: Ipv6Addr = Ipv6Addr::new(0xfd6e, 0x7374, 0, 0, 0, 0, 0, 0);
/// A route of the machine's that is no longer than this is wide enough to be cut a hole into.
const WIDE: u8 = 16;

/// The four addresses between a router and the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer(Ipv4Net);

impl Transfer {
    pub(super) fn machines(self) -> Ipv4Net {
        self.host(1)
    }

    pub(super) fn routers(self) -> Ipv4Net {
        self.host(2)
    }

    pub(super) fn machines_ipv6(self) -> Ipv6Net {
        self.host_ipv6(1)
    }

    pub(super) fn routers_ipv6(self) -> Ipv6Net {
        self.host_ipv6(2)
    }

    /// The four addresses of IPv4 are the last bytes of these.
    fn host_ipv6(self, number: u32) -> Ipv6Net {
        let last = u128::from(u32::from(self.0.network()) + number);
        Ipv6Net::new_assert(Ipv6Addr::from_bits(POOL_V6.to_bits() | last), 126)
    }

    fn host(self, number: u32) -> Ipv4Net {
        let address = (u32::from(self.0.network()) + number).into();
        Ipv4Net::new(address, self.0.prefix_len()).unwrap_or(self.0)
    }
}

/// The namespace that the links lead to.
pub(super) struct Machine {
    path: Option<PathBuf>,
    pub(super) netlink: Netlink,
    nft: Nft,
}

impl Machine {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, ApplyError> {
        let opened = path.map_or_else(Netlink::here, Netlink::at);
        let netlink = opened.map_err(|source| ApplyError::Open { source })?;
        let nft = path.map_or_else(Nft::here, Nft::at);
        Ok(Self { path: path.map(Path::to_owned), netlink, nft })
    }

    /// Keeps other processes of ours from changing the machine's half.
    pub(super) fn lock(&self) -> Result<Flock<File>, ApplyError> {
        let failed = |source| ApplyError::Lock { path: LOCKED.into(), source };
        let folder = File::open(LOCKED).map_err(failed)?;
        Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, errno)| failed(errno.into()))
    }

    /// The transfer network of a link: the one that it has, or the first that nobody uses.
    pub(super) fn transfer(&self, link: &str) -> Result<Transfer, ApplyError> {
        let failed = ApplyError::request(link);
        let index = self.netlink.link_by_name(link).map_err(&failed)?.map(|it| it.index);
        let index = index.ok_or_else(|| ApplyError::Vanished { link: link.to_owned() })?;
        let addresses = self.netlink.addresses().map_err(&failed)?;
        let own = addresses.iter().filter(|it| it.index == index);
        let known = own.filter_map(|it| transfer_of(it.net)).next();
        let transfer = match known {
            Some(transfer) => transfer,
            None => {
                let routes = self.netlink.routes().map_err(&failed)?;
                let routes = routes.iter().map(|it| it.destination);
                let used: Vec<IpNet> = routes.chain(addresses.iter().map(|it| it.net)).collect();
                let free = first_free(&used);
                free.ok_or(ApplyError::NoTransferNetwork { pool: POOL })?
            }
        };
        self.netlink.add_address(index, IpNet::V4(transfer.machines())).map_err(&failed)?;
        self.netlink.set_up(index).map_err(&failed)?;
        Ok(transfer)
    }

    /// The link's table, and forwarding.
    pub(super) fn prepare(&self, link: &str, transfer: Transfer) -> Result<(), ApplyError> {
        let rules = |source| ApplyError::Rules { source };
        self.nft.replace(&link_table(link, transfer)).map_err(rules)?;
        if self.forwards()? {
            return Ok(());
        }
        // The table first: it remembers how it was, whatever happens after it.
        self.nft.replace(&forwarding_table()).map_err(rules)?;
        self.forward("1")
    }

    /// The link's other address and table, which may be gone though the address is there where that
    /// `is_unsure`. Whether the machine forwards is its own affair.
    pub(super) fn prepare_ipv6(
        &self,
        link: &str,
        transfer: Transfer,
        is_unsure: bool,
    ) -> Result<(), ApplyError> {
        let failed = ApplyError::request(link);
        let index = self.netlink.link_by_name(link).map_err(&failed)?.map(|it| it.index);
        let index = index.ok_or_else(|| ApplyError::Vanished { link: link.to_owned() })?;
        let own = IpNet::V6(transfer.machines_ipv6());
        let known = self.netlink.addresses().map_err(&failed)?;
        if !is_unsure && known.iter().any(|it| it.index == index && it.net == own) {
            return Ok(());
        }
        // The rules first: by the address the next pass sees that both are there.
        let rules = |source| ApplyError::Rules { source };
        self.nft.replace(&ipv6_link_table(link, transfer)).map_err(rules)?;
        self.netlink.add_address(index, own).map_err(&failed)
    }

    fn forwards(&self) -> Result<bool, ApplyError> {
        Ok(self.enter(|| fs::read_to_string(SWITCH))?.trim() != "0")
    }

    fn forward(&self, value: &'static str) -> Result<(), ApplyError> {
        self.enter(move || fs::write(SWITCH, value))
    }

    /// Runs `work` where the machine's `/proc/sys/net` is.
    fn enter<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, ApplyError> {
        let failed = |source| ApplyError::Sysctl { path: SWITCH.into(), source };
        match &self.path {
            None => work().map_err(failed),
            Some(path) => {
                let done = linux_netns::enter(path, work);
                done.map_err(|source| ApplyError::Netns { source })?.map_err(failed)
            }
        }
    }

    /// Our tables; none where `nft` is not installed.
    fn tables(&self, family: Family) -> Result<Vec<String>, ApplyError> {
        match self.nft.tables(family) {
            Ok(tables) => Ok(tables.into_iter().filter(|it| it.starts_with(PREFIX)).collect()),
            Err(linux_nftables::ApplyError::Run { source })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(Vec::new())
            }
            Err(source) => Err(ApplyError::Rules { source }),
        }
    }
}

/// Removes the ways out whose name begins with `prefix`, and says which. It needs no daemon and no
/// memory: what is there is looked up. `machine` is as in [`super::Egress`].
pub fn remove_egress(prefix: &str, machine: Option<&Path>) -> Result<Vec<String>, ApplyError> {
    remove_where(machine, |name| name.starts_with(prefix))
}

pub(super) fn remove_where(
    machine: Option<&Path>,
    is_meant: impl Fn(&str) -> bool,
) -> Result<Vec<String>, ApplyError> {
    let machine = Machine::open(machine)?;
    let _lock = machine.lock()?;
    let rules = |source| ApplyError::Rules { source };
    let mut removed = Vec::new();
    let failed = ApplyError::request("the machine");
    let is_meant = |name: &str| name.starts_with(PREFIX) && is_meant(name);
    for link in machine.netlink.links().map_err(&failed)? {
        if link.kind.as_deref() == Some("veth") && is_meant(&link.name) {
            machine.netlink.delete_link(link.index).map_err(&failed)?;
            removed.push(format!("link {}", link.name));
        }
    }
    for name in machine.tables(Family::Ip6)?.into_iter().filter(|it| is_meant(it)) {
        machine.nft.delete_table(Family::Ip6, &name).map_err(rules)?;
        removed.push(format!("nftables table {name} of IPv6"));
    }
    let tables = machine.tables(Family::Ip)?;
    let (switch, links): (Vec<_>, Vec<_>) = tables.into_iter().partition(|it| it == FORWARDING);
    let (gone, kept): (Vec<_>, Vec<_>) = links.into_iter().partition(|it| is_meant(it));
    for name in gone {
        machine.nft.delete_table(Family::Ip, &name).map_err(rules)?;
        removed.push(format!("nftables table {name}"));
    }
    if kept.is_empty() && !switch.is_empty() {
        machine.forward("0")?;
        machine.nft.delete_table(Family::Ip, FORWARDING).map_err(rules)?;
        removed.push("forwarding, which was off before".to_owned());
    }
    Ok(removed)
}

fn transfer_of(net: IpNet) -> Option<Transfer> {
    let IpNet::V4(net) = net else { return None };
    (net.prefix_len() == 30 && POOL.contains(&net)).then(|| Transfer(net.trunc()))
}

/// The first network of four addresses that none of these lies in or needs.
fn first_free(used: &[IpNet]) -> Option<Transfer> {
    let near = |net: &IpNet| match net {
        IpNet::V4(net) if net.prefix_len() > WIDE => Some(net.trunc()),
        _ => None,
    };
    let used: Vec<Ipv4Net> = used.iter().filter_map(near).collect();
    let overlaps = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
    let mut all = POOL.subnets(30).ok()?;
    all.find(|free| !used.iter().any(|it| overlaps(it, free))).map(Transfer)
}

/// Whether a machine (`None`: this one) passes packets of IPv6 on.
pub fn forwards_ipv6(machine: Option<&Path>) -> bool {
    let read = || fs::read_to_string(SWITCH_V6).is_ok_and(|it| it.trim() != "0");
    match machine {
        None => read(),
        Some(path) => linux_netns::enter(path, read).unwrap_or_default(),
    }
}

/// Masquerading for exactly the link's addresses, and a guard: through the link comes what the
/// router sends, to the outside and not to the machine, and back comes what belongs to it.
fn link_table(name: &str, transfer: Transfer) -> Table {
    filled(Table::new(Family::Ip, name), IpNet::V4(transfer.0))
}

fn ipv6_link_table(name: &str, transfer: Transfer) -> Table {
    let network = IpNet::V6(transfer.machines_ipv6().trunc());
    let mut table = filled(Table::new(Family::Ip6, name), network);
    let neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept";
    table.chain("door").rules.insert(0, neighbours.to_owned());
    table
}

fn filled(mut table: Table, network: IpNet) -> Table {
    let link = quote(&table.name);
    let header = if table.family == Family::Ip { "ip" } else { "ip6" };
    let mut add = |name: &str, hook: Hook, rules: &[String]| {
        let mut chain = Chain::hooked(hook);
        chain.rules = rules.to_vec();
        table.chains.insert(name.to_owned(), chain);
    };
    add(
        "way-out",
        Hook::new(ChainKind::Nat, HookPoint::Postrouting, priority::SRCNAT),
        &[format!("{header} saddr {network} oifname != {link} masquerade")],
    );
    add(
        "guard",
        Hook::new(ChainKind::Filter, HookPoint::Forward, priority::FILTER),
        &[
            format!("oifname {link} ct state established,related accept"),
            format!("oifname {link} drop"),
            format!("iifname {link} {header} saddr != {network} drop"),
        ],
    );
    add(
        "door",
        Hook::new(ChainKind::Filter, HookPoint::Input, priority::FILTER),
        &[format!("iifname {link} drop")],
    );
    table
}

/// Forwarding was off for everybody else, and stays so.
fn forwarding_table() -> Table {
    let mut table = Table::new(Family::Ip, FORWARDING);
    let hook = Hook::new(ChainKind::Filter, HookPoint::Forward, priority::FILTER);
    let mut others = Chain::hooked(hook);
    for side in ["iifname", "oifname"] {
        others.rule(format!("{side} \"{PREFIX}*\" accept"));
    }
    others.rule("drop");
    table.chains.insert("others".to_owned(), others);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|it| it.parse().unwrap()).collect()
    }

    #[test]
    fn a_transfer_network_is_one_that_the_machine_does_not_use() {
        let free = |used: &[&str]| first_free(&nets(used)).unwrap().machines().to_string();
        assert_eq!(free(&[]), "169.254.192.1/30");
        assert_eq!(free(&["0.0.0.0/0", "169.254.0.0/16", "10.0.0.0/8"]), "169.254.192.1/30");
        assert_eq!(free(&["169.254.192.1/30", "169.254.192.6/32"]), "169.254.192.9/30");
        assert_eq!(free(&["169.254.192.0/24"]), "169.254.193.1/30");
        assert_eq!(first_free(&nets(&["169.254.192.0/17"])), None);
    }

    #[test]
    fn a_link_knows_its_network_again() {
        let transfer = transfer_of("169.254.192.5/30".parse().unwrap()).unwrap();
        assert_eq!(transfer.routers().to_string(), "169.254.192.6/30");
        assert_eq!(transfer_of("169.254.0.5/30".parse().unwrap()), None);
    }

    #[test]
    fn a_link_hides_its_own_addresses_and_opens_nothing_of_the_machine() {
        let transfer = transfer_of("169.254.192.5/30".parse().unwrap()).unwrap();
        let table = link_table("nst-0", transfer);
        assert_eq!(
            table.chains["way-out"].rules,
            ["ip saddr 169.254.192.4/30 oifname != \"nst-0\" masquerade"]
        );
        assert_eq!(table.chains["door"].rules, ["iifname \"nst-0\" drop"]);
        assert_eq!(forwarding_table().chains["others"].rules.last().unwrap(), "drop");
    }
}
