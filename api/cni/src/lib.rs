//! The Container Network Interface: what a runtime says to a plug-in, and what it hears back.
//!
//! A plug-in is executed for each pod with its request in environment variables and on standard
//! input; it answers on standard output. Everything that arrives is checked here once
//! ([`Invocation::parse`]), so that a plug-in works with values that it can use as names of files
//! and links. [`backend`] is the protocol between our plug-in and ipamd.
//!
//! Upstream: CNI specification 1.0.0 and 0.4.0. Deviation: no 0.2.0 results and older, which no
//! supported runtime asks for.

pub mod backend;
mod config;
mod error;
mod invocation;
mod link_name;
mod result;

pub use config::{Bandwidth, ConfList, NetConf, PortMapping, RuntimeConfig};
pub use error::{CniError, ErrorCode};
pub use invocation::{Command, Invocation, MAX_STDIN, PodArgs, Variables};
pub use link_name::host_link_name;
pub use result::{Interface, IpConfig, NetResult, RouteConfig};

/// The versions that a plug-in of ours speaks, oldest first.
pub const VERSIONS: [&str; 4] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// The answer to `VERSION`.
pub fn version_info(cni_version: &str) -> serde_json::Value {
    serde_json::json!({ "cniVersion": cni_version, "supportedVersions": VERSIONS })
}
