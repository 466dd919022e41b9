//! Instances behind a load balancer, and their health.

use aws_wire::{operations, structures};

operations! {
    service "elasticloadbalancing", case "PascalCase";

    /// Adds instances.
    RegisterInstancesWithLoadBalancer(RegisterInstancesWithLoadBalancerRequest {
        pub load_balancer_name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub instances: Vec<Instance>,
    }) -> RegisterInstancesWithLoadBalancerResponse {
        #[serde(default)]
        pub instances: Vec<Instance>,
    }

    /// Takes instances out.
    DeregisterInstancesFromLoadBalancer(DeregisterInstancesFromLoadBalancerRequest {
        pub load_balancer_name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub instances: Vec<Instance>,
    }) -> DeregisterInstancesFromLoadBalancerResponse {
        #[serde(default)]
        pub instances: Vec<Instance>,
    }

    /// Which instances get connections, and why the others get none.
    DescribeInstanceHealth(DescribeInstanceHealthRequest {
        pub load_balancer_name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub instances: Vec<Instance>,
    }) -> DescribeInstanceHealthResponse {
        #[serde(default)]
        pub instance_states: Vec<InstanceState>,
    }

    /// Replaces the health check.
    ConfigureHealthCheck(ConfigureHealthCheckRequest {
        pub load_balancer_name: String,
        pub health_check: HealthCheck,
    }) -> ConfigureHealthCheckResponse {
        pub health_check: Option<HealthCheck>,
    }
}

structures! {
    case "PascalCase";

    Instance {
        pub instance_id: Option<String>,
    }

    InstanceState {
        pub instance_id: Option<String>,
        pub state: Option<String>,
        pub reason_code: Option<String>,
        pub description: Option<String>,
    }

    HealthCheck {
        pub target: String,
        pub interval: i64,
        pub timeout: i64,
        pub unhealthy_threshold: i64,
        pub healthy_threshold: i64,
    }
}
