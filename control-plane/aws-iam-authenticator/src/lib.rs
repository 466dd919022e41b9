//! IAM principals as Kubernetes users: the client that makes tokens, the webhook that checks them,
//! and the authorizer of EKS access policies.
//!
//! A token is a presigned `GetCallerIdentity` URL. Whoever performs the request learns who signed
//! it; the header `x-k8s-aws-id` ties it to one cluster.
//!
//! Upstream: sigs.k8s.io/aws-iam-authenticator.
//! Deviation: mappings come from EKS access entries, behind [`Mappings`], and from the `aws-auth`
//! ConfigMap; mounted files, the CRD and SSO entries are not read.

mod access;
mod aws_auth;
mod client;
pub mod command;
mod config_map;
mod identity;
mod mapping;
mod policies;
mod review;
mod server;
mod sts;
mod token;

pub use self::{
    access::{AccessPolicies, AccessService, Association, Scope},
    aws_auth::{AwsAuth, EntryError},
    client::{ExecVersion, IssueTokenError, IssuedToken, issue_token},
    config_map::{ConfigMapMappings, NAME as CONFIG_MAP, NAMESPACE as CONFIG_MAP_NAMESPACE},
    identity::Identity,
    mapping::{Mapping, Mappings},
    server::{Authenticator, Config, RejectReason, TokenService},
    token::{TokenError, TokenRules, VerifiedUrl},
};
