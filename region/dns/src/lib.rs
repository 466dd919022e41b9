//! The resolver of a VPC.
//!
//! It listens in the VPC's router on the VPC's base plus two, on 169.254.169.253 and, where the VPC has
//! IPv6, on fd00:ec2::253, and knows:
//! instances' private names (by their addresses, so nothing has to be registered), the names that
//! the region gives (cluster endpoints), and the AWS endpoints, which all have one address. Other
//! names do not exist, unless the VPC has a way out and an outside resolver was given.
//!
//! **Invariant:** a name inside of the VPC is never sent to an outside resolver.
//!
//! Deviation: EC2 also resolves public names of instances and private hosted zones.

mod answer;
mod server;
mod zone;

pub use self::{
    answer::{Answer, Limit, answer},
    server::{ServeError, serve},
    zone::{Found, Names, Outside, Zone, private_name, resolvers},
};
