//! IAM policy documents and their evaluation, as a pure function.
//!
//! [`evaluate`] takes a request and the policies that apply to it and returns the decision together
//! with the statement that made it. Nothing here knows users, roles or HTTP.
//!
//! A variable without a value makes no negated test a grant, and lifts no denial that has one.
//!
//! Deviation: SCPs and RCPs are not evaluated; there is one account and no organization.
//!
//! Source: "Policy evaluation logic" and "IAM JSON policy elements", IAM User Guide.

pub mod actions;
mod condition;
mod context;
mod document;
mod evaluate;
mod pattern;
mod principal;
mod unique;
mod unseen;

pub use self::{
    context::Context,
    document::{Effect, Kind, Policy, PolicyError},
    evaluate::{
        Deciding, Decision, Layer, Named, Policies, Request, Verdict, evaluate, evaluate_unseen,
        layers,
    },
    principal::{Identity, IdentityKind},
};

#[cfg(test)]
mod tests;
