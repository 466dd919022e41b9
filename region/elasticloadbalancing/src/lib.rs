//! Elastic Load Balancing: classic load balancers, from the call to the connection.
//!
//! Calls change records; [`ElasticLoadBalancing::run`] gives each load balancer an interface in each
//! of its subnets through EC2's own API; [`Balancers`] listens there, checks the instances' health and
//! carries connections to those in service. Both go through the VPC's router, so that security groups
//! and routes decide as on AWS.
//!
//! **Invariant:** a refused call changes nothing, and an answered one is durable.
//! **Invariant:** what a load balancer has in EC2 follows from the records alone: an interface that
//! belongs to none is deleted, also after a crash between the two.
//!
//! Upstream: Elastic Load Balancing API reference, version 2012-06-01, and the Classic Load Balancers
//! guide.
//! Deviation: listeners are TCP and HTTP: there are no server certificates in this region, so that SSL
//! and HTTPS listeners are refused as those of unknown certificates. No stickiness policies, no access
//! logs, no EC2-Classic, no IPv6.

mod attributes;
pub mod balancer;
mod faults;
mod health_check;
mod instances;
mod interfaces;
mod listeners;
mod load_balancers;
mod network;
mod policies;
pub mod records;
mod serve;
mod service;
mod shape;
mod tags;
#[cfg(test)]
mod tests;

pub use crate::{
    balancer::Balancers,
    interfaces::{REQUESTER, load_balancer_of},
    serve::routes,
    service::{Config, ElasticLoadBalancing},
    tags::HOST_ADDRESS,
};

pub(crate) use crate::service::Call;
