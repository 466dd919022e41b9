//! Listeners: which port leads to which.

use aws_wire::{operations, structures};
use serde::{Deserialize, Serialize};

operations! {
    service "elasticloadbalancing", case "PascalCase";

    /// Adds listeners.
    CreateLoadBalancerListeners(CreateLoadBalancerListenersRequest {
        pub load_balancer_name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub listeners: Vec<Listener>,
    }) -> CreateLoadBalancerListenersResponse {}

    /// Removes listeners by their ports.
    DeleteLoadBalancerListeners(DeleteLoadBalancerListenersRequest {
        pub load_balancer_name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub load_balancer_ports: Vec<i64>,
    }) -> DeleteLoadBalancerListenersResponse {}

    /// Replaces the policies of a listener.
    SetLoadBalancerPoliciesOfListener(SetLoadBalancerPoliciesOfListenerRequest {
        pub load_balancer_name: String,
        pub load_balancer_port: i64,
        #[serde(default)]
        pub policy_names: Vec<String>,
    }) -> SetLoadBalancerPoliciesOfListenerResponse {}
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listener {
    pub protocol: String,
    pub load_balancer_port: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_protocol: Option<String>,
    pub instance_port: i64,
    #[serde(rename = "SSLCertificateId", default, skip_serializing_if = "Option::is_none")]
    pub ssl_certificate_id: Option<String>,
}

structures! {
    case "PascalCase";

    ListenerDescription {
        pub listener: Option<Listener>,
        #[serde(default)]
        pub policy_names: Vec<String>,
    }
}
