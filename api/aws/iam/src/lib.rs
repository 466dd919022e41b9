//! IAM: the shapes of its operations, and nothing else.
//!
//! Deviation: only the fields that some component of ours, Terraform or the AWS CLI reads.

mod group;
mod instance_profile;
mod oidc_provider;
mod policy;
mod role;
mod simulate;
mod types;
mod user;

pub use self::{
    group::*, instance_profile::*, oidc_provider::*, policy::*, role::*, simulate::*, types::*,
    user::*,
};
