//! The service as its clients see it: every call goes through the gateway as bytes.

mod acls;
mod addresses;
mod capacity_reservations;
mod events;
mod fleet;
mod group_quotas;
mod hibernation;
mod images;
mod instances;
mod interfaces;
mod ipv6;
mod key_pairs;
mod launch_options;
mod network;
mod options;
mod placement_groups;
mod prefix_lists;
mod rights;
mod spot;
mod support;
mod templates;
mod trunks;
mod way_out;
