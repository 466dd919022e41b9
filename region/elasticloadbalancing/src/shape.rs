//! How a load balancer looks to clients.

use aws_elasticloadbalancing::{
    instance::Instance,
    listener::{Listener, ListenerDescription},
    load_balancer::{
        BackendServerDescription, LoadBalancerDescription, Policies, SourceSecurityGroup,
    },
};

use crate::{health_check, records::LoadBalancer};

/// The hosted zone of load balancers' names in us-east-1.
const HOSTED_ZONE: &str = "Z35SXDOTRQ7X7K";

pub(crate) fn description(it: &LoadBalancer, account: &str) -> LoadBalancerDescription {
    let backend = it.backend_policies.iter().map(|(port, names)| BackendServerDescription {
        instance_port: Some((*port).into()),
        policy_names: names.iter().cloned().collect(),
    });
    let mut zones: Vec<String> = it.subnets.values().cloned().collect();
    zones.sort();
    LoadBalancerDescription {
        load_balancer_name: Some(it.name.clone()),
        dns_name: Some(it.dns_name.clone()),
        canonical_hosted_zone_name: (!it.is_internal).then(|| it.dns_name.clone()),
        canonical_hosted_zone_name_id: Some(HOSTED_ZONE.to_owned()),
        listener_descriptions: listeners(it),
        policies: Policies {
            other_policies: it.policies.keys().cloned().collect(),
            ..Policies::default()
        },
        backend_server_descriptions: backend.collect(),
        availability_zones: zones,
        subnets: it.subnets.keys().cloned().collect(),
        vpc_id: Some(it.vpc_id.clone()),
        instances: instances(it),
        health_check: Some(health_check::answer(&it.health_check)),
        source_security_group: Some(SourceSecurityGroup {
            owner_alias: Some(account.to_owned()),
            group_name: Some(it.source_group.clone()),
        }),
        security_groups: it.security_groups.clone(),
        created_time: Some(format!("{:.3}", it.created_at)),
        scheme: Some(if it.is_internal { "internal" } else { "internet-facing" }.to_owned()),
    }
}

pub(crate) fn instances(it: &LoadBalancer) -> Vec<Instance> {
    it.instances.iter().map(|id| Instance { instance_id: Some(id.clone()) }).collect()
}

fn listeners(it: &LoadBalancer) -> Vec<ListenerDescription> {
    let described = it.listeners.iter().map(|(port, listener)| ListenerDescription {
        listener: Some(Listener {
            protocol: listener.protocol.name().to_owned(),
            load_balancer_port: (*port).into(),
            instance_protocol: Some(listener.protocol.name().to_owned()),
            instance_port: listener.instance_port.into(),
            ssl_certificate_id: None,
        }),
        policy_names: Vec::new(),
    });
    described.collect()
}
