//! The service as its clients see it: every call goes through the gateway as bytes.

mod acls;
mod addresses;
mod images;
mod instances;
mod interfaces;
mod network;
mod options;
mod prefix_lists;
mod rights;
mod support;
mod templates;
mod way_out;
