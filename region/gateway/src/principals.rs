//! What the gateway must know about principals. IAM and STS implement it; neither knows the other.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use iam_policy::{Named, Policy};
use jiff::Timestamp;

use crate::CallerKind;

/// A secret and whom it belongs to.
#[derive(Clone, Debug)]
pub struct AccessKey {
    pub secret: String,
    /// Temporary keys come with a token, and are nothing without it.
    pub session_token: Option<String>,
    pub expires: Option<Timestamp>,
    pub principal: Principal,
    /// The policies that the session was limited to; empty: not limited.
    pub session_policies: Vec<Named>,
    /// The condition keys that every request of the session has, such as `aws:TokenIssueTime`.
    /// Long-term keys have none.
    pub session_context: BTreeMap<String, String>,
}

/// A principal as requests show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub account: String,
    pub arn: String,
    pub user_id: String,
    pub kind: CallerKind,
    pub tags: BTreeMap<String, String>,
}

/// Finds access keys. IAM knows the long-term ones, STS the temporary ones.
pub trait AccessKeys: Send + Sync + 'static {
    fn access_key(&self, access_key_id: &str) -> Option<AccessKey>;

    /// The root user's key, if it is kept here.
    fn root(&self) -> Option<AccessKey> {
        None
    }
}

/// The policies that are attached to a principal.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    pub identity: Vec<Named>,
    pub boundary: Option<Named>,
}

/// IAM's knowledge of users and roles.
pub trait Identities: Send + Sync + 'static {
    /// `None`: the user or role is no more, and its sessions can do nothing.
    fn attached(&self, kind: &CallerKind) -> Option<Attached>;

    /// The unique id of the user of that name: `AIDA…`.
    fn user_id(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }

    /// A role by its name.
    fn role(&self, name: &str) -> Option<Role>;

    /// A managed policy by its ARN, for session policies.
    fn managed_policy(&self, arn: &str) -> Option<Named>;

    /// The identity provider of this issuer (`https://…`), if the account trusts it.
    fn identity_provider(&self, issuer: &str) -> Option<IdentityProvider> {
        let _ = issuer;
        None
    }
}

/// An OpenID Connect provider that the account has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProvider {
    pub arn: String,
    /// The audiences that its tokens may be for.
    pub client_ids: Vec<String>,
}

/// What STS must know of a role.
#[derive(Clone, Debug)]
pub struct Role {
    pub name: String,
    pub arn: String,
    /// `AROA…`
    pub id: String,
    pub trust: Arc<Policy>,
    pub max_session: Duration,
    pub tags: BTreeMap<String, String>,
}
