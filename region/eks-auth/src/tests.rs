//! EKS Auth over a real IAM, STS and gateway, with a cluster whose API server knows two tokens.

use std::{collections::BTreeMap, convert::Infallible};

use aws_eks_auth::{AssumeRoleForPodIdentityRequest, AssumeRoleForPodIdentityResponse};
use aws_iam::{
    CreateRole, CreateRoleRequest, CreateUser, CreateUserRequest, PutRolePolicy,
    PutRolePolicyRequest,
};
use aws_wire::{Client, Fault, Operation};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, Response};
use jiff::Timestamp;
use kube::client::Body;
use region_gateway::{AccessKeys, Caller, Config, Events, Handle, Principal};
use region_iam::{Iam, RootKey};
use region_store::Store;
use region_sts::Sts;
use serde_json::{Value, json};

use super::*;

const ACCOUNT: &str = "111122223333";
const CLUSTER: &str = "arn:aws:eks:us-east-1:111122223333:cluster/stead";
/// Pod `web-1` of `ns/app`, and pod `web-2` of `ns/other`.
const APP: &str = "app.x.y";
const OTHER: &str = "other.x.y";

/// `ns/app` has an association; the cluster `asleep` has no control plane.
struct World {
    association: Association,
}

impl Clusters for World {
    fn exists(&self, cluster: &str) -> bool {
        ["stead", "asleep"].contains(&cluster)
    }

    fn client(&self, cluster: &str) -> Option<kube::Client> {
        (cluster == "stead").then(|| kube::Client::new(tower::service_fn(review), "default"))
    }

    fn association(&self, _: &str, namespace: &str, account: &str) -> Option<Association> {
        ((namespace, account) == ("ns", "app")).then(|| self.association.clone())
    }
}

async fn review(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let body = request.into_body().collect_bytes().await.unwrap();
    let mut review: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(review["spec"]["audiences"], json!(["pods.eks.amazonaws.com"]));
    let known = |account: &str, pod: &str| {
        json!({"authenticated": true, "audiences": ["pods.eks.amazonaws.com"], "user": {
            "username": format!("system:serviceaccount:ns:{account}"),
            "extra": {"authentication.kubernetes.io/pod-name": [pod],
                "authentication.kubernetes.io/pod-uid": [format!("uid-of-{pod}")]},
        }})
    };
    review["status"] = match review["spec"]["token"].as_str().unwrap() {
        APP => known("app", "web-1"),
        OTHER => known("other", "web-2"),
        _ => json!({"user": {}, "error": "[invalid bearer token]"}),
    };
    Ok(Response::new(Body::from(serde_json::to_vec(&review).unwrap())))
}

struct Region {
    eks_auth: Arc<EksAuth>,
    sts: Arc<Sts>,
    iam: Client,
    clock: Clock,
}

/// A region in which `ns/app` has the role `app`, with `trust`, and whatever `change` adds.
async fn region(trust: Value, change: impl FnOnce(&mut Association)) -> Region {
    let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
    let store = Store::in_memory();
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
    let eks_auth = EksAuth::new(ACCOUNT, "us-east-1", &gateway, clock);
    let routes = region_iam::routes(&iam).merge(region_sts::routes(&sts));
    assert!(gateway.open(routes.merge(crate::routes(&eks_auth))));
    let mut association = Association {
        id: "a-1".to_owned(),
        arn: "arn:of:a-1".to_owned(),
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/app"),
        target: None,
        disable_session_tags: false,
        policy: None,
    };
    change(&mut association);
    eks_auth.connect(Arc::new(World { association }));
    let region = Region { eks_auth, sts, iam: gateway.client_as("a test"), clock };
    region.make_role("app", trust).await;
    region
}

/// As EKS's console makes it.
fn usual_trust() -> Value {
    json!({"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"]})
}

impl Region {
    async fn call<O: Operation>(&self, request: O::Request) -> O::Response {
        self.iam.call::<O>(request).await.unwrap()
    }

    async fn make_role(&self, name: &str, trust: Value) {
        let document = json!({"Version": "2012-10-17", "Statement": trust});
        self.call::<CreateRole>(CreateRoleRequest {
            role_name: name.to_owned(),
            assume_role_policy_document: document.to_string(),
            ..CreateRoleRequest::default()
        })
        .await;
    }

    async fn ask(
        &self,
        cluster: &str,
        token: &str,
    ) -> Result<AssumeRoleForPodIdentityResponse, Fault> {
        let request = AssumeRoleForPodIdentityRequest {
            cluster_name: cluster.to_owned(),
            token: token.to_owned(),
            ..AssumeRoleForPodIdentityRequest::default()
        };
        let caller = Caller::root(ACCOUNT, "us-east-1", self.clock.now());
        Handle::<AssumeRoleForPodIdentity>::handle(&*self.eks_auth, &caller, request).await
    }

    async fn code(&self, cluster: &str, token: &str) -> String {
        match self.ask(cluster, token).await {
            Ok(_) => "fine".to_owned(),
            Err(fault) => fault.code.to_string(),
        }
    }

    fn principal(&self, given: &AssumeRoleForPodIdentityResponse) -> Principal {
        self.sts.access_key(&given.credentials.access_key_id).unwrap().principal
    }
}

fn token_that_ended(at: Timestamp) -> String {
    let claims = json!({"exp": at.as_second() - 1});
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_its_accounts_role_with_six_tags() {
    let region = region(usual_trust(), |_| {}).await;
    let given = region.ask("stead", APP).await.unwrap();
    assert_eq!((&*given.subject.namespace, &*given.subject.service_account), ("ns", "app"));
    assert_eq!(given.audience, "pods.eks.amazonaws.com");
    assert_eq!(given.pod_identity_association.association_id, "a-1");
    let start = format!("arn:aws:sts::{ACCOUNT}:assumed-role/app/eks-stead-web-1-");
    assert!(given.assumed_role_user.arn.starts_with(&start), "{given:?}");
    assert!(given.assumed_role_user.assume_role_id.contains(":eks-stead-web-1-"));
    let lasts = given.credentials.expiration - region.clock.now().as_duration().as_secs_f64();
    assert!((lasts - 6.0 * 3600.0).abs() < 1.0, "{lasts}");
    let wanted: BTreeMap<_, _> = [
        ("eks-cluster-arn", CLUSTER),
        ("eks-cluster-name", "stead"),
        ("kubernetes-namespace", "ns"),
        ("kubernetes-service-account", "app"),
        ("kubernetes-pod-name", "web-1"),
        ("kubernetes-pod-uid", "uid-of-web-1"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    assert_eq!(region.principal(&given).tags, wanted);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_no_association_or_no_token_gets_nothing() {
    let region = region(usual_trust(), |_| {}).await;
    let ended = token_that_ended(region.clock.now());
    for (cluster, token, wanted) in [
        ("stead", APP, "fine"),
        ("stead", OTHER, "ResourceNotFoundException"),
        ("none", APP, "ResourceNotFoundException"),
        ("asleep", APP, "ServiceUnavailableException"),
        ("stead", "stolen.from.elsewhere", "InvalidTokenException"),
        ("stead", &ended, "ExpiredTokenException"),
        ("stead", "Bearer app.x.y", "InvalidParameterException"),
        ("stead", "", "InvalidParameterException"),
    ] {
        assert_eq!(region.code(cluster, token).await, wanted, "{cluster} {token}");
    }
    let told = region.ask("stead", &ended).await.unwrap_err().message;
    let start = "The token included in the request is expired: current date/time 2026-11-23T12:";
    assert!(told.starts_with(start), "{told}");
}

#[tokio::test(start_paused = true)]
async fn the_roles_trust_policy_decides() {
    let with = |condition: Value| {
        let mut trust = usual_trust();
        trust["Condition"] = condition;
        trust
    };
    let equals = |key: &str, value: &str| with(json!({"StringEquals": {key: value}}));
    let mut untagged = usual_trust();
    untagged["Action"] = json!("sts:AssumeRole");
    let mut other = usual_trust();
    other["Principal"] = json!({"Service": "ec2.amazonaws.com"});
    for (trust, is_fine) in [
        (equals("aws:RequestTag/kubernetes-namespace", "ns"), true),
        (equals("aws:RequestTag/kubernetes-namespace", "kube-system"), false),
        (equals("aws:SourceAccount", ACCOUNT), true),
        (equals("aws:SourceAccount", "444455556666"), false),
        (with(json!({"ArnLike": {"aws:SourceArn": CLUSTER}})), true),
        (with(json!({"ArnLike": {"aws:SourceArn": CLUSTER.replace("stead", "x")}})), false),
        (untagged.clone(), false),
        (other, false),
    ] {
        let region = region(trust.clone(), |_| {}).await;
        let wanted = if is_fine { "fine" } else { "AccessDeniedException" };
        assert_eq!(region.code("stead", APP).await, wanted, "{trust}");
    }
    let region = region(untagged, |it| it.disable_session_tags = true).await;
    let given = region.ask("stead", APP).await.unwrap();
    assert!(region.principal(&given).tags.is_empty());
}

fn target(association: &mut Association) {
    association.target = Some(Target {
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/target"),
        external_id: "the-associations".to_owned(),
    });
}

/// It trusts the account, so that the first role needs the right itself.
fn target_trust(external_id: &str) -> Value {
    json!({"Effect": "Allow", "Principal": {"AWS": ACCOUNT},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {"StringEquals": {"sts:ExternalId": external_id,
            "aws:RequestTag/kubernetes-service-account": "app"}}})
}

#[tokio::test(start_paused = true)]
async fn a_target_role_is_assumed_with_the_first_ones_rights() {
    let region = region(usual_trust(), target).await;
    assert_eq!(region.code("stead", APP).await, "AccessDeniedException", "there is no target");
    region.make_role("target", target_trust("the-associations")).await;
    assert_eq!(region.code("stead", APP).await, "AccessDeniedException", "the role may not");
    let allow = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow",
        "Action": ["sts:AssumeRole", "sts:TagSession"], "Resource": "*"}});
    let rights = PutRolePolicyRequest {
        role_name: "app".to_owned(),
        policy_name: "p".to_owned(),
        policy_document: allow.to_string(),
    };
    region.call::<PutRolePolicy>(rights).await;
    let given = region.ask("stead", APP).await.unwrap();
    let principal = region.principal(&given);
    assert!(principal.arn.contains(":assumed-role/target/eks-stead-web-1-"), "{principal:?}");
    assert_eq!(principal.tags["kubernetes-pod-name"], "web-1", "the tags go on");
}

#[tokio::test(start_paused = true)]
async fn a_target_role_of_another_association_is_refused() {
    let region = region(usual_trust(), target).await;
    region.make_role("target", target_trust("another")).await;
    let allow = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow",
        "Action": "sts:*", "Resource": "*"}});
    let rights = PutRolePolicyRequest {
        role_name: "app".to_owned(),
        policy_name: "p".to_owned(),
        policy_document: allow.to_string(),
    };
    region.call::<PutRolePolicy>(rights).await;
    assert_eq!(region.code("stead", APP).await, "AccessDeniedException");
}

#[tokio::test(start_paused = true)]
async fn an_associations_policy_limits_the_session() {
    let document = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow",
        "Action": "s3:GetObject", "Resource": "*"}});
    let limit = |it: &mut Association| {
        it.disable_session_tags = true;
        it.policy = Some(document.to_string());
    };
    let region = region(usual_trust(), limit).await;
    let given = region.ask("stead", APP).await.unwrap();
    let key = region.sts.access_key(&given.credentials.access_key_id).unwrap();
    assert_eq!(key.session_policies.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_call_itself_needs_a_right() {
    let region = region(usual_trust(), |_| {}).await;
    let user = CreateUserRequest { user_name: "eve".to_owned(), ..Default::default() };
    region.call::<CreateUser>(user).await;
    let request = AssumeRoleForPodIdentityRequest {
        cluster_name: "stead".to_owned(),
        token: APP.to_owned(),
        ..Default::default()
    };
    let caller = Caller::root(ACCOUNT, "us-east-1", region.clock.now());
    let targets = Handle::<AssumeRoleForPodIdentity>::targets(&*region.eks_auth, &caller, &request);
    assert_eq!(targets[0].resource, CLUSTER);
    let eve = Caller {
        arn: format!("arn:aws:iam::{ACCOUNT}:user/eve"),
        kind: region_gateway::CallerKind::User { name: "eve".to_owned() },
        ..caller
    };
    let authorizer = region.eks_auth.gateway.authorizer();
    let action = "eks-auth:AssumeRoleForPodIdentity";
    let decided = authorizer.decide(&eve, action, &targets[0]);
    assert!(!decided.decision.is_allowed());
    assert_eq!(decided.denial(&eve, "eks-auth").code, "AccessDeniedException");
}
