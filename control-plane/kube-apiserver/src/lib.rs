//! The Kubernetes API server: REST and watch over a durable, revisioned store.

mod admission;
mod authn;
mod authz;
mod proxy;
pub mod registry;
pub mod request;
pub mod status;
