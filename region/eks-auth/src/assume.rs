//! `AssumeRoleForPodIdentity`: from a token to credentials.

use std::{convert::Infallible, sync::Arc};

use aws_eks_auth::{
    AssumeRoleForPodIdentity, AssumeRoleForPodIdentityRequest, AssumeRoleForPodIdentityResponse,
    AssumedRoleUser, Credentials, PodIdentityAssociation, Subject,
};
use aws_sts::{AssumeRole, AssumeRoleRequest, AssumeRoleResponse, Tag};
use aws_wire::{
    CallError, Client, Fault,
    client::{Config, Endpoints, Exchange},
    credentials,
};
use bytes::Bytes;
use http::Request;
use jiff::Timestamp;
use region_gateway::{Caller, Handle, Source, Target};

use crate::{
    EksAuth, EksAuthError, SERVICE,
    clusters::Association,
    token::{self, Bearer},
};

/// How long credentials last: a role's own limit does not hold for AWS's services.
const SECONDS: i64 = 6 * 3600;
/// STS's limit where a role is assumed with a role's credentials.
const CHAINED_SECONDS: i64 = 3600;
/// A session's name has 64 characters, 36 of them the UUID's.
const PART: usize = 10;

impl Handle<AssumeRoleForPodIdentity> for EksAuth {
    fn targets(&self, _: &Caller, request: &AssumeRoleForPodIdentityRequest) -> Vec<Target> {
        vec![Target::resource(self.cluster_arn(&request.cluster_name))]
    }

    async fn handle(
        &self,
        _: &Caller,
        request: AssumeRoleForPodIdentityRequest,
    ) -> Result<AssumeRoleForPodIdentityResponse, Fault> {
        let AssumeRoleForPodIdentityRequest { cluster_name: cluster, token, .. } = request;
        token::check_shape(&token)?;
        let (bearer, association) = self.association(&cluster, &token).await?;
        let assumed = self.assume(&cluster, &bearer, &association).await?;
        let expires: Timestamp = assumed.credentials.expiration.parse().map_err(|_| {
            EksAuthError::Internal { reason: "STS gave no date of expiry.".to_owned() }
        })?;
        Ok(AssumeRoleForPodIdentityResponse {
            subject: Subject {
                namespace: bearer.namespace,
                service_account: bearer.service_account,
            },
            audience: SERVICE.to_owned(),
            pod_identity_association: PodIdentityAssociation {
                association_arn: association.arn,
                association_id: association.id,
            },
            assumed_role_user: AssumedRoleUser {
                arn: assumed.assumed_role_user.arn,
                assume_role_id: assumed.assumed_role_user.assumed_role_id,
            },
            credentials: Credentials {
                session_token: assumed.credentials.session_token,
                secret_access_key: assumed.credentials.secret_access_key,
                access_key_id: assumed.credentials.access_key_id,
                expiration: expires.as_duration().as_secs_f64(),
            },
        })
    }
}

impl EksAuth {
    fn cluster_arn(&self, cluster: &str) -> String {
        format!("arn:aws:eks:{}:{}:cluster/{cluster}", self.region, self.account)
    }

    /// Whose the token is, and what that account is associated with.
    async fn association(
        &self,
        cluster: &str,
        token: &str,
    ) -> Result<(Bearer, Association), EksAuthError> {
        let unavailable = |reason: &str| EksAuthError::Unavailable { reason: reason.to_owned() };
        let clusters = self.clusters.get().ok_or_else(|| unavailable("The region is starting."))?;
        if !clusters.exists(cluster) {
            return Err(EksAuthError::NoCluster { name: cluster.to_owned() });
        }
        let client = clusters.client(cluster);
        let client = client.ok_or_else(|| unavailable("The cluster's API server does not run."))?;
        let bearer = token::review(client, self.clock, token).await?;
        let found = clusters.association(cluster, &bearer.namespace, &bearer.service_account);
        Ok((bearer, found.ok_or(EksAuthError::NoAssociation)?))
    }

    /// Assumes the association's role, and with it the target role where there is one.
    async fn assume(
        &self,
        cluster: &str,
        bearer: &Bearer,
        association: &Association,
    ) -> Result<AssumeRoleResponse, EksAuthError> {
        let cluster_arn = self.cluster_arn(cluster);
        let session = session_name(cluster, &bearer.pod_name);
        let tags = match association.disable_session_tags {
            true => Vec::new(),
            false => session_tags(cluster, &cluster_arn, bearer),
        };
        let is_last = association.target.is_none();
        let request = AssumeRoleRequest {
            role_arn: association.role_arn.clone(),
            role_session_name: session.clone(),
            duration_seconds: Some(if is_last { SECONDS } else { CHAINED_SECONDS }),
            policy: association.policy.clone().filter(|_| is_last),
            transitive_tag_keys: tags.iter().map(|it| it.key.clone()).collect(),
            tags,
            ..AssumeRoleRequest::default()
        };
        let sts = self.gateway.client_for(SERVICE, &cluster_arn);
        let first = sts.call::<AssumeRole>(request).await;
        let first = first.map_err(|error| of_sts(&error, "role"))?;
        let Some(target) = &association.target else { return Ok(first) };
        let request = AssumeRoleRequest {
            role_arn: target.role_arn.clone(),
            role_session_name: session,
            duration_seconds: Some(CHAINED_SECONDS),
            policy: association.policy.clone(),
            external_id: Some(target.external_id.clone()),
            ..AssumeRoleRequest::default()
        };
        let second = self.with(&first).call::<AssumeRole>(request).await;
        second.map_err(|error| of_sts(&error, "target role"))
    }

    /// A client with the credentials that were just given: what the role may not do, it cannot.
    fn with(&self, given: &AssumeRoleResponse) -> Client {
        let gateway = self.gateway.clone();
        let server = tower::service_fn(move |request: Request<Bytes>| {
            let gateway = gateway.clone();
            async move {
                let (parts, body) = request.into_parts();
                let response = gateway.answer(&parts, &body, Source::Internal, None).await;
                Ok::<_, Infallible>(response.map(transport::full))
            }
        });
        let given = &given.credentials;
        Client::new(Config {
            region: self.region.clone(),
            endpoints: Endpoints::default(),
            exchange: Exchange::service(server),
            credentials: Some(Arc::new(credentials::Credentials {
                session_token: Some(given.session_token.clone()),
                ..credentials::Credentials::new(&*given.access_key_id, &*given.secret_access_key)
            })),
            clock: self.clock,
            attempts: 1,
        })
    }
}

/// STS's answer in EKS Auth's words.
fn of_sts(error: &CallError, role: &'static str) -> EksAuthError {
    match error.fault() {
        Some(fault) if fault.code == "AccessDenied" => EksAuthError::NotAssumable { role },
        Some(fault) if fault.status.is_client_error() => {
            EksAuthError::Session { message: fault.message.clone() }
        }
        _ => EksAuthError::Internal { reason: telemetry::chain(error).to_string() },
    }
}

/// `eks-CLUSTER-POD-UUID`
fn session_name(cluster: &str, pod: &str) -> String {
    let short = |name: &str| name.chars().take(PART).collect::<String>();
    format!("eks-{}-{}-{}", short(cluster), short(pod), entropy::uuid())
}

/// What policies can tell pods apart by. All of them go on to roles that the pod assumes itself.
fn session_tags(cluster: &str, cluster_arn: &str, bearer: &Bearer) -> Vec<Tag> {
    let tag = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };
    vec![
        tag("eks-cluster-arn", cluster_arn),
        tag("eks-cluster-name", cluster),
        tag("kubernetes-namespace", &bearer.namespace),
        tag("kubernetes-service-account", &bearer.service_account),
        tag("kubernetes-pod-name", &bearer.pod_name),
        tag("kubernetes-pod-uid", &bearer.pod_uid),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_session_says_cluster_and_pod() {
        let name = session_name(&"c".repeat(100), "web-5d7fc6d8f-x2x4z");
        assert!(name.starts_with("eks-cccccccccc-web-5d7fc6-"), "{name}");
        assert!(name.len() <= 64);
    }
}
