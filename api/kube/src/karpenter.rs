//! Karpenter's API: [`NodePool`] and [`NodeClaim`] of `karpenter.sh/v1`, [`NodeOverlay`] of
//! `karpenter.sh/v1alpha1`, [`Ec2NodeClass`] of `karpenter.k8s.aws/v1`, their definitions, and the names that their controllers agree on.
//!
//! Upstream: `pkg/apis` of kubernetes-sigs/karpenter and aws/karpenter-provider-aws (v1.14). The
//! definitions are written in our own words; names, defaults, bounds and rules are upstream's.

mod definitions;
mod duration;
mod ec2_node_class;
mod node_claim;
mod node_overlay;
mod node_pool;
mod schema;

pub use self::{
    definitions::definitions,
    duration::NillableDuration,
    ec2_node_class::{
        Ami, AmiSelectorTerm, BlockDevice, BlockDeviceMapping, CapacityReservation,
        CapacityReservationSelectorTerm, ConnectionTracking, CpuOptions, Ec2NodeClass,
        Ec2NodeClassSpec, Ec2NodeClassStatus, MetadataOptions, NamedId, NetworkInterface,
        PlacementGroupSelector, SelectorTerm, SubnetStatus,
    },
    node_claim::{NodeClaim, NodeClaimResources, NodeClaimSpec, NodeClaimStatus},
    node_overlay::{NodeOverlay, NodeOverlaySpec, NodeOverlayStatus},
    node_pool::{
        Budget, ConsolidationPolicy, Disruption, DisruptionReason, NodeClaimTemplate,
        NodeClaimTemplateSpec, NodeClassReference, NodePool, NodePoolSpec, NodePoolStatus,
        NodeSelectorRequirement, TemplateMetadata,
    },
};

pub const GROUP: &str = "karpenter.sh";
pub const AWS_GROUP: &str = "karpenter.k8s.aws";
pub const VERSION: &str = "v1";
/// Of [`NodeOverlay`].
pub const ALPHA: &str = "v1alpha1";

/// Labels, all usable in requirements unless said otherwise.
pub mod labels {
    pub const NODE_POOL: &str = "karpenter.sh/nodepool";
    pub const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
    /// On nodes, not for requirements.
    pub const REGISTERED: &str = "karpenter.sh/registered";
    pub const INITIALIZED: &str = "karpenter.sh/initialized";
    pub const DO_NOT_SYNC_TAINTS: &str = "karpenter.sh/do-not-sync-taints";
    pub const NODE_CLASS: &str = "karpenter.k8s.aws/ec2nodeclass";

    pub const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";
    pub const ZONE: &str = "topology.kubernetes.io/zone";
    pub const REGION: &str = "topology.kubernetes.io/region";
    pub const ZONE_ID: &str = "topology.k8s.aws/zone-id";
    pub const ARCH: &str = "kubernetes.io/arch";
    pub const OS: &str = "kubernetes.io/os";
    pub const HOSTNAME: &str = "kubernetes.io/hostname";
    pub const WINDOWS_BUILD: &str = "node.kubernetes.io/windows-build";

    pub const INSTANCE_CATEGORY: &str = "karpenter.k8s.aws/instance-category";
    pub const INSTANCE_FAMILY: &str = "karpenter.k8s.aws/instance-family";
    pub const INSTANCE_GENERATION: &str = "karpenter.k8s.aws/instance-generation";
    pub const INSTANCE_SIZE: &str = "karpenter.k8s.aws/instance-size";
    /// vCPUs.
    pub const INSTANCE_CPU: &str = "karpenter.k8s.aws/instance-cpu";
    pub const INSTANCE_CPU_MANUFACTURER: &str = "karpenter.k8s.aws/instance-cpu-manufacturer";
    pub const INSTANCE_CPU_MHZ: &str = "karpenter.k8s.aws/instance-cpu-sustained-clock-speed-mhz";
    /// MiB.
    pub const INSTANCE_MEMORY: &str = "karpenter.k8s.aws/instance-memory";
    pub const INSTANCE_EBS_BANDWIDTH: &str = "karpenter.k8s.aws/instance-ebs-bandwidth";
    pub const INSTANCE_NETWORK_BANDWIDTH: &str = "karpenter.k8s.aws/instance-network-bandwidth";
    pub const INSTANCE_GPU_NAME: &str = "karpenter.k8s.aws/instance-gpu-name";
    pub const INSTANCE_GPU_MANUFACTURER: &str = "karpenter.k8s.aws/instance-gpu-manufacturer";
    pub const INSTANCE_GPU_COUNT: &str = "karpenter.k8s.aws/instance-gpu-count";
    pub const INSTANCE_GPU_MEMORY: &str = "karpenter.k8s.aws/instance-gpu-memory";
    pub const INSTANCE_ACCELERATOR_NAME: &str = "karpenter.k8s.aws/instance-accelerator-name";
    pub const INSTANCE_ACCELERATOR_MANUFACTURER: &str =
        "karpenter.k8s.aws/instance-accelerator-manufacturer";
    pub const INSTANCE_ACCELERATOR_COUNT: &str = "karpenter.k8s.aws/instance-accelerator-count";
    /// GB.
    pub const INSTANCE_LOCAL_NVME: &str = "karpenter.k8s.aws/instance-local-nvme";
    pub const INSTANCE_HYPERVISOR: &str = "karpenter.k8s.aws/instance-hypervisor";
    pub const INSTANCE_ENCRYPTION: &str =
        "karpenter.k8s.aws/instance-encryption-in-transit-supported";
    pub const INSTANCE_CAPABILITY_FLEX: &str = "karpenter.k8s.aws/instance-capability-flex";
    pub const INSTANCE_TENANCY: &str = "karpenter.k8s.aws/instance-tenancy";
    pub const CAPACITY_RESERVATION_ID: &str = "karpenter.k8s.aws/capacity-reservation-id";
    pub const CAPACITY_RESERVATION_TYPE: &str = "karpenter.k8s.aws/capacity-reservation-type";
    pub const CAPACITY_RESERVATION_INTERRUPTIBLE: &str =
        "karpenter.k8s.aws/capacity-reservation-interruptible";

    pub const PLACEMENT_GROUP_ID: &str = "karpenter.k8s.aws/placement-group-id";
    /// From 1; of groups with partitions alone.
    pub const PLACEMENT_GROUP_PARTITION: &str = "karpenter.k8s.aws/placement-group-partition";

    /// What a node may be asked for although its pool says nothing of it: any value is possible.
    pub const WELL_KNOWN: [&str; 36] = [
        NODE_POOL,
        CAPACITY_TYPE,
        INSTANCE_TYPE,
        ZONE,
        REGION,
        ZONE_ID,
        ARCH,
        OS,
        WINDOWS_BUILD,
        INSTANCE_CATEGORY,
        INSTANCE_FAMILY,
        INSTANCE_GENERATION,
        INSTANCE_SIZE,
        INSTANCE_CPU,
        INSTANCE_CPU_MANUFACTURER,
        INSTANCE_CPU_MHZ,
        INSTANCE_MEMORY,
        INSTANCE_EBS_BANDWIDTH,
        INSTANCE_NETWORK_BANDWIDTH,
        INSTANCE_GPU_NAME,
        INSTANCE_GPU_MANUFACTURER,
        INSTANCE_GPU_COUNT,
        INSTANCE_GPU_MEMORY,
        INSTANCE_ACCELERATOR_NAME,
        INSTANCE_ACCELERATOR_MANUFACTURER,
        INSTANCE_ACCELERATOR_COUNT,
        INSTANCE_LOCAL_NVME,
        INSTANCE_HYPERVISOR,
        INSTANCE_ENCRYPTION,
        INSTANCE_CAPABILITY_FLEX,
        INSTANCE_TENANCY,
        CAPACITY_RESERVATION_ID,
        CAPACITY_RESERVATION_TYPE,
        CAPACITY_RESERVATION_INTERRUPTIBLE,
        PLACEMENT_GROUP_ID,
        PLACEMENT_GROUP_PARTITION,
    ];

    /// Older names, and the EBS CSI driver's, with what they are called now.
    pub const ALIASES: [(&str, &str); 6] = [
        ("beta.kubernetes.io/arch", ARCH),
        ("beta.kubernetes.io/os", OS),
        ("beta.kubernetes.io/instance-type", INSTANCE_TYPE),
        ("failure-domain.beta.kubernetes.io/zone", ZONE),
        ("failure-domain.beta.kubernetes.io/region", REGION),
        ("topology.ebs.csi.aws.com/zone", ZONE),
    ];
}

/// Values of [`labels::CAPACITY_TYPE`].
pub mod capacity_types {
    pub const ON_DEMAND: &str = "on-demand";
    pub const SPOT: &str = "spot";
    pub const RESERVED: &str = "reserved";
}

/// Annotations.
pub mod annotations {
    pub const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
    pub const NODE_POOL_HASH: &str = "karpenter.sh/nodepool-hash";
    pub const NODE_POOL_HASH_VERSION: &str = "karpenter.sh/nodepool-hash-version";
    pub const NODE_CLASS_HASH: &str = "karpenter.k8s.aws/ec2nodeclass-hash";
    pub const NODE_CLASS_HASH_VERSION: &str = "karpenter.k8s.aws/ec2nodeclass-hash-version";
    pub const TERMINATION_TIMESTAMP: &str = "karpenter.sh/nodeclaim-termination-timestamp";
    /// The instance profile that a NodeClaim was launched with.
    pub const INSTANCE_PROFILE: &str = "karpenter.k8s.aws/instance-profile-name";
    pub const MIN_VALUES_RELAXED: &str = "karpenter.sh/nodeclaim-min-values-relaxed";
}

/// Keys of taints.
pub mod taints {
    /// `NoSchedule`, on a node that is about to go.
    pub const DISRUPTED: &str = "karpenter.sh/disrupted";
    /// `NoExecute`, on a node until its NodeClaim has found it.
    pub const UNREGISTERED: &str = "karpenter.sh/unregistered";
}

/// Of Nodes and NodeClaims.
pub const TERMINATION_FINALIZER: &str = "karpenter.sh/termination";

/// Implements the common face of a kind without a namespace.
macro_rules! cluster_kind {
    ($kind:ident, $name:literal, $group:expr, $version:expr, $plural:literal, $spec:ident, $status:ident) => {
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        #[doc = concat!("A ", $name, ".")]
        pub struct $kind {
            #[serde(default = "api_version")]
            pub api_version: String,
            #[serde(default = "kind")]
            pub kind: String,
            pub metadata: ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            #[serde(default)]
            pub spec: $spec,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub status: Option<$status>,
        }

        fn api_version() -> String {
            format!("{}/{}", $group, $version)
        }

        fn kind() -> String {
            $name.to_owned()
        }

        impl $kind {
            pub fn new(name: &str, spec: $spec) -> Self {
                let metadata = ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                    name: Some(name.to_owned()),
                    ..Default::default()
                };
                Self { api_version: api_version(), kind: kind(), metadata, spec, status: None }
            }

            pub fn name(&self) -> &str {
                self.metadata.name.as_deref().unwrap_or_default()
            }
        }

        impl ::kube::Resource for $kind {
            type DynamicType = ();
            type Scope = ::kube::core::ClusterResourceScope;

            fn kind((): &()) -> ::std::borrow::Cow<'_, str> {
                $name.into()
            }

            fn group((): &()) -> ::std::borrow::Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> ::std::borrow::Cow<'_, str> {
                $version.into()
            }

            fn plural((): &()) -> ::std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(
                &mut self,
            ) -> &mut ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

use cluster_kind;
