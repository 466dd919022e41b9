//! EC2: VPCs, interfaces, security groups, instances, launch templates, images.
//!
//! The service keeps records and answers calls; what the records mean for the kernel is compiled
//! elsewhere, from [`Ec2::view`], and what becomes of the hosts is reported to [`Ec2::report`].
//!
//! **Invariant:** a refused call changes nothing, and an answered one is durable.
//! Deviation: one account and one region; operations that are not listed in `serve` are
//! refused by the gateway.

mod addressing;
mod capacity_reservations;
mod client_tokens;
mod dhcp_options;
mod egress_only_internet_gateways;
mod elastic_ips;
mod events;
mod faults;
mod images;
mod instance_requirements;
mod instances;
mod internet_gateways;
mod ipv6_pool;
mod key_pairs;
mod launch_templates;
mod managed;
mod market;
pub mod names;
mod nat_gateways;
mod network_acls;
mod network_interfaces;
mod placement_groups;
mod prefix_lists;
mod query;
pub mod records;
mod route;
mod route_tables;
mod security_groups;
pub mod seed;
mod serve;
mod service;
mod snapshots;
mod spot;
mod state;
mod subnets;
mod tagging;
mod tags;
mod targets;
mod types;
mod usage;
mod vpc_endpoints;
mod vpcs;
mod zones;

pub use crate::{
    events::Event,
    prefix_lists::networks as prefix_list_networks,
    route::Next,
    serve::routes,
    service::{Config, Ec2, Environment, OpenEc2Error, ProfileInfo},
    state::{Record, State, Table},
    usage::Sample,
};

pub(crate) use crate::service::Call;

#[cfg(test)]
mod tests;
