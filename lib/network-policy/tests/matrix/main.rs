//! The matrix that Kubernetes' policy suites probe: nine pods in three namespaces, each to each, two
//! ports, three protocols. Every cell is compared with what is written down by hand for the
//! well-known policies, and with a second reading of the API's words for thousands of others.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod known;
mod others;
mod reference;
mod world;
