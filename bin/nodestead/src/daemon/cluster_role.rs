//! A client that acts with a cluster role's rights, as EKS's controllers do in its customer's
//! account: what the role may not do, they cannot.
//!
//! The role is assumed anew before its session ends, so that what its policies and its trust say now
//! counts.

use std::sync::Arc;

use aws_sts::{AssumeRole, AssumeRoleRequest};
use aws_wire::{
    Client,
    client::{Config, Endpoints, Exchange},
    credentials::{Cached, Credentials, CredentialsError, ProvideCredentials},
};
use bytes::Bytes;
use clock::Clock;
use futures::future::BoxFuture;
use http::Request;
use region_gateway::{Gateway, Source};

use super::region::REGION;

/// As whom EKS assumes it.
const SERVICE: &str = "eks.amazonaws.com";
const ATTEMPTS: u32 = 5;

/// See the module. `session` names the controller in the log of calls.
pub(crate) fn client(
    gateway: &Gateway,
    role_arn: &str,
    session: &'static str,
    clock: Clock,
) -> Client {
    let role = Role { sts: gateway.client_as(SERVICE), arn: role_arn.to_owned(), session };
    Client::new(Config {
        region: REGION.to_owned(),
        endpoints: Endpoints::default(),
        exchange: signed(gateway.clone()),
        credentials: Some(Arc::new(Cached::new(role, clock))),
        clock,
        attempts: ATTEMPTS,
    })
}

/// The gateway in this process: a signed request is verified like any other.
pub(crate) fn signed(gateway: Gateway) -> Exchange {
    Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
        let gateway = gateway.clone();
        async move {
            let (parts, body) = request.into_parts();
            let response = gateway.answer(&parts, &body, Source::Internal, None).await;
            Ok::<_, std::convert::Infallible>(response.map(transport::full))
        }
    }))
}

struct Role {
    sts: Client,
    arn: String,
    session: &'static str,
}

impl ProvideCredentials for Role {
    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(async {
            let request = AssumeRoleRequest {
                role_arn: self.arn.clone(),
                role_session_name: self.session.to_owned(),
                ..Default::default()
            };
            let assumed = self.sts.call::<AssumeRole>(request).await;
            let assumed = assumed.map_err(|source| CredentialsError::Fetch {
                origin: format!("role `{}`", self.arn),
                source: source.into(),
            })?;
            let given = assumed.credentials;
            Ok(Credentials {
                access_key_id: given.access_key_id,
                secret_access_key: given.secret_access_key,
                session_token: Some(given.session_token),
                expires: given.expiration.parse().ok(),
            })
        })
    }
}
