//! `nodestead explain path`: what becomes of a connection, hop by hop.
//!
//! The API server knows pods, Services, their endpoints and the PolicyEndpoints that the nodes'
//! agents enforce; the daemon answers for the VPC from the values that its routers' kernels are made
//! of. What each of them would do is computed by the same functions that the components use.
//!
//! Deviation: session affinity is not known here, so that all endpoints that a node may choose are
//! looked at; IPv6 is not.

mod cluster;
mod parties;
mod policy;
mod service;

use std::net::Ipv4Addr;

use serde::Serialize;

use self::{
    cluster::Cluster,
    parties::{Party, Wanted},
};
use crate::{
    admin::{Admin, VpcVerdict},
    cli::{ExplainPath, Format, PathProtocol},
    kubernetes,
    layout::Layout,
};

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    from: String,
    to: String,
    protocol: &'static str,
    is_allowed: bool,
    /// What decides, in words.
    reason: String,
    /// Before a target is chosen.
    hops: Vec<Hop>,
    /// One for each endpoint that may be chosen.
    targets: Vec<Target>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    address: Ipv4Addr,
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

impl Hop {
    fn new(hop: &str, is_allowed: bool, detail: impl Into<String>) -> Self {
        Self { hop: hop.to_owned(), is_allowed, detail: detail.into() }
    }
}

pub(crate) async fn run(args: &ExplainPath) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let cluster = Cluster::read(&kubernetes::client(&layout).await?).await?;
    let admin = Admin::new(layout.admin_socket());
    let explanation = explain(&cluster, &admin, args).await?;
    match args.output.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&explanation)?),
        Format::Table => print!("{}", rendered(&explanation)),
    }
    Ok(())
}

async fn explain(
    cluster: &Cluster,
    admin: &Admin,
    args: &ExplainPath,
) -> anyhow::Result<Explanation> {
    let from = parties::sender(cluster, &args.from)?;
    let wanted = parties::wanted(cluster, &args.to, args.protocol)?;
    let (hops, addresses) = match &wanted {
        Wanted::Address { address, port } => (Vec::new(), vec![(*address, *port)]),
        Wanted::Service { service, port } => service::choices(cluster, &from, service, port),
    };
    let mut targets = Vec::new();
    for (address, port) in addresses {
        targets.push(target(cluster, admin, &from, (address, port), args.protocol).await?);
    }
    let refused = hops.iter().find(|it| !it.is_allowed).map(|it| it.detail.clone());
    let blocked = targets.iter().find(|it| !it.is_allowed).map(|it| it.reason.clone());
    let passed = targets.first().map(|it| it.reason.clone());
    let is_allowed = refused.is_none() && blocked.is_none() && !targets.is_empty();
    Ok(Explanation {
        from: args.from.clone(),
        to: args.to.clone(),
        protocol: args.protocol.name(),
        is_allowed,
        reason: refused.or(blocked).or(passed).unwrap_or_default(),
        hops,
        targets,
    })
}

/// One connection, after everybody has chosen.
async fn target(
    cluster: &Cluster,
    admin: &Admin,
    from: &Party,
    (address, port): (Ipv4Addr, u16),
    protocol: PathProtocol,
) -> anyhow::Result<Target> {
    let to = cluster.party_at(address);
    let mut hops: Vec<Hop> =
        policy::egress(cluster, from, address, port, protocol).into_iter().collect();
    let is_near = to.as_ref().is_some_and(|to| to.node.is_some() && to.node == from.node);
    let mut reason = String::new();
    if is_near {
        let node = from.node.clone().unwrap_or_default();
        reason = format!("it stays on {node}, where neither security groups nor network ACLs are");
        hops.push(Hop::new("node", true, reason.clone()));
    } else {
        let source = snat(cluster, admin, from, address, &mut hops).await?;
        let verdict = ask(admin, &source, address, port, protocol).await?;
        reason.clone_from(&verdict.reason);
        hops.extend(verdict.steps.iter().map(|it| Hop::new(&it.hop, it.is_allowed, &*it.detail)));
        let is_said = hops.iter().any(|it| !it.is_allowed);
        if !verdict.is_allowed && !is_said {
            hops.push(Hop::new("vpc", false, &*verdict.reason));
        }
    }
    if let Some(to) = &to {
        hops.extend(policy::ingress(cluster, from, to, port, protocol));
    }
    // What comes after a refusal is never asked.
    if let Some(last) = hops.iter().position(|it| !it.is_allowed) {
        hops.truncate(last + 1);
        if hops[last].hop.starts_with("network policy") {
            reason.clone_from(&hops[last].detail);
        }
    }
    let is_allowed = hops.iter().all(|it| it.is_allowed);
    Ok(Target { address, port, pod: to.map(|it| it.name), is_allowed, reason, hops })
}

/// The address that the VPC sees: pods leave it by their node's.
async fn snat(
    cluster: &Cluster,
    admin: &Admin,
    from: &Party,
    to: Ipv4Addr,
    hops: &mut Vec<Hop>,
) -> anyhow::Result<String> {
    let Some(own) = from.address else { return Ok("control-plane".to_owned()) };
    let Some(node) = from.node_address.filter(|node| !from.is_host && *node != own) else {
        return Ok(own.to_string());
    };
    let known = ask(admin, &own.to_string(), to, 0, PathProtocol::Icmp).await?;
    let excluded = cluster.cni.exclude_snat_cidrs.iter().chain(&known.cidrs);
    if excluded.into_iter().any(|it| it.contains(&to)) || cluster.cni.is_external_snat {
        return Ok(own.to_string());
    }
    let detail = format!("vpc-cni translates {own} to {node}, since {to} is outside of the VPC");
    hops.push(Hop::new("SNAT", true, detail));
    Ok(node.to_string())
}

async fn ask(
    admin: &Admin,
    from: &str,
    to: Ipv4Addr,
    port: u16,
    protocol: PathProtocol,
) -> anyhow::Result<VpcVerdict> {
    let protocol = protocol.name();
    admin.get(&format!("/v1/path?from={from}&to={to}&protocol={protocol}&port={port}")).await
}

fn rendered(it: &Explanation) -> String {
    let verdict = if it.is_allowed { "comes through" } else { "does not come through" };
    let mut text = format!("{} → {} ({}): {verdict}\n", it.from, it.to, it.protocol);
    if !it.reason.is_empty() {
        text += &format!("Decided by: {}\n", it.reason);
    }
    text += &hops(&it.hops, "");
    for target in &it.targets {
        let pod = target.pod.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        text += &format!("\n{}:{}{pod}\n", target.address, target.port);
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
