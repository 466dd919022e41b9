//! PID 1 of an instance.
//!
//! It reaps, brings the loopback link up, has `nodeadm` turn user data into a configured node, and
//! keeps containerd and the kubelet running. Only their main processes are its concern: a
//! container's shim survives the restart of both, as under systemd with `KillMode=process`.
//!
//! **Invariant:** the end of this process is the instance's power loss, after which it boots again,
//! unless it has said that it was switched off; on SIGTERM it ends only after what it started has
//! had its time.
//!
//! Deviation: EKS's AMI boots systemd, cloud-init and nodeadm as units. Here one program does what
//! a node needs of them, in the same order: configuration, user scripts, services.

mod access;
mod boot;
pub mod command;
mod images;
mod logs;
mod power;
mod readiness;
mod reaper;
mod restart;
mod services;
mod shutdown;
mod status;

pub use self::status::{Phase, ServiceStatus, Status};
