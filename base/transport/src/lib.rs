//! The only sockets: TCP, TLS, Unix and in-memory, in any network namespace.
//!
//! A socket belongs to the namespace in which it was made, for ever. [`Place`] says where, so one
//! process can serve the host, a VPC's router and a control plane at once.
//!
//! **Invariant:** no other crate opens a socket while it serves. `clippy.toml` bans tokio's; std's are left
//! for what runs without a runtime: the CNI plug-in, and `up` when it looks for a free port.

mod admission;
mod body;
mod client;
mod place;
mod server;
mod splice;
pub mod tls;

pub use self::{
    admission::{Admission, Admitted},
    body::{Body, BoxError, collect, collect_request, empty, full, stream},
    client::{HttpClient, SendError},
    place::{Place, limit_hops, memory, unix_connect, unix_listen},
    server::{Peer, serve, serve_unix},
    splice::splice,
};
