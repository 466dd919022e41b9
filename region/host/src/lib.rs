//! An EC2 instance as an isolated Linux host.
//!
//! An instance is a set of namespaces around a PID 1 (`nodestead run init`), with its own root file
//! system, `/dev`, `/proc` and `/sys`, its own cgroup subtree and a network namespace that the VPC
//! gives it interfaces in. [`Hosts`] makes, finds, stops and removes them; [`launch`] is the process
//! that becomes one; [`ami`] makes the root file system that they share.
//!
//! All mounts are made inside of the instance's own mount namespace, so nothing is ever mounted on
//! the machine itself and the end of PID 1 takes all of them along.
//!
//! **Invariant:** an instance outlives the process that started it. What is known of it is in its
//! folder: `spec.json`, and `state.json` with the PID and start time of its PID 1.
//!
//! Deviation: an EC2 instance is a virtual machine. Here the kernel is shared: privileged pods are
//! root on the machine, kernel settings that are not per namespace are the machine's, and the
//! machine's memory and CPUs are shared where an instance type has more than there is.

pub mod ami;
mod devices;
mod exec;
mod facts;
mod hibernation;
mod hosts;
pub mod image;
mod inside;
pub mod launch;
mod layer;
mod limits;
mod power;
mod processes;
mod spec;
mod state;

pub use self::{
    exec::ExecError,
    hosts::{Condition, HostError, Hosts, Observed},
    layer::own_file,
    limits::{Limit, limits},
    processes::processes_of_an_instance,
    spec::{HostSpec, Remains},
};
