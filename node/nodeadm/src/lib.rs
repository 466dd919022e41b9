//! Turns an instance's user data into a configured node.
//!
//! `nodeadm init` reads user data, merges its `NodeConfig` parts, learns from IMDS and EC2 what
//! instance this is, and writes the configuration of containerd and of the kubelet. Then it runs
//! the user's scripts, once per instance, so that they can change what was written before any
//! service reads it. Starting services is init's work; an instance of a warm pool is configured so far,
//! and no service starts before it is to enter service.
//!
//! The way from facts and wishes to files is pure ([`plan::plan`]); what can fail is named by its step,
//! since a node that does not join is mostly looked at through this program's last message.
//!
//! Upstream: nodeadm of awslabs/amazon-eks-ami (`node.eks.aws/v1alpha1`).
//!
//! Deviation: the kubelet's user configuration is merged into `config.json` instead of a drop-in
//! folder; the cgroup driver is cgroupfs; `localStorage` on an instance that has local disks,
//! `baseRuntimeSpec` and Outposts are refused; the machine's kernel settings (inotify, pid_max, max_map_count) are not touched.

pub mod access;
pub mod bootstrap_sh;
mod bottlerocket;
pub mod command;
mod containerd;
mod credentials;
pub mod endpoint;
mod expression;
mod facts;
mod files;
pub mod hybrid;
mod init;
mod kubeconfig;
mod kubelet;
mod merge;
pub mod node_config;
pub mod plan;
mod scripts;
mod source;
mod sysctl;
pub mod user_data;
mod warm_pool;

pub use self::{facts::Facts, files::PlannedFile, init::InitError};
