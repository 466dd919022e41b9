//! What every AWS API has in common: operations, errors, protocols, signatures, a client.

pub mod client;
pub mod codec;
pub mod credentials;
mod fault;
pub mod form;
mod operation;
pub mod percent;
pub mod rest;
pub mod service;
mod shapes;
pub mod sigv4;
pub mod tree;
pub mod xml;

pub use self::{
    client::{CallError, Client},
    fault::{AwsError, Fault},
    operation::{Http, Operation},
};
pub use http::StatusCode;
