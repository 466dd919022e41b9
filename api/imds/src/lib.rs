//! The instance metadata service, from the instance's side: paths, documents, and a client.
//!
//! Version 2 only: a session token is fetched with a `PUT` and renewed before it ends. A path that
//! does not exist is `None`, which for IMDS is a normal answer.

mod client;
mod documents;
pub mod paths;

pub use self::{
    client::{FetchError, ImdsClient},
    documents::{IamInfo, IdentityDocument, SecurityCredentials},
};
