//! The second half of a way by a node that is not the sender's: what it sends on, to whom, and with
//! which address.
//!
//! With the policy `Cluster` a node sends on with its own address what is not for a pod of its own;
//! with `Local` it keeps the sender's. Policies on the node see the sender's address in both cases: the
//! address is changed after they have decided.

use std::net::IpAddr;

use super::{
    Hop, Target, Vpc,
    cluster::Cluster,
    entries::{Arrived, Chosen, Entry, chosen},
    hops_of,
    parties::Party,
    policy,
};
use crate::cli::PathProtocol;

/// What has come to a node.
pub(super) struct Arrival<'a, V> {
    pub(super) cluster: &'a Cluster,
    pub(super) vpc: &'a V,
    pub(super) node: &'a Party,
    /// As the node sees it.
    pub(super) source: IpAddr,
    pub(super) protocol: PathProtocol,
    /// What it has passed already.
    pub(super) hops: Vec<Hop>,
}

impl<V: Vpc> Arrival<'_, V> {
    /// One for each endpoint that the node may choose.
    pub(super) async fn by(
        &self,
        entry: &Entry,
        (address, port): (IpAddr, u16),
    ) -> anyhow::Result<Vec<Target>> {
        match entry {
            Entry::HostPort { pod, port: inner } => {
                let node = self.node.node.as_deref().unwrap_or_default();
                let detail = format!("port {port} of {node} is {}'s port {inner}", pod.name);
                let hop = Hop::new("host port", true, detail);
                let to = pod.address.unwrap_or(address);
                let chosen = Chosen { hop, endpoints: vec![(to, *inner)], is_masqueraded: false };
                self.to_chosen(chosen, (address, port)).await
            }
            Entry::Service { port: service, kind } => {
                let node = self.node.node.as_deref().unwrap_or_default();
                let arrived = Arrived { node, source: Some(self.source), is_from_node: false };
                let chosen = chosen(self.cluster, (service, *kind), address, &arrived);
                self.to_chosen(chosen, (address, port)).await
            }
        }
    }

    pub(super) async fn to_chosen(
        &self,
        chosen: Chosen,
        at_node: (IpAddr, u16),
    ) -> anyhow::Result<Vec<Target>> {
        let mut hops = self.hops.clone();
        hops.push(chosen.hop);
        if hops.iter().any(|it| !it.is_allowed) {
            return Ok(vec![Target::of(at_node, None, hops)]);
        }
        let mut targets = Vec::new();
        for endpoint in chosen.endpoints {
            let to = self.cluster.party_at(endpoint.0);
            let mut hops = hops.clone();
            hops.extend(self.onward(endpoint, to.as_ref()).await?);
            targets.push(Target::of(endpoint, to, hops));
        }
        Ok(targets)
    }

    async fn onward(
        &self,
        (address, port): (IpAddr, u16),
        to: Option<&Party>,
    ) -> anyhow::Result<Vec<Hop>> {
        let is_by_branch = to.is_some_and(|to| self.cluster.cni.is_by_branch(to));
        let is_here = to.is_some_and(|to| to.node == self.node.node) && !is_by_branch;
        let mut hops = Vec::new();
        let mut sender = Party { address: Some(self.source), node: None, ..self.node.clone() };
        if !is_here && let Some(own) = self.node.address {
            let detail = format!("kube-proxy translates {} to {own}", self.source);
            hops.push(Hop::new("SNAT", true, detail));
            let from = own.to_string();
            let way = self.vpc.ask_masqueraded(&from, address, port, self.protocol);
            hops.extend(hops_of(&way.await?));
            sender = self.node.clone();
        }
        if let Some(to) = to.filter(|it| !it.is_host) {
            hops.extend(policy::ingress(self.cluster, &sender, to, port, self.protocol));
        }
        Ok(hops)
    }
}
