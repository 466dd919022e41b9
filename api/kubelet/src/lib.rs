//! What a kubelet serves and calls on Unix sockets of its own: device plugins (`v1beta1`), drivers of
//! dynamic resources (`dra` `v1` and `v1beta1`, `dra-health` `v1alpha1`) and the resources that pods
//! hold (`podresources` `v1`). Messages, clients and server traits.
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

/// `v1` of `k8s.io/kubelet/pkg/apis/dra`: drivers of dynamic resources.
pub mod dra {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1");

    /// How a driver says in its registration that it serves this.
    pub const SERVICE: &str = "v1.DRAPlugin";
}

/// `v1beta1` of the same: another service with the messages of [`dra`].
pub mod dra_v1beta1 {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1beta1");

    pub const SERVICE: &str = "v1beta1.DRAPlugin";
}

/// `v1alpha1` of `k8s.io/kubelet/pkg/apis/dra-health`: the health of a driver's devices.
pub mod dra_health {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("v1alpha1");
}
