//! A VPC in the kernel: one router namespace, a veth pair per ENI, security groups as one ruleset.
//!
//! A [`VpcSpec`] says what there is to be. [`compile`] turns it into the whole [`KernelState`] of
//! the router, a value; [`Router::apply`] makes the kernel agree with it, touching only what
//! differs, the rules in one transaction. [`can_reach`] answers "can a reach b, and which rule says
//! so?" from the same [`VpcSpec`], and a test with real namespaces shows that the kernel agrees.
//!
//! How a packet goes: an instance's ENI is the far end of a veth pair. The near end carries the
//! subnet's `.1`, answers ARP for every address that is routed elsewhere (so neighbours in one
//! subnet meet here too), and drops what the ENI does not own and what no route of its subnet takes.
//! Between two ENIs the sender's egress rules, the network ACLs of both subnets and the receiver's
//! ingress rules decide; replies follow the tracked connection, but pass the ACLs again. An
//! interface endpoint is an ENI whose address is the router's own.
//!
//! IPv6, in a VPC that has a block of it, goes the same way by a table of its own. The near end is
//! `fe80:ec2::1` on every link and knows where each address is, so that no neighbour is looked for;
//! neighbour discovery is between an interface and the router alone, and no group filters it. IMDS,
//! the resolver and AWS's dual-stack endpoints have an address of it, too.
//!
//! **Invariant:** nothing outside of the router's namespace, the ends of the ENIs and the machine's
//! end of a way out is touched.
//!
//! Deviation: interface endpoints are for IPv4.
//!
//! Deviation: what a NAT gateway forwards does not pass the network ACL of the gateway's subnet.

mod apply;
mod compile;
mod egress;
mod guest;
mod network_acl;
mod reach;
mod route_table;
mod rules;
mod security_group;
mod spec;
mod version;

pub use self::{
    apply::{Applied, ApplyError, Router},
    compile::{Detour, EniLink, KernelState, compile, link_name},
    egress::{Egress, forwards_ipv6, remove_egress},
    network_acl::{AclEntry, NetworkAcl},
    reach::{Flow, Packet, Reason, Step, Verdict, can_reach, trace},
    route_table::{Route, RouteTable, Target},
    rules::{TABLE, ipv6_table, table},
    security_group::{Peer, Rule, SecurityGroup, Traffic, TrafficError},
    spec::{
        DYNAMODB, ENDPOINTS, ENDPOINTS_V6, Eni, IMDS, IMDS_V6, Location, RESOLVER, RESOLVER_V6,
        ROUTER_V6, S3, SERVICES, Setup, Subnet, Tracking, VpcSpec,
    },
};
