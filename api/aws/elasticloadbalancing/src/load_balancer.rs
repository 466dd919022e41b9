//! Load balancers as a whole, their subnets and security groups.

use aws_wire::{operations, structures};
use serde::{Deserialize, Serialize};

use crate::{
    instance::{HealthCheck, Instance},
    listener::{Listener, ListenerDescription},
    tag::Tag,
};

operations! {
    service "elasticloadbalancing", case "PascalCase";

    /// Makes a load balancer.
    CreateLoadBalancer(CreateLoadBalancerRequest {
        pub load_balancer_name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub listeners: Vec<Listener>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub availability_zones: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub subnets: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub security_groups: Vec<String>,
        pub scheme: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub tags: Vec<Tag>,
    }) -> CreateLoadBalancerResponse {
        #[serde(rename = "DNSName")]
        pub dns_name: Option<String>,
    }

    /// Deletes a load balancer; one that does not exist is deleted too.
    DeleteLoadBalancer(DeleteLoadBalancerRequest {
        pub load_balancer_name: String,
    }) -> DeleteLoadBalancerResponse {}

    /// Lists load balancers.
    DescribeLoadBalancers(DescribeLoadBalancersRequest {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub load_balancer_names: Vec<String>,
        pub marker: Option<String>,
        pub page_size: Option<i64>,
    }) -> DescribeLoadBalancersResponse {
        #[serde(default)]
        pub load_balancer_descriptions: Vec<LoadBalancerDescription>,
        pub next_marker: Option<String>,
    }

    /// Replaces the security groups.
    ApplySecurityGroupsToLoadBalancer(ApplySecurityGroupsToLoadBalancerRequest {
        pub load_balancer_name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub security_groups: Vec<String>,
    }) -> ApplySecurityGroupsToLoadBalancerResponse {
        #[serde(default)]
        pub security_groups: Vec<String>,
    }

    /// Adds subnets.
    AttachLoadBalancerToSubnets(AttachLoadBalancerToSubnetsRequest {
        pub load_balancer_name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub subnets: Vec<String>,
    }) -> AttachLoadBalancerToSubnetsResponse {
        #[serde(default)]
        pub subnets: Vec<String>,
    }

    /// Takes subnets out.
    DetachLoadBalancerFromSubnets(DetachLoadBalancerFromSubnetsRequest {
        pub load_balancer_name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub subnets: Vec<String>,
    }) -> DetachLoadBalancerFromSubnetsResponse {
        #[serde(default)]
        pub subnets: Vec<String>,
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoadBalancerDescription {
    pub load_balancer_name: Option<String>,
    #[serde(rename = "DNSName")]
    pub dns_name: Option<String>,
    pub canonical_hosted_zone_name: Option<String>,
    #[serde(rename = "CanonicalHostedZoneNameID")]
    pub canonical_hosted_zone_name_id: Option<String>,
    #[serde(default)]
    pub listener_descriptions: Vec<ListenerDescription>,
    #[serde(default)]
    pub policies: Policies,
    #[serde(default)]
    pub backend_server_descriptions: Vec<BackendServerDescription>,
    #[serde(default)]
    pub availability_zones: Vec<String>,
    #[serde(default)]
    pub subnets: Vec<String>,
    #[serde(rename = "VPCId")]
    pub vpc_id: Option<String>,
    #[serde(default)]
    pub instances: Vec<Instance>,
    pub health_check: Option<HealthCheck>,
    pub source_security_group: Option<SourceSecurityGroup>,
    #[serde(default)]
    pub security_groups: Vec<String>,
    pub created_time: Option<String>,
    pub scheme: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policies {
    #[serde(default)]
    pub app_cookie_stickiness_policies: Vec<String>,
    #[serde(rename = "LBCookieStickinessPolicies", default)]
    pub lb_cookie_stickiness_policies: Vec<String>,
    #[serde(default)]
    pub other_policies: Vec<String>,
}

structures! {
    case "PascalCase";

    BackendServerDescription {
        pub instance_port: Option<i64>,
        #[serde(default)]
        pub policy_names: Vec<String>,
    }

    SourceSecurityGroup {
        pub owner_alias: Option<String>,
        pub group_name: Option<String>,
    }
}
