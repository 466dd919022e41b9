//! The RBAC objects that EKS adds to upstream's defaults.
//!
//! The add-ons (`eks:kube-proxy`, `aws-node`, `eks:coredns`) bring their own with their manifests.

use serde_json::Value;

use super::bootstrap::{cluster_role, cluster_role_binding};

pub(super) fn objects() -> Vec<Value> {
    vec![
        cluster_role(
            "eks:node-bootstrapper",
            &["create | certificates.k8s.io | certificatesigningrequests/selfnodeserver"],
        ),
        cluster_role_binding(
            "eks:node-bootstrapper",
            "eks:node-bootstrapper",
            &["Group system:bootstrappers", "Group system:nodes"],
        ),
        cluster_role(
            "eks:cloud-controller-manager",
            &[
                "create patch update | core events.k8s.io | events",
                "create get list update watch | coordination.k8s.io | leases",
                "delete get list patch update watch | core | nodes",
                "patch update | core | nodes/status",
                "get list patch update watch | core | services",
                "patch update | core | services/status",
                "create get | core | serviceaccounts",
                "get list watch | core | configmaps endpoints pods",
            ],
        ),
        cluster_role_binding(
            "eks:cloud-controller-manager",
            "eks:cloud-controller-manager",
            &[
                "User eks:cloud-controller-manager",
                "User system:cloud-controller-manager",
                "ServiceAccount kube-system/cloud-controller-manager",
            ],
        ),
        cluster_role(
            "eks:nodegroup-manager",
            &[
                "get list patch watch | core | nodes",
                "get list watch | core | pods",
                "create | core | pods/eviction",
                "get list watch | apps | daemonsets",
                "get list watch | policy | poddisruptionbudgets",
            ],
        ),
        cluster_role_binding(
            "eks:nodegroup-manager",
            "eks:nodegroup-manager",
            &["User eks:nodegroup-manager", "User eks:node-manager"],
        ),
        cluster_role(
            "eks:network-policy-controller",
            &[
                "create get patch | apiextensions.k8s.io | customresourcedefinitions",
                "get list watch | core | namespaces pods",
                "get list watch | networking.k8s.io | networkpolicies",
                "create delete get list patch update watch | networking.k8s.aws | policyendpoints",
            ],
        ),
        cluster_role_binding(
            "eks:network-policy-controller",
            "eks:network-policy-controller",
            &["User eks:network-policy-controller"],
        ),
        cluster_role(
            "eks:pod-identity-mutating-webhook",
            &[
                "create patch update | core events.k8s.io | events",
                "get list watch | core | pods serviceaccounts",
                "create get list patch watch | admissionregistration.k8s.io | \
                 mutatingwebhookconfigurations",
            ],
        ),
        cluster_role_binding(
            "eks:pod-identity-mutating-webhook",
            "eks:pod-identity-mutating-webhook",
            &["User eks:pod-identity-mutating-webhook"],
        ),
        cluster_role(
            "vpc-resource-controller-role",
            &[
                "create get patch | apiextensions.k8s.io | customresourcedefinitions",
                "create list patch update watch | core | events",
                "get list patch watch | core | nodes pods",
                "get patch | core | nodes/status",
                "get | core | serviceaccounts",
                "get list watch | core | configmaps | amazon-vpc-cni",
                "get list watch | crd.k8s.amazonaws.com | eniconfigs",
                "get list watch | vpcresources.k8s.aws | securitygrouppolicies",
                "create get list patch update watch | vpcresources.k8s.aws | cninodes",
            ],
        ),
        cluster_role_binding(
            "vpc-resource-controller-rolebinding",
            "vpc-resource-controller-role",
            &["ServiceAccount kube-system/eks-vpc-resource-controller"],
        ),
    ]
}
