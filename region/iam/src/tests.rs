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
    let other_case = CreateRoleRequest { role_name: "NODE".to_owned(), ..again.clone() };
    let exists = call::<CreateRole>(&iam, other_case).await;
    assert_eq!(code(exists).0, "EntityAlreadyExists", "names are one whatever their case");
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

#[tokio::test(start_paused = true)]
async fn what_is_about_the_caller_is_decided_on_the_caller() {
    let iam = iam();
    let user = CreateUserRequest { user_name: "ann".to_owned(), ..Default::default() };
    call::<CreateUser>(&iam, user).await.unwrap();
    let root = Caller::root("111122223333", "us-east-1", Timestamp::UNIX_EPOCH);
    let ann = Caller { kind: CallerKind::User { name: "ann".to_owned() }, ..root.clone() };
    let on = |caller: &Caller, name: Option<&str>| {
        let user_name = name.map(str::to_owned);
        let targets = [
            Handle::<GetUser>::targets(
                &*iam,
                caller,
                &GetUserRequest { user_name: user_name.clone() },
            ),
            Handle::<CreateAccessKey>::targets(
                &*iam,
                caller,
                &CreateAccessKeyRequest { user_name },
            ),
        ];
        targets.map(|mut it| it.remove(0).resource)
    };
    let user = |name: &str| format!("arn:aws:iam::111122223333:user/{name}");
    assert_eq!(on(&ann, None), [user("ann"), user("ann")]);
    assert_eq!(on(&ann, Some("bob")), [user("bob"), user("bob")]);
    assert_eq!(on(&root, None)[0], root.arn);
}

fn trusting(principal: &str) -> String {
    TRUST.replace(r#"{"Service":"ec2.amazonaws.com"}"#, &format!(r#"{{"AWS":"{principal}"}}"#))
}

#[tokio::test(start_paused = true)]
async fn a_trust_policy_means_the_principal_that_was_there_when_it_was_saved() {
    let iam = iam();
    let first = make_role(&iam, "caller").await;
    let create = |trust: String| CreateRoleRequest {
        role_name: "trusting".to_owned(),
        assume_role_policy_document: trust,
        ..CreateRoleRequest::default()
    };
    let document = trusting(&first.arn);
    call::<CreateRole>(&iam, create(document.clone())).await.unwrap();
    let named = || {
        let trust = iam.role("trusting").unwrap().trust;
        trust.aws_principals().map(str::to_owned).collect::<Vec<_>>()
    };
    let shown = async || {
        let get = GetRoleRequest { role_name: "trusting".to_owned() };
        let role = call::<GetRole>(&iam, get).await.unwrap().role;
        let text = role.assume_role_policy_document.unwrap();
        aws_wire::percent::decode(&text)
    };
    assert_eq!(named(), std::slice::from_ref(&first.role_id));
    assert_eq!(shown().await, document, "as it was given, as long as the role is there");

    call::<DeleteRole>(&iam, DeleteRoleRequest { role_name: "caller".to_owned() }).await.unwrap();
    make_role(&iam, "caller").await;
    assert_eq!(named(), std::slice::from_ref(&first.role_id), "not its namesake");
    assert!(shown().await.contains(&first.role_id) && !shown().await.contains(&first.arn));
}

#[tokio::test(start_paused = true)]
async fn a_trust_policy_cannot_name_who_does_not_exist() {
    let iam = iam();
    for (principal, is_fine) in [
        ("arn:aws:iam::111122223333:role/nobody", false),
        ("arn:aws:iam::111122223333:user/nobody", false),
        ("arn:aws:iam::111122223333:root", true),
        ("arn:aws:iam::444455556666:role/elsewhere", true),
    ] {
        let request = CreateRoleRequest {
            role_name: format!("r{}", principal.len()),
            assume_role_policy_document: trusting(principal),
            ..CreateRoleRequest::default()
        };
        let made = call::<CreateRole>(&iam, request).await;
        let expected = ("MalformedPolicyDocument".to_owned(), 400);
        assert!(is_fine == made.is_ok(), "{principal}");
        if !is_fine {
            assert_eq!(code(made), expected, "{principal}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_simulation_is_told_page_by_page_and_each_result_once() {
    let iam = iam();
    let everything = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*",
        "Resource":"*"}}"#;
    let names = |prefix: &str, number: usize| -> Vec<String> {
        (0..number).map(|it| format!("{prefix}{it}")).collect()
    };
    let mut request = SimulateCustomPolicyRequest {
        policy_input_list: vec![everything.to_owned()],
        action_names: names("s3:Get", 30),
        resource_arns: names("arn:aws:s3:::b", 40),
        max_items: Some(500),
        ..SimulateCustomPolicyRequest::default()
    };
    let mut seen = Vec::new();
    let mut pages = Vec::new();
    loop {
        let answer = call::<SimulateCustomPolicy>(&iam, request.clone()).await.unwrap();
        pages.push(answer.evaluation_results.len());
        let told = answer.evaluation_results.into_iter();
        seen.extend(told.map(|it| (it.eval_action_name, it.eval_resource_name.unwrap())));
        assert_eq!(answer.is_truncated, answer.marker.is_some());
        request.marker = answer.marker;
        if request.marker.is_none() {
            break;
        }
    }
    assert_eq!(pages, [500, 500, 200]);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 1200);
    let refused = async |request: SimulateCustomPolicyRequest| {
        code(call::<SimulateCustomPolicy>(&iam, request).await).0
    };
    let marker = Some("x".to_owned());
    assert_eq!(refused(SimulateCustomPolicyRequest { marker, ..request.clone() }).await, INVALID);
    let max_items = Some(1001);
    assert_eq!(refused(SimulateCustomPolicyRequest { max_items, ..request }).await, INVALID);
}

const INVALID: &str = "ValidationError";

#[tokio::test(start_paused = true)]
async fn a_simulation_of_long_policies_has_short_pages() {
    let iam = iam();
    let statement = r#"{"Effect":"Allow","Action":"ec2:*","Resource":"*"}"#;
    let statements = vec![statement; 1_000].join(",");
    let document = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    let request = SimulateCustomPolicyRequest {
        policy_input_list: vec![document; 5],
        action_names: vec!["s3:GetObject".to_owned(); 1000],
        max_items: Some(1000),
        ..SimulateCustomPolicyRequest::default()
    };
    let actions = vec![r#""ec2:x""#; 9_999].join(",");
    let keys: Vec<String> = (0..4_999).map(|it| format!(r#""k:{it}":"v""#)).collect();
    let condition = format!(r#"{{"StringEquals":{{{}}}}}"#, keys.join(","));
    let of_statement = |it: &str| SimulateCustomPolicyRequest {
        policy_input_list: vec![format!(r#"{{"Version":"2012-10-17","Statement":{it}}}"#)],
        ..request.clone()
    };
    for request in [
        request.clone(),
        of_statement(&format!(r#"{{"Effect":"Allow","Action":[{actions}],"Resource":"*"}}"#)),
        // Each result names each key as missing.
        of_statement(&format!(
            r#"{{"Effect":"Allow","Action":"ec2:*","Resource":"*","Condition":{condition}}}"#
        )),
    ] {
        let answer = call::<SimulateCustomPolicy>(&iam, request).await.unwrap();
        assert_eq!((answer.evaluation_results.len(), answer.is_truncated), (100, true));
    }
}

/// Each value of the request with each of the policy: neither alone is large.
#[tokio::test(start_paused = true)]
async fn a_simulation_that_would_compare_too_much_is_refused() {
    let iam = iam();
    let many = |number: usize| (0..number).map(|it| format!("v{it}")).collect::<Vec<_>>();
    let wanted = serde_json::to_string(&many(5_000)).unwrap();
    let document = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"*","Resource":"*",
        "Condition":{{"ForAllValues:StringLike":{{"k:x":{wanted}}}}}}}}}"#
    );
    let asked = |values: usize| SimulateCustomPolicyRequest {
        policy_input_list: vec![document.clone()],
        action_names: vec!["s3:GetObject".to_owned()],
        context_entries: vec![ContextEntry {
            context_key_name: "k:x".to_owned(),
            context_key_values: many(values),
            context_key_type: Some("stringList".to_owned()),
        }],
        ..SimulateCustomPolicyRequest::default()
    };
    let refused = call::<SimulateCustomPolicy>(&iam, asked(5_000)).await.unwrap_err();
    assert_eq!(refused.code, "InvalidInput");
    let answer = call::<SimulateCustomPolicy>(&iam, asked(1_000)).await.unwrap();
    assert_eq!(answer.evaluation_results[0].eval_decision, "allowed");
}

#[tokio::test(start_paused = true)]
async fn white_space_does_not_make_a_document_endless() {
    let iam = iam();
    let policy = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*",
        "Resource":"*"}}"#;
    let create = |name: &str, spaces: usize| CreatePolicyRequest {
        policy_name: name.to_owned(),
        policy_document: policy.to_owned() + &" ".repeat(spaces),
        ..CreatePolicyRequest::default()
    };
    call::<CreatePolicy>(&iam, create("long", 130_000)).await.unwrap();
    let refused = call::<CreatePolicy>(&iam, create("longer", 131_072)).await;
    assert_eq!(code(refused), (INVALID.to_owned(), 400));
}

#[tokio::test(start_paused = true)]
async fn a_simulation_hears_the_policy_of_the_resource() {
    let iam = iam();
    let of_bob = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*",
        "Resource":"*","Principal":{"AWS":"arn:aws:iam::111122223333:user/bob"}}}"#;
    let request = |caller: Option<&str>| SimulateCustomPolicyRequest {
        action_names: vec!["s3:GetObject".to_owned()],
        resource_policy: Some(of_bob.to_owned()),
        caller_arn: caller.map(|it| format!("arn:aws:iam::111122223333:user/{it}")),
        ..SimulateCustomPolicyRequest::default()
    };
    for (caller, expected) in [("bob", "allowed"), ("eve", "implicitDeny")] {
        let answer = call::<SimulateCustomPolicy>(&iam, request(Some(caller))).await.unwrap();
        assert_eq!(answer.evaluation_results[0].eval_decision, expected, "{caller}");
    }
    assert_eq!(code(call::<SimulateCustomPolicy>(&iam, request(None)).await).0, "InvalidInput");
}

/// Such as one that a newer version accepted.
#[tokio::test(start_paused = true)]
async fn a_stored_policy_that_cannot_be_read_denies_and_is_named() {
    let iam = iam();
    make_role(&iam, "r").await;
    let spoil = |document: &str| {
        let document = document.to_owned();
        iam.change(|tx| {
            tx.update(&iam.roles, "r", |it| {
                it.grants.inline.insert("odd".to_owned(), document.clone());
                it.trust = document;
            });
            Ok(())
        })
        .unwrap();
    };
    spoil(r#"{"Version":"2031-01-01","Statement":[]}"#);
    let kind = CallerKind::AssumedRole {
        role_arn: "arn:aws:iam::111122223333:role/r".to_owned(),
        session: "s".to_owned(),
    };
    let attached = iam.attached(&kind).unwrap();
    let nothing = iam_policy::Named::nothing("odd");
    let [odd] = &attached.identity[..] else { panic!("one policy") };
    assert_eq!((&odd.name, &odd.policy), (&nothing.name, &nothing.policy));
    // The role is there, and trusts nobody.
    assert_eq!(iam.role("r").unwrap().trust, nothing.policy);
}

#[tokio::test(start_paused = true)]
async fn a_simulation_says_what_the_boundary_says_and_which_keys_are_missing() {
    let iam = iam();
    let document = |action: &str, condition: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"{action}",
            "Resource":"*"{condition}}}}}"#
        )
    };
    let conditional =
        r#","Condition":{"StringEquals":{"aws:ResourceTag/owner":"${aws:username}"}}"#;
    let request = SimulateCustomPolicyRequest {
        policy_input_list: vec![document("ec2:*", ""), document("s3:*", conditional)],
        permissions_boundary_policy_input_list: vec![document("s3:*", "")],
        action_names: vec!["ec2:RunInstances".to_owned()],
        ..SimulateCustomPolicyRequest::default()
    };
    let answer = call::<SimulateCustomPolicy>(&iam, request.clone()).await.unwrap();
    let [result] = &answer.evaluation_results[..] else { panic!("one result") };
    assert_eq!(result.eval_decision, "implicitDeny");
    let boundary = result.permissions_boundary_decision_detail.as_ref().unwrap();
    assert!(!boundary.allowed_by_permissions_boundary);
    assert_eq!(result.missing_context_values, ["aws:resourcetag/owner", "aws:username"]);
    let without =
        SimulateCustomPolicyRequest { permissions_boundary_policy_input_list: vec![], ..request };
    let answer = call::<SimulateCustomPolicy>(&iam, without).await.unwrap();
    assert_eq!(answer.evaluation_results[0].eval_decision, "allowed");
    assert_eq!(answer.evaluation_results[0].permissions_boundary_decision_detail, None);
}
