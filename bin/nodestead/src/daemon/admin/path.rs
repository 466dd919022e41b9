//! What becomes of a connection in its VPC: `/v1/path?from=…&to=…&protocol=…&port=…`.
//!
//! The values are those that the routers' kernels are made from.

use std::net::Ipv4Addr;

use anyhow::{Context, bail};
use region_vpc::{Packet, Step, VpcSpec, can_reach};

use super::Admin;
use crate::{
    admin::{VpcStep, VpcVerdict},
    daemon::world::{self, ControlPlanes},
};

/// Who asks as the API server does.
const CONTROL_PLANE: &str = "control-plane";

pub(super) fn answer(admin: &Admin, query: &str) -> anyhow::Result<VpcVerdict> {
    let value = |name: &str| {
        let pairs = query.split('&').filter_map(|it| it.split_once('='));
        let found = pairs.into_iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value).with_context(|| format!("no `{name}` in the question"))
    };
    let to: Ipv4Addr = value("to")?.parse().context("`to` is no IPv4 address")?;
    let packet = packet(value("protocol")?, value("port")?.parse().context("`port` is none")?)?;
    let specs = specs(admin);
    let (spec, from) = match value("from")? {
        CONTROL_PLANE => control_plane(admin, &specs, to)?,
        address => {
            let address: Ipv4Addr = address.parse().context("`from` is no IPv4 address")?;
            let owner = specs.iter().find(|it| it.owner(address).is_some());
            let owner = owner.with_context(|| format!("no interface of EC2 owns {address}"))?;
            (owner, address)
        }
    };
    let verdict = can_reach(spec, from, to, packet);
    Ok(VpcVerdict {
        vpc: spec.id.clone(),
        from,
        cidrs: spec.cidrs.clone(),
        is_allowed: verdict.is_allowed,
        arrives: verdict.arrives,
        reason: verdict.reason.to_string(),
        steps: verdict.steps.iter().map(step).collect(),
    })
}

fn packet(protocol: &str, port: u16) -> anyhow::Result<Packet> {
    Ok(match protocol {
        "tcp" => Packet::Tcp { port },
        "udp" => Packet::Udp { port },
        // An echo request.
        "icmp" => Packet::Icmp { kind: 8, code: 0 },
        other => bail!("`{other}` is no protocol that is known here"),
    })
}

fn specs(admin: &Admin) -> Vec<VpcSpec> {
    let clusters = admin.region.eks.clusters();
    let mut planes = ControlPlanes::new();
    for cluster in &clusters {
        let netns = admin.names.control_plane(&cluster.name);
        for (index, interface) in cluster.interfaces.iter().enumerate() {
            planes.insert(interface.id.clone(), (netns.clone(), index));
        }
    }
    let public = world::public_endpoints(&clusters);
    world::vpcs(&admin.region.ec2.view(), &planes, &public, &admin.names)
}

/// A control plane's interface in the VPC of `to`.
fn control_plane<'a>(
    admin: &Admin,
    specs: &'a [VpcSpec],
    to: Ipv4Addr,
) -> anyhow::Result<(&'a VpcSpec, Ipv4Addr)> {
    let spec = specs.iter().find(|it| it.owner(to).is_some());
    let spec = spec.with_context(|| format!("no interface of EC2 owns {to}"))?;
    let clusters = admin.region.eks.clusters();
    let ids = clusters.iter().flat_map(|it| &it.interfaces).map(|it| &it.id);
    let found = ids.into_iter().find_map(|id| spec.eni(id));
    let found = found.context("no control plane has an interface in that VPC")?;
    Ok((spec, found.primary))
}

fn step(step: &Step) -> VpcStep {
    let (hop, is_allowed) = match step {
        Step::SourceCheck { .. } => ("source check", true),
        Step::Route { route, .. } => ("route", route.is_some()),
        Step::Egress { rule, .. } => ("security group egress", rule.is_some()),
        Step::Ingress { rule, .. } => ("security group ingress", rule.is_some()),
        Step::Acl { denied_by, .. } => ("network ACL", denied_by.is_none()),
    };
    VpcStep { hop: hop.to_owned(), is_allowed, detail: step.to_string() }
}
