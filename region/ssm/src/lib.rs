//! SSM Parameter Store: AWS's public parameters for EKS images, and parameters of the account.
//!
//! Public parameters (`/aws/service/…`) are given at start and cannot be written to. The account's
//! own are kept in the store.
//!
//! Deviation: `SecureString` is refused, as there is no KMS; no history, labels or policies.

mod parameters;
mod public;
mod read;
mod serve;
mod service;
mod tagging;
mod write;

pub use crate::{
    public::{Ami, BottlerocketAmi, bottlerocket_parameters, eks_parameters},
    serve::routes,
    service::{Config, Ssm},
};

#[cfg(test)]
mod tests;
