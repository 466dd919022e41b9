//! CSI v1's node service, and how plugins make themselves known to a kubelet.
//!
//! `proto/csi.proto` states the part of the Container Storage Interface that a node speaks (identity
//! and node services), `proto/registration.proto` the kubelet's plugin registration. Messages,
//! clients and server traits come from there; nothing is downloaded.
//!
//! **Invariant:** nothing here decides anything; it is what crosses the wire.

/// `csi.v1`.
pub mod v1 {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("csi.v1");
}

/// `pluginregistration`.
pub mod registration {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("pluginregistration");
}

pub type NodeClient = v1::node_client::NodeClient<tonic::transport::Channel>;
pub type RegistrationClient =
    registration::registration_client::RegistrationClient<tonic::transport::Channel>;
