//! Shows that the kernel forwards as compiled: a node with two pods and a machine outside, in
//! throw-away namespaces.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod cluster;
mod external;
mod upkeep;
mod world;
