//! `nodestead explain path`: what becomes of a connection, hop by hop.
//!
//! The API server knows pods, Services, their endpoints and the PolicyEndpoints that the nodes'
//! agents enforce; the daemon answers for the VPC from the values that its routers' kernels are made
//! of. What each of them would do is computed by the same functions that the components use.
//!
//! Deviation: session affinity is not known here, so that all endpoints that a node may choose are
//! looked at. Pods with security groups of their own are taken to be in the enforcing mode
//! that the add-on has now; one that started before it was changed is in the older one.

mod arrival;
mod balancer;
mod cluster;
mod entries;
mod parties;
mod policy;
mod service;
#[cfg(test)]
mod worlds;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use self::{
    arrival::Arrival,
    cluster::{Cluster, Cni},
    entries::{Arrived, Entry, chosen},
    parties::{Party, Wanted},
};
use super::{REGION_LIMIT, within};
use crate::{
    admin::{Admin, DaemonStatus, VpcStep, VpcVerdict},
    cli::{ExplainPath, PathProtocol},
    clusters,
    failure::Failure,
    layout::Layout,
};

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    from: String,
    to: String,
    protocol: &'static str,
    /// Whether every endpoint that may be chosen is reached.
    is_allowed: bool,
    verdict: Verdict,
    /// How many of the targets are reached.
    reached: usize,
    /// What decides, in words.
    reason: String,
    /// Before a target is chosen.
    hops: Vec<Hop>,
    /// One for each endpoint that may be chosen.
    targets: Vec<Target>,
}

/// What becomes of connections, whichever endpoint each of them is sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Verdict {
    Allowed,
    /// It depends on the endpoint: some connections come through and others do not.
    Partly,
    #[default]
    Denied,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    address: IpAddr,
    port: u16,
    pod: Option<String>,
    is_allowed: bool,
    reason: String,
    hops: Vec<Hop>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hop {
    hop: String,
    is_allowed: bool,
    detail: String,
}

impl Explanation {
    /// What the hops before the targets and the targets come to. `nowhere` is why there is none.
    fn decided(mut self, nowhere: &str) -> Self {
        let refused = self.hops.iter().find(|it| !it.is_allowed).map(|it| it.detail.clone());
        let blocked = self.targets.iter().find(|it| !it.is_allowed).map(|it| it.reason.clone());
        let passed = self.targets.iter().find(|it| it.is_allowed).map(|it| it.reason.clone());
        self.verdict = match (&refused, &blocked, &passed) {
            (None, None, Some(_)) => Verdict::Allowed,
            (None, Some(_), Some(_)) => Verdict::Partly,
            _ => Verdict::Denied,
        };
        self.is_allowed = self.verdict == Verdict::Allowed;
        let ways = self.targets.iter().filter(|it| it.is_allowed).count();
        self.reached = if refused.is_some() { 0 } else { ways };
        self.reason = refused.or(blocked).or(passed).unwrap_or_else(|| nowhere.to_owned());
        self
    }

    /// Nothing comes through, for this reason.
    fn refused(mut self, hop: Hop) -> Self {
        self.reason.clone_from(&hop.detail);
        self.hops.push(hop);
        self
    }
}

impl Hop {
    fn new(hop: &str, is_allowed: bool, detail: impl Into<String>) -> Self {
        Self { hop: hop.to_owned(), is_allowed, detail: detail.into() }
    }
}

pub(crate) async fn run(args: &ExplainPath) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let explanation = within(REGION_LIMIT, "the region", answer(&layout, args)).await?;
    args.output.print(&explanation, rendered)
}

async fn answer(layout: &Layout, args: &ExplainPath) -> anyhow::Result<Explanation> {
    let admin = Admin::new(layout.admin_socket());
    let status: DaemonStatus = admin.get("/v1/status").await?;
    let name = clusters::chosen(layout, &status, args.within.cluster.as_deref())?;
    let cluster = Cluster::read(&clusters::client(layout, Some(&name)).await?).await?;
    let region = Region { admin, cluster: name };
    match args.from.as_str() {
        balancer::LOAD_BALANCER => by_balancer(&cluster, &region, args).await,
        from => explain(&cluster, &region, from, &args.to, args.protocol).await,
    }
}

async fn by_balancer(
    cluster: &Cluster,
    region: &Region,
    args: &ExplainPath,
) -> anyhow::Result<Explanation> {
    let wanted = parties::wanted(cluster, &args.to, args.protocol)?;
    let Wanted::Service { service, port } = wanted else {
        let next = "use NAMESPACE/SERVICE:PORT of a Service of type LoadBalancer";
        return Err(Failure::new(format!("`{}` is no Service", args.to), next).into());
    };
    let name = service::name_of(service);
    let of = &region.cluster;
    let path = format!("/v1/load-balancer?service={name}&cluster={of}");
    let view = region.admin.get(&path).await?;
    balancer::explain(cluster, region, &view, service, port.as_deref()).await
}

/// Who knows what a VPC does with a connection.
trait Vpc {
    /// From an address, or from the `control-plane`.
    async fn ask(
        &self,
        from: &str,
        to: IpAddr,
        port: u16,
        protocol: PathProtocol,
    ) -> anyhow::Result<VpcVerdict>;

    /// The same, from a port that a node draws when it sends on with its own address.
    async fn ask_masqueraded(
        &self,
        from: &str,
        to: IpAddr,
        port: u16,
        protocol: PathProtocol,
    ) -> anyhow::Result<VpcVerdict> {
        self.ask(from, to, port, protocol).await
    }
}

/// The region, asked about one of its clusters.
struct Region {
    admin: Admin,
    cluster: String,
}

impl Vpc for Region {
    async fn ask(
        &self,
        from: &str,
        to: IpAddr,
        port: u16,
        protocol: PathProtocol,
    ) -> anyhow::Result<VpcVerdict> {
        let (protocol, cluster) = (protocol.name(), &self.cluster);
        let packet = format!("from={from}&to={to}&protocol={protocol}&port={port}");
        self.admin.get(&format!("/v1/path?{packet}&cluster={cluster}")).await
    }
}

async fn explain(
    cluster: &Cluster,
    vpc: &impl Vpc,
    sender: &str,
    receiver: &str,
    protocol: PathProtocol,
) -> anyhow::Result<Explanation> {
    let from = parties::sender(cluster, sender)?;
    let wanted = parties::wanted(cluster, receiver, protocol)?;
    let way = Way { cluster, vpc, from: &from, protocol };
    let (hops, targets) = match &wanted {
        Wanted::Address { address, port } => way.to_address((*address, *port)).await?,
        Wanted::Service { service, port } => {
            let (hops, chosen) = service::choices(cluster, &from, service, port, protocol);
            (hops, way.to_each(chosen, false).await?)
        }
    };
    let told = Explanation {
        from: sender.to_owned(),
        to: receiver.to_owned(),
        protocol: protocol.name(),
        is_allowed: false,
        verdict: Verdict::default(),
        reached: 0,
        reason: String::new(),
        hops,
        targets,
    };
    Ok(told.decided(""))
}

/// From one party, by one protocol.
struct Way<'a, V> {
    cluster: &'a Cluster,
    vpc: &'a V,
    from: &'a Party,
    protocol: PathProtocol,
}

impl<V: Vpc> Way<'_, V> {
    /// To an address as it is, unless a node sends it elsewhere: the sender's own, or the one that has
    /// the address.
    async fn to_address(&self, to: (IpAddr, u16)) -> anyhow::Result<(Vec<Hop>, Vec<Target>)> {
        let (cluster, protocol) = (self.cluster, self.protocol);
        let is_loopback = to.0.is_loopback();
        if is_loopback && !(self.from.is_host && self.from.node.is_some()) {
            return Ok((Vec::new(), vec![self.never_leaves(to)]));
        }
        let here = self.from.node.as_deref();
        if let Some(entry) = here.and_then(|node| entries::find(cluster, node, to, protocol)) {
            return self.by_own_node(&entry, here.unwrap_or_default(), to).await;
        }
        if is_loopback {
            return Ok((Vec::new(), vec![self.never_leaves(to)]));
        }
        let other = cluster.party_at(to.0).filter(|it| it.is_host && it.node != self.from.node);
        if let Some(node) = other
            && let Some(entry) =
                entries::find(cluster, node.node.as_deref().unwrap_or_default(), to, protocol)
        {
            return Ok((Vec::new(), self.by_other_node(&entry, &node, to).await?));
        }
        Ok((Vec::new(), self.to_each(vec![to], false).await?))
    }

    fn never_leaves(&self, to: (IpAddr, u16)) -> Target {
        let detail = format!("{} is {} itself: the packet never leaves it", to.0, self.from.name);
        Target::of(to, Some(self.from.clone()), vec![Hop::new("loopback", true, detail)])
    }

    async fn by_own_node(
        &self,
        entry: &Entry,
        node: &str,
        to: (IpAddr, u16),
    ) -> anyhow::Result<(Vec<Hop>, Vec<Target>)> {
        match entry {
            Entry::HostPort { pod, port } => {
                let detail = format!("port {} of {node} is {}'s port {port}", to.1, pod.name);
                let endpoints = vec![(pod.address.unwrap_or(to.0), *port)];
                let hops = vec![Hop::new("host port", true, detail)];
                Ok((hops, self.to_each(endpoints, false).await?))
            }
            Entry::Service { port, kind } => {
                let (source, is_from_node) = (self.from.address, self.from.is_host);
                let arrived = Arrived { node, source, is_from_node };
                let chosen = chosen(self.cluster, (port, *kind), to.0, &arrived);
                let targets = self.to_each(chosen.endpoints, chosen.is_masqueraded).await?;
                Ok((vec![chosen.hop], targets))
            }
        }
    }

    async fn by_other_node(
        &self,
        entry: &Entry,
        node: &Party,
        to: (IpAddr, u16),
    ) -> anyhow::Result<Vec<Target>> {
        let (cluster, vpc, protocol) = (self.cluster, self.vpc, self.protocol);
        let mut hops = Vec::new();
        if !self.from.leaves_ipv6_for(to.0) {
            hops.extend(policy::egress(cluster, self.from, Some(node), to, protocol));
        }
        let source = snat(cluster, vpc, self.from, to.0, &mut hops).await?;
        let verdict = vpc.ask(&source, to.0, to.1, protocol).await?;
        hops.extend(hops_of(&verdict));
        let arrival = Arrival { cluster, vpc, node, source: verdict.from, protocol, hops };
        arrival.by(entry, to).await
    }

    async fn to_each(
        &self,
        addresses: Vec<(IpAddr, u16)>,
        is_masqueraded: bool,
    ) -> anyhow::Result<Vec<Target>> {
        let mut targets = Vec::new();
        for address in addresses {
            targets.push(self.target(address, is_masqueraded).await?);
        }
        Ok(targets)
    }

    /// One connection, after everybody has chosen.
    async fn target(
        &self,
        (address, port): (IpAddr, u16),
        is_masqueraded: bool,
    ) -> anyhow::Result<Target> {
        let (cluster, from, protocol) = (self.cluster, self.from, self.protocol);
        let to = cluster.party_at(address);
        let mut hops = Vec::new();
        // What an IPv6 pod has for IPv4 is a link that policies do not see, as on EKS.
        if !from.leaves_ipv6_for(address) {
            hops.extend(policy::egress(cluster, from, to.as_ref(), (address, port), protocol));
        }
        let is_near = to.as_ref().is_some_and(|to| stays_near(&cluster.cni, from, to));
        let mut reason = String::new();
        let mut sender = from.clone();
        if is_near {
            let node = from.node.clone().unwrap_or_default();
            reason =
                format!("it stays on {node}, where neither security groups nor network ACLs are");
            hops.push(Hop::new("node", true, reason.clone()));
        } else if from.address.is_some_and(|it| it.is_ipv4()) && address.is_ipv6() {
            reason = format!("{} has no IPv6 address to reach {address} from", from.name);
            hops.push(Hop::new("node", false, reason.clone()));
        } else {
            let masqueraded = match from.address.filter(|_| is_masqueraded) {
                Some(own) => self.masqueraded(own, address).await?,
                None => None,
            };
            let verdict = match masqueraded {
                Some(node) => {
                    if let Some(own) = from.address.filter(|own| *own != node) {
                        let detail = format!("kube-proxy translates {own} to {node}");
                        hops.push(Hop::new("SNAT", true, detail));
                    }
                    sender = Party { address: Some(node), is_host: true, ..from.clone() };
                    let node = node.to_string();
                    self.vpc.ask_masqueraded(&node, address, port, protocol).await?
                }
                None => {
                    let source = snat(cluster, self.vpc, from, address, &mut hops).await?;
                    self.vpc.ask(&source, address, port, protocol).await?
                }
            };
            reason.clone_from(&verdict.reason);
            hops.extend(hops_of(&verdict));
        }
        if let Some(to) = &to {
            hops.extend(policy::ingress(cluster, &sender, to, port, protocol));
        }
        let mut target = Target::of((address, port), to, hops);
        // What the VPC says of the whole way says more than its last hop.
        if !target.hops.last().is_some_and(|it| !it.is_allowed && is_policy(it)) {
            target.reason = reason;
        }
        Ok(target)
    }
}

impl<V: Vpc> Way<'_, V> {
    /// What the sender's node sends on with: the address of the interface by which a pod leaves it.
    async fn masqueraded(&self, own: IpAddr, to: IpAddr) -> anyhow::Result<Option<IpAddr>> {
        let known = self.vpc.ask(&own.to_string(), to, 0, PathProtocol::Icmp).await?;
        Ok(known.interface_address.or(self.from.node_address))
    }
}

fn is_policy(hop: &Hop) -> bool {
    hop.hop.starts_with("network policy")
}

impl Target {
    /// What comes after a refusal is never asked.
    fn of((address, port): (IpAddr, u16), to: Option<Party>, mut hops: Vec<Hop>) -> Self {
        if let Some(last) = hops.iter().position(|it| !it.is_allowed) {
            hops.truncate(last + 1);
        }
        let is_allowed = hops.iter().all(|it| it.is_allowed);
        let reason = hops.last().map(|it| it.detail.clone()).unwrap_or_default();
        Self { address, port, pod: to.map(|it| it.name), is_allowed, reason, hops }
    }
}

/// What the VPC's router looks at; the last one says no where it does.
fn hops_of(verdict: &VpcVerdict) -> Vec<Hop> {
    let hop = |it: &VpcStep| Hop::new(&it.hop, it.is_allowed, &*it.detail);
    let mut hops: Vec<Hop> = verdict.steps.iter().map(hop).collect();
    if !verdict.is_allowed && hops.iter().all(|it| it.is_allowed) {
        hops.push(Hop::new("vpc", false, &*verdict.reason));
    }
    hops
}

/// On one node, and neither end's packets go by a branch, which leads out to the VPC and back.
fn stays_near(cni: &Cni, from: &Party, to: &Party) -> bool {
    let is_on_branch = cni.is_by_branch(from) || cni.is_by_branch(to);
    to.node.is_some() && to.node == from.node && !is_on_branch
}

/// The address that the VPC sees: pods leave it by their node's, but for those on branches.
async fn snat(
    cluster: &Cluster,
    vpc: &impl Vpc,
    from: &Party,
    to: IpAddr,
    hops: &mut Vec<Hop>,
) -> anyhow::Result<String> {
    let Some(own) = from.address else { return Ok("control-plane".to_owned()) };
    let Some(node) = from.node_address.filter(|node| !from.is_host && *node != own) else {
        return Ok(own.to_string());
    };
    if cluster.cni.is_by_branch(from) || to.is_ipv6() {
        return Ok(own.to_string());
    }
    if own.is_ipv6() {
        let detail = format!("{to} is IPv4: it leaves by v4if0, with the IPv4 address of {node}");
        hops.push(Hop::new("SNAT", true, detail));
        return Ok(node.to_string());
    }
    let known = vpc.ask(&own.to_string(), to, 0, PathProtocol::Icmp).await?;
    let excluded = cluster.cni.exclude_snat_cidrs.iter().chain(&known.cidrs);
    if excluded.into_iter().any(|it| IpNet::V4(*it).contains(&to)) || cluster.cni.is_external_snat {
        return Ok(own.to_string());
    }
    let detail = format!("vpc-cni translates {own} to {node}, since {to} is outside of the VPC");
    hops.push(Hop::new("SNAT", true, detail));
    Ok(node.to_string())
}

fn rendered(it: &Explanation) -> String {
    let verdict = match it.verdict {
        Verdict::Allowed => "comes through".to_owned(),
        Verdict::Partly => format!("through {} of {} endpoints", it.reached, it.targets.len()),
        Verdict::Denied => "does not come through".to_owned(),
    };
    let mut text = format!("{} → {} ({}): {verdict}\n", it.from, it.to, it.protocol);
    if !it.reason.is_empty() {
        let what = if it.verdict == Verdict::Partly { "Not reached" } else { "Decided by" };
        text += &format!("{what}: {}\n", it.reason);
    }
    text += &hops(&it.hops, "");
    for target in &it.targets {
        let pod = target.pod.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        let is_reached = if target.is_allowed { "reached" } else { "not reached" };
        let address = std::net::SocketAddr::new(target.address, target.port);
        text += &format!("\n{address}{pod}: {is_reached}\n");
        text += &hops(&target.hops, "  ");
    }
    text
}

fn hops(hops: &[Hop], indent: &str) -> String {
    let line = |it: &Hop| {
        let mark = if it.is_allowed { "ok  " } else { "DENY" };
        format!("{indent}{mark} {}: {}\n", it.hop, it.detail)
    };
    hops.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_node(name: &str, has_branch: bool) -> Party {
        Party {
            name: name.to_owned(),
            address: Some([10, 0, 0, 1].into()),
            node: Some("n".to_owned()),
            node_address: Some([10, 0, 0, 2].into()),
            is_host: false,
            has_branch,
        }
    }

    #[test]
    fn a_pod_on_a_branch_is_near_nobody_unless_it_is_in_standard_mode() {
        let (plain, branch) = (on_node("a/plain", false), on_node("a/branch", true));
        let (strict, standard) =
            (Cni::default(), Cni { has_standard_branches: true, ..Cni::default() });
        assert!(stays_near(&strict, &plain, &plain));
        for (from, to) in [(&plain, &branch), (&branch, &plain), (&branch, &branch)] {
            assert!(!stays_near(&strict, from, to), "{} → {}", from.name, to.name);
            assert!(stays_near(&standard, from, to), "{} → {}", from.name, to.name);
        }
    }

    fn told(hop: Hop, reached: &[bool]) -> Explanation {
        let target = |(at, is_allowed): (u8, bool)| {
            let reason = format!("rule {at}");
            let hops = vec![Hop::new("security group", is_allowed, &*reason)];
            let (address, port) = (std::net::Ipv4Addr::new(10, 0, 0, at).into(), 80);
            Target { address, port, pod: Some(format!("a/p{at}")), is_allowed, reason, hops }
        };
        let told = Explanation {
            from: "a/x".to_owned(),
            to: "a/web:80".to_owned(),
            protocol: "tcp",
            is_allowed: false,
            verdict: Verdict::default(),
            reached: 0,
            reason: String::new(),
            hops: vec![hop],
            targets: (1..).zip(reached.iter().copied()).map(target).collect(),
        };
        told.decided("nowhere")
    }

    #[test]
    fn a_service_of_which_one_endpoint_is_not_reached_is_reached_in_part() {
        let fine = || Hop::new("Service", true, "one of them");
        let some = told(fine(), &[true, false]);
        assert_eq!((some.verdict, some.reached, some.is_allowed), (Verdict::Partly, 1, false));
        let json = serde_json::to_value(&some).unwrap();
        assert_eq!(json["verdict"], "partly");
        assert_eq!(json["reached"], 1);
        let text = rendered(&some);
        assert!(text.contains("a/x → a/web:80 (tcp): through 1 of 2 endpoints\n"), "{text}");
        assert!(text.contains("Not reached: rule 2\n"), "{text}");
        assert!(text.contains("10.0.0.1:80 (a/p1): reached\n"), "{text}");
        assert!(text.contains("10.0.0.2:80 (a/p2): not reached\n"), "{text}");
        let (all, none) = (told(fine(), &[true, true]), told(fine(), &[false, false]));
        assert_eq!((all.verdict, all.is_allowed), (Verdict::Allowed, true));
        assert_eq!((none.verdict, none.reached, &*none.reason), (Verdict::Denied, 0, "rule 1"));
        let refused = told(Hop::new("Service", false, "no endpoint"), &[]);
        assert_eq!((refused.verdict, &*refused.reason), (Verdict::Denied, "no endpoint"));
        assert_eq!(told(fine(), &[]).reason, "nowhere");
    }
}
