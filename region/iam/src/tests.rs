//! IAM through its handlers.

use aws_iam::*;
use aws_wire::{Fault, Operation};
use jiff::Timestamp;
use region_gateway::{AccessKeys, Caller, CallerKind, Handle, Identities};

use crate::{Arc, Clock, Iam, RootKey, Store};

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
    "Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
const CNI: &str = "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy";

fn iam() -> Arc<Iam> {
    open(&Store::in_memory())
}

fn open(store: &Store) -> Arc<Iam> {
    let root = RootKey { access_key_id: "test".to_owned(), secret_access_key: "test".to_owned() };
    let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
    Iam::open(store, "111122223333", root, clock).unwrap()
}

async fn call<O: Operation>(iam: &Iam, request: O::Request) -> Result<O::Response, Fault>
where
    Iam: Handle<O>,
{
    let caller = Caller::root("111122223333", "us-east-1", Timestamp::UNIX_EPOCH);
    Handle::<O>::handle(iam, &caller, request).await
}

async fn make_role(iam: &Iam, name: &str) -> Role {
    let request = CreateRoleRequest {
        role_name: name.to_owned(),
        assume_role_policy_document: TRUST.to_owned(),
        ..CreateRoleRequest::default()
    };
    call::<CreateRole>(iam, request).await.unwrap().role
}

fn code<T: std::fmt::Debug>(result: Result<T, Fault>) -> (String, u16) {
    let fault = result.unwrap_err();
    (fault.code.into_owned(), fault.status.as_u16())
}

fn no_such() -> (String, u16) {
    ("NoSuchEntity".to_owned(), 404)
}

#[tokio::test(start_paused = true)]
async fn a_role_survives_a_restart_with_its_policies() {
    let store = Store::in_memory();
    let iam = open(&store);
    let role = make_role(&iam, "node").await;
    assert_eq!(role.arn, "arn:aws:iam::111122223333:role/node");
    let attach =
        AttachRolePolicyRequest { role_name: "node".to_owned(), policy_arn: CNI.to_owned() };
    call::<AttachRolePolicy>(&iam, attach).await.unwrap();

    let again = open(&store);
    let kind = CallerKind::AssumedRole { role_arn: role.arn, session: "i-1".to_owned() };
    let attached = again.attached(&kind).unwrap();
    assert_eq!(attached.identity.len(), 1);
    assert_eq!(attached.identity[0].name, CNI);
    assert_eq!(again.role("node").unwrap().id, role.role_id);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_cannot_be_deleted() {
    let iam = iam();
    make_role(&iam, "node").await;
    let conflict = ("DeleteConflict".to_owned(), 409);
    let delete = || DeleteRoleRequest { role_name: "node".to_owned() };
    let policy =
        || AttachRolePolicyRequest { role_name: "node".to_owned(), policy_arn: CNI.to_owned() };
    call::<AttachRolePolicy>(&iam, policy()).await.unwrap();
    assert_eq!(code(call::<DeleteRole>(&iam, delete()).await), conflict);
    let detach =
        DetachRolePolicyRequest { role_name: "node".to_owned(), policy_arn: CNI.to_owned() };
    call::<DetachRolePolicy>(&iam, detach).await.unwrap();

    let profile = CreateInstanceProfileRequest {
        instance_profile_name: "p".to_owned(),
        ..CreateInstanceProfileRequest::default()
    };
    call::<CreateInstanceProfile>(&iam, profile).await.unwrap();
    let link = AddRoleToInstanceProfileRequest {
        instance_profile_name: "p".to_owned(),
        role_name: "node".to_owned(),
    };
    call::<AddRoleToInstanceProfile>(&iam, link.clone()).await.unwrap();
    let twice = call::<AddRoleToInstanceProfile>(&iam, link).await;
    assert_eq!(code(twice), ("LimitExceeded".to_owned(), 409));
    assert_eq!(iam.profile_role("p").unwrap().name, "node");
    assert_eq!(code(call::<DeleteRole>(&iam, delete()).await), conflict);
    let unlink = RemoveRoleFromInstanceProfileRequest {
        instance_profile_name: "p".to_owned(),
        role_name: "node".to_owned(),
    };
    call::<RemoveRoleFromInstanceProfile>(&iam, unlink).await.unwrap();
    call::<DeleteRole>(&iam, delete()).await.unwrap();
    assert_eq!(code(call::<DeleteRole>(&iam, delete()).await), no_such());
}

#[tokio::test(start_paused = true)]
async fn wrong_input_has_iams_codes() {
    let iam = iam();
    make_role(&iam, "node").await;
    let again = CreateRoleRequest {
        role_name: "node".to_owned(),
        assume_role_policy_document: TRUST.to_owned(),
        ..CreateRoleRequest::default()
    };
    let exists = call::<CreateRole>(&iam, again.clone()).await;
    assert_eq!(code(exists), ("EntityAlreadyExists".to_owned(), 409));
    let bad = CreateRoleRequest { role_name: "a b".to_owned(), ..again.clone() };
    assert_eq!(code(call::<CreateRole>(&iam, bad).await), ("ValidationError".to_owned(), 400));
    let document = "{\"Version\":\"2012-10-17\"}".to_owned();
    let bad = CreateRoleRequest { assume_role_policy_document: document, ..again };
    let malformed = call::<CreateRole>(&iam, bad).await;
    assert_eq!(code(malformed), ("MalformedPolicyDocument".to_owned(), 400));
    let attach = AttachRolePolicyRequest {
        role_name: "node".to_owned(),
        policy_arn: "arn:aws:iam::aws:policy/Nope".to_owned(),
    };
    assert_eq!(code(call::<AttachRolePolicy>(&iam, attach).await), no_such());
}

#[tokio::test(start_paused = true)]
async fn a_user_signs_with_its_key_until_the_key_is_inactive() {
    let iam = iam();
    let user = CreateUserRequest { user_name: "bob".to_owned(), ..CreateUserRequest::default() };
    call::<CreateUser>(&iam, user).await.unwrap();
    let request = CreateAccessKeyRequest { user_name: Some("bob".to_owned()) };
    let key = call::<CreateAccessKey>(&iam, request).await.unwrap().access_key;
    let found = iam.access_key(&key.access_key_id).unwrap();
    assert_eq!(found.secret, key.secret_access_key);
    assert_eq!(found.principal.kind, CallerKind::User { name: "bob".to_owned() });
    let update = UpdateAccessKeyRequest {
        user_name: Some("bob".to_owned()),
        access_key_id: key.access_key_id.clone(),
        status: "Inactive".to_owned(),
    };
    call::<UpdateAccessKey>(&iam, update).await.unwrap();
    assert!(iam.access_key(&key.access_key_id).is_none());
    assert!(iam.access_key("test").is_some_and(|it| it.principal.kind == CallerKind::Root));
}

#[tokio::test(start_paused = true)]
async fn the_default_version_of_a_policy_decides() {
    let iam = iam();
    let document = |effect: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"{effect}","Action":"s3:*","Resource":"*"}}}}"#
        )
    };
    let request = CreatePolicyRequest {
        policy_name: "p".to_owned(),
        policy_document: document("Allow"),
        ..CreatePolicyRequest::default()
    };
    let policy = call::<CreatePolicy>(&iam, request).await.unwrap().policy;
    make_role(&iam, "r").await;
    let attach =
        AttachRolePolicyRequest { role_name: "r".to_owned(), policy_arn: policy.arn.clone() };
    call::<AttachRolePolicy>(&iam, attach).await.unwrap();
    let simulate = || SimulatePrincipalPolicyRequest {
        policy_source_arn: "arn:aws:iam::111122223333:role/r".to_owned(),
        action_names: vec!["s3:GetObject".to_owned()],
        ..SimulatePrincipalPolicyRequest::default()
    };
    let decision =
        |it: SimulatePrincipalPolicyResponse| it.evaluation_results[0].eval_decision.clone();
    let before = call::<SimulatePrincipalPolicy>(&iam, simulate()).await.unwrap();
    assert_eq!(decision(before), "allowed");
    let version = CreatePolicyVersionRequest {
        policy_arn: policy.arn.clone(),
        policy_document: document("Deny"),
        set_as_default: true,
    };
    call::<CreatePolicyVersion>(&iam, version).await.unwrap();
    let after = call::<SimulatePrincipalPolicy>(&iam, simulate()).await.unwrap();
    assert_eq!(decision(after), "explicitDeny");
    let default =
        DeletePolicyVersionRequest { policy_arn: policy.arn.clone(), version_id: "v2".to_owned() };
    let conflict = ("DeleteConflict".to_owned(), 409);
    assert_eq!(code(call::<DeletePolicyVersion>(&iam, default).await), conflict);
    let attached = DeletePolicyRequest { policy_arn: policy.arn };
    assert_eq!(code(call::<DeletePolicy>(&iam, attached).await), conflict);
}

#[tokio::test(start_paused = true)]
async fn a_service_linked_role_is_its_services_alone() {
    let iam = iam();
    let request = || CreateServiceLinkedRoleRequest {
        aws_service_name: "autoscaling.amazonaws.com".to_owned(),
        ..CreateServiceLinkedRoleRequest::default()
    };
    let role = call::<CreateServiceLinkedRole>(&iam, request()).await.unwrap().role;
    assert_eq!(
        role.arn,
        "arn:aws:iam::111122223333:role/aws-service-role/autoscaling.amazonaws.com/\
         AWSServiceRoleForAutoScaling"
    );
    let twice = call::<CreateServiceLinkedRole>(&iam, request()).await;
    assert_eq!(code(twice), ("InvalidInput".to_owned(), 400));
    let attach =
        AttachRolePolicyRequest { role_name: role.role_name.clone(), policy_arn: CNI.to_owned() };
    let protected = call::<AttachRolePolicy>(&iam, attach).await;
    assert_eq!(code(protected), ("UnmodifiableEntity".to_owned(), 400));
    let delete = DeleteRoleRequest { role_name: role.role_name };
    let protected = call::<DeleteRole>(&iam, delete).await;
    assert_eq!(code(protected), ("UnmodifiableEntity".to_owned(), 400));
}

#[tokio::test(start_paused = true)]
async fn a_policy_says_what_it_is_attached_to() {
    let iam = iam();
    for name in ["a", "b"] {
        make_role(&iam, name).await;
    }
    let attach = AttachRolePolicyRequest { role_name: "b".to_owned(), policy_arn: CNI.to_owned() };
    call::<AttachRolePolicy>(&iam, attach).await.unwrap();
    let request = |filter: Option<&str>| ListEntitiesForPolicyRequest {
        policy_arn: CNI.to_owned(),
        entity_filter: filter.map(str::to_owned),
        ..Default::default()
    };
    let found = call::<ListEntitiesForPolicy>(&iam, request(None)).await.unwrap();
    let roles: Vec<_> = found.policy_roles.iter().map(|it| it.role_name.as_str()).collect();
    assert_eq!(roles, ["b"]);
    let users = call::<ListEntitiesForPolicy>(&iam, request(Some("User"))).await.unwrap();
    assert!(users.policy_roles.is_empty() && users.policy_users.is_empty());
    let unknown = ListEntitiesForPolicyRequest {
        policy_arn: "arn:aws:iam::111122223333:policy/none".to_owned(),
        ..Default::default()
    };
    assert_eq!(code(call::<ListEntitiesForPolicy>(&iam, unknown).await), no_such());
}
