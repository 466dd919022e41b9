//! The way out: what stands behind the VPC's internet and NAT gateways when `--egress` is given.
//!
//! A veth pair leads from the router to the machine. The router hides the VPC's addresses behind
//! its own end, the machine hides that end behind its own address. Who may go is decided as for the
//! AWS endpoints: by the subnet's route and the ENI's public address, then by the egress rules.
//!
//! **Invariant:** on the machine there is one link, one table and the forwarding switch; the table
//! remembers how the switch stood, so that [`remove`] leaves the machine as it was.

use std::{fs, path::PathBuf};

use ipnet::{IpNet, Ipv4Net};
use linux_netlink::{Netlink, Route, RouteKind, Veth, VethEnd};
use linux_nftables::{Chain, ChainKind, Family, Hook, HookPoint, Nft, Set, Table, priority, quote};

use crate::{ApplyError, InternetRoute, VpcSpec, compile::link_name};

/// The router's end.
const INSIDE: &str = "outside";
/// A chain whose existence says that forwarding was off before.
const WAS_OFF: &str = "ip-forward-was-off";
const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The name of the machine's end, and of its table.
    pub link: String,
    /// Four addresses that nobody else uses: the machine's is the first host, the router's the
    /// second.
    pub network: Ipv4Net,
    /// The namespace that plays the machine; `None` is this process's own.
    pub machine: Option<PathBuf>,
}

impl Egress {
    fn host(&self, number: u32) -> Ipv4Net {
        let address = (u32::from(self.network.network()) + number).into();
        Ipv4Net::new(address, self.network.prefix_len()).unwrap_or(self.network)
    }

    fn netlink(&self) -> Result<Netlink, ApplyError> {
        let opened = match &self.machine {
            None => Netlink::here(),
            Some(path) => Netlink::at(path),
        };
        opened.map_err(|source| ApplyError::Open { source })
    }

    fn nft(&self) -> Nft {
        self.machine.as_ref().map_or_else(Nft::here, Nft::at)
    }

    /// Runs `work` where the machine's `/proc/sys/net` is.
    fn on_machine<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, ApplyError> {
        let failed = |source| ApplyError::Sysctl { path: SWITCH.into(), source };
        match &self.machine {
            None => work().map_err(failed),
            Some(path) => {
                let done = linux_netns::enter(path, work);
                done.map_err(|source| ApplyError::Netns { source })?.map_err(failed)
            }
        }
    }
}

/// Adds the way out to the router's rules: pure.
pub(crate) fn add_rules(spec: &VpcSpec, table: &mut Table) {
    let mut allowed = Set::of("ifname");
    for eni in &spec.enis {
        let internet = spec.subnets.get(&eni.subnet).map(|it| it.internet);
        let may_leave = match internet {
            Some(InternetRoute::InternetGateway) => eni.public_ip.is_some(),
            Some(InternetRoute::NatGateway) => true,
            Some(InternetRoute::None) | None => false,
        };
        if may_leave {
            allowed.member(quote(&link_name(&eni.id)));
        }
    }
    table.set("reaches-internet", allowed);
    let outside = quote(INSIDE);
    table.chain("ingress").rule(format!("oifname {outside} iifname @reaches-internet accept"));
    let hook = Hook::new(ChainKind::Nat, HookPoint::Postrouting, priority::SRCNAT);
    let mut hide = Chain::hooked(hook);
    hide.rule(format!("oifname {outside} masquerade"));
    table.chains.insert("way-out".to_owned(), hide);
}

/// Makes the link, the routes and the machine's rules.
pub(crate) fn apply(
    egress: &Egress,
    router: &Netlink,
    router_path: &std::path::Path,
    cidrs: &[Ipv4Net],
) -> Result<(), ApplyError> {
    let failed = ApplyError::request(&egress.link);
    let machine = egress.netlink()?;
    let inside = router.link_by_name(INSIDE).map_err(&failed)?;
    if inside.is_none() || machine.link_by_name(&egress.link).map_err(&failed)?.is_none() {
        if let Some(left_over) = inside {
            router.delete_link(left_over.index).map_err(&failed)?;
        }
        let namespace =
            linux_netns::open(router_path).map_err(|source| ApplyError::Netns { source })?;
        let far =
            VethEnd { netns: Some(std::os::fd::AsFd::as_fd(&namespace)), ..VethEnd::named(INSIDE) };
        let pair = Veth { end: VethEnd::named(&egress.link), peer: far };
        machine.create_veth(&pair).map_err(&failed)?;
    }
    for (netlink, name, number) in [(&machine, egress.link.as_str(), 1), (router, INSIDE, 2)] {
        if let Some(link) = netlink.link_by_name(name).map_err(&failed)? {
            netlink.add_address(link.index, IpNet::V4(egress.host(number))).map_err(&failed)?;
            netlink.set_up(link.index).map_err(&failed)?;
        }
    }
    for cidr in cidrs {
        // Addresses of the VPC that nobody has are not outside.
        let nowhere = Route::to(IpNet::V4(*cidr)).kind(RouteKind::Unreachable);
        router.add_route(&nowhere).map_err(&failed)?;
    }
    if let Some(link) = router.link_by_name(INSIDE).map_err(&failed)? {
        let default = Route::default_via(egress.host(1).addr().into()).device(link.index);
        router.add_route(&default).map_err(&failed)?;
    }
    prepare_machine(egress)
}

/// Takes all of it away again, and puts the switch back.
pub(crate) fn remove(egress: &Egress) -> Result<(), ApplyError> {
    let failed = ApplyError::request(&egress.link);
    egress.netlink()?.delete_link_by_name(&egress.link).map_err(failed)?;
    let nft = egress.nft();
    let rules = |source| ApplyError::Rules { source };
    let table = nft.list_table(Family::Ip, &egress.link).map_err(rules)?;
    if table.is_some_and(|text| text.contains(WAS_OFF)) {
        egress.on_machine(|| fs::write(SWITCH, "0"))?;
    }
    nft.delete_table(Family::Ip, &egress.link).map_err(rules)
}

fn prepare_machine(egress: &Egress) -> Result<(), ApplyError> {
    let nft = egress.nft();
    let rules = |source| ApplyError::Rules { source };
    if nft.has_table(Family::Ip, &egress.link).map_err(rules)? {
        return Ok(());
    }
    let is_on = egress.on_machine(|| fs::read_to_string(SWITCH))?.trim() == "1";
    nft.replace(&machine_table(egress, is_on)).map_err(rules)?;
    // After the table, which remembers how it was.
    if is_on { Ok(()) } else { egress.on_machine(|| fs::write(SWITCH, "1")) }
}

fn machine_table(egress: &Egress, forwarding: bool) -> Table {
    let mut table = Table::new(Family::Ip, &*egress.link);
    let hook = Hook::new(ChainKind::Nat, HookPoint::Postrouting, priority::SRCNAT);
    let mut hide = Chain::hooked(hook);
    let link = quote(&egress.link);
    hide.rule(format!("ip saddr {} oifname != {link} masquerade", egress.network.trunc()));
    table.chains.insert("way-out".to_owned(), hide);
    // With forwarding on, nothing else of the machine's may be reached through it.
    let hook = Hook::new(ChainKind::Filter, HookPoint::Forward, priority::FILTER);
    let mut guard = Chain::hooked(hook);
    guard.rule(format!("oifname {link} ct state established,related accept"));
    guard.rule(format!("oifname {link} drop"));
    if !forwarding {
        // Forwarding was off for everybody else, and stays so.
        guard.rule(format!("iifname != {link} drop"));
        table.chain(WAS_OFF);
    }
    table.chains.insert("guard".to_owned(), guard);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rules, spec::samples};

    #[test]
    fn only_who_has_a_route_and_an_address_may_leave() {
        let mut spec = samples::vpc();
        spec.enis[0].public_ip = Some([54, 0, 0, 1].into());
        let mut table = rules::table(&spec);
        add_rules(&spec, &mut table);
        let allowed: Vec<_> = table.sets["reaches-internet"].elements.keys().collect();
        assert_eq!(allowed, ["\"eni000000000001\""]);
        let last = table.chains["ingress"].rules.last().unwrap();
        assert_eq!(last, "oifname \"outside\" iifname @reaches-internet accept");
    }

    #[test]
    fn a_machine_that_did_not_forward_forwards_for_the_vpc_alone() {
        let egress = Egress {
            link: "nst-0".to_owned(),
            network: "100.64.0.0/30".parse().unwrap(),
            machine: None,
        };
        assert_eq!(egress.host(2).addr(), std::net::Ipv4Addr::new(100, 64, 0, 2));
        let table = machine_table(&egress, false);
        assert!(table.chains.contains_key(WAS_OFF));
        let guard = &table.chains["guard"].rules;
        assert_eq!(guard.last().unwrap(), "iifname != \"nst-0\" drop");
        assert!(!machine_table(&egress, true).chains.contains_key(WAS_OFF));
    }
}
