//! A VPC in the kernel: one router namespace, a veth pair per ENI, security groups as one ruleset.
//!
//! A [`VpcSpec`] says what there is to be. [`compile`] turns it into the whole [`KernelState`] of
//! the router, a value; [`Router::apply`] makes the kernel agree with it, touching only what
//! differs, the rules in one transaction. [`can_reach`] answers "can a reach b, and which rule says
//! so?" from the same [`VpcSpec`], and a test with real namespaces shows that the kernel agrees.
//!
//! How a packet goes: an instance's ENI is the far end of a veth pair. The near end carries the
//! subnet's `.1`, answers ARP for every address that is routed elsewhere (so neighbours in one
//! subnet meet here too), and drops what the ENI does not own. Between two ENIs the sender's egress
//! rules and then the receiver's ingress rules decide; replies follow the tracked connection.
//!
//! **Invariant:** nothing outside of the router's namespace, the ends of the ENIs and the machine's
//! end of a way out is touched.
//!
//! Deviation: network ACLs and VPC endpoints' own security groups are not enforced.

mod apply;
mod compile;
mod egress;
mod guest;
mod reach;
mod rules;
mod security_group;
mod spec;

pub use self::{
    apply::{Applied, ApplyError, Router},
    compile::{EniLink, KernelState, compile, link_name},
    egress::{Egress, remove_egress},
    reach::{Packet, Reason, Verdict, can_reach},
    rules::{TABLE, table},
    security_group::{Peer, Rule, SecurityGroup, Traffic, TrafficError},
    spec::{
        ENDPOINTS, Eni, IMDS, INTERFACE_ENDPOINTS, InternetRoute, Location, RESOLVER, Setup,
        Subnet, VpcSpec,
    },
};
