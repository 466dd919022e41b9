//! Pod Identity associations, for those who ask EKS in private: EKS Auth, and the webhooks of the
//! clusters.

use futures::future::BoxFuture;
use pod_identity_webhook::Associations;
use region_eks::Eks;
use region_eks_auth::{Association, Clusters, Target};

/// See the module.
#[derive(Clone)]
pub(crate) struct PodIdentities {
    eks: Eks,
}

impl PodIdentities {
    pub(crate) fn new(eks: Eks) -> Self {
        Self { eks }
    }

    /// Those of one cluster.
    pub(crate) fn of(&self, cluster: &str) -> OfCluster {
        OfCluster { eks: self.eks.clone(), cluster: cluster.to_owned() }
    }
}

impl Clusters for PodIdentities {
    fn exists(&self, cluster: &str) -> bool {
        self.eks.cluster(cluster).is_some()
    }

    fn client(&self, cluster: &str) -> Option<kube::Client> {
        self.eks.kubernetes(cluster)
    }

    fn association(
        &self,
        cluster: &str,
        namespace: &str,
        service_account: &str,
    ) -> Option<Association> {
        let found = self.eks.pod_identity_association(cluster, namespace, service_account)?;
        let arn = self.eks.pod_identity_association_arn(&found);
        let target = found.target_role_arn.zip(found.external_id);
        Some(Association {
            id: found.id,
            arn,
            role_arn: found.role_arn,
            target: target.map(|(role_arn, external_id)| Target { role_arn, external_id }),
            disable_session_tags: found.disable_session_tags,
            policy: found.policy,
        })
    }
}

/// See [`PodIdentities::of`].
pub(crate) struct OfCluster {
    eks: Eks,
    cluster: String,
}

impl Associations for OfCluster {
    fn has<'a>(&'a self, namespace: &'a str, service_account: &'a str) -> BoxFuture<'a, bool> {
        let has = self.eks.has_pod_identity_association(&self.cluster, namespace, service_account);
        Box::pin(std::future::ready(has))
    }
}
