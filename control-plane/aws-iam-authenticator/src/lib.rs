//! IAM principals as Kubernetes users: the client that makes tokens, the webhook that checks them,
//! and the authorizer of EKS access policies.
//!
//! A token is a presigned `GetCallerIdentity` URL. Whoever performs the request learns who signed
//! it; the header `x-k8s-aws-id` ties it to one cluster.
//!
//! Upstream: sigs.k8s.io/aws-iam-authenticator.
//! Deviation: mappings come from one source behind [`Mappings`] (EKS access entries); the
//! `aws-auth` ConfigMap and the CRD are not read.

mod access;
mod client;
pub mod command;
mod identity;
mod mapping;
mod policies;
mod review;
mod server;
mod sts;
mod token;

pub use self::{
    access::{AccessPolicies, AccessService, Association, Scope},
    client::{ExecVersion, IssueTokenError, IssuedToken, issue_token},
    identity::Identity,
    mapping::{Mapping, Mappings},
    server::{Authenticator, Config, RejectReason, TokenService},
    token::{TokenError, TokenRules, VerifiedUrl},
};
