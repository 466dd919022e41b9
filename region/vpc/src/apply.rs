//! Makes the kernel agree with a [`KernelState`].
//!
//! Rules come before links, so that an interface never carries a packet that its groups have not
//! seen. A pass observes links, addresses and routes anew, in the router and in every guest; only the
//! ruleset is remembered, since reading it back costs more than replacing it (which is what the first
//! pass does).
//!
//! Where nothing but the rules differs from what was applied last, a pass ends with them and says that
//! it [is partial](Applied::is_partial): a changed rule does not wait for a look at hundreds of links
//! that it has nothing to do with. The pass that is to follow soon looks. A stream of changes puts
//! that off for [`LOOK_EVERY`] at most.

mod detours;
mod ipv6;
mod links;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use linux_netlink::{Link, Netlink, OpenError, RequestError, Route, RouteKind};
use linux_netns::NetnsError;
use linux_nftables::{Nft, Table};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    Detour, EniLink, KernelState, VpcSpec, compile,
    egress::{self, Blocks, Egress},
};

/// How long changes of rules alone may put off a look at everything else.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The metric of routes that are behind every other one.
const LAST: u32 = 4096;

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
    ipv6: Ipv6,
    /// What was seen to be in place, where nothing was missing.
    rest: Option<Rest>,
    /// As told in [`Applied::unconfigured`] last, so that each change is logged once.
    unconfigured: Vec<String>,
    /// This process has put the machine's half of the way out in place.
    has_way_out: bool,
}

/// What the kernel holds of IPv6. A pass that failed on the way leaves it unknown: "no IPv6" is a
/// state that has to be made as well.
#[derive(Debug, Default, PartialEq)]
enum Ipv6 {
    #[default]
    Unknown,
    Off,
    On(Table),
}

impl Ipv6 {
    fn of(table: Option<Table>) -> Self {
        table.map_or(Self::Off, Self::On)
    }

    /// The table that there was, and forgets it.
    fn take(&mut self) -> Option<Table> {
        match std::mem::take(self) {
            Self::On(table) => Some(table),
            Self::Unknown | Self::Off => None,
        }
    }

    /// Makes it `wanted` by `apply`, which gets the old and the new table. Says whether it was other.
    fn become_now(
        &mut self,
        wanted: Option<Table>,
        apply: impl FnOnce(Option<&Table>, Option<&Table>) -> Result<(), ApplyError>,
    ) -> Result<bool, ApplyError> {
        let wanted = Self::of(wanted);
        if *self == wanted {
            return Ok(false);
        }
        let old = self.take();
        apply(old.as_ref(), wanted.table())?;
        *self = wanted;
        Ok(true)
    }

    fn table(&self) -> Option<&Table> {
        match self {
            Self::On(table) => Some(table),
            Self::Unknown | Self::Off => None,
        }
    }
}

/// All that a router has beside its rules.
#[derive(Debug)]
struct Rest {
    services: BTreeSet<IpAddr>,
    links: BTreeMap<String, EniLink>,
    detours: BTreeMap<u32, Detour>,
    blocks: Blocks,
    seen_at: Instant,
}

impl Rest {
    /// Whether `wanted` is the same and was seen not long ago.
    fn covers(&self, wanted: &Self) -> bool {
        wanted.seen_at.duration_since(self.seen_at) < LOOK_EVERY
            && (&self.services, &self.links, &self.detours, &self.blocks)
                == (&wanted.services, &wanted.links, &wanted.detours, &wanted.blocks)
    }
}

/// What a pass has changed, and what it could not do yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub attached: Vec<String>,
    pub detached: Vec<String>,
    /// ENIs whose instance has no network namespace yet, or something else in their place.
    pub waiting: Vec<String>,
    /// ENIs that are in place and whose instance takes no configuration.
    pub unconfigured: Vec<String>,
    /// The rules are in the kernel, and nothing else was looked at. Another pass is to follow.
    pub is_partial: bool,
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
    pub(crate) fn request(what: &str) -> impl Fn(RequestError) -> Self + use<> {
        let what = what.to_owned();
        move |source| Self::Request { what: what.clone(), source }
    }
}

/// Settings of the router's namespace; links inherit `default` when they are made.
const SYSCTLS: [(&str, &str); 10] = [
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
];

/// Those of IPv6, once its rules are there. Nobody tells the router anything: it tells them.
const IPV6_SYSCTLS: [(&str, &str); 6] = [
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/autoconf", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
];

const NO_IPV6_SYSCTLS: [(&str, &str); 2] =
    [("net/ipv6/conf/all/disable_ipv6", "1"), ("net/ipv6/conf/default/disable_ipv6", "1")];

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
        let (blocks, now) = (Blocks::of(spec), Instant::now());
        blocking(move || router.apply_now(wanted, blocks, now)).await
    }

    /// Removes the router with all links that end in it.
    pub async fn remove(&self) -> Result<(), ApplyError> {
        let router = self.clone();
        blocking(move || router.remove_now()).await
    }

    fn apply_now(
        &self,
        wanted: KernelState,
        blocks: Blocks,
        now: Instant,
    ) -> Result<Applied, ApplyError> {
        // One pass at a time: two would undo each other's work.
        let mut remembered = self.applied.lock();
        let is_new =
            linux_netns::create(&self.netns).map_err(|source| ApplyError::Netns { source })?;
        if is_new {
            *remembered = Remembered::default();
        }
        let path = linux_netns::path(&self.netns);
        if remembered.table.is_none() {
            sysctls(&path, &SYSCTLS)?;
        }
        // What fails on the way is looked at again.
        let seen = remembered.rest.take();
        let KernelState { services, links, detours, table, ipv6_table } = wanted;
        let has_other_ipv6_rules =
            remembered.ipv6.become_now(ipv6_table, |old, new| apply_ipv6(&path, old, new))?;
        let has_other_ipv4_rules = remembered.table.as_ref() != Some(&table);
        let has_other_rules = has_other_ipv4_rules || has_other_ipv6_rules;
        if has_other_ipv4_rules {
            let old = remembered.table.take();
            Nft::at(&path)
                .update(old.as_ref(), &table)
                .map_err(|source| ApplyError::Rules { source })?;
            remembered.table = Some(table);
        }
        let rest = Rest { services, links, detours, blocks, seen_at: now };
        if let Some(seen) = seen.filter(|it| has_other_rules && it.covers(&rest)) {
            remembered.rest = Some(seen);
            return Ok(Applied { is_partial: true, ..Applied::default() });
        }
        let applied = self.apply_rest(&rest, &path, &mut remembered)?;
        let is_whole = applied.waiting.is_empty() && applied.unconfigured.is_empty();
        remembered.rest = is_whole.then_some(rest);
        if remembered.unconfigured != applied.unconfigured {
            if !applied.unconfigured.is_empty() {
                let enis = applied.unconfigured.join(", ");
                tracing::warn!(enis, "instances take no configuration of these interfaces");
            }
            remembered.unconfigured.clone_from(&applied.unconfigured);
        }
        Ok(applied)
    }

    fn apply_rest(
        &self,
        rest: &Rest,
        path: &Path,
        remembered: &mut Remembered,
    ) -> Result<Applied, ApplyError> {
        let netlink = Netlink::at(path).map_err(|source| ApplyError::Open { source })?;
        services(&netlink, &rest.services)?;
        let has_ipv6 = remembered.ipv6.table().is_some();
        drop_silently(&netlink, has_ipv6)?;
        if let Some(egress) = &self.egress {
            egress::apply(egress, &netlink, path, &rest.blocks, !remembered.has_way_out)?;
            remembered.has_way_out = true;
        }
        let applied = links::apply(&netlink, path, &rest.links)?;
        if has_ipv6 {
            ipv6::apply(&netlink, &rest.links)?;
        }
        detours::apply(&netlink, &rest.detours)?;
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

/// The rules before the packets: without rules there is no IPv6.
fn apply_ipv6(netns: &Path, old: Option<&Table>, new: Option<&Table>) -> Result<(), ApplyError> {
    let Some(new) = new else { return sysctls(netns, &NO_IPV6_SYSCTLS) };
    Nft::at(netns).update(old, new).map_err(|source| ApplyError::Rules { source })?;
    if old.is_none() { sysctls(netns, &IPV6_SYSCTLS) } else { Ok(()) }
}

fn sysctls(
    netns: &Path,
    wanted: &'static [(&'static str, &'static str)],
) -> Result<(), ApplyError> {
    let set = || wanted.iter().try_for_each(|(name, value)| sysctl(name, value));
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

fn services(netlink: &Netlink, wanted: &BTreeSet<IpAddr>) -> Result<(), ApplyError> {
    let failed = ApplyError::request("lo");
    let Some(lo) = netlink.link_by_name("lo").map_err(&failed)? else { return Ok(()) };
    if !lo.is_up {
        netlink.set_up(lo.index).map_err(&failed)?;
    }
    let present = netlink.addresses().map_err(&failed)?;
    for address in wanted {
        let net = IpNet::from(*address);
        if !present.iter().any(|it| it.index == lo.index && it.net == net) {
            netlink.add_address(lo.index, net).map_err(&failed)?;
        }
    }
    for gone in present.iter().filter(|it| it.index == lo.index) {
        let address = gone.net.addr();
        if !address.is_loopback() && !wanted.contains(&address) {
            netlink.delete_address(lo.index, gone.net).map_err(&failed)?;
        }
    }
    Ok(())
}

/// What the router has no way for is dropped: AWS's says nothing of it, where Linux would.
fn drop_silently(netlink: &Netlink, has_ipv6: bool) -> Result<(), ApplyError> {
    let everywhere = [IpNet::V4(Default::default()), IpNet::V6(Default::default())];
    for destination in everywhere.into_iter().filter(|it| has_ipv6 || it.addr().is_ipv4()) {
        let nowhere = Route::to(destination).kind(RouteKind::Blackhole).metric(LAST);
        netlink.add_route(&nowhere).map_err(ApplyError::request("the last route"))?;
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

#[cfg(test)]
mod tests {
    use linux_nftables::Family;

    use super::*;

    fn vanished() -> ApplyError {
        ApplyError::Vanished { link: "eni0".to_owned() }
    }

    #[test]
    fn a_pass_that_failed_does_not_count_as_the_end_of_ipv6() {
        let table = || Some(Table::new(Family::Ip6, "vpc"));
        let mut known = Ipv6::default();
        assert!(known.become_now(None, |_, _| Ok(())).unwrap(), "nothing is known at first");
        assert!(!known.become_now(None, |_, _| Err(vanished())).unwrap(), "it is off");
        assert!(known.become_now(table(), |_, _| Ok(())).unwrap());
        let mut other = table();
        other.as_mut().unwrap().chain("more");
        known.become_now(other.clone(), |_, _| Err(vanished())).unwrap_err();
        // The block is taken away before a pass succeeds: the kernel may have either table still.
        let mut applied = false;
        let is_other = known.become_now(None, |_, new| {
            applied = new.is_none();
            Ok(())
        });
        assert!(is_other.unwrap() && applied);
        assert!(
            known
                .become_now(other, |old, _| {
                    assert!(old.is_none());
                    Ok(())
                })
                .unwrap()
        );
    }
}
