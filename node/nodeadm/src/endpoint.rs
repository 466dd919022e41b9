//! The cluster's endpoint, as this instance reaches it.
//!
//! `DescribeCluster` tells a client on the region's own machine an address of the loopback interface, since
//! that machine resolves no names of the VPC's. What makes user data of it (Terraform, Karpenter, a script)
//! hands it to instances, where it leads nowhere. It can never be right there, so EKS is asked again from
//! here, with the node role's `eks:DescribeCluster`.
//!
//! Deviation: upstream's nodeadm takes the endpoint as it is; on AWS it is the same name everywhere.

use std::net::IpAddr;

use aws_eks::{DescribeCluster, DescribeClusterRequest};
use aws_wire::{CallError, Client};
use tracing::info;

use crate::node_config::Cluster;

/// The endpoint in the configuration leads nowhere, and no other was told.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("`{endpoint}` is not reached from an instance, and EKS did not tell another")]
    Describe {
        endpoint: String,
        #[source]
        source: CallError,
    },
    #[error("`{endpoint}` is not reached from an instance, and EKS tells no other")]
    None { endpoint: String },
}

/// Whether the endpoint names the machine that asks.
pub fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.trim_start_matches("https://");
    let host = host.split('/').next().unwrap_or(host);
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// The endpoint to use; a call only where that of the configuration cannot be right.
pub(crate) async fn reachable(client: &Client, cluster: &Cluster) -> Result<String, EndpointError> {
    let endpoint = cluster.api_server_endpoint.clone();
    if !is_loopback(&endpoint) {
        return Ok(endpoint);
    }
    let request = DescribeClusterRequest { name: cluster.name.clone() };
    let told = match client.call::<DescribeCluster>(request).await {
        Ok(answer) => answer.cluster.and_then(|it| it.endpoint),
        Err(source) => return Err(EndpointError::Describe { endpoint, source }),
    };
    match told.filter(|it| it.starts_with("https://") && !is_loopback(it)) {
        Some(told) => {
            info!(configured = endpoint, told, "the cluster has another endpoint in the VPC");
            Ok(told)
        }
        None => Err(EndpointError::None { endpoint }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_endpoint_on_the_machine_itself_is_not_taken_as_it_is() {
        for own in [
            "https://127.0.0.1:6443",
            "https://[::1]:6443/",
            "https://localhost",
            "https://127.1.2.3",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for other in [
            "https://ABC.gr7.us-east-1.eks.amazonaws.com",
            "https://10.0.0.1:6443",
            "https://localhost.example.com",
            "https://[fd00::1]:6443",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
