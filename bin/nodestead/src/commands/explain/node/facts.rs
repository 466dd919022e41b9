//! What is known of an instance and its node.

use std::{
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use anyhow::Context as _;
use aws_ec2::{
    common::Filter,
    instance::{self, DescribeInstances, DescribeInstancesRequest},
    instance_attribute::{DescribeInstanceAttribute, DescribeInstanceAttributeRequest},
    instance_state::{GetConsoleOutput, GetConsoleOutputRequest},
    vpc::{DescribeVpcAttribute, DescribeVpcAttributeRequest},
};
use aws_eks::{
    DescribeAccessEntry, DescribeAccessEntryRequest, DescribeCluster, DescribeClusterRequest,
};
use aws_wire::Client as Aws;
use base64::{Engine, engine::general_purpose::STANDARD};
use iam_policy::{Context, Identity, IdentityKind, Kind, Policies, Request, evaluate};
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{ConfigMap, Node, Pod},
};
use kube::{Api, Client, api::ListParams};
use serde_json::Value;

use super::chain::{Cluster, Facts, Instance, Known, Mapping, Role};
use crate::{
    admin::DaemonStatus,
    iam::{Entity, Iam},
};

/// What nodeadm and the kubelet ask with the node role, of no resource.
const NEEDED: [&str; 2] = ["ec2:DescribeInstances", "ecr:GetAuthorizationToken"];
/// The end of a kubelet's log.
const LOG_LIMIT: u64 = 256 << 10;

/// `None`: there is neither a node nor an instance of this name.
pub(super) async fn read(
    client: &Client,
    aws: &Aws,
    status: &DaemonStatus,
    cluster_name: &str,
    wanted: &str,
) -> anyhow::Result<Option<Facts>> {
    let cluster = cluster(aws, cluster_name, &status.region).await?;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
    let nodes = nodes.context("cannot list the nodes")?.items;
    let mut node = nodes.iter().find(|it| it.metadata.name.as_deref() == Some(wanted)).cloned();
    let id = match node.as_ref().and_then(instance_of) {
        Some(id) => Some(id),
        None if wanted.starts_with("i-") => Some(wanted.to_owned()),
        None => None,
    };
    let described = match (&id, &node) {
        (Some(id), _) => describe(aws, "instance-id", id).await?,
        (None, None) => describe(aws, "private-dns-name", wanted).await?,
        (None, Some(_)) => None,
    };
    if described.is_none() && node.is_none() {
        return Ok(None);
    }
    let instance = match described {
        None => None,
        Some(found) => Some(instance(aws, status, found).await?),
    };
    if let Some(instance) = instance.as_ref().filter(|_| node.is_none()) {
        let is_its = |it: &&Node| instance_of(it).as_deref() == Some(instance.id.as_str());
        node = nodes.iter().find(is_its).cloned();
    }
    let role = instance.as_ref().and_then(|it| it.role.as_ref());
    let mapping = match role {
        None => None,
        Some(role) => mapping(client, aws, &cluster, &role.arn).await?,
    };
    let known = known(client, mapping, node).await?;
    Ok(Some(Facts { cluster, instance, known }))
}

/// From `aws:///us-east-1a/i-…`.
fn instance_of(node: &Node) -> Option<String> {
    let provider = node.spec.as_ref()?.provider_id.as_deref()?;
    provider.rsplit('/').next().filter(|it| it.starts_with("i-")).map(str::to_owned)
}

async fn cluster(aws: &Aws, name: &str, region: &str) -> anyhow::Result<Cluster> {
    let request = DescribeClusterRequest { name: name.to_owned() };
    let found = aws.call::<DescribeCluster>(request).await?.cluster.unwrap_or_default();
    let issuer = found.identity.and_then(|it| it.oidc).and_then(|it| it.issuer);
    let id = issuer.as_deref().and_then(|it| it.rsplit('/').next());
    let authority = found.certificate_authority.data.unwrap_or_default();
    let authority = STANDARD.decode(authority).unwrap_or_default();
    let network = found.kubernetes_network_config;
    let mode = found.access_config.and_then(|it| it.authentication_mode).unwrap_or_default();
    Ok(Cluster {
        name: found.name,
        host: id.map(|id| format!("{id}.gr7.{region}.eks.amazonaws.com")).unwrap_or_default(),
        authority: String::from_utf8(authority).unwrap_or_default(),
        cidr: network.service_ipv6_cidr.or(network.service_ipv4_cidr).unwrap_or_default(),
        has_entries: mode != "CONFIG_MAP",
        reads_config_map: mode != "API",
    })
}

/// The cluster that an instance, or that of a node with this name, is tagged with.
pub(super) async fn cluster_of(aws: &Aws, wanted: &str) -> anyhow::Result<Option<String>> {
    let by = if wanted.starts_with("i-") { "instance-id" } else { "private-dns-name" };
    let tags = describe(aws, by, wanted).await?.map(|it| it.tags).unwrap_or_default();
    let mut keys = tags.into_iter().filter_map(|tag| tag.key);
    Ok(keys.find_map(|key| cluster_in(&key).map(str::to_owned)))
}

/// Of a tag's key, as node groups and users set it.
fn cluster_in(key: &str) -> Option<&str> {
    key.strip_prefix("kubernetes.io/cluster/").filter(|it| !it.is_empty())
}

async fn describe(aws: &Aws, by: &str, value: &str) -> anyhow::Result<Option<instance::Instance>> {
    let filter = Filter { name: Some(by.to_owned()), values: vec![value.to_owned()] };
    let request = DescribeInstancesRequest { filters: vec![filter], ..Default::default() };
    let found = aws.call::<DescribeInstances>(request).await?;
    Ok(found.reservations.into_iter().flat_map(|it| it.instances).next())
}

async fn instance(
    aws: &Aws,
    status: &DaemonStatus,
    it: instance::Instance,
) -> anyhow::Result<Instance> {
    let id = it.instance_id.unwrap_or_default();
    let iam = Iam::new(aws.clone());
    let profile = it.iam_instance_profile.and_then(|it| it.arn);
    let role = match &profile {
        None => None,
        Some(arn) => match iam.role_of_profile(arn).await? {
            None => None,
            Some(name) => iam.role(&name).await?.map(|it| role(&it, status)).transpose()?,
        },
    };
    let options = it.metadata_options.unwrap_or_default();
    let folder = status.instances.iter().find(|known| known.id == id).map(|it| &it.folder);
    Ok(Instance {
        state: it.state.and_then(|it| it.name).unwrap_or_default(),
        state_reason: it.state_reason.and_then(|it| it.message).unwrap_or_default(),
        kind: it.instance_type.unwrap_or_default(),
        zone: it.placement.and_then(|it| it.availability_zone).unwrap_or_default(),
        node_name: it.private_dns_name.unwrap_or_default(),
        has_metadata: options.http_endpoint.as_deref() != Some("disabled"),
        user_data: user_data(aws, &id).await?,
        profile,
        role,
        has_dns: has_dns(aws, it.vpc_id).await?,
        console: console(aws, &id).await?,
        kubelet_log: folder.map(|it| kubelet_log(it)).unwrap_or_default(),
        id,
    })
}

async fn user_data(aws: &Aws, id: &str) -> anyhow::Result<Vec<u8>> {
    let request = DescribeInstanceAttributeRequest {
        instance_id: id.to_owned(),
        attribute: "userData".to_owned(),
        ..Default::default()
    };
    let found = aws.call::<DescribeInstanceAttribute>(request).await?;
    let encoded = found.user_data.and_then(|it| it.value).unwrap_or_default();
    STANDARD.decode(encoded).context("EC2 answered with user data that is not base64")
}

async fn console(aws: &Aws, id: &str) -> anyhow::Result<String> {
    let request = GetConsoleOutputRequest { instance_id: id.to_owned(), ..Default::default() };
    let found = aws.call::<GetConsoleOutput>(request).await?.output.unwrap_or_default();
    Ok(String::from_utf8_lossy(&STANDARD.decode(found).unwrap_or_default()).into_owned())
}

async fn has_dns(aws: &Aws, vpc: Option<String>) -> anyhow::Result<bool> {
    // An instance that is terminated is in no VPC any more.
    let Some(vpc_id) = vpc else { return Ok(true) };
    let attribute = "enableDnsSupport".to_owned();
    let request = DescribeVpcAttributeRequest { attribute, vpc_id, ..Default::default() };
    let found = aws.call::<DescribeVpcAttribute>(request).await?;
    Ok(found.enable_dns_support.and_then(|it| it.value) != Some(false))
}

/// The end of it, where the instance's disk is on this machine.
fn kubelet_log(folder: &Path) -> String {
    let mut text = Vec::new();
    if let Some(mut log) = region_host::own_file(&folder.join("upper"), "var/log/kubelet.log") {
        let length = log.metadata().map_or(0, |it| it.len());
        // What cannot be read tells nothing.
        drop(log.seek(SeekFrom::Start(length.saturating_sub(LOG_LIMIT))));
        drop(log.take(LOG_LIMIT).read_to_end(&mut text));
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn role(entity: &Entity, status: &DaemonStatus) -> anyhow::Result<Role> {
    let account = || status.account.clone();
    let kind = IdentityKind::Service { name: "ec2.amazonaws.com".to_owned() };
    let ec2 = Identity { account: account(), kind };
    let context = Context::new();
    let trusts_ec2 = match &entity.trust {
        None => false,
        Some(trust) => {
            let policies = Policies {
                resource: Some(trust.named(Kind::Trust)?),
                resource_must_allow: true,
                ..Policies::default()
            };
            let action = "sts:AssumeRole";
            let request =
                Request { identity: &ec2, action, resource: &entity.arn, context: &context };
            evaluate(&request, &policies).is_allowed()
        }
    };
    let name = entity.arn.rsplit('/').next().unwrap_or_default();
    let kind = IdentityKind::Session {
        role_arn: entity.arn.clone(),
        role_id: entity.id.clone(),
        session_arn: format!("arn:aws:sts::{}:assumed-role/{name}/*", status.account),
    };
    let (session, policies) = (Identity { account: account(), kind }, entity.policies()?);
    let is_denied = |action: &&&str| {
        let action = **action;
        let request = Request { identity: &session, action, resource: "*", context: &context };
        !evaluate(&request, &policies).is_allowed()
    };
    let denied = NEEDED.iter().filter(is_denied).map(|&it| it.to_owned()).collect();
    Ok(Role { arn: entity.arn.clone(), trusts_ec2, denied })
}

async fn mapping(
    client: &Client,
    aws: &Aws,
    cluster: &Cluster,
    role_arn: &str,
) -> anyhow::Result<Option<Mapping>> {
    if cluster.has_entries {
        let request = DescribeAccessEntryRequest {
            cluster_name: cluster.name.clone(),
            principal_arn: role_arn.to_owned(),
        };
        match aws.call::<DescribeAccessEntry>(request).await {
            Err(error) if error.is("ResourceNotFoundException") => {}
            found => {
                let found = found?.access_entry.unwrap_or_default();
                return Ok(Some(Mapping {
                    entry: Some(found.kind),
                    username: found.username,
                    groups: found.kubernetes_groups,
                }));
            }
        }
    }
    if !cluster.reads_config_map {
        return Ok(None);
    }
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "kube-system");
    let found = maps.get_opt("aws-auth").await?;
    let text = found.and_then(|it| it.data?.remove("mapRoles")).unwrap_or_default();
    Ok(mapped(&text, role_arn))
}

/// The role's item of `mapRoles`, whose ARNs have no path.
fn mapped(text: &str, role_arn: &str) -> Option<Mapping> {
    let items: Vec<Value> = serde_saphyr::from_str(text).unwrap_or_default();
    let name = role_arn.rsplit('/').next().unwrap_or_default();
    let account = role_arn.split(":role/").next().unwrap_or_default();
    let plain = format!("{account}:role/{name}");
    let found = items
        .into_iter()
        .find(|it| it["rolearn"].as_str().is_some_and(|arn| arn.eq_ignore_ascii_case(&plain)))?;
    let groups = found["groups"].as_array().into_iter().flatten();
    Some(Mapping {
        entry: None,
        username: found["username"].as_str().unwrap_or_default().to_owned(),
        groups: groups.filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

async fn known(
    client: &Client,
    mapping: Option<Mapping>,
    node: Option<Node>,
) -> anyhow::Result<Known> {
    let Some(name) = node.as_ref().and_then(|it| it.metadata.name.clone()) else {
        return Ok(Known { mapping, ..Known::default() });
    };
    let all = Api::<Pod>::all(client.clone());
    let here = ListParams::default().fields(&format!("spec.nodeName={name}"));
    let pods = all.list(&here).await.context("cannot list the node's pods")?.items;
    let dns = all.list(&ListParams::default().labels("k8s-app=kube-dns")).await?.items;
    let is_ready = |it: &&Pod| {
        let conditions = it.status.as_ref().and_then(|it| it.conditions.as_ref());
        conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
    };
    let requests = Api::<CertificateSigningRequest>::all(client.clone());
    let requests = requests.list(&ListParams::default()).await?.items;
    let dns = (dns.len(), dns.iter().filter(is_ready).count());
    Ok(Known { mapping, node, requests, pods, dns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_found_in_aws_auth_without_its_path() {
        let text = "- rolearn: arn:aws:iam::111122223333:role/node\n  username: \
                    system:node:{{EC2PrivateDNSName}}\n  groups:\n  - system:nodes\n";
        let found = mapped(text, "arn:aws:iam::111122223333:role/team/node").unwrap();
        assert_eq!((found.entry, found.groups), (None, vec!["system:nodes".to_owned()]));
        assert_eq!(mapped(text, "arn:aws:iam::111122223333:role/other"), None);
        assert_eq!(mapped("nonsense: [", "arn:aws:iam::111122223333:role/node"), None);
    }

    #[test]
    fn an_instances_cluster_is_told_by_its_tag() {
        assert_eq!(cluster_in("kubernetes.io/cluster/stead"), Some("stead"));
        assert_eq!(cluster_in("kubernetes.io/cluster/"), None);
        assert_eq!(cluster_in("eks:nodegroup-name"), None);
    }
}
