//! ipamd: owns a node's network interfaces and gives their addresses to pods.
//!
//! It is the `aws-node` container. It reads from IMDS what the instance has, keeps a warm pool of
//! addresses by calling EC2 with the node role's rights, and answers the CNI plug-in on a Unix
//! socket. Only when it can answer does it write the network configuration: that file is what makes
//! the node Ready.
//!
//! - [`config`]: the environment of the DaemonSet · [`warm_pool`]: how many addresses are wanted
//! - [`datastore`]: which there are and who has them · [`plan`]: the next step, as a value
//! - [`pods`], [`cni_node`]: security groups for pods
//! - [`eni_config`]: custom networking · [`shortage`]: what is told where there is no address
//! - [`cloud`], [`metadata`]: EC2 and IMDS · [`network`]: routes, rules and SNAT of the node
//! - [`ipamd`]: the loop · [`server`]: the plug-in's socket · [`command`], [`init`]: entry points
//!
//! **Invariant:** an address is given to one sandbox at a time, what was given is on disk before
//! the plug-in hears of it, and an address that was given back rests for 30 s.
//!
//! Upstream: amazon-vpc-cni-k8s `pkg/ipamd`.
//! Deviation: several network cards are refused at start, not ignored.

use api_kube as _;

pub mod checkpoint;
pub mod cloud;
pub mod cni_node;
pub mod command;
pub mod config;
pub mod datastore;
pub mod eni_config;
pub mod events;
mod files;
pub mod host_ports;
pub mod init;
pub mod introspection;
pub mod ipamd;
pub mod metadata;
pub mod metrics;
pub mod network;
pub mod plan;
pub mod pods;
pub mod server;
pub mod shortage;
pub mod warm_pool;
