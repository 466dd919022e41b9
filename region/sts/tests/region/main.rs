//! Identity as a whole: store, IAM, STS and gateway, called by the client that every component has.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod web_identity;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use aws_iam::{
    AttachRolePolicy, AttachRolePolicyRequest, CreateAccessKey, CreateAccessKeyRequest, CreateRole,
    CreateRoleRequest, CreateUser, CreateUserRequest, DeleteAccessKey, DeleteAccessKeyRequest,
    DeleteRole, DeleteRoleRequest, DeleteUser, DeleteUserRequest, DetachRolePolicy,
    DetachRolePolicyRequest, GetRole, GetRoleRequest,
};
use aws_sts::{
    AssumeRole, AssumeRoleRequest, GetCallerIdentity, GetCallerIdentityRequest, GetSessionToken,
    GetSessionTokenRequest,
};
use aws_wire::{
    Client, Operation,
    client::{Config as ClientConfig, Endpoints, Exchange},
    credentials::Credentials,
};
use bytes::Bytes;
use clock::Clock;
use http::Request;
use http_body_util::Full;
use region_gateway::{Config, Events, Gateway, Outcome, Side};
use region_iam::{Iam, RootKey};
use region_store::Store;
use region_sts::{InstanceCredentials, Sts};
use tower::ServiceExt;

const ACCOUNT: &str = "111122223333";
const READ_IAM: &str = "arn:aws:iam::aws:policy/IAMReadOnlyAccess";
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow",
    "Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}}"#;

struct Region {
    sts: Arc<Sts>,
    gateway: Gateway,
}

fn start(path: &Path) -> Region {
    let store = Store::open(path).unwrap();
    let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
    let root = RootKey { access_key_id: "test".to_owned(), secret_access_key: "test".to_owned() };
    let iam = Iam::open(&store, ACCOUNT, root, clock).unwrap();
    let sts = Sts::open(&store, ACCOUNT, "us-east-1", iam.clone(), clock).unwrap();
    let gateway = Gateway::new(Config {
        region: "us-east-1".to_owned(),
        account: ACCOUNT.to_owned(),
        clock,
        keys: vec![iam.clone(), sts.clone()],
        identities: iam.clone(),
        events: Events::in_memory(),
    });
    assert!(gateway.open(region_iam::routes(&iam).merge(region_sts::routes(&sts))));
    Region { sts, gateway }
}

impl Region {
    fn client(&self, credentials: Credentials) -> Client {
        self.client_of(Some(credentials))
    }

    /// Calls unsigned.
    fn nobody(&self) -> Client {
        self.client_of(None)
    }

    fn client_of(&self, credentials: Option<Credentials>) -> Client {
        let service = self.gateway.service(Side::Vpc("vpc-1".to_owned()));
        let exchange = Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
            service.clone().oneshot(request.map(Full::new))
        }));
        Client::new(ClientConfig {
            region: "us-east-1".to_owned(),
            endpoints: Endpoints::default(),
            exchange,
            credentials: credentials.map(|it| Arc::new(it) as _),
            clock: Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap()),
            attempts: 1,
        })
    }

    fn root(&self) -> Client {
        self.client(Credentials::new("test", "test"))
    }

    fn instance(&self, given: &InstanceCredentials) -> Client {
        self.client(Credentials {
            session_token: Some(given.token.clone()),
            ..Credentials::new(&*given.access_key_id, &*given.secret_access_key)
        })
    }

    async fn make_role(&self) {
        let request = CreateRoleRequest {
            role_name: "node".to_owned(),
            assume_role_policy_document: TRUST.to_owned(),
            ..CreateRoleRequest::default()
        };
        self.root().call::<CreateRole>(request).await.unwrap();
    }
}

async fn code<O: Operation>(client: &Client, request: O::Request) -> String {
    match client.call::<O>(request).await {
        Ok(_) => "fine".to_owned(),
        Err(error) => error.fault().expect("the region answered").code.to_string(),
    }
}

fn get_role() -> GetRoleRequest {
    GetRoleRequest { role_name: "node".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn an_instance_may_do_what_its_role_may_at_this_moment() {
    let folder = tempfile::tempdir().unwrap();
    let region = start(&folder.path().join("state"));
    region.make_role().await;
    let given = region.sts.instance_credentials("node", "i-0abc", BTreeMap::new()).unwrap();
    let instance = region.instance(&given);
    let who = instance.call::<GetCallerIdentity>(GetCallerIdentityRequest {}).await.unwrap();
    assert_eq!(who.arn, format!("arn:aws:sts::{ACCOUNT}:assumed-role/node/i-0abc"));

    assert_eq!(code::<GetRole>(&instance, get_role()).await, "AccessDenied");
    let (role_name, policy_arn) = ("node".to_owned(), READ_IAM.to_owned());
    let attach = AttachRolePolicyRequest { role_name, policy_arn };
    region.root().call::<AttachRolePolicy>(attach.clone()).await.unwrap();
    assert_eq!(code::<GetRole>(&instance, get_role()).await, "fine");
    let detach =
        DetachRolePolicyRequest { role_name: attach.role_name, policy_arn: attach.policy_arn };
    region.root().call::<DetachRolePolicy>(detach).await.unwrap();
    assert_eq!(code::<GetRole>(&instance, get_role()).await, "AccessDenied");

    let events = region.gateway.events().recent(100);
    let denied = events.iter().filter(|it| it.decision == Outcome::Denied).count();
    assert_eq!(denied, 2);
    assert!(events.iter().any(|it| it.by.as_deref().is_some_and(|by| by.starts_with(READ_IAM))));
}

#[tokio::test(start_paused = true)]
async fn a_session_outlives_the_region_but_not_its_role() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let region = start(&path);
    region.make_role().await;
    let given = region.sts.instance_credentials("node", "i-0abc", BTreeMap::new()).unwrap();
    drop(region);

    let region = start(&path);
    assert_eq!(region.sts.instance_credentials("node", "i-0abc", BTreeMap::new()).unwrap(), given);
    let identify = GetCallerIdentityRequest {};
    let instance = region.instance(&given);
    assert_eq!(code::<GetCallerIdentity>(&instance, identify.clone()).await, "fine");

    // A role of the same name is another role.
    let delete = DeleteRoleRequest { role_name: "node".to_owned() };
    region.root().call::<DeleteRole>(delete).await.unwrap();
    region.make_role().await;
    let refused = code::<GetCallerIdentity>(&instance, identify).await;
    assert_eq!(refused, "InvalidClientTokenId");
}

#[tokio::test(start_paused = true)]
async fn a_stolen_key_without_its_token_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let region = start(&folder.path().join("state"));
    region.make_role().await;
    let given = region.sts.instance_credentials("node", "i-0abc", BTreeMap::new()).unwrap();
    let bare = Credentials::new(&*given.access_key_id, &*given.secret_access_key);
    let thief = region.client(bare);
    let refused = code::<GetCallerIdentity>(&thief, GetCallerIdentityRequest {}).await;
    assert_eq!(refused, "InvalidClientTokenId");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_a_trust_policy_is_in_the_log_of_calls_as_a_denial() {
    let folder = tempfile::tempdir().unwrap();
    let region = start(&folder.path().join("state"));
    region.make_role().await;
    let given = region.sts.instance_credentials("node", "i-0abc", BTreeMap::new()).unwrap();
    let assume = AssumeRoleRequest {
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/node"),
        role_session_name: "again".to_owned(),
        ..AssumeRoleRequest::default()
    };
    // The role trusts EC2, not itself.
    let refused = code::<AssumeRole>(&region.instance(&given), assume.clone()).await;
    assert_eq!(refused, "AccessDenied");
    let event = region.gateway.events().recent(1).remove(0);
    assert_eq!(event.decision, Outcome::Denied);
    assert_eq!(event.resources, [assume.role_arn]);
}

#[tokio::test(start_paused = true)]
async fn a_users_session_is_not_revived_by_another_user_of_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let region = start(&folder.path().join("state"));
    let root = region.root();
    let user = || CreateUserRequest { user_name: "ann".to_owned(), ..Default::default() };
    root.call::<CreateUser>(user()).await.unwrap();
    let request = CreateAccessKeyRequest { user_name: Some("ann".to_owned()) };
    let key = root.call::<CreateAccessKey>(request).await.unwrap().access_key;
    let ann = region.client(Credentials::new(&*key.access_key_id, &*key.secret_access_key));
    let request = GetSessionTokenRequest::default();
    let session = ann.call::<GetSessionToken>(request).await.unwrap().credentials;
    let session = region.client(Credentials {
        session_token: Some(session.session_token),
        ..Credentials::new(&*session.access_key_id, &*session.secret_access_key)
    });
    let identify = GetCallerIdentityRequest {};
    assert_eq!(code::<GetCallerIdentity>(&session, identify.clone()).await, "fine");

    let delete = DeleteAccessKeyRequest {
        user_name: Some("ann".to_owned()),
        access_key_id: key.access_key_id,
    };
    root.call::<DeleteAccessKey>(delete).await.unwrap();
    let delete = DeleteUserRequest { user_name: "ann".to_owned() };
    root.call::<DeleteUser>(delete).await.unwrap();
    root.call::<CreateUser>(user()).await.unwrap();
    let refused = code::<GetCallerIdentity>(&session, identify).await;
    assert_eq!(refused, "InvalidClientTokenId");
}
