//! Makes the kernel agree with a [`KernelState`].
//!
//! Rules come before links, so that an interface never carries a packet that its groups have not
//! seen. Each pass observes links, addresses and routes anew; only the ruleset is remembered, since
//! reading it back costs more than replacing it (which is what the first pass does).

mod detours;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::Ipv4Addr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net};
use linux_netlink::{
    Link, LinkChange, Mac, Netlink, OpenError, RequestError, Route, RouteKind, Scope, TABLE_MAIN,
    Veth, VethEnd,
};
use linux_netns::NetnsError;
use linux_nftables::{Nft, Table};
use parking_lot::Mutex;

use crate::{
    EniLink, KernelState, VpcSpec, compile,
    egress::{self, Egress},
    guest::{self, Guests, MTU},
};

/// The router of one VPC. Clones share it.
#[derive(Clone, Debug)]
pub struct Router {
    netns: String,
    egress: Option<Egress>,
    applied: Arc<Mutex<Remembered>>,
}

#[derive(Debug, Default)]
struct Remembered {
    table: Option<Table>,
    /// This process has put the machine's half of the way out in place.
    has_way_out: bool,
}

/// What a pass has changed, and what it could not do yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub attached: Vec<String>,
    pub detached: Vec<String>,
    /// ENIs whose instance has no network namespace yet.
    pub waiting: Vec<String>,
}

/// A pass that was not finished. Repeating it goes on from what is there.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("failed to make the router's namespace")]
    Netns {
        #[source]
        source: NetnsError,
    },
    #[error("failed to set `{}` in the router", path.display())]
    Sysctl {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to open a namespace's network")]
    Open {
        #[source]
        source: OpenError,
    },
    #[error("failed to change the network of `{what}`")]
    Request {
        what: String,
        #[source]
        source: RequestError,
    },
    #[error("failed to apply the security groups")]
    Rules {
        #[source]
        source: linux_nftables::ApplyError,
    },
    #[error("failed to lock `{}`", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("link `{link}` was removed by somebody else")]
    Vanished { link: String },
    #[error("this machine uses all of {pool}: there are no addresses for a way out")]
    NoTransferNetwork { pool: Ipv4Net },
}

impl ApplyError {
    pub(crate) fn request(what: &str) -> impl Fn(RequestError) -> Self {
        let what = what.to_owned();
        move |source| Self::Request { what: what.clone(), source }
    }
}

/// Settings of the router's namespace; links inherit `default` when they are made.
const SYSCTLS: [(&str, &str); 12] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    // A NAT instance hands on what the router's own services have answered it.
    ("net/ipv4/conf/all/accept_local", "1"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    // Neighbours of one subnet are on different links: the router answers for all of them.
    ("net/ipv4/conf/default/proxy_arp", "1"),
    ("net/ipv4/conf/default/arp_ignore", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

impl Router {
    /// The router whose namespace is called `netns`. Nothing is done yet.
    pub fn new(netns: &str) -> Self {
        Self { netns: netns.to_owned(), egress: None, applied: Arc::default() }
    }

    /// Gives the VPC's gateways a way out of this machine: for specs that have one.
    pub fn with_egress(mut self, egress: Egress) -> Self {
        self.egress = Some(egress);
        self
    }

    /// Makes the kernel agree with `spec`, whose `netns` must be this router's.
    pub async fn apply(&self, spec: &VpcSpec) -> Result<Applied, ApplyError> {
        let (router, wanted) = (self.clone(), compile(spec));
        let cidrs = spec.cidrs.clone();
        blocking(move || router.apply_now(&wanted, &cidrs)).await
    }

    /// Removes the router with all links that end in it.
    pub async fn remove(&self) -> Result<(), ApplyError> {
        let router = self.clone();
        blocking(move || router.remove_now()).await
    }

    fn apply_now(&self, wanted: &KernelState, cidrs: &[Ipv4Net]) -> Result<Applied, ApplyError> {
        // One pass at a time: two would undo each other's work.
        let mut remembered = self.applied.lock();
        let is_new =
            linux_netns::create(&self.netns).map_err(|source| ApplyError::Netns { source })?;
        if is_new {
            *remembered = Remembered::default();
        }
        let path = linux_netns::path(&self.netns);
        if remembered.table.is_none() {
            sysctls(&path)?;
        }
        if remembered.table.as_ref() != Some(&wanted.table) {
            let nft = Nft::at(&path);
            let old = remembered.table.take();
            nft.update(old.as_ref(), &wanted.table)
                .map_err(|source| ApplyError::Rules { source })?;
            remembered.table = Some(wanted.table.clone());
        }
        let netlink = Netlink::at(&path).map_err(|source| ApplyError::Open { source })?;
        services(&netlink, &wanted.services)?;
        if let Some(egress) = &self.egress {
            egress::apply(egress, &netlink, &path, cidrs, !remembered.has_way_out)?;
            remembered.has_way_out = true;
        }
        let applied = links(&netlink, &path, &wanted.links)?;
        routes(&netlink, &wanted.links)?;
        detours::apply(&netlink, &wanted.detours)?;
        Ok(applied)
    }

    fn remove_now(&self) -> Result<(), ApplyError> {
        let mut remembered = self.applied.lock();
        *remembered = Remembered::default();
        if linux_netns::exists(&self.netns) {
            let path = linux_netns::path(&self.netns);
            let netlink = Netlink::at(&path).map_err(|source| ApplyError::Open { source })?;
            let failed = ApplyError::request(&self.netns);
            // The kernel would remove them too, but some time later.
            for link in netlink.links().map_err(&failed)?.iter().filter(|it| is_ours(it)) {
                netlink.delete_link(link.index).map_err(&failed)?;
            }
        }
        if let Some(egress) = &self.egress {
            egress::remove(egress)?;
        }
        linux_netns::delete(&self.netns).map_err(|source| ApplyError::Netns { source })
    }
}

fn is_ours(link: &Link) -> bool {
    link.kind.as_deref() == Some("veth") && link.name.starts_with("eni")
}

fn sysctls(netns: &Path) -> Result<(), ApplyError> {
    let set = || SYSCTLS.iter().try_for_each(|(name, value)| sysctl(name, value));
    linux_netns::enter(netns, set).map_err(|source| ApplyError::Netns { source })?
}

/// In the namespace of the calling thread.
fn sysctl(name: &str, value: &str) -> Result<(), ApplyError> {
    let path = Path::new("/proc/sys").join(name);
    match fs::write(&path, value) {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(ApplyError::Sysctl { path, source }),
        Ok(()) => Ok(()),
    }
}

/// The kernel answers ARP for others after a random pause of up to 0.8 s, and a namespace has no
/// default for that: each link is told.
fn answer_at_once(netns: &Path, link: &str) -> Result<(), ApplyError> {
    let name = format!("net/ipv4/neigh/{link}/proxy_delay");
    linux_netns::enter(netns, move || sysctl(&name, "0"))
        .map_err(|source| ApplyError::Netns { source })?
}

fn services(netlink: &Netlink, wanted: &BTreeSet<Ipv4Addr>) -> Result<(), ApplyError> {
    let failed = ApplyError::request("lo");
    let Some(lo) = netlink.link_by_name("lo").map_err(&failed)? else { return Ok(()) };
    if !lo.is_up {
        netlink.set_up(lo.index).map_err(&failed)?;
    }
    let present = netlink.addresses().map_err(&failed)?;
    for address in wanted {
        let net = IpNet::V4(Ipv4Net::from(*address));
        if !present.iter().any(|it| it.index == lo.index && it.net == net) {
            netlink.add_address(lo.index, net).map_err(&failed)?;
        }
    }
    for gone in present.iter().filter(|it| it.index == lo.index) {
        let IpNet::V4(net) = gone.net else { continue };
        if !net.addr().is_loopback() && !wanted.contains(&net.addr()) {
            netlink.delete_address(lo.index, gone.net).map_err(&failed)?;
        }
    }
    Ok(())
}

fn links(
    netlink: &Netlink,
    router: &Path,
    wanted: &BTreeMap<String, EniLink>,
) -> Result<Applied, ApplyError> {
    let mut applied = Applied::default();
    let mut guests = Guests::default();
    let present = netlink.links().map_err(ApplyError::request("router"))?;
    for link in present.iter().filter(|it| is_ours(it) && !wanted.contains_key(&it.name)) {
        netlink.delete_link(link.index).map_err(ApplyError::request(&link.name))?;
        applied.detached.push(link.name.clone());
    }
    for (name, eni) in wanted {
        let Some(guest) = guests.netlink(&eni.netns)? else {
            applied.waiting.push(eni.eni.clone());
            continue;
        };
        let near = present.iter().find(|it| it.name == *name);
        let mut far = guest::find(guest, eni)?;
        if let (Some(near), None) = (near, &far) {
            // Its other end is elsewhere: it was attached to another instance.
            netlink.delete_link(near.index).map_err(ApplyError::request(&eni.eni))?;
        }
        if near.is_none() || far.is_none() {
            if let Some(stranger) = &far {
                // The far end of a router that is gone.
                guest.delete_link(stranger.index).map_err(ApplyError::request(&eni.eni))?;
            }
            attach(netlink, router, name, eni)?;
            applied.attached.push(eni.eni.clone());
            far = guest::find(guest, eni)?;
        }
        if let Some(far) = far {
            guest::configure(guest, &far, eni)?;
        }
    }
    Ok(applied)
}

/// Makes the pair with each end where it belongs, and brings the near end up.
fn attach(netlink: &Netlink, router: &Path, name: &str, eni: &EniLink) -> Result<(), ApplyError> {
    let failed = ApplyError::request(&eni.eni);
    let guest = linux_netns::open(&eni.netns).map_err(|source| ApplyError::Netns { source })?;
    let near = VethEnd { name, mac: Some(near_mac(eni.mac)), mtu: Some(MTU), netns: None };
    let far = VethEnd {
        name: &eni.device,
        mac: Some(eni.mac),
        mtu: Some(MTU),
        netns: Some(guest.as_fd()),
    };
    tracing::debug!(eni = eni.eni, router = %router.display(), "attaching");
    netlink.create_veth(&Veth { end: near, peer: far }).map_err(&failed)?;
    answer_at_once(router, name)?;
    let Some(link) = netlink.link_by_name(name).map_err(&failed)? else { return Ok(()) };
    netlink.add_address(link.index, Ipv4Net::from(eni.gateway).into()).map_err(&failed)?;
    let up = LinkChange { is_up: Some(true), ..LinkChange::default() };
    netlink.change_link(link.index, &up).map_err(&failed)
}

/// The near end's hardware address: the far end's, told apart by a bit that vendors do not use.
fn near_mac(Mac(mut bytes): Mac) -> Mac {
    bytes[0] |= 0x02;
    bytes[1] ^= 0x80;
    Mac(bytes)
}

fn routes(netlink: &Netlink, wanted: &BTreeMap<String, EniLink>) -> Result<(), ApplyError> {
    let failed = ApplyError::request("routes");
    let present = netlink.links().map_err(&failed)?;
    let routes = netlink.routes().map_err(&failed)?;
    for link in present.iter().filter(|it| is_ours(it)) {
        let Some(eni) = wanted.get(&link.name) else { continue };
        let primary = IpNet::V4(eni.primary.into());
        let routed = eni.routed.iter().map(|it| IpNet::V4(*it));
        let targets: BTreeSet<IpNet> = routed.chain([primary]).collect();
        let is_old = |route: &&Route| {
            route.device == Some(link.index)
                && route.table == TABLE_MAIN
                && route.kind == RouteKind::Unicast
        };
        let old: BTreeSet<IpNet> = routes.iter().filter(is_old).map(|it| it.destination).collect();
        for gone in routes.iter().filter(is_old).filter(|it| !targets.contains(&it.destination)) {
            netlink.delete_route(gone).map_err(&failed)?;
        }
        // The primary first: the others go through it.
        if !old.contains(&primary) {
            let direct = Route { scope: Scope::Link, ..Route::to(primary) };
            netlink.add_route(&direct.device(link.index)).map_err(&failed)?;
        }
        for target in targets.difference(&old).filter(|it| **it != primary) {
            let through = Route::to(*target).via(eni.primary.into()).device(link.index);
            netlink.add_route(&Route { is_onlink: true, ..through }).map_err(&failed)?;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApplyError> + Send + 'static,
) -> Result<T, ApplyError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
