//! `PolicyEndpoint`: a NetworkPolicy with its selectors resolved, as EKS's controller writes it and
//! its node agent reads it.
//!
//! Upstream: `api/v1alpha1` of aws/amazon-network-policy-controller-k8s, without `domainName`.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::{Resource, core::NamespaceResourceScope};
use serde::{Deserialize, Serialize};

pub const GROUP: &str = "networking.k8s.aws";
pub const VERSION: &str = "v1alpha1";
pub const KIND: &str = "PolicyEndpoint";
pub const PLURAL: &str = "policyendpoints";

/// The object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyEndpoint {
    /// Lists leave it out.
    #[serde(default = "api_version")]
    pub api_version: String,
    #[serde(default = "kind")]
    pub kind: String,
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: PolicyEndpointSpec,
}

fn api_version() -> String {
    format!("{GROUP}/{VERSION}")
}

fn kind() -> String {
    KIND.to_owned()
}

impl PolicyEndpoint {
    pub fn new(metadata: ObjectMeta, spec: PolicyEndpointSpec) -> Self {
        Self { api_version: api_version(), kind: kind(), metadata, spec }
    }
}

/// What the policy allows to which pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyEndpointSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    pub policy_ref: PolicyReference,
    /// `Ingress`, `Egress`: the directions in which only what is listed is allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pod_isolation: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pod_selector_endpoints: Vec<PodEndpoint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<EndpointInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EndpointInfo>,
}

/// The NetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReference {
    pub name: String,
    pub namespace: String,
}

/// A pod that the policy selects.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodEndpoint {
    pub namespace: String,
    pub name: String,
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    #[serde(rename = "hostIP")]
    pub host_ip: String,
}

/// A peer: an address or a CIDR without its exceptions, at some ports or (none given) at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EndpointInfo {
    pub cidr: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// A protocol, one of its ports, or a range of them. No protocol: TCP, as in a NetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_port: Option<i32>,
}

impl Resource for PolicyEndpoint {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
