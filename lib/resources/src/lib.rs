//! Quantities, and what pods ask of nodes.
//!
//! Kubernetes counts in decimal fixed point with two families of suffixes. This crate reads and
//! writes them as upstream does and adds them up the way upstream's scheduler and kubelet do, so
//! that everything that decides about room (scheduler, kubelet, vpc-cni, autoscalers) agrees.
//!
//! **Invariant:** no floating point takes part in a decision about room.

mod amounts;
mod pod;
mod qos;
mod quantity;
mod quota;

pub use self::{
    amounts::{Amounts, node_allocatable, node_capacity},
    pod::{container_requests, pod_limits, pod_nonzero_requests, pod_requests},
    qos::{QosClass, qos_class},
    quantity::{Format, ParseQuantityError, Quantity},
    quota::{Counted, quota_kind},
};
