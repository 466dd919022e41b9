//! A client that acts with a cluster role's rights, as EKS's controllers do in its customer's
//! account: what the role may not do, they cannot.
//!
//! The role is assumed anew before its session ends, so that what its policies and its trust say now
//! counts. It is assumed for this one cluster (`aws:SourceArn`): a role may trust EKS for that alone,
//! so that nobody else's cluster acts as it (EKS user guide, "Cross-service confused deputy
//! prevention").

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
use region_eks::Cluster;
use region_gateway::{Gateway, Source};

use super::region::{ACCOUNT, REGION};

/// As whom EKS assumes it.
const SERVICE: &str = "eks.amazonaws.com";
const ATTEMPTS: u32 = 5;

/// See the module. `session` names the controller in the log of calls.
pub(crate) fn client(
    gateway: &Gateway,
    cluster: &Cluster,
    session: &'static str,
    clock: Clock,
) -> Client {
    let cluster_arn = format!("arn:aws:eks:{REGION}:{ACCOUNT}:cluster/{}", cluster.name);
    client_of(gateway, &cluster_arn, &cluster.role_arn, session, clock)
}

fn client_of(
    gateway: &Gateway,
    cluster_arn: &str,
    role_arn: &str,
    session: &'static str,
    clock: Clock,
) -> Client {
    let sts = gateway.client_for(SERVICE, cluster_arn);
    let role = Role { sts, arn: role_arn.to_owned(), session };
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

#[cfg(test)]
mod tests {
    use aws_iam::{CreateRole, CreateRoleRequest};
    use aws_sts::{GetCallerIdentity, GetCallerIdentityRequest};
    use region_gateway::{Caller, Config as GatewayConfig, Events, Handle};
    use region_iam::{Iam, RootKey};
    use region_store::Store;
    use region_sts::Sts;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_role_that_trusts_eks_for_one_cluster_is_that_ones_alone() {
        let (store, clock) = (Store::in_memory(), Clock::system());
        let root = RootKey { access_key_id: "r".to_owned(), secret_access_key: "s".to_owned() };
        let iam = Iam::open(&store, ACCOUNT, root, clock).unwrap();
        let sts = Sts::open(&store, ACCOUNT, REGION, iam.clone(), clock).unwrap();
        let gateway = Gateway::new(GatewayConfig {
            region: REGION.to_owned(),
            account: ACCOUNT.to_owned(),
            clock,
            keys: vec![iam.clone(), sts.clone()],
            identities: iam.clone(),
            events: Events::in_memory(),
        });
        assert!(gateway.open(region_iam::routes(&iam).merge(region_sts::routes(&sts))));
        let arn = |cluster: &str| format!("arn:aws:eks:{REGION}:{ACCOUNT}:cluster/{cluster}");
        let trust = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": SERVICE},
            "Condition": {"ArnLike": {"aws:SourceArn": arn("mine")},
                "StringEquals": {"aws:SourceAccount": ACCOUNT}},
        }});
        let request = CreateRoleRequest {
            role_name: "of-mine".to_owned(),
            assume_role_policy_document: trust.to_string(),
            ..Default::default()
        };
        let caller = Caller::root(ACCOUNT, REGION, clock.now());
        Handle::<CreateRole>::handle(&*iam, &caller, request).await.unwrap();
        let role = format!("arn:aws:iam::{ACCOUNT}:role/of-mine");
        let who = async |cluster: &str| {
            let client = client_of(&gateway, &arn(cluster), &role, "test", clock);
            let said = client.call::<GetCallerIdentity>(GetCallerIdentityRequest {}).await;
            said.map(|it| it.arn).map_err(|it| telemetry::chain(&it).to_string())
        };
        let session = format!("arn:aws:sts::{ACCOUNT}:assumed-role/of-mine/test");
        assert_eq!(who("mine").await, Ok(session));
        let refused = who("another").await.unwrap_err();
        assert!(refused.contains("not authorized to perform: sts:AssumeRole"), "{refused}");
    }
}
