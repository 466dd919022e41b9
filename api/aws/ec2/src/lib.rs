//! EC2: the shapes of its operations, and nothing else.
//!
//! Request structs carry the names of query parameters (`SubnetId` for a list that is flattened to
//! `SubnetId.1`), response structs those of XML elements. A shape that crosses the wire in both
//! directions under different names exists twice; the one that is sent ends in `Input`.
//!
//! Deviation: only the fields that some component of ours reads or writes are here.

pub mod address;
pub mod capacity_reservation;
pub mod common;
pub mod dhcp_options;
pub mod ebs_defaults;
pub mod egress_only_internet_gateway;
pub mod fleet;
pub mod image;
pub mod image_attribute;
pub mod instance;
pub mod instance_attribute;
pub mod instance_options;
pub mod instance_requirements;
pub mod instance_state;
pub mod instance_type;
pub mod internet_gateway;
pub mod ipv6_addresses;
pub mod key_pair;
pub mod launch_template;
mod launch_template_conversion;
pub mod launch_template_data;
pub mod launch_template_request;
pub mod managed_prefix_list;
pub mod nat_gateway;
pub mod network_acl;
pub mod network_interface;
pub mod network_interface_permission;
pub mod placement_group;
pub mod private_addresses;
pub mod route_table;
pub mod run_instances;
pub mod security_group;
pub mod security_group_for_vpc;
pub mod security_group_rule;
pub mod snapshot;
pub mod spot;
pub mod subnet;
pub mod subnet_reservation;
pub mod tag;
pub mod trunk_interface;
pub mod volume;
pub mod vpc;
pub mod vpc_endpoint;
pub mod vpc_endpoint_service;
pub mod zone;
