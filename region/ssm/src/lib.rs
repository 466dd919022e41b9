//! Systems Manager: Parameter Store, Session Manager and Run Command.
//!
//! Public parameters (`/aws/service/…`) are given at start and cannot be written to. The account's
//! own are kept in the store. Sessions and commands are carried between clients and the agents that
//! run on instances, in the protocol of the message gateway (`ssmmessages`).
//!
//! Deviation: `SecureString` is refused, as there is no KMS; no history, labels or policies.

mod channels;
mod commands;
mod documents;
mod faults;
mod instances;
mod pages;
mod parameters;
mod public;
mod read;
mod serve;
mod service;
mod sessions;
mod tagging;
mod write;

pub use crate::{
    channels::ChannelService,
    instances::{Instance, Instances},
    public::{Ami, BottlerocketAmi, bottlerocket_parameters, eks_parameters},
    serve::routes,
    service::{Config, Ssm},
};

#[cfg(test)]
mod tests;
