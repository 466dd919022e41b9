//! What every AWS API has in common: operations, errors, protocols, signatures, a client.

mod fault;
mod operation;
pub mod tree;

pub use self::{
    fault::{AwsError, Fault},
    operation::{Http, Operation},
};
pub use http::StatusCode;
