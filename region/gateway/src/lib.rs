//! The AWS endpoint: routing, SigV4, IAM, errors in each protocol, the event log.
//!
//! **Invariant:** a handler runs only for a caller who is authenticated and allowed, and every call
//! is recorded with its decision.

mod authorize;
mod bodies;
mod caller;
mod context;
mod events;
mod gateway;
mod handle;
mod incoming;
mod kept;
mod local_root;
mod page;
mod parameters;
mod principals;
mod rates;
mod refusal;
mod routes;
mod service;
mod unknown;
mod unowned;

pub use self::{
    authorize::{Authorizer, Decided, identity},
    caller::{Caller, CallerKind, Decisions, Internal, Source},
    events::{Event, Events, Outcome},
    gateway::{Config, Gateway},
    handle::{Handle, Target},
    page::{InvalidToken, Page, page, page_mark, page_position},
    parameters::UNREAD,
    principals::{AccessKey, AccessKeys, Attached, Identities, IdentityProvider, Principal, Role},
    routes::Routes,
    service::{GatewayService, Side},
    unowned::{BadUpstream, Upstream},
};

#[cfg(test)]
mod tests;
