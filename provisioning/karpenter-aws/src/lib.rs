//! Karpenter on AWS: instances for pending pods, through the Kubernetes and AWS APIs alone.
//!
//! [`instance_types()`] says which types an EC2NodeClass offers, with which labels, how much room for
//! pods, in which zones and at which price; [`run`] runs the controllers. Decisions are
//! `karpenter-core`'s.
//!
//! Upstream: kubernetes-sigs/karpenter and aws/karpenter-provider-aws (v1.14). Deviation: no
//! Windows; On-Demand prices are those of the table, not the Price List's.

use api_kube as _;

mod cloud;
pub mod command;
mod controllers;
mod instance_type;
mod kubelet;
mod market;
mod metrics;
mod offers;
mod user_data;

pub use karpenter_core::{MinValues, Preferences};

pub use self::{
    controllers::{Config, FeatureGates, run},
    instance_type::instance_types,
    kubelet::Kubelet,
    market::{Group, Market, Reserved, Zone, spoken_for},
    metrics::Metrics,
    offers::{is_ready, offers},
};
