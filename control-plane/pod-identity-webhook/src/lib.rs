//! The pod identity webhook: pods get the credentials of their service accounts.
//!
//! A service account names a role in an annotation (IRSA), or an association of EKS Pod Identity
//! does. When a pod of that account is created, the API server asks this webhook, and its answer is
//! a patch: a volume with the account's token for AWS, and the variables by which unmodified SDKs
//! find it ([`mutate`]).
//!
//! **Invariant:** a pod is never refused. What cannot be done for it is told to whoever creates it
//! (a `Warning` header), and as an event on the pod ([`audit`]).
//!
//! Upstream: aws/amazon-eks-pod-identity-webhook.
//! Deviation: the service account is read from the API server for each pod, so that one that was
//! annotated a moment ago counts. Upstream asks a cache, and does not change the pod where the
//! account is not in it.
//! Deviation: pods that were created before their account named a role, or while nobody answered,
//! have an event that says so; upstream is silent.
//! Deviation: Linux pods only; the ConfigMap `pod-identity-webhook` is not read.

mod account;
mod audit;
pub mod command;
mod definition;
mod mutate;
mod review;
mod run;

use futures::future::BoxFuture;

pub use self::{
    account::Account,
    audit::{Finding, audit},
    definition::{Endpoint, NAME, configuration},
    mutate::{Mutation, Subject, mutate},
    review::WebhookService,
    run::{Webhook, run},
};

/// Which service accounts have an association of EKS Pod Identity.
pub trait Associations: Send + Sync + 'static {
    /// Says whether there is one for this service account.
    fn has<'a>(&'a self, namespace: &'a str, service_account: &'a str) -> BoxFuture<'a, bool>;
}

/// No service account has an association.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAssociations;

impl Associations for NoAssociations {
    fn has<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(std::future::ready(false))
    }
}

/// What pods get. The defaults are upstream's.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the annotations' and labels' names begin with.
    pub annotation_prefix: String,
    /// The audience of IRSA's tokens, where an account names no other.
    pub token_audience: String,
    /// How long tokens live that name no other time, in seconds.
    pub token_expiration: i64,
    /// Where IRSA's token is mounted.
    pub token_mount_path: String,
    /// `AWS_REGION` and `AWS_DEFAULT_REGION`, if pods shall get them.
    pub region: Option<String>,
    /// Whether SDKs shall ask the region's STS (`AWS_STS_REGIONAL_ENDPOINTS`), where an account does
    /// not say.
    pub sts_regional_endpoints: bool,
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`: the agent on the node.
    pub container_credentials_uri: String,
    pub container_credentials_audience: String,
    pub container_credentials_mount_path: String,
    /// The authority that signs AWS's endpoints, in PEM, if pods do not know it by themselves.
    pub authority_pem: Option<String>,
}

/// The agent's, in an IPv4 cluster.
const AGENT: &str = "http://169.254.170.23/v1/credentials";
/// In an IPv6 one.
const AGENT_V6: &str = "http://[fd00:ec2::23]/v1/credentials";

impl Config {
    /// What EKS gives pods in a cluster of IPv6.
    pub fn for_ipv6(self) -> Self {
        Self { container_credentials_uri: AGENT_V6.to_owned(), ..self }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            annotation_prefix: "eks.amazonaws.com".to_owned(),
            token_audience: "sts.amazonaws.com".to_owned(),
            token_expiration: account::DEFAULT_EXPIRATION,
            token_mount_path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".to_owned(),
            region: None,
            sts_regional_endpoints: false,
            container_credentials_uri: AGENT.to_owned(),
            container_credentials_audience: "pods.eks.amazonaws.com".to_owned(),
            container_credentials_mount_path:
                "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount".to_owned(),
            authority_pem: None,
        }
    }
}
