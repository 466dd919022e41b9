//! Cluster DNS: names of Services and pods, and a way out for all others.
//!
//! It takes the place of CoreDNS behind the `kube-dns` Service. Names follow the specification of
//! DNS-based service discovery 1.1.0; what is not of the cluster goes to the servers of
//! `/etc/resolv.conf`.
//!
//! - [`zone`]: what the API says, and names looked up in it · [`answer`]: from a query's bytes to an
//!   answer's, pure · [`upstream`]: the others' servers, with a cache · [`server`]: UDP and TCP
//! - [`watch`]: Services, slices and namespaces · [`corefile`]: the configuration · [`command`]
//!
//! **Invariant:** nothing is answered from the cluster's zone before the first lists are complete:
//! "there is no such name" would be cached by clients.
//!
//! Upstream: CoreDNS with the plug-ins kubernetes, forward and cache. Deviation: other plug-ins of a
//! Corefile are named in the log and left out.

use api_kube as _;

pub mod answer;
pub mod command;
pub mod corefile;
pub mod health;
pub mod metrics;
pub mod server;
pub mod upstream;
pub mod watch;
pub mod zone;
