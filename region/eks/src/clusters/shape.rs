//! A cluster as it is described.

use aws_eks::{
    AccessConfig, Certificate, ClusterHealth, ClusterIssue, Identity, KubernetesNetworkConfig,
    LogSetup, Logging, Oidc, UpgradePolicy, VpcConfig,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::validate;
use crate::{
    Eks,
    records::{Cluster, Status},
    service::PLATFORM_VERSION,
};

/// `in_vpc` decides which of the endpoint's two names is shown.
pub(crate) fn describe(eks: &Eks, cluster: &Cluster, in_vpc: bool) -> aws_eks::Cluster {
    let region = &eks.0.config.region;
    let is_up = cluster.certificate_authority_pem.is_some();
    let endpoint = match in_vpc {
        true => Some(format!("https://{}", cluster.endpoint_host(region))),
        false => cluster.host_endpoint.clone(),
    };
    let support_type = cluster.support_type.clone();
    let support_type = support_type.unwrap_or_else(|| validate::SUPPORT_TYPE.to_owned());
    let pem = cluster.certificate_authority_pem.as_deref();
    aws_eks::Cluster {
        name: cluster.name.clone(),
        arn: eks.arn(&format!("cluster/{}", cluster.name)),
        created_at: Eks::seconds(cluster.created_at),
        version: cluster.version.clone(),
        endpoint: endpoint.filter(|_| is_up),
        role_arn: cluster.role_arn.clone(),
        resources_vpc_config: vpc_config(cluster),
        kubernetes_network_config: KubernetesNetworkConfig {
            service_ipv4_cidr: Some(cluster.service_cidr.clone()).filter(|_| !cluster.is_ipv6()),
            service_ipv6_cidr: Some(cluster.service_cidr.clone()).filter(|_| cluster.is_ipv6()),
            ip_family: Some(if cluster.is_ipv6() { "ipv6" } else { "ipv4" }.to_owned()),
        },
        logging: Some(logging()),
        identity: is_up
            .then(|| Identity { oidc: Some(Oidc { issuer: Some(cluster.issuer(region)) }) }),
        status: status(cluster.status).to_owned(),
        certificate_authority: Certificate { data: pem.map(|it| STANDARD.encode(it)) },
        client_request_token: cluster.client_token.clone(),
        platform_version: PLATFORM_VERSION.to_owned(),
        tags: cluster.tags.clone(),
        health: Some(ClusterHealth { issues: cluster.issues.iter().map(issue).collect() }),
        access_config: Some(AccessConfig {
            bootstrap_cluster_creator_admin_permissions: Some(cluster.bootstrap_creator_admin),
            authentication_mode: Some(cluster.authentication_mode.clone()),
        }),
        upgrade_policy: Some(UpgradePolicy { support_type: Some(support_type) }),
        deletion_protection: Some(cluster.deletion_protection),
        control_plane_scaling_config: json!({ "tier": validate::STANDARD_TIER }),
    }
}

/// Clusters know no DEGRADED.
fn status(status: Status) -> &'static str {
    match status {
        Status::Degraded => Status::Active.name(),
        other => other.name(),
    }
}

fn vpc_config(cluster: &Cluster) -> VpcConfig {
    VpcConfig {
        subnet_ids: cluster.subnet_ids.clone(),
        security_group_ids: cluster.security_group_ids.clone(),
        cluster_security_group_id: cluster.cluster_security_group_id.clone(),
        vpc_id: cluster.vpc_id.clone(),
        endpoint_public_access: cluster.endpoint_public_access,
        endpoint_private_access: cluster.endpoint_private_access,
        public_access_cidrs: cluster.public_access_cidrs.clone(),
    }
}

/// No control plane logs are exported: CloudWatch is not part of the region.
fn logging() -> Logging {
    let types = ["api", "audit", "authenticator", "controllerManager", "scheduler"];
    let types = types.map(str::to_owned).to_vec();
    Logging { cluster_logging: vec![LogSetup { types, enabled: Some(false) }] }
}

fn issue((code, message): &(String, String)) -> ClusterIssue {
    ClusterIssue {
        code: Some(code.clone()),
        message: Some(message.clone()),
        resource_ids: Vec::new(),
    }
}
