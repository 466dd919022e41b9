//! The instance metadata service of a VPC.
//!
//! One server listens on 169.254.169.254:80 in each VPC's router. Who asks is known from the
//! source address, which the router has checked. Sessions (version 2) are stateless tokens of this
//! process, bound to the instance; version 1 answers only where an instance's options allow it.
//!
//! The hop limit is the IP TTL of the token's response: a pod that is one hop further than its
//! instance never sees it, which is how EC2 keeps pods off the node's credentials.
//!
//! **Invariant:** nothing is answered to an address that no instance owns.

mod metadata;
mod refusal;
mod server;
mod session;
mod tree;

pub use self::{
    metadata::{
        CredentialsError, Identity, InstanceMetadata, Interface, Metadata, Options, Profile,
    },
    server::{Imds, serve},
    tree::{Answer, lookup},
};
