//! What EKS keeps of a node group.

use std::collections::BTreeMap;

use aws_eks::{
    CreateNodegroupRequest, NodeRepairConfig, RemoteAccessConfig, Taint, WarmPoolConfig,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    reconcile::repair::Book,
    rollout::{Left, Rollout, Strategy},
    template::Source,
    validate,
};
use crate::{Eks, records::Cluster, service::KUBERNETES_VERSION};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum State {
    Creating,
    Active,
    Updating,
    Deleting,
    CreateFailed,
    DeleteFailed,
    Degraded,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
            Self::CreateFailed => "CREATE_FAILED",
            Self::DeleteFailed => "DELETE_FAILED",
            Self::Degraded => "DEGRADED",
        }
    }
}

/// Sizes of the Auto Scaling group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Scaling {
    pub(crate) min: i64,
    pub(crate) max: i64,
    pub(crate) desired: i64,
}

/// What is wrong: a code of EKS, what it says, which resources.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Issue {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) resources: Vec<String>,
}

/// The image that nodes start from, and the release that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) image_id: String,
    pub(crate) version: String,
}

/// What a group's nodes are made from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Base {
    pub(crate) release: Release,
    /// The customer's launch template.
    pub(crate) source: Option<Source>,
    pub(crate) warm_pool: Option<WarmPoolConfig>,
}

/// A node group. Its key is `CLUSTER/NAME`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Nodegroup {
    pub(crate) cluster: String,
    pub(crate) name: String,
    /// The part of names and ARNs that is unique for ever.
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) scaling: Scaling,
    pub(crate) subnets: Vec<String>,
    pub(crate) instance_types: Vec<String>,
    pub(crate) ami_type: String,
    pub(crate) image_id: String,
    pub(crate) capacity_type: String,
    pub(crate) disk_size: i64,
    pub(crate) node_role: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) max_unavailable: i64,
    /// In its place, where it is given.
    #[serde(default)]
    pub(crate) max_unavailable_percentage: Option<i64>,
    #[serde(default)]
    pub(crate) update_strategy: Option<Strategy>,
    pub(crate) version: String,
    pub(crate) release_version: String,
    /// The customer's launch template.
    #[serde(default)]
    pub(crate) source: Option<Source>,
    /// As it was asked for.
    #[serde(default)]
    pub(crate) remote_access: Option<RemoteAccessConfig>,
    /// EKS's own, for that.
    #[serde(default)]
    pub(crate) remote_access_security_group: Option<String>,
    pub(crate) client_token: Option<String>,
    pub(crate) issues: Vec<Issue>,
    pub(crate) created_at: Timestamp,
    pub(crate) modified_at: Timestamp,
    pub(crate) update_id: Option<String>,
    /// Labels and taints were changed and are not on all nodes yet.
    #[serde(default)]
    pub(crate) removed_labels: Vec<String>,
    #[serde(default)]
    pub(crate) removed_taints: Vec<Taint>,
    /// Instances that are being drained, since when.
    #[serde(default)]
    pub(crate) draining: BTreeMap<String, Timestamp>,
    /// The version update that is under way.
    #[serde(default)]
    pub(crate) rollout: Option<Box<Rollout>>,
    /// What one that failed has left.
    #[serde(default)]
    pub(crate) left: Option<Left>,
    /// The version of EKS's own template that the Auto Scaling group was given.
    #[serde(default)]
    pub(crate) template_version: Option<i64>,
    /// As it was asked for.
    #[serde(default)]
    pub(crate) repair: Option<NodeRepairConfig>,
    /// Repairs under way.
    #[serde(default)]
    pub(crate) repairs: Book,
    /// Whole; `None`: there shall be none.
    #[serde(default)]
    pub(crate) warm_pool: Option<WarmPoolConfig>,
}

impl Nodegroup {
    /// The Auto Scaling group's name: `eks-GROUP-ID`.
    pub(crate) fn auto_scaling_group(&self) -> String {
        format!("eks-{}-{}", self.name, self.id)
    }

    /// The labels that its nodes begin with.
    pub(crate) fn node_labels(&self, image_id: &str) -> Vec<(String, String)> {
        let own = |key: &str, value: &str| (format!("eks.amazonaws.com/{key}"), value.to_owned());
        let mut labels = vec![
            own("nodegroup-image", image_id),
            own("capacityType", &self.capacity_type),
            own("nodegroup", &self.name),
        ];
        if let Some(source) = &self.source {
            labels.push(own("sourceLaunchTemplateId", &source.id));
            labels.push(own("sourceLaunchTemplateVersion", &source.version.to_string()));
        }
        labels.extend(self.labels.clone());
        labels
    }

    /// EKS's own launch template and the instance profile: `eks-ID`.
    pub(crate) fn template(&self) -> String {
        format!("eks-{}", self.id)
    }
}

pub(crate) fn new(
    eks: &Eks,
    cluster: &Cluster,
    request: &CreateNodegroupRequest,
    base: Base,
) -> Nodegroup {
    let Base { release, source, warm_pool } = base;
    let (types, ami_type) =
        (instance_types(request, source.as_ref()), ami_type(request, source.as_ref()));
    let (now, asked) = (eks.now(), request.update_config.clone().unwrap_or_default());
    let or =
        |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
    Nodegroup {
        cluster: cluster.name.clone(),
        name: request.nodegroup_name.clone(),
        id: entropy::uuid(),
        state: State::Creating,
        scaling: scaling(request),
        subnets: request.subnets.clone(),
        instance_types: types,
        ami_type,
        capacity_type: or(&request.capacity_type, "ON_DEMAND"),
        disk_size: request.disk_size.unwrap_or(20),
        node_role: request.node_role.clone(),
        labels: request.labels.clone(),
        taints: request.taints.clone(),
        tags: request.tags.clone(),
        max_unavailable: asked.max_unavailable.unwrap_or(1),
        max_unavailable_percentage: asked.max_unavailable_percentage,
        update_strategy: asked.update_strategy.as_deref().and_then(Strategy::of),
        version: KUBERNETES_VERSION.to_owned(),
        release_version: release.version,
        image_id: release.image_id,
        source,
        remote_access: request.remote_access.clone(),
        remote_access_security_group: None,
        client_token: request.client_request_token.clone(),
        issues: Vec::new(),
        created_at: now,
        modified_at: now,
        update_id: None,
        removed_labels: Vec::new(),
        removed_taints: Vec::new(),
        draining: BTreeMap::new(),
        rollout: None,
        left: None,
        template_version: None,
        repair: request.node_repair_config.clone(),
        repairs: Book::default(),
        warm_pool,
    }
}

/// None where the launch template says it.
fn instance_types(request: &CreateNodegroupRequest, source: Option<&Source>) -> Vec<String> {
    let is_said = source.is_some_and(|it| it.data.instance_type.is_some());
    match request.instance_types.is_empty() && !is_said {
        true => vec!["t3.medium".to_owned()],
        false => request.instance_types.clone(),
    }
}

pub(super) fn ami_type(request: &CreateNodegroupRequest, source: Option<&Source>) -> String {
    if source.is_some_and(|it| it.data.image_id.is_some()) {
        return validate::CUSTOM.to_owned();
    }
    request.ami_type.clone().unwrap_or_else(|| "AL2023_x86_64_STANDARD".to_owned())
}

/// EKS's defaults: 1, 2, 2.
fn scaling(request: &CreateNodegroupRequest) -> Scaling {
    let asked = request.scaling_config.clone().unwrap_or_default();
    Scaling {
        min: asked.min_size.unwrap_or(1),
        max: asked.max_size.unwrap_or(2),
        desired: asked.desired_size.unwrap_or(2),
    }
}
