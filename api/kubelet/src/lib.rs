//! What a kubelet serves and calls on Unix sockets of its own: device plugins (`v1beta1`) and the
//! resources that pods hold (`podresources` `v1`). Messages, clients and server traits.
//!
//! `proto/*.proto` state the messages and numbers; nothing is downloaded and no `protoc` is needed.
//!
//! **Invariant:** nothing here decides anything; it is what crosses the wire.

/// `v1beta1` of `k8s.io/kubelet/pkg/apis/deviceplugin`.
pub mod device_plugin {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("v1beta1");

    /// The version that a plugin registers with.
    pub const VERSION: &str = "v1beta1";
    /// `Device.health` of a device that can be used.
    pub const HEALTHY: &str = "Healthy";
    pub const UNHEALTHY: &str = "Unhealthy";
}

/// `v1` of `k8s.io/kubelet/pkg/apis/podresources`.
pub mod pod_resources {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("v1");
}
