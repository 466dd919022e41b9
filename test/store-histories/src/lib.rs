//! What tests of a store under failures need: a record of what clients asked and were answered, a
//! checker that says whether some order explains it, and etcd clusters whose members can be killed.

mod checker;
mod cluster;
mod record;

pub use self::{
    checker::{Violation, check},
    cluster::Cluster,
    record::{Answer, Ask, Operation, Recorder, Ticket},
};
