//! What becomes of a connection in its VPC: `/v1/path?from=…&to=…&protocol=…&port=…&cluster=…`.
//! The cluster is whose control plane asks, where one does.
//!
//! The values are those that the routers' kernels are made from.

use std::net::IpAddr;

use anyhow::{Context, bail};
use region_elasticloadbalancing::load_balancer_of;
use region_vpc::{Packet, VpcSpec, can_reach};

use super::Admin;
use crate::{
    admin::VpcVerdict,
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
    let to: IpAddr = value("to")?.parse().context("`to` is no address")?;
    let packet = packet(to, value("protocol")?, value("port")?.parse().context("`port` is none")?)?;
    let specs = specs(admin);
    let (spec, from) = match value("from")? {
        CONTROL_PLANE => control_plane(admin, &specs, value("cluster").unwrap_or_default(), to)?,
        address => {
            let address: IpAddr = address.parse().context("`from` is no address")?;
            let found = specs.iter().find_map(|it| Some((it, it.owner(address)?)));
            let (spec, eni) =
                found.with_context(|| format!("no interface of EC2 owns {address}"))?;
            // An IPv6 node's pods reach what is IPv4 only by its own IPv4 address.
            let is_translated = address.is_ipv6() && to.is_ipv4();
            (spec, if is_translated { eni.primary.into() } else { address })
        }
    };
    Ok(VpcVerdict::of(spec, from, &can_reach(spec, from, to, packet)))
}

fn packet(to: IpAddr, protocol: &str, port: u16) -> anyhow::Result<Packet> {
    Ok(match protocol {
        "tcp" => Packet::Tcp { port },
        "udp" => Packet::Udp { port },
        // An echo request.
        "icmp" if to.is_ipv6() => Packet::Icmpv6 { kind: 128, code: 0 },
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
    let state = admin.region.ec2.view();
    for it in state.network_interfaces.iter() {
        if load_balancer_of(it.requester.as_deref(), &it.description).is_some() {
            planes.insert(it.id.clone(), (admin.names.load_balancer(&it.id), 0));
        }
    }
    let public = world::public_endpoints(&clusters);
    world::vpcs(&state, &planes, &public, &admin.names)
}

/// A control plane's interface in the VPC of `to`.
fn control_plane<'a>(
    admin: &Admin,
    specs: &'a [VpcSpec],
    cluster: &str,
    to: IpAddr,
) -> anyhow::Result<(&'a VpcSpec, IpAddr)> {
    let spec = specs.iter().find(|it| it.owner(to).is_some());
    let spec = spec.with_context(|| format!("no interface of EC2 owns {to}"))?;
    let clusters = admin.region.eks.clusters();
    let meant = clusters.iter().filter(|it| cluster.is_empty() || it.name == cluster);
    let ids = meant.flat_map(|it| &it.interfaces).map(|it| &it.id);
    let found = ids.into_iter().find_map(|id| spec.eni(id));
    let found = found.context("no control plane has an interface in that VPC")?;
    let ipv6 = found.ipv6_addresses.first().map(|it| IpAddr::V6(*it));
    let address = if to.is_ipv6() { ipv6 } else { Some(found.primary.into()) };
    Ok((spec, address.with_context(|| format!("{} has no IPv6 address", found.id))?))
}
