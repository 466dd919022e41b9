//! Security groups for pods: what the controller of VPC resources, the API server's admission and
//! `aws-node` say to each other.
//!
//! A [`SecurityGroupPolicy`] selects pods; they ask for [`POD_ENI`]; `aws-node` asks for a trunk by a
//! feature of its node's [`CniNode`]; the controller answers with the pod's annotation [`POD_ENI`],
//! a list of [`PodEni`].
//!
//! Upstream: `apis/vpcresources` of aws/amazon-vpc-resource-controller-k8s.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::{
    Resource,
    core::{ClusterResourceScope, NamespaceResourceScope},
};
use serde::{Deserialize, Serialize};

pub const GROUP: &str = "vpcresources.k8s.aws";
/// The extended resource that a pod asks for, and the annotation in which it is given.
pub const POD_ENI: &str = "vpc.amazonaws.com/pod-eni";
/// On nodes whose trunk is attached.
pub const TRUNK_LABEL: &str = "vpc.amazonaws.com/has-trunk-attached";
/// What the resource's controller is called to the API server: now, and in its first release.
pub const CONTROLLER_USERS: [&str; 2] = [
    "system:serviceaccount:kube-system:eks-vpc-resource-controller",
    "system:serviceaccount:kube-system:vpc-resource-controller",
];
/// Features of a [`CniNode`].
pub const SECURITY_GROUPS_FOR_PODS: &str = "SecurityGroupsForPods";
pub const CUSTOM_NETWORKING: &str = "CustomNetworking";

/// Which pods get which security groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupPolicy {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: SecurityGroupPolicySpec,
}

/// A selector that is missing selects nothing by itself; with both, both have to select.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityGroupPolicySpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_selector: Option<LabelSelector>,
    pub security_groups: GroupIds,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupIds {
    #[serde(rename = "groupIds", skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// What a node's CNI asks of the controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CniNode {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: CniNodeSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CniNodeSpec {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<Feature>,
    /// Tags for every interface that is made for the node.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Feature {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

impl CniNode {
    pub fn new(metadata: ObjectMeta, spec: CniNodeSpec) -> Self {
        let api_version = format!("{GROUP}/{}", <Self as Resource>::version(&()));
        Self { api_version, kind: "CNINode".to_owned(), metadata, spec }
    }

    /// The feature's value, if it is asked for.
    pub fn feature(&self, name: &str) -> Option<&str> {
        let found = self.spec.features.iter().find(|it| it.name == name)?;
        Some(&found.value)
    }
}

/// One branch interface of a pod, as its annotation lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodEni {
    #[serde(rename = "eniId")]
    pub eni_id: String,
    /// Its hardware address.
    #[serde(rename = "ifAddress")]
    pub mac: String,
    #[serde(rename = "privateIp")]
    pub private_ip: String,
    #[serde(rename = "ipv6Addr", default)]
    pub ipv6_address: String,
    /// Go reads names in any case, and its CNI spells this one differently.
    #[serde(rename = "vlanId", alias = "vlanID")]
    pub vlan_id: u32,
    #[serde(rename = "subnetCidr")]
    pub subnet_cidr: String,
    #[serde(rename = "subnetV6Cidr", default)]
    pub subnet_v6_cidr: String,
    #[serde(rename = "associationID", alias = "associationId", default)]
    pub association_id: String,
}

impl PodEni {
    /// The annotation's list; `None` where it cannot be read.
    pub fn parse(annotation: &str) -> Option<Vec<Self>> {
        serde_json::from_str(annotation).ok()
    }

    pub fn address(&self) -> Option<Ipv4Addr> {
        self.private_ip.parse().ok()
    }

    /// Where its subnet gives one.
    pub fn ipv6_address(&self) -> Option<Ipv6Addr> {
        self.ipv6_address.parse().ok()
    }

    /// The router of its subnet: the first address after the network's.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        let (network, length) = self.subnet_cidr.split_once('/')?;
        let (network, length) = (network.parse::<Ipv4Addr>().ok()?, length.parse::<u32>().ok()?);
        let mask = u32::MAX.checked_shl(32_u32.checked_sub(length)?).unwrap_or(0);
        Some(Ipv4Addr::from((u32::from(network) & mask).checked_add(1)?))
    }
}

macro_rules! resource {
    ($type:ty, $scope:ty, $kind:literal, $version:literal, $plural:literal) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                GROUP.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                $version.into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(
    SecurityGroupPolicy,
    NamespaceResourceScope,
    "SecurityGroupPolicy",
    "v1beta1",
    "securitygrouppolicies"
);
resource!(CniNode, ClusterResourceScope, "CNINode", "v1alpha1", "cninodes");

#[cfg(test)]
mod tests {
    use super::*;

    /// As a cluster of AWS's shows it.
    const ANNOTATION: &str = r#"[{"eniId":"eni-0bf8102e8bf0fa369","ifAddress":"02:78:59:2f:ee:b2",
        "privateIp":"192.168.62.245","ipv6Addr":"","vlanId":1,"subnetCidr":"192.168.32.0/19",
        "subnetV6Cidr":"","associationID":"trunk-assoc-0a1"}]"#;

    #[test]
    fn an_annotation_is_read_in_both_spellings_and_written_in_the_controllers() {
        let read = PodEni::parse(ANNOTATION).unwrap();
        assert_eq!(read, PodEni::parse(&ANNOTATION.replace("vlanId", "vlanID")).unwrap());
        assert_eq!((read[0].vlan_id, read[0].gateway()), (1, Some([192, 168, 32, 1].into())));
        let written = serde_json::to_string(&read).unwrap();
        let names = ["eniId", "ifAddress", "privateIp", "ipv6Addr", "vlanId", "subnetCidr"];
        for name in names.into_iter().chain(["subnetV6Cidr", "associationID"]) {
            assert!(written.contains(&format!("\"{name}\":")), "{name}: {written}");
        }
        assert_eq!(PodEni::parse("{}"), None);
    }

    #[test]
    fn a_subnet_that_cannot_be_read_has_no_gateway() {
        let mut eni = PodEni::parse(ANNOTATION).unwrap().remove(0);
        for (cidr, gateway) in [
            ("10.0.0.77/26", Some([10, 0, 0, 65].into())),
            ("10.0.0.0", None),
            ("10.0.0.0/33", None),
            ("0.0.0.0/0", Some([0, 0, 0, 1].into())),
        ] {
            eni.subnet_cidr = cidr.to_owned();
            assert_eq!(eni.gateway(), gateway, "{cidr}");
        }
    }

    #[test]
    fn a_feature_without_a_value_is_one_that_is_asked_for() {
        let node: CniNode = serde_json::from_str(
            r#"{"metadata":{"name":"n"},"spec":{"features":[{"name":"SecurityGroupsForPods"}]}}"#,
        )
        .unwrap();
        assert_eq!(node.feature(SECURITY_GROUPS_FOR_PODS), Some(""));
        assert_eq!(node.feature(CUSTOM_NETWORKING), None);
    }
}
