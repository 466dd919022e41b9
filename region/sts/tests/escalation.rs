//! Attempts to get more than was given: by handing roles over, by sessions, by trust.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::sync::Arc;

use aws_iam::{
    AddRoleToInstanceProfile, AddRoleToInstanceProfileRequest, AttachRolePolicy,
    AttachRolePolicyRequest, CreateAccessKey, CreateAccessKeyRequest, CreateInstanceProfile,
    CreateInstanceProfileRequest, CreateRole, CreateRoleRequest, CreateUser, CreateUserRequest,
    DeleteRolePermissionsBoundary, DeleteRolePermissionsBoundaryRequest, GetRole, GetRoleRequest,
    ListUsers, ListUsersRequest, PutRolePermissionsBoundary, PutRolePermissionsBoundaryRequest,
    PutRolePolicy, PutRolePolicyRequest, PutUserPolicy, PutUserPolicyRequest, Tag, TagRole,
    TagRoleRequest, UntagRole, UntagRoleRequest,
};
use aws_sts::{AssumeRole, AssumeRoleRequest};
use aws_wire::{
    Client, Operation,
    client::{Config as ClientConfig, Endpoints, Exchange},
    credentials::Credentials,
};
use bytes::Bytes;
use clock::Clock;
use http::Request;
use http_body_util::Full;
use region_gateway::{Config, Events, Gateway, Side};
use region_iam::{Iam, RootKey};
use region_store::Store;
use region_sts::Sts;
use tower::ServiceExt;

const ACCOUNT: &str = "111122223333";

struct Region(Gateway);

fn clock() -> Clock {
    Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap())
}

fn start() -> Region {
    let store = Store::in_memory();
    let root = RootKey { access_key_id: "test".to_owned(), secret_access_key: "test".to_owned() };
    let iam = Iam::open(&store, ACCOUNT, root, clock()).unwrap();
    let sts = Sts::open(&store, ACCOUNT, "us-east-1", iam.clone(), clock()).unwrap();
    let gateway = Gateway::new(Config {
        region: "us-east-1".to_owned(),
        account: ACCOUNT.to_owned(),
        clock: clock(),
        keys: vec![iam.clone(), sts.clone()],
        identities: iam.clone(),
        events: Events::in_memory(),
    });
    assert!(gateway.open(region_iam::routes(&iam).merge(region_sts::routes(&sts))));
    Region(gateway)
}

fn allowing(actions: &str, resource: &str, condition: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":{actions},
        "Resource":"{resource}"{condition}}}}}"#
    )
}

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

impl Region {
    fn client(&self, credentials: Credentials) -> Client {
        let service = self.0.service(Side::Host);
        let exchange = Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
            service.clone().oneshot(request.map(Full::new))
        }));
        Client::new(ClientConfig {
            region: "us-east-1".to_owned(),
            endpoints: Endpoints::default(),
            exchange,
            credentials: Some(Arc::new(credentials)),
            clock: clock(),
            attempts: 1,
        })
    }

    fn root(&self) -> Client {
        self.client(Credentials::new("test", "test"))
    }

    /// Made with one policy of their own.
    async fn user(&self, name: &str, policy: String) -> Client {
        let root = self.root();
        let user_name = || name.to_owned();
        let request = CreateUserRequest { user_name: user_name(), ..Default::default() };
        root.call::<CreateUser>(request).await.unwrap();
        let policy_name = "own".to_owned();
        let request =
            PutUserPolicyRequest { user_name: user_name(), policy_name, policy_document: policy };
        root.call::<PutUserPolicy>(request).await.unwrap();
        let request = CreateAccessKeyRequest { user_name: Some(user_name()) };
        let key = root.call::<CreateAccessKey>(request).await.unwrap().access_key;
        self.client(Credentials::new(&*key.access_key_id, &*key.secret_access_key))
    }

    /// A role that trusts this principal and may do everything.
    async fn powerful(&self, name: &str, principal: &str) {
        let trust = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{principal},
            "Action":"sts:AssumeRole"}}}}"#
        );
        let request = CreateRoleRequest {
            role_name: name.to_owned(),
            assume_role_policy_document: trust,
            ..Default::default()
        };
        self.root().call::<CreateRole>(request).await.unwrap();
        let request = PutRolePolicyRequest {
            role_name: name.to_owned(),
            policy_name: "all".to_owned(),
            policy_document: allowing("\"*\"", "*", ""),
        };
        self.root().call::<PutRolePolicy>(request).await.unwrap();
    }

    async fn session(&self, of: &Client, name: &str, policy: Option<String>) -> Client {
        let request = AssumeRoleRequest {
            role_arn: role(name),
            role_session_name: "s1".to_owned(),
            policy,
            ..Default::default()
        };
        let it = of.call::<AssumeRole>(request).await.unwrap().credentials;
        self.client(Credentials {
            session_token: Some(it.session_token),
            ..Credentials::new(&*it.access_key_id, &*it.secret_access_key)
        })
    }
}

async fn code<O: Operation>(client: &Client, request: O::Request) -> String {
    match client.call::<O>(request).await {
        Ok(_) => "fine".to_owned(),
        Err(error) => error.fault().expect("the region answered").code.to_string(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_role_is_handed_over_only_by_who_may_pass_it_and_only_to_its_service() {
    let region = start();
    let ec2 = r#"{"Service":"ec2.amazonaws.com"}"#;
    region.powerful("admin", ec2).await;
    region.powerful("node", ec2).await;
    let profiles = r#"["iam:CreateInstanceProfile","iam:AddRoleToInstanceProfile"]"#;
    let without = region.user("without", allowing(profiles, "*", "")).await;
    let both = |service: &str| {
        let pass = format!(
            r#"{{"Effect":"Allow","Action":"iam:PassRole","Resource":"{}","Condition":
            {{"StringEquals":{{"iam:PassedToService":"{service}"}}}}}}"#,
            role("node")
        );
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":{profiles},
            "Resource":"*"}},{pass}]}}"#
        )
    };
    let to_ec2 = region.user("to-ec2", both("ec2.amazonaws.com")).await;
    let to_eks = region.user("to-eks", both("eks.amazonaws.com")).await;
    for (index, (who, wanted, expected)) in [
        (&without, "node", "AccessDenied"),
        (&without, "admin", "AccessDenied"),
        (&to_eks, "node", "AccessDenied"),
        (&to_ec2, "admin", "AccessDenied"),
        (&to_ec2, "node", "fine"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("p{index}");
        let request = CreateInstanceProfileRequest {
            instance_profile_name: name.clone(),
            ..Default::default()
        };
        who.call::<CreateInstanceProfile>(request).await.unwrap();
        let request = AddRoleToInstanceProfileRequest {
            instance_profile_name: name,
            role_name: wanted.to_owned(),
        };
        let found = code::<AddRoleToInstanceProfile>(who, request).await;
        assert_eq!(found, expected, "{index} {wanted}");
    }
    let events = region.0.events().recent(100);
    let passed = events.iter().find(|it| it.code.is_none() && !it.actions.is_empty()).unwrap();
    assert_eq!(passed.actions, ["iam:AddRoleToInstanceProfile", "iam:PassRole"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_limited_cannot_get_rid_of_its_limit() {
    let region = start();
    let account = format!(r#"{{"AWS":"{ACCOUNT}"}}"#);
    region.powerful("admin", &account).await;
    region.powerful("next", &account).await;
    let ann = region.user("ann", allowing("\"sts:AssumeRole\"", &role("*"), "")).await;
    let only_roles = allowing(r#"["iam:GetRole","sts:AssumeRole"]"#, &role("admin"), "");
    let limited = region.session(&ann, "admin", Some(only_roles)).await;
    let get = |name: &str| GetRoleRequest { role_name: name.to_owned() };
    assert_eq!(code::<GetRole>(&limited, get("admin")).await, "fine");
    assert_eq!(code::<GetRole>(&limited, get("next")).await, "AccessDenied");
    assert_eq!(code::<ListUsers>(&limited, ListUsersRequest::default()).await, "AccessDenied");
    // By another role: the limit says which.
    let assume = |name: &str, policy: Option<String>| AssumeRoleRequest {
        role_arn: role(name),
        role_session_name: "s2".to_owned(),
        policy,
        ..Default::default()
    };
    assert_eq!(code::<AssumeRole>(&limited, assume("next", None)).await, "AccessDenied");
    // Whoever is not limited is not limited by somebody else's session.
    let free = region.session(&ann, "admin", None).await;
    assert_eq!(code::<ListUsers>(&free, ListUsersRequest::default()).await, "fine");
    // A session policy gives nothing that its role does not have.
    let more = allowing("\"*\"", "*", "");
    assert_eq!(code::<GetRole>(&ann, get("admin")).await, "AccessDenied");
    let wide = region.session(&ann, "admin", Some(more)).await;
    assert_eq!(code::<ListUsers>(&wide, ListUsersRequest::default()).await, "fine");
}

#[tokio::test(start_paused = true)]
async fn a_trust_policy_that_names_a_role_is_not_met_by_its_namesake() {
    let region = start();
    region.powerful("caller", &format!(r#"{{"AWS":"{ACCOUNT}"}}"#)).await;
    region.powerful("trusting", &format!(r#"{{"AWS":"{}"}}"#, role("caller"))).await;
    let ann = region.user("ann", allowing("\"*\"", &role("caller"), "")).await;
    let assume = AssumeRoleRequest {
        role_arn: role("trusting"),
        role_session_name: "s2".to_owned(),
        ..Default::default()
    };
    let session = region.session(&ann, "caller", None).await;
    assert_eq!(code::<AssumeRole>(&session, assume.clone()).await, "fine");
    // Ann herself is not the role.
    assert_eq!(code::<AssumeRole>(&ann, assume.clone()).await, "AccessDenied");

    let root = region.root();
    let role_name = || "caller".to_owned();
    let request =
        aws_iam::DeleteRolePolicyRequest { role_name: role_name(), policy_name: "all".to_owned() };
    root.call::<aws_iam::DeleteRolePolicy>(request).await.unwrap();
    let request = aws_iam::DeleteRoleRequest { role_name: role_name() };
    root.call::<aws_iam::DeleteRole>(request).await.unwrap();
    region.powerful("caller", &format!(r#"{{"AWS":"{ACCOUNT}"}}"#)).await;
    let namesake = region.session(&ann, "caller", None).await;
    assert_eq!(code::<AssumeRole>(&namesake, assume).await, "AccessDenied");
}

const VIEW: &str = "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy";
const BOUNDARY: &str = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly";

/// Who may make roles under one boundary makes none without it, and takes it from none.
#[tokio::test(start_paused = true)]
async fn who_is_delegated_roles_under_a_boundary_cannot_leave_it() {
    let region = start();
    let only_bounded = format!(
        r#"{{"Version":"2012-10-17","Statement":[
        {{"Effect":"Allow","Resource":"*","Action":["iam:CreateRole","iam:PutRolePolicy",
        "iam:AttachRolePolicy","iam:PutRolePermissionsBoundary"],"Condition":
        {{"StringEquals":{{"iam:PermissionsBoundary":"{BOUNDARY}"}}}}}},
        {{"Effect":"Allow","Action":"iam:DeleteRolePermissionsBoundary","Resource":"*"}},
        {{"Effect":"Deny","Action":"iam:DeleteRolePermissionsBoundary","Resource":"*","Condition":
        {{"StringEquals":{{"iam:PermissionsBoundary":"{BOUNDARY}"}}}}}}]}}"#
    );
    let ann = region.user("ann", only_bounded).await;
    region.powerful("free", r#"{"Service":"ec2.amazonaws.com"}"#).await;
    let create = |name: &str, boundary: Option<&str>| CreateRoleRequest {
        role_name: name.to_owned(),
        assume_role_policy_document: format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":
            {{"AWS":"{ACCOUNT}"}},"Action":"sts:AssumeRole"}}}}"#
        ),
        permissions_boundary: boundary.map(str::to_owned),
        ..Default::default()
    };
    assert_eq!(code::<CreateRole>(&ann, create("a", None)).await, "AccessDenied");
    assert_eq!(code::<CreateRole>(&ann, create("a", Some(VIEW))).await, "AccessDenied");
    assert_eq!(code::<CreateRole>(&ann, create("own", Some(BOUNDARY))).await, "fine");
    for (name, expected) in [("own", "fine"), ("free", "AccessDenied")] {
        let put = PutRolePolicyRequest {
            role_name: name.to_owned(),
            policy_name: "p".to_owned(),
            policy_document: allowing("\"*\"", "*", ""),
        };
        assert_eq!(code::<PutRolePolicy>(&ann, put).await, expected, "{name}");
        let (role_name, policy_arn) = (name.to_owned(), VIEW.to_owned());
        let attach = AttachRolePolicyRequest { role_name, policy_arn };
        assert_eq!(code::<AttachRolePolicy>(&ann, attach).await, expected, "{name}");
    }
    let put = |boundary: &str| PutRolePermissionsBoundaryRequest {
        role_name: "own".to_owned(),
        permissions_boundary: boundary.to_owned(),
    };
    assert_eq!(code::<PutRolePermissionsBoundary>(&ann, put(VIEW)).await, "AccessDenied");
    assert_eq!(code::<PutRolePermissionsBoundary>(&ann, put(BOUNDARY)).await, "fine");
    let delete = DeleteRolePermissionsBoundaryRequest { role_name: "own".to_owned() };
    assert_eq!(code::<DeleteRolePermissionsBoundary>(&ann, delete).await, "AccessDenied");
}

/// Tags say who may do what: whoever may write them must be kept from writing those.
#[tokio::test(start_paused = true)]
async fn a_tag_that_decides_is_not_changed_and_a_role_that_has_it_is_not_handed_on() {
    let region = start();
    let ec2 = r#"{"Service":"ec2.amazonaws.com"}"#;
    region.powerful("plain", ec2).await;
    region.powerful("secret", ec2).await;
    let tag = |role: &str, key: &str| TagRoleRequest {
        role_name: role.to_owned(),
        tags: vec![Tag { key: key.to_owned(), value: "x".to_owned() }],
    };
    let untag = |role: &str, key: &str| UntagRoleRequest {
        role_name: role.to_owned(),
        tag_keys: vec![key.to_owned()],
    };
    region.root().call::<TagRole>(tag("secret", "class")).await.unwrap();
    let all_but = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"iam:*","Resource":"*"},
        {"Effect":"Deny","Action":["iam:TagRole","iam:UntagRole"],"Resource":"*","Condition":
        {"ForAnyValue:StringEquals":{"aws:TagKeys":["class"]}}},
        {"Effect":"Deny","Action":"iam:PassRole","Resource":"*","Condition":
        {"Null":{"aws:ResourceTag/class":"false"}}}]}"#;
    let ann = region.user("ann", all_but.to_owned()).await;
    assert_eq!(code::<TagRole>(&ann, tag("plain", "cost")).await, "fine");
    assert_eq!(code::<UntagRole>(&ann, untag("plain", "cost")).await, "fine");
    assert_eq!(code::<TagRole>(&ann, tag("plain", "class")).await, "AccessDenied");
    assert_eq!(code::<UntagRole>(&ann, untag("secret", "class")).await, "AccessDenied");
    for (role, expected) in [("plain", "fine"), ("secret", "AccessDenied")] {
        let name = format!("of-{role}");
        let make = CreateInstanceProfileRequest {
            instance_profile_name: name.clone(),
            ..Default::default()
        };
        ann.call::<CreateInstanceProfile>(make).await.unwrap();
        let request = AddRoleToInstanceProfileRequest {
            instance_profile_name: name,
            role_name: role.to_owned(),
        };
        assert_eq!(code::<AddRoleToInstanceProfile>(&ann, request).await, expected, "{role}");
    }
}

/// A deputy who works for many must say for whom.
#[tokio::test(start_paused = true)]
async fn a_role_that_asks_for_an_external_id_is_assumed_with_that_one_alone() {
    let region = start();
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"AWS":"{ACCOUNT}"}},
        "Action":"sts:AssumeRole","Condition":{{"StringEquals":{{"sts:ExternalId":"mine"}}}}}}}}"#
    );
    let request = CreateRoleRequest {
        role_name: "customer".to_owned(),
        assume_role_policy_document: trust,
        ..Default::default()
    };
    region.root().call::<CreateRole>(request).await.unwrap();
    let deputy = region.user("deputy", allowing("\"sts:AssumeRole\"", "*", "")).await;
    for (external_id, expected) in [
        (None, "AccessDenied"),
        (Some("another's"), "AccessDenied"),
        (Some("MINE"), "AccessDenied"),
        (Some("mine"), "fine"),
    ] {
        let request = AssumeRoleRequest {
            role_arn: role("customer"),
            role_session_name: "s1".to_owned(),
            external_id: external_id.map(str::to_owned),
            ..Default::default()
        };
        assert_eq!(code::<AssumeRole>(&deputy, request).await, expected, "{external_id:?}");
    }
}

/// Tags decide on others' rights: who may make a thing gives it none by that alone.
#[tokio::test(start_paused = true)]
async fn what_is_made_has_tags_by_the_right_to_give_them_alone() {
    let region = start();
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"AWS":"{ACCOUNT}"}},
        "Action":"sts:AssumeRole"}}}}"#
    );
    let make = |name: &str, team: Option<&str>| CreateRoleRequest {
        role_name: name.to_owned(),
        assume_role_policy_document: trust.clone(),
        tags: team.map(tag).into_iter().collect(),
        ..Default::default()
    };
    let ann = region.user("ann", allowing("\"iam:CreateRole\"", "*", "")).await;
    assert_eq!(code::<CreateRole>(&ann, make("plain", None)).await, "fine");
    let denied = ann.call::<CreateRole>(make("red", Some("red"))).await.unwrap_err();
    let denied = denied.fault().unwrap();
    assert_eq!(denied.code, "AccessDenied");
    let told = format!("not authorized to perform: iam:TagRole on resource: {}", role("red"));
    assert!(denied.message.contains(&told), "{}", denied.message);
    let get = GetRoleRequest { role_name: "red".to_owned() };
    assert_eq!(code::<GetRole>(&region.root(), get).await, "NoSuchEntity");

    let red = r#","Condition":{"StringEquals":{"aws:RequestTag/team":"red"}}"#;
    let both = r#"["iam:CreateRole","iam:TagRole"]"#;
    let bob = region.user("bob", allowing(both, "*", red)).await;
    for (team, expected) in [(Some("red"), "fine"), (Some("blue"), "AccessDenied")] {
        assert_eq!(code::<CreateRole>(&bob, make("of-bob", team)).await, expected, "{team:?}");
    }

    // Karpenter's policy: what it makes with its tags it may tag.
    let own = r#","Condition":{"StringEquals":{"aws:ResourceTag/team":"red","aws:RequestTag/team":"red"}}"#;
    let policy = allowing("\"iam:CreateInstanceProfile\"", "*", red);
    let second = allowing("\"iam:TagInstanceProfile\"", "*", own);
    let karpenter = region.user("karpenter", policy).await;
    let make = |team: &str| CreateInstanceProfileRequest {
        instance_profile_name: "p1".to_owned(),
        tags: vec![tag(team)],
        ..Default::default()
    };
    assert_eq!(code::<CreateInstanceProfile>(&karpenter, make("red")).await, "AccessDenied");
    let request = PutUserPolicyRequest {
        user_name: "karpenter".to_owned(),
        policy_name: "tags".to_owned(),
        policy_document: second,
    };
    region.root().call::<PutUserPolicy>(request).await.unwrap();
    assert_eq!(code::<CreateInstanceProfile>(&karpenter, make("blue")).await, "AccessDenied");
    assert_eq!(code::<CreateInstanceProfile>(&karpenter, make("red")).await, "fine");
}

fn tag(team: &str) -> Tag {
    Tag { key: "team".to_owned(), value: team.to_owned() }
}
