//! The load balancer itself: made, or changed where it differs.

use std::collections::{BTreeMap, BTreeSet};

use aws_elasticloadbalancing::{
    attribute::{
        DescribeLoadBalancerAttributes, DescribeLoadBalancerAttributesRequest,
        LoadBalancerAttributes, ModifyLoadBalancerAttributes, ModifyLoadBalancerAttributesRequest,
    },
    instance::{
        ConfigureHealthCheck, ConfigureHealthCheckRequest, DeregisterInstancesFromLoadBalancer,
        DeregisterInstancesFromLoadBalancerRequest, Instance, RegisterInstancesWithLoadBalancer,
        RegisterInstancesWithLoadBalancerRequest,
    },
    listener::{
        CreateLoadBalancerListeners, CreateLoadBalancerListenersRequest,
        DeleteLoadBalancerListeners, DeleteLoadBalancerListenersRequest, Listener,
    },
    load_balancer::{
        ApplySecurityGroupsToLoadBalancer, ApplySecurityGroupsToLoadBalancerRequest,
        AttachLoadBalancerToSubnets, AttachLoadBalancerToSubnetsRequest, CreateLoadBalancer,
        CreateLoadBalancerRequest, DeleteLoadBalancer, DeleteLoadBalancerRequest,
        DescribeLoadBalancers, DescribeLoadBalancersRequest, DetachLoadBalancerFromSubnets,
        DetachLoadBalancerFromSubnetsRequest, LoadBalancerDescription,
    },
    policy::{
        CreateLoadBalancerPolicy, CreateLoadBalancerPolicyRequest, PolicyAttribute,
        SetLoadBalancerPoliciesForBackendServer, SetLoadBalancerPoliciesForBackendServerRequest,
    },
    tag::{AddTags, AddTagsRequest, DescribeTags, DescribeTagsRequest, Tag},
};
use aws_wire::Client;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::{ProviderError, annotations::Annotations, cluster_tag, failed, wanted::Wanted};

/// Where this machine's users find the load balancer: a tag that only Elastic Load Balancing can set.
pub(super) const HOST_ADDRESS: &str = "aws:nodestead:host-address";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const PROXY_PROTOCOL: &str = "k8s-proxyprotocol-enabled";

/// Tags of a load balancer: those that it is made with, and those of the annotation, which may change.
pub(super) struct Tags {
    made: BTreeMap<String, String>,
    additional: BTreeMap<String, String>,
}

pub(super) fn tags(service: &Service, cluster: &str, annotations: &Annotations<'_>) -> Tags {
    let additional = annotations.pairs("additional-resource-tags");
    let key = format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any());
    let mut made = additional.clone();
    made.insert(SERVICE_NAME.to_owned(), key);
    made.insert(cluster_tag(cluster), "owned".to_owned());
    Tags { made, additional }
}

pub(super) async fn describe(
    client: &Client,
    name: &str,
) -> Result<Option<LoadBalancerDescription>, ProviderError> {
    let request = DescribeLoadBalancersRequest {
        load_balancer_names: vec![name.to_owned()],
        ..Default::default()
    };
    match client.call::<DescribeLoadBalancers>(request).await {
        Ok(found) => Ok(found.load_balancer_descriptions.into_iter().next()),
        Err(error) if error.is("LoadBalancerNotFound") => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn ensure(
    client: &Client,
    wanted: &Wanted,
    tags: Tags,
) -> Result<LoadBalancerDescription, ProviderError> {
    match describe(client, &wanted.name).await? {
        None => create(client, wanted, tags.made).await?,
        Some(found) => {
            sync_subnets(client, wanted, &found).await?;
            sync_groups(client, wanted, &found).await?;
            sync_listeners(client, wanted, &found).await?;
            sync_proxy_protocol(client, wanted, &found).await?;
            if !tags.additional.is_empty() {
                let request = AddTagsRequest {
                    load_balancer_names: vec![wanted.name.clone()],
                    tags: list(tags.additional),
                };
                let added = client.call::<AddTags>(request).await.map_err(ProviderError::from);
                added.map_err(|it| it.of("unable to create additional load balancer tags"))?;
            }
        }
    }
    sync_attributes(client, wanted).await?;
    let found = describe(client, &wanted.name).await?;
    found.ok_or_else(|| failed(format!("load balancer {} has gone meanwhile", wanted.name)))
}

async fn create(
    client: &Client,
    wanted: &Wanted,
    tags: BTreeMap<String, String>,
) -> Result<(), ProviderError> {
    let request = CreateLoadBalancerRequest {
        load_balancer_name: wanted.name.clone(),
        listeners: wanted.listeners.clone(),
        subnets: wanted.subnets.clone(),
        security_groups: wanted.security_groups.clone(),
        scheme: wanted.is_internal.then(|| "internal".to_owned()),
        tags: list(tags),
        ..Default::default()
    };
    client.call::<CreateLoadBalancer>(request).await?;
    if wanted.proxy_protocol {
        create_proxy_policy(client, &wanted.name).await?;
        for listener in &wanted.listeners {
            set_proxy_protocol(client, &wanted.name, listener.instance_port, true).await?;
        }
    }
    Ok(())
}

async fn sync_subnets(
    client: &Client,
    wanted: &Wanted,
    found: &LoadBalancerDescription,
) -> Result<(), ProviderError> {
    let (additions, removals) = difference(&wanted.subnets, &found.subnets);
    let load_balancer_name = wanted.name.clone();
    if !removals.is_empty() {
        let request = DetachLoadBalancerFromSubnetsRequest {
            load_balancer_name: load_balancer_name.clone(),
            subnets: removals,
        };
        let done = client.call::<DetachLoadBalancerFromSubnets>(request).await;
        done.map_err(|it| {
            ProviderError::from(it).of("error detaching AWS loadbalancer from subnets")
        })?;
    }
    if !additions.is_empty() {
        let request = AttachLoadBalancerToSubnetsRequest { load_balancer_name, subnets: additions };
        let done = client.call::<AttachLoadBalancerToSubnets>(request).await;
        done.map_err(|it| {
            ProviderError::from(it).of("error attaching AWS loadbalancer to subnets")
        })?;
    }
    Ok(())
}

async fn sync_groups(
    client: &Client,
    wanted: &Wanted,
    found: &LoadBalancerDescription,
) -> Result<(), ProviderError> {
    let (additions, removals) = difference(&wanted.security_groups, &found.security_groups);
    if additions.is_empty() && removals.is_empty() {
        return Ok(());
    }
    let request = ApplySecurityGroupsToLoadBalancerRequest {
        load_balancer_name: wanted.name.clone(),
        security_groups: wanted.security_groups.clone(),
    };
    let done = client.call::<ApplySecurityGroupsToLoadBalancer>(request).await;
    done.map(drop)
        .map_err(|it| ProviderError::from(it).of("error applying AWS loadbalancer security groups"))
}

async fn sync_listeners(
    client: &Client,
    wanted: &Wanted,
    found: &LoadBalancerDescription,
) -> Result<(), ProviderError> {
    let present = found.listener_descriptions.iter().filter_map(|it| it.listener.clone());
    let present: Vec<Listener> = present.collect();
    let has = |list: &[Listener], one: &Listener| list.iter().any(|it| is_same(it, one));
    let removals = present.iter().filter(|it| !has(&wanted.listeners, it));
    let removals: Vec<i64> = removals.map(|it| it.load_balancer_port).collect();
    let additions = wanted.listeners.iter().filter(|it| !has(&present, it));
    let additions: Vec<Listener> = additions.cloned().collect();
    if !removals.is_empty() {
        let request = DeleteLoadBalancerListenersRequest {
            load_balancer_name: wanted.name.clone(),
            load_balancer_ports: removals,
        };
        let done = client.call::<DeleteLoadBalancerListeners>(request).await;
        done.map_err(|it| ProviderError::from(it).of("error deleting AWS loadbalancer listeners"))?;
    }
    if !additions.is_empty() {
        let request = CreateLoadBalancerListenersRequest {
            load_balancer_name: wanted.name.clone(),
            listeners: additions,
        };
        let done = client.call::<CreateLoadBalancerListeners>(request).await;
        done.map_err(|it| ProviderError::from(it).of("error creating AWS loadbalancer listeners"))?;
    }
    Ok(())
}

/// Protocols are written in either case.
fn is_same(one: &Listener, other: &Listener) -> bool {
    let text = |it: &Option<String>| it.as_deref().unwrap_or_default().to_ascii_lowercase();
    one.protocol.eq_ignore_ascii_case(&other.protocol)
        && text(&one.instance_protocol) == text(&other.instance_protocol)
        && one.load_balancer_port == other.load_balancer_port
        && one.instance_port == other.instance_port
        && text(&one.ssl_certificate_id) == text(&other.ssl_certificate_id)
}

async fn sync_proxy_protocol(
    client: &Client,
    wanted: &Wanted,
    found: &LoadBalancerDescription,
) -> Result<(), ProviderError> {
    if wanted.proxy_protocol {
        create_proxy_policy(client, &wanted.name).await?;
    }
    let on = found.backend_server_descriptions.iter();
    let on = on.filter(|it| it.policy_names.iter().any(|it| it == PROXY_PROTOCOL));
    let on: BTreeSet<i64> = on.filter_map(|it| it.instance_port).collect();
    let ports: BTreeSet<i64> = wanted.listeners.iter().map(|it| it.instance_port).collect();
    let shall = if wanted.proxy_protocol { ports } else { BTreeSet::new() };
    for port in shall.symmetric_difference(&on) {
        set_proxy_protocol(client, &wanted.name, *port, shall.contains(port)).await?;
    }
    Ok(())
}

async fn create_proxy_policy(client: &Client, name: &str) -> Result<(), ProviderError> {
    let request = CreateLoadBalancerPolicyRequest {
        load_balancer_name: name.to_owned(),
        policy_name: PROXY_PROTOCOL.to_owned(),
        policy_type_name: "ProxyProtocolPolicyType".to_owned(),
        policy_attributes: vec![PolicyAttribute {
            attribute_name: Some("ProxyProtocol".to_owned()),
            attribute_value: Some("true".to_owned()),
        }],
    };
    let done = client.call::<CreateLoadBalancerPolicy>(request).await;
    done.map(drop).map_err(|it| {
        ProviderError::from(it).of("error creating proxy protocol policy on load balancer")
    })
}

async fn set_proxy_protocol(
    client: &Client,
    name: &str,
    instance_port: i64,
    is_on: bool,
) -> Result<(), ProviderError> {
    let request = SetLoadBalancerPoliciesForBackendServerRequest {
        load_balancer_name: name.to_owned(),
        instance_port,
        policy_names: is_on.then(|| PROXY_PROTOCOL.to_owned()).into_iter().collect(),
    };
    let done = client.call::<SetLoadBalancerPoliciesForBackendServer>(request).await;
    done.map(drop).map_err(|it| {
        ProviderError::from(it).of("error adjusting AWS loadbalancer backend policies")
    })
}

async fn sync_attributes(client: &Client, wanted: &Wanted) -> Result<(), ProviderError> {
    let load_balancer_name = wanted.name.clone();
    let request =
        DescribeLoadBalancerAttributesRequest { load_balancer_name: load_balancer_name.clone() };
    let found = client.call::<DescribeLoadBalancerAttributes>(request).await?;
    if covers(&found.load_balancer_attributes, &wanted.attributes) {
        return Ok(());
    }
    let request = ModifyLoadBalancerAttributesRequest {
        load_balancer_name,
        load_balancer_attributes: wanted.attributes.clone(),
    };
    let done = client.call::<ModifyLoadBalancerAttributes>(request).await;
    done.map(drop).map_err(|it| {
        ProviderError::from(it)
            .of("Unable to update load balancer attributes during attribute sync")
    })
}

/// What was not asked for may be anything.
fn covers(found: &LoadBalancerAttributes, wanted: &LoadBalancerAttributes) -> bool {
    let drains = |it: &LoadBalancerAttributes| it.connection_draining.clone().unwrap_or_default();
    let (is, shall) = (drains(found), drains(wanted));
    let logs = |it: &LoadBalancerAttributes| it.access_log.clone().unwrap_or_default();
    found.connection_settings == wanted.connection_settings
        && found.cross_zone_load_balancing == wanted.cross_zone_load_balancing
        && is.enabled == shall.enabled
        && (shall.timeout.is_none() || is.timeout == shall.timeout)
        && (logs(found) == logs(wanted) || !(logs(found).enabled || logs(wanted).enabled))
}

pub(super) async fn ensure_health_check(
    client: &Client,
    wanted: &Wanted,
    found: &LoadBalancerDescription,
) -> Result<(), ProviderError> {
    if found.health_check.as_ref() == Some(&wanted.health_check) {
        return Ok(());
    }
    let request = ConfigureHealthCheckRequest {
        load_balancer_name: wanted.name.clone(),
        health_check: wanted.health_check.clone(),
    };
    let done = client.call::<ConfigureHealthCheck>(request).await;
    done.map(drop).map_err(|it| {
        let what = format!("error configuring load balancer health check for {:?}", wanted.name);
        ProviderError::from(it).of(&what)
    })
}

pub(super) async fn ensure_instances(
    client: &Client,
    found: &LoadBalancerDescription,
    wanted: &BTreeSet<String>,
) -> Result<(), ProviderError> {
    let present = found.instances.iter().filter_map(|it| it.instance_id.clone()).collect();
    let load_balancer_name = found.load_balancer_name.clone().unwrap_or_default();
    let instances = |ids: BTreeSet<String>| {
        ids.into_iter().map(|it| Instance { instance_id: Some(it) }).collect::<Vec<_>>()
    };
    let additions = instances(wanted - &present);
    if !additions.is_empty() {
        let request = RegisterInstancesWithLoadBalancerRequest {
            load_balancer_name: load_balancer_name.clone(),
            instances: additions,
        };
        client.call::<RegisterInstancesWithLoadBalancer>(request).await?;
    }
    let removals = instances(&present - wanted);
    if !removals.is_empty() {
        let request =
            DeregisterInstancesFromLoadBalancerRequest { load_balancer_name, instances: removals };
        client.call::<DeregisterInstancesFromLoadBalancer>(request).await?;
    }
    Ok(())
}

pub(super) async fn host_address(
    client: &Client,
    found: &LoadBalancerDescription,
) -> Result<Option<String>, ProviderError> {
    let request = DescribeTagsRequest {
        load_balancer_names: found.load_balancer_name.clone().into_iter().collect(),
    };
    let found = client.call::<DescribeTags>(request).await?.tag_descriptions;
    let mut tags = found.into_iter().flat_map(|it| it.tags);
    Ok(tags.find(|it| it.key == HOST_ADDRESS).and_then(|it| it.value))
}

pub(super) async fn delete(
    client: &Client,
    found: &LoadBalancerDescription,
) -> Result<(), ProviderError> {
    let request = DeleteLoadBalancerRequest {
        load_balancer_name: found.load_balancer_name.clone().unwrap_or_default(),
    };
    Ok(client.call::<DeleteLoadBalancer>(request).await.map(drop)?)
}

fn difference(wanted: &[String], present: &[String]) -> (Vec<String>, Vec<String>) {
    let without = |from: &[String], other: &[String]| {
        from.iter().filter(|it| !other.contains(it)).cloned().collect()
    };
    (without(wanted, present), without(present, wanted))
}

fn list(tags: BTreeMap<String, String>) -> Vec<Tag> {
    tags.into_iter().map(|(key, value)| Tag { key, value: Some(value) }).collect()
}
