//! A load balancer's attributes.

use aws_wire::{operations, structures};

operations! {
    service "elasticloadbalancing", case "PascalCase";

    /// Reads all of them.
    DescribeLoadBalancerAttributes(DescribeLoadBalancerAttributesRequest {
        pub load_balancer_name: String,
    }) -> DescribeLoadBalancerAttributesResponse {
        pub load_balancer_attributes: LoadBalancerAttributes,
    }

    /// Changes those that are given.
    ModifyLoadBalancerAttributes(ModifyLoadBalancerAttributesRequest {
        pub load_balancer_name: String,
        pub load_balancer_attributes: LoadBalancerAttributes,
    }) -> ModifyLoadBalancerAttributesResponse {
        pub load_balancer_name: Option<String>,
        pub load_balancer_attributes: Option<LoadBalancerAttributes>,
    }
}

structures! {
    case "PascalCase";

    LoadBalancerAttributes {
        pub cross_zone_load_balancing: Option<CrossZoneLoadBalancing>,
        pub access_log: Option<AccessLog>,
        pub connection_draining: Option<ConnectionDraining>,
        pub connection_settings: Option<ConnectionSettings>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub additional_attributes: Vec<AdditionalAttribute>,
    }

    CrossZoneLoadBalancing {
        pub enabled: bool,
    }

    AccessLog {
        pub enabled: bool,
        pub s3_bucket_name: Option<String>,
        pub emit_interval: Option<i64>,
        pub s3_bucket_prefix: Option<String>,
    }

    ConnectionDraining {
        pub enabled: bool,
        pub timeout: Option<i64>,
    }

    ConnectionSettings {
        pub idle_timeout: i64,
    }

    AdditionalAttribute {
        pub key: Option<String>,
        pub value: Option<String>,
    }
}
