//! The AWS endpoint: routing, SigV4, IAM, errors in each protocol, the event log.

mod caller;
mod handle;
mod routes;

pub use self::{
    caller::{Caller, CallerKind, Source},
    handle::{Handle, Target},
    routes::Routes,
};
