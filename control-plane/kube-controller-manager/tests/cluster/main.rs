//! The controllers and the scheduler against the real API server, in virtual time.
//!
//! Kubelets are imitated by [`support::kubelet`]: they run whatever is bound to a node.

mod batch;
mod certificates;
mod lifecycle;
mod support;
mod workloads;
