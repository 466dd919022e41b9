//! Policies: the proxy protocol, which tells instances a client's address. The other types do not
//! exist here.

use std::collections::BTreeSet;

use aws_elasticloadbalancing::{
    listener::{
        SetLoadBalancerPoliciesOfListenerRequest, SetLoadBalancerPoliciesOfListenerResponse,
    },
    policy::{
        CreateLoadBalancerPolicyRequest, CreateLoadBalancerPolicyResponse,
        DeleteLoadBalancerPolicyRequest, DeleteLoadBalancerPolicyResponse,
        DescribeLoadBalancerPoliciesRequest, DescribeLoadBalancerPoliciesResponse, PolicyAttribute,
        PolicyDescription, SetLoadBalancerPoliciesForBackendServerRequest,
        SetLoadBalancerPoliciesForBackendServerResponse,
    },
};
use aws_wire::Fault;

use crate::{Call, ElasticLoadBalancing, faults, listeners, records::Policy};

const PROXY_PROTOCOL: &str = "ProxyProtocolPolicyType";
const ENABLED: &str = "ProxyProtocol";

pub(crate) async fn create(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: CreateLoadBalancerPolicyRequest,
) -> Result<CreateLoadBalancerPolicyResponse, Fault> {
    if request.policy_type_name != PROXY_PROTOCOL {
        return Err(Fault::new(
            "PolicyTypeNotFound",
            format!("Policy type '{}' not found.", request.policy_type_name),
        ));
    }
    let policy = Policy { proxy_protocol: enabled(&request.policy_attributes)? };
    service.update(&request.load_balancer_name, |it| {
        let name = &request.policy_name;
        match it.policies.get(name) {
            Some(known) if *known != policy => Err(Fault::new(
                "DuplicatePolicyName",
                format!("Policy with name {name} already exists for load balancer."),
            )),
            _ => {
                it.policies.insert(name.clone(), policy);
                Ok(())
            }
        }
    })?;
    Ok(CreateLoadBalancerPolicyResponse {})
}

fn enabled(attributes: &[PolicyAttribute]) -> Result<bool, Fault> {
    let mut value = None;
    for attribute in attributes {
        match attribute.attribute_name.as_deref() {
            Some(ENABLED) => value = attribute.attribute_value.as_deref(),
            name => {
                let name = name.unwrap_or_default();
                return Err(faults::configuration(format!(
                    "Policy attribute '{name}' is not valid for policy type {PROXY_PROTOCOL}."
                )));
            }
        }
    }
    let enabled = value.and_then(|it| it.to_ascii_lowercase().parse().ok());
    enabled.ok_or_else(|| faults::configuration(format!("{ENABLED} must be true or false.")))
}

pub(crate) async fn delete(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: DeleteLoadBalancerPolicyRequest,
) -> Result<DeleteLoadBalancerPolicyResponse, Fault> {
    let name = request.policy_name;
    service.update(&request.load_balancer_name, |it| {
        if it.backend_policies.values().any(|set| set.contains(&name)) {
            return Err(faults::configuration(format!(
                "You cannot delete policy '{name}', because it is enabled on a server."
            )));
        }
        it.policies.remove(&name);
        Ok(())
    })?;
    Ok(DeleteLoadBalancerPolicyResponse {})
}

/// Without a load balancer AWS lists its sample policies, of which this region has none.
pub(crate) async fn describe(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: DescribeLoadBalancerPoliciesRequest,
) -> Result<DescribeLoadBalancerPoliciesResponse, Fault> {
    let known = request.load_balancer_name.as_deref().map(|it| service.get(it)).transpose()?;
    let policies = known.map(|it| it.policies.clone()).unwrap_or_default();
    if let Some(name) = request.policy_names.iter().find(|it| !policies.contains_key(*it)) {
        return Err(faults::no_policy(name));
    }
    let is_asked =
        |name: &String| request.policy_names.is_empty() || request.policy_names.contains(name);
    let shown = policies.iter().filter(|(name, _)| is_asked(name));
    let policy_descriptions = shown.map(|(name, policy)| PolicyDescription {
        policy_name: Some(name.clone()),
        policy_type_name: Some(PROXY_PROTOCOL.to_owned()),
        policy_attribute_descriptions: vec![PolicyAttribute {
            attribute_name: Some(ENABLED.to_owned()),
            attribute_value: Some(policy.proxy_protocol.to_string()),
        }],
    });
    Ok(DescribeLoadBalancerPoliciesResponse { policy_descriptions: policy_descriptions.collect() })
}

pub(crate) async fn set_on_instances(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: SetLoadBalancerPoliciesForBackendServerRequest,
) -> Result<SetLoadBalancerPoliciesForBackendServerResponse, Fault> {
    let port = listeners::port("InstancePort", request.instance_port)?;
    let wanted: BTreeSet<String> = request.policy_names.into_iter().collect();
    service.update(&request.load_balancer_name, |it| {
        if let Some(name) = wanted.iter().find(|name| !it.policies.contains_key(*name)) {
            return Err(faults::no_policy(name));
        }
        // As AWS: none, for a port that no listener leads to (any more), is no mistake.
        if wanted.is_empty() {
            it.backend_policies.remove(&port);
            return Ok(());
        }
        if !it.listeners.values().any(|listener| listener.instance_port == port) {
            return Err(faults::configuration(format!(
                "There is no listener with instance port {port}."
            )));
        }
        it.backend_policies.insert(port, wanted);
        Ok(())
    })?;
    Ok(SetLoadBalancerPoliciesForBackendServerResponse {})
}

/// No type of policy that this region has belongs on a listener.
pub(crate) async fn set_on_listener(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: SetLoadBalancerPoliciesOfListenerRequest,
) -> Result<SetLoadBalancerPoliciesOfListenerResponse, Fault> {
    let known = service.get(&request.load_balancer_name)?;
    let port = listeners::port("LoadBalancerPort", request.load_balancer_port)?;
    if !known.listeners.contains_key(&port) {
        return Err(listeners::no_listener(&known.name, port));
    }
    match request.policy_names.first() {
        None => Ok(SetLoadBalancerPoliciesOfListenerResponse {}),
        Some(name) if !known.policies.contains_key(name) => Err(faults::no_policy(name)),
        Some(name) => Err(faults::configuration(format!(
            "The policy '{name}' of type {PROXY_PROTOCOL} cannot be set on a listener."
        ))),
    }
}
