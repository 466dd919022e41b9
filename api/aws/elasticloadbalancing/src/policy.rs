//! Policies: what a load balancer does to connections beyond handing them on.

use aws_wire::{operations, structures};

operations! {
    service "elasticloadbalancing", case "PascalCase";

    /// Adds a policy, which does nothing until it is set on a port.
    CreateLoadBalancerPolicy(CreateLoadBalancerPolicyRequest {
        pub load_balancer_name: String,
        pub policy_name: String,
        pub policy_type_name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub policy_attributes: Vec<PolicyAttribute>,
    }) -> CreateLoadBalancerPolicyResponse {}

    /// Removes a policy that is set nowhere.
    DeleteLoadBalancerPolicy(DeleteLoadBalancerPolicyRequest {
        pub load_balancer_name: String,
        pub policy_name: String,
    }) -> DeleteLoadBalancerPolicyResponse {}

    /// A load balancer's policies.
    DescribeLoadBalancerPolicies(DescribeLoadBalancerPoliciesRequest {
        pub load_balancer_name: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub policy_names: Vec<String>,
    }) -> DescribeLoadBalancerPoliciesResponse {
        #[serde(default)]
        pub policy_descriptions: Vec<PolicyDescription>,
    }

    /// Replaces the policies of an instance port.
    SetLoadBalancerPoliciesForBackendServer(SetLoadBalancerPoliciesForBackendServerRequest {
        pub load_balancer_name: String,
        pub instance_port: i64,
        #[serde(default)]
        pub policy_names: Vec<String>,
    }) -> SetLoadBalancerPoliciesForBackendServerResponse {}
}

structures! {
    case "PascalCase";

    PolicyAttribute {
        pub attribute_name: Option<String>,
        pub attribute_value: Option<String>,
    }

    PolicyDescription {
        pub policy_name: Option<String>,
        pub policy_type_name: Option<String>,
        #[serde(default)]
        pub policy_attribute_descriptions: Vec<PolicyAttribute>,
    }
}
