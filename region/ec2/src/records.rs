//! What the region knows about each resource.
//!
//! Records are the truth; the shapes that clients see are made from them at each call.

mod blank;
mod capacity_reservation;
mod compute;
mod gateway;
mod network;
mod network_acl;
mod placement_group;
mod prefix_list;
mod security_group;
mod template;

use std::collections::BTreeMap;

pub use self::{
    capacity_reservation::{CapacityReservation, Preference, ReservationState},
    compute::{
        BlockDevice, Cpus, HostReport, Image, Instance, InstanceState, Interruption, KeyPair,
        MetadataOptions, Profile, Snapshot, StateReason, StatusCheck, Token,
    },
    gateway::{
        Destination, EgressOnlyInternetGateway, ElasticIp, ElasticIpAssociation, InternetGateway,
        NatGateway, Route, RouteTable, RouteTableAssociation, RouteTarget, VpcEndpoint,
    },
    network::{
        Attachment, CidrAssociation, ConnectionTracking, DhcpOptions, InterfacePermission,
        Ipv6CidrAssociation, NetworkInterface, PublicAddress, Reservation, ReservationType, Subnet,
        TrunkAssociation, Vpc,
    },
    network_acl::{AclPeer, NetworkAcl, NetworkAclAssociation, NetworkAclEntry},
    placement_group::{Placed, PlacementGroup, Strategy},
    prefix_list::{PrefixList, PrefixListEntry},
    security_group::{Direction, Peer, Rule, SecurityGroup},
    template::{LaunchTemplate, TemplateVersion},
};

/// Tags of a resource.
pub type Tags = BTreeMap<String, String>;

macro_rules! record {
    ($name:ty, $type:literal, $prefix:literal, $code:literal, $noun:literal) => {
        impl $crate::state::Record for $name {
            const TYPE: &'static str = $type;
            const PREFIX: &'static str = $prefix;
            const CODE: &'static str = $code;
            const NOUN: &'static str = $noun;

            fn id(&self) -> &str {
                &self.id
            }

            fn tags(&self) -> &$crate::records::Tags {
                &self.tags
            }

            fn tags_mut(&mut self) -> &mut $crate::records::Tags {
                &mut self.tags
            }
        }
    };
}

pub(crate) use record;
