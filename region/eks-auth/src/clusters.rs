//! What EKS tells EKS Auth: a private matter of the two, so this is a trait and no protocol.

/// The clusters of the region.
pub trait Clusters: Send + Sync + 'static {
    fn exists(&self, cluster: &str) -> bool;

    /// EKS's own client of the cluster's API; `None` while its control plane does not run.
    fn client(&self, cluster: &str) -> Option<kube::Client>;

    /// The Pod Identity association of a service account.
    fn association(
        &self,
        cluster: &str,
        namespace: &str,
        service_account: &str,
    ) -> Option<Association>;
}

/// An association, as far as credentials depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    pub id: String,
    pub arn: String,
    pub role_arn: String,
    /// Assumed with the role's credentials: the pod gets those of this one.
    pub target: Option<Target>,
    pub disable_session_tags: bool,
    /// A document that limits the pod's session.
    pub policy: Option<String>,
}

/// A second role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub role_arn: String,
    pub external_id: String,
}
