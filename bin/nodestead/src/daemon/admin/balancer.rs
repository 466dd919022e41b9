//! A Service's load balancer as the region has it:
//! `/v1/load-balancer?service=NAMESPACE/NAME&cluster=NAME`.

use anyhow::{Context, bail};
use region_elasticloadbalancing::{balancer::Health, load_balancer_of, records::LoadBalancer};

use super::Admin;
use crate::{
    admin::{BalancerListener, BalancerMember, BalancerNode, BalancerView},
    daemon::world,
};

const SERVICE: &str = "kubernetes.io/service-name";

pub(super) fn answer(admin: &Admin, query: &str) -> anyhow::Result<BalancerView> {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|it| it.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let name = value("service").context("no `service` in the question")?;
    let cluster = value("cluster").filter(|it| !it.is_empty());
    let tag = cluster.map(|it| format!("kubernetes.io/cluster/{it}"));
    let all = admin.region.load_balancing.load_balancers();
    let is_its = |it: &&std::sync::Arc<LoadBalancer>| {
        it.tags.get(SERVICE).is_some_and(|service| service == name)
            && tag.as_ref().is_none_or(|tag| it.tags.contains_key(tag))
    };
    match all.iter().find(is_its) {
        Some(record) => Ok(view(admin, record)),
        None => bail!("the region has no load balancer for Service `{name}`"),
    }
}

fn view(admin: &Admin, record: &LoadBalancer) -> BalancerView {
    let state = admin.region.ec2.view();
    let health = admin.region.load_balancing.balancers().health(&record.name);
    let listener =
        |(port, it): (&u16, &region_elasticloadbalancing::records::Listener)| BalancerListener {
            port: *port,
            protocol: it.protocol.name().to_owned(),
            instance_port: it.instance_port,
        };
    let is_own = |it: &&region_ec2::records::NetworkInterface| {
        load_balancer_of(it.requester.as_deref(), &it.description) == Some(record.name.as_str())
    };
    let node = |it: &region_ec2::records::NetworkInterface| BalancerNode {
        address: it.primary_address,
        zone: it.zone.clone(),
    };
    let member = |id: &String| {
        let instance = state.instances.get(id)?;
        Some(BalancerMember {
            instance: id.clone(),
            address: world::primary(&state, id)?.primary_address,
            zone: instance.zone.clone(),
            is_in_service: health.get(id) == Some(&Health::InService),
        })
    };
    BalancerView {
        name: record.name.clone(),
        is_cross_zone: record.attributes.cross_zone,
        listeners: record.listeners.iter().map(listener).collect(),
        nodes: state.network_interfaces.iter().filter(is_own).map(node).collect(),
        members: record.instances.iter().filter_map(member).collect(),
    }
}
