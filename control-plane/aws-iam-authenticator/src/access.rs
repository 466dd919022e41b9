//! The authorizer of EKS access policies: `SubjectAccessReview` in, yes or no opinion out.
//!
//! Never says no: RBAC may still allow what the policies do not.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::Body as HttpBody;
use serde_json::{Value, json};
use tower::Service;
use transport::{Body, BoxError};

use crate::{
    policies::{self, Asked},
    review,
};

const PATH: &str = "/authorize";

/// Where a policy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    /// Names; a trailing `*` stands for any ending.
    Namespaces(Vec<String>),
}

/// A policy that an access entry is associated with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// `arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy`
    pub policy_arn: String,
    pub scope: Scope,
}

/// Where associations come from: EKS access entries, behind the region.
pub trait AccessPolicies: Send + Sync + 'static {
    /// `principal_id` is the unique id (`AROA…`, `AIDA…`) of who calls: one that was made anew with a
    /// deleted one's name inherits nothing.
    fn associated<'a>(
        &'a self,
        principal_arn: &'a str,
        principal_id: &'a str,
    ) -> BoxFuture<'a, Vec<Association>>;
}

/// The webhook: `POST /authorize`. Cheap to clone.
#[derive(Clone)]
pub struct AccessService(Arc<dyn AccessPolicies>);

impl AccessService {
    pub fn new(policies: Arc<dyn AccessPolicies>) -> Self {
        Self(policies)
    }

    async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let asked = match review::read(request, PATH).await {
            Ok(asked) => asked,
            Err(response) => return response,
        };
        let spec = &asked["spec"];
        let reason = match principal(spec) {
            Some((arn, id)) => decide(&self.0.associated(&arn, &id).await, &Asked::of(spec)),
            None => None,
        };
        let mut status = json!({"allowed": reason.is_some()});
        if let Some(reason) = reason {
            status["reason"] = reason.into();
        }
        let answer = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "metadata": {}, "spec": spec, "status": status,
        });
        review::json(StatusCode::OK, &answer)
    }
}

/// ARN and id of the IAM principal behind a user, if this crate's webhook authenticated it.
fn principal(spec: &Value) -> Option<(String, String)> {
    let uid = spec.get("uid").and_then(Value::as_str)?;
    if !uid.starts_with("aws-iam-authenticator:") {
        return None;
    }
    let arns = review::words(spec.pointer("/extra/canonicalArn"));
    let ids = review::words(spec.pointer("/extra/principalId"));
    match (arns.as_slice(), ids.as_slice()) {
        ([arn], [id]) => Some((arn.clone(), id.clone())),
        _ => None,
    }
}

/// The reason to allow, if there is one.
fn decide(associations: &[Association], asked: &Asked) -> Option<String> {
    let allowing = associations.iter().find(|it| {
        let name = it.policy_arn.rsplit('/').next().unwrap_or_default();
        holds_in(&it.scope, &asked.namespace) && policies::allows(name, asked)
    })?;
    Some(format!("EKS Access Policy: allowed by {}", allowing.policy_arn))
}

fn holds_in(scope: &Scope, namespace: &str) -> bool {
    match scope {
        Scope::Cluster => true,
        Scope::Namespaces(names) => {
            !namespace.is_empty()
                && names.iter().any(|name| match name.strip_suffix('*') {
                    Some(prefix) => namespace.starts_with(prefix),
                    None => name == namespace,
                })
        }
    }
}

impl<B> Service<Request<B>> for AccessService
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

#[cfg(test)]
mod tests;
