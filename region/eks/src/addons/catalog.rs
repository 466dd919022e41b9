//! The add-ons that there are: names, versions, manifests, images.

use aws_eks::{AddonInfo, AddonVersionInfo, Compatibility, DescribeAddonVersionsRequest};
use aws_wire::Fault;

use crate::{
    faults,
    service::{KUBERNETES_VERSION, PLATFORM_VERSION},
};

/// An add-on that can be installed.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) manifest: &'static str,
    /// Repositories in EKS's registry.
    pub(crate) images: &'static [&'static str],
    kind: &'static str,
    /// Accounts in kube-system whose pods use AWS.
    pub(crate) service_accounts: &'static [&'static str],
    /// Whether every new cluster gets it.
    pub(crate) is_default: bool,
}

pub(crate) const ADDONS: [Known; 4] = [
    Known {
        name: "vpc-cni",
        version: "v1.23.0-eksbuild.1",
        manifest: include_str!("../../manifests/vpc-cni.yaml"),
        images: &["amazon-k8s-cni", "amazon-k8s-cni-init", "amazon/aws-network-policy-agent"],
        kind: "networking",
        service_accounts: &["aws-node"],
        is_default: true,
    },
    Known {
        name: "kube-proxy",
        version: "v1.36.2-eksbuild.1",
        manifest: include_str!("../../manifests/kube-proxy.yaml"),
        images: &["eks/kube-proxy"],
        kind: "networking",
        service_accounts: &[],
        is_default: true,
    },
    Known {
        name: "coredns",
        version: "v1.13.1-eksbuild.1",
        manifest: include_str!("../../manifests/coredns.yaml"),
        images: &["eks/coredns"],
        kind: "networking",
        service_accounts: &[],
        is_default: true,
    },
    Known {
        name: "eks-pod-identity-agent",
        version: "v1.3.10-eksbuild.2",
        manifest: include_str!("../../manifests/eks-pod-identity-agent.yaml"),
        images: &["eks/eks-pod-identity-agent"],
        kind: "security",
        service_accounts: &[],
        is_default: false,
    },
];

pub(crate) fn find(name: &str) -> Result<&'static Known, Fault> {
    let found = ADDONS.iter().find(|it| it.name == name);
    found.ok_or_else(|| faults::invalid_parameter("Addon specified is not supported"))
}

pub(crate) fn check_version(known: &Known, asked: Option<&str>) -> Result<(), Fault> {
    match asked {
        None | Some("latest") => Ok(()),
        Some(version) if version == known.version => Ok(()),
        Some(_) => Err(faults::invalid_parameter("Addon version specified is not supported")),
    }
}

pub(crate) fn describe(request: &DescribeAddonVersionsRequest) -> Vec<AddonInfo> {
    let fits = request.kubernetes_version.as_deref().is_none_or(|it| it == KUBERNETES_VERSION);
    let all = ADDONS.iter().map(info).filter(|it| {
        let has = |wanted: &[String], own: &Option<String>| {
            wanted.is_empty() || own.as_ref().is_some_and(|own| wanted.contains(own))
        };
        has(&request.types, &it.kind)
            && has(&request.publishers, &it.publisher)
            && has(&request.owners, &it.owner)
    });
    let asked = |it: &AddonInfo| {
        request.addon_name.as_ref().is_none_or(|name| it.addon_name.as_ref() == Some(name))
    };
    all.filter(|it| fits && asked(it)).collect()
}

fn info(known: &Known) -> AddonInfo {
    let version = AddonVersionInfo {
        addon_version: Some(known.version.to_owned()),
        architecture: vec!["amd64".to_owned()],
        compute_types: vec!["ec2".to_owned()],
        compatibilities: vec![Compatibility {
            cluster_version: Some(KUBERNETES_VERSION.to_owned()),
            platform_versions: vec![PLATFORM_VERSION.to_owned()],
            default_version: Some(true),
        }],
        requires_configuration: Some(false),
        requires_iam_permissions: Some(known.name == "vpc-cni"),
    };
    AddonInfo {
        addon_name: Some(known.name.to_owned()),
        kind: Some(known.kind.to_owned()),
        addon_versions: vec![version],
        publisher: Some("eks".to_owned()),
        owner: Some("aws".to_owned()),
        default_namespace: Some("kube-system".to_owned()),
    }
}
