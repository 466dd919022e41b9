//! Who may do what: a union of `system:masters`, the Node authorizer, RBAC and a webhook.
//!
//! Each member says yes or has no opinion (the webhook may also say no); the first opinion counts.
//! Refusals are worded as upstream words them, because people search for the words.
//!
//! **Invariant:** an error while deciding is never a yes.

mod bootstrap;
mod bootstrap_eks;
mod escalation;
mod node;
mod objects;
mod rbac;
mod reviews;
mod rules;
mod webhook;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

#[cfg(test)]
pub(crate) use self::objects::testing;
pub use self::{bootstrap::bootstrap_objects, objects::Objects};
pub(crate) use self::{
    bootstrap::{Repair, repair},
    escalation::check_escalation,
    node::node_name,
    objects::{items, text},
    reviews::create as create_review,
    rules::Rule,
};
use self::{node::NodeAuthorizer, rbac::Rbac, webhook::SubjectAccess};
use crate::{
    authn::Hook,
    request::{RequestInfo, UserInfo},
    status::Status,
};

/// What an authorizer thinks of a request, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(String),
    Deny(String),
    /// Nobody said yes.
    NoOpinion(String),
}

/// The union. Cheap to clone.
#[derive(Clone)]
pub struct Authorizer {
    objects: Arc<dyn Objects>,
    rbac: Arc<Mutex<Arc<Rbac>>>,
    webhook: Option<Arc<SubjectAccess>>,
}

impl Authorizer {
    pub fn new(objects: impl Objects) -> Self {
        let objects: Arc<dyn Objects> = Arc::new(objects);
        let rbac = Arc::new(Mutex::new(Arc::new(Rbac::default())));
        Self { objects, rbac, webhook: None }
    }

    /// Asks `hook` with a `SubjectAccessReview` where nobody else allows. Its answers are kept for
    /// `memory` (zero: not at all).
    pub fn with_webhook(mut self, hook: Hook, memory: Duration) -> Self {
        self.webhook = Some(Arc::new(SubjectAccess::new(hook, memory)));
        self
    }

    pub async fn authorize(&self, user: &UserInfo, info: &RequestInfo) -> Decision {
        let local = self.authorize_locally(user, info);
        match (&local, &self.webhook) {
            (Decision::NoOpinion(reason), Some(webhook)) => {
                webhook.authorize(user, info, reason).await
            }
            _ => local,
        }
    }

    /// What can be said without asking anyone outside; `None`: the webhook has to be asked.
    pub(crate) fn decide_here(&self, user: &UserInfo, info: &RequestInfo) -> Option<Decision> {
        let local = self.authorize_locally(user, info);
        let is_open = matches!(local, Decision::NoOpinion(_)) && self.webhook.is_some();
        (!is_open).then_some(local)
    }

    /// Refuses with upstream's `Forbidden`.
    pub async fn check(&self, user: &UserInfo, info: &RequestInfo) -> Result<(), Status> {
        self.judged(user, info).await.1.map(drop)
    }

    /// Why the request is allowed, or that it is not; before it in a word, as it is counted.
    pub(crate) async fn judged(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
    ) -> (&'static str, Result<String, Status>) {
        match self.authorize(user, info).await {
            Decision::Allow(reason) => ("allowed", Ok(reason)),
            Decision::Deny(reason) => ("denied", Err(forbidden(user, info, &reason))),
            Decision::NoOpinion(reason) => ("no-opinion", Err(forbidden(user, info, &reason))),
        }
    }

    fn authorize_locally(&self, user: &UserInfo, info: &RequestInfo) -> Decision {
        if user.is_in("system:masters") {
            return Decision::Allow(String::new());
        }
        let node = NodeAuthorizer::new(&*self.objects).authorize(user, info);
        let Decision::NoOpinion(reason) = node else { return node };
        match self.rbac().authorize(user, info) {
            Decision::NoOpinion(_) => Decision::NoOpinion(reason),
            decision => decision,
        }
    }

    /// The rules as they are now, compiled once per change.
    pub(crate) fn rbac(&self) -> Arc<Rbac> {
        let mut cached = self.rbac.lock();
        let revisions = rbac::revisions(&*self.objects);
        if cached.revisions != revisions {
            *cached = Arc::new(Rbac::compile(&*self.objects, revisions));
        }
        cached.clone()
    }
}

/// The `Forbidden` status of a request that nobody allowed.
pub fn forbidden(user: &UserInfo, info: &RequestInfo, reason: &str) -> Status {
    let mut why = refusal(user, info);
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    let resource = if info.is_resource { info.group_resource() } else { String::new() };
    Status::forbidden(&resource, &info.name, &why)
}

fn refusal(user: &UserInfo, info: &RequestInfo) -> String {
    let RequestInfo { verb, group, namespace, path, .. } = info;
    let name = &user.username;
    if !info.is_resource {
        return format!("User \"{name}\" cannot {verb} path \"{path}\"");
    }
    let mut resource = info.resource.clone();
    if !info.subresource.is_empty() {
        resource = format!("{resource}/{}", info.subresource);
    }
    let scope = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{namespace}\"")
    };
    format!(
        "User \"{name}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {scope}"
    )
}
