//! Links, addresses, routes, rules, neighbours and traffic limits of any network namespace, over rtnetlink.
//!
//! The kernel does the whole of an rtnetlink request inside the `send` that carries it and has the
//! answer ready when `send` returns, so a synchronous client never waits for anything but the
//! kernel's own work. That is why [`Netlink`] is synchronous: the CNI plug-in uses it without a
//! runtime, and async callers use [`run`], which moves the work off their executor.
//!
//! The messages are encoded here ([`codec`]): five fixed headers and a list of attributes, which
//! is less than an adapter for a general library would be, and starts in microseconds.
//!
//! **Invariant:** a socket stays in the namespace in which it was opened, so a `Netlink` never
//! acts on another one. `add_*` and `delete_*` are idempotent: what is there is not added again
//! and what is gone is not an error.

mod address;
mod arrival;
pub mod codec;
mod conntrack;
mod link;
mod neighbour;
mod nflog;
mod route;
mod rule;
mod socket;
mod traffic;

use std::path::PathBuf;

pub use address::Address;
pub use arrival::AwaitLinkError;
pub use conntrack::{Conntrack, Flow};
pub use link::{Link, LinkChange, Mac, ParseMacError, Veth, VethEnd};
pub use neighbour::Neighbour;
pub use nflog::{LogError, Logged, LoggedPacket, PacketLog};
pub use route::{Route, RouteKind, Scope, TABLE_LOCAL, TABLE_MAIN};
pub use rule::Rule;
pub use socket::{Netlink, OpenError, RequestError};
pub use traffic::TokenBucket;

/// Opens a socket in the namespace at `netns` (`None`: here) and runs `work` on it, on a thread
/// where blocking is allowed.
pub async fn run<T, E>(
    netns: Option<PathBuf>,
    work: impl FnOnce(&Netlink) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<OpenError> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(move || {
        let netlink = match &netns {
            None => Netlink::here()?,
            Some(path) => Netlink::at(path)?,
        };
        work(&netlink)
    });
    match done.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(OpenError::Stopped.into()),
    }
}
