//! Well-known names of Kubernetes and EKS: labels, annotations, taints, finalizers, signers.
//!
//! Only names that cross a wire between components are here, each with where it comes from.

pub mod karpenter;
pub mod policy_endpoint;
pub mod shapes;
pub mod vpc_resources;

/// Labels.
pub mod labels {
    /// k8s.io/api/core/v1, on every Namespace.
    pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
    /// k8s.io/api/batch/v1, on the pods of a Job.
    pub const JOB_CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
    pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
    /// k8s.io/api/discovery/v1.
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
    pub const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
    /// The prefix of a node's roles.
    pub const NODE_ROLE_PREFIX: &str = "node-role.kubernetes.io/";
}

/// Annotations.
pub mod annotations {
    /// What `kubectl apply` last applied, client-side.
    pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    /// On the bookmark that ends the initial events of a streaming list (KEP-3157).
    pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
    pub const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
    pub const DEFAULT_STORAGE_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
}

/// Finalizers.
pub mod finalizers {
    /// The garbage collector takes owner references away, then this.
    pub const ORPHAN: &str = "orphan";
    /// The garbage collector deletes dependents, then this.
    pub const FOREGROUND: &str = "foregroundDeletion";
    /// The namespace controller's, in a Namespace's spec.
    pub const NAMESPACE: &str = "kubernetes";
}
