//! The EKS service: clusters, access entries, add-ons, updates.
//!
//! Handlers only check and write records; the reconciler ([`reconcile`]) brings the world in line
//! with them: the cluster security group and the control plane's interfaces through EC2's API, the
//! control plane through [`ControlPlanes`], the add-ons through the cluster's own API. It is
//! level-triggered and begins with what is there, so it goes on after a kill at any line.
//!
//! Deviation: `DescribeCluster` answers `https://127.0.0.1:PORT` as the endpoint to callers on the
//! region's own machine, since names under amazonaws.com cannot be resolved there; inside of a VPC
//! it is the usual name. One Kubernetes version is served; updates to another one are refused.

use api_kube as _;

mod access;
pub mod addons;
mod clusters;
mod fargate;
mod faults;
mod issuer;
mod lookups;
mod nodegroups;
mod pod_identity;
pub mod reconcile;
mod records;
mod routes;
mod service;
mod tags;
mod targets;
mod updates;

pub use self::{
    access::Mapping,
    fargate::admission::{FargateEndpoint, FargateWebhook},
    issuer::IssuerService,
    pod_identity::SERVICE as POD_IDENTITY_SERVICE,
    records::{
        AccessEntry, Addon, AssociatedPolicy, Cluster, Interface, PodIdentityAssociation, Status,
        Update,
    },
    routes::routes,
    service::{
        Config, ControlPlane, ControlPlaneError, ControlPlanes, Eks, KUBERNETES_VERSION, Roles,
        Trust,
    },
};
