//! The order of layers, and what each may do.

use super::*;

#[test]
fn actions_are_case_insensitive_globs() {
    for (pattern, action, expected) in [
        ("ec2:DescribeInstances", "ec2:describeinstances", true),
        ("EC2:Describe*", "ec2:DescribeVpcs", true),
        ("ec2:*", "ecr:GetAuthorizationToken", false),
        ("*", "iam:CreateUser", true),
        ("ec2:?escribeVpcs", "ec2:DescribeVpcs", true),
        ("ec2:Describe", "ec2:DescribeVpcs", false),
    ] {
        let statement = json!({"Effect": "Allow", "Action": pattern, "Resource": "*"});
        assert_eq!(allows(statement, action, "*"), expected, "{pattern} {action}");
    }
}

#[test]
fn resources_are_case_sensitive_globs_with_variables() {
    let bucket = "arn:aws:s3:::home/bob/file";
    for (pattern, expected) in [
        ("arn:aws:s3:::home/*", true),
        ("arn:aws:s3:::Home/*", false),
        ("arn:aws:s3:::home/${aws:username}/*", true),
        ("arn:aws:s3:::home/${aws:userid}/*", false),
        ("arn:aws:s3:::home", false),
    ] {
        let statement = json!({"Effect": "Allow", "Action": "s3:*", "Resource": pattern});
        assert_eq!(allows(statement, "s3:GetObject", bucket), expected, "{pattern}");
    }
}

#[test]
fn not_action_and_not_resource_mean_everything_else() {
    let all_but_iam = json!({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"});
    assert!(allows(all_but_iam.clone(), "ec2:RunInstances", "*"));
    assert!(!allows(all_but_iam, "iam:CreateUser", "*"));
    let elsewhere =
        json!({"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::secret*"});
    assert!(allows(elsewhere.clone(), "s3:GetObject", "arn:aws:s3:::public"));
    assert!(!allows(elsewhere, "s3:GetObject", "arn:aws:s3:::secret/x"));
}

#[test]
fn a_deny_anywhere_wins_and_is_named() {
    let deny = named(json!({"Sid": "No", "Effect": "Deny", "Action": "ec2:*", "Resource": "*"}));
    for (layer, policies) in [
        (
            Layer::Identity,
            Policies { identity: vec![allow_all(), deny.clone()], ..Policies::default() },
        ),
        (
            Layer::Boundary,
            Policies {
                identity: vec![allow_all()],
                boundary: Some(deny.clone()),
                ..Policies::default()
            },
        ),
        (
            Layer::Session,
            Policies {
                identity: vec![allow_all()],
                session: vec![allow_all(), deny.clone()],
                ..Policies::default()
            },
        ),
    ] {
        let decision = decide(&user("bob"), &policies, "ec2:RunInstances", "*");
        assert_eq!((decision.verdict, decision.layer), (Verdict::ExplicitDeny, layer));
        assert_eq!(decision.deciding.unwrap().sid.as_deref(), Some("No"));
    }
}

#[test]
fn boundary_and_session_policies_only_limit() {
    let ec2 = || named(json!({"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}));
    let with = |boundary, session| Policies {
        identity: vec![named(
            json!({"Effect": "Allow", "Action": ["ec2:*", "s3:*"], "Resource": "*"}),
        )],
        boundary,
        session,
        ..Policies::default()
    };
    let cases = [
        (with(None, vec![]), "s3:GetObject", None),
        (with(Some(ec2()), vec![]), "ec2:RunInstances", None),
        (with(Some(ec2()), vec![]), "s3:GetObject", Some(Layer::Boundary)),
        (with(None, vec![ec2()]), "s3:GetObject", Some(Layer::Session)),
        (with(Some(allow_all()), vec![allow_all()]), "iam:CreateUser", Some(Layer::Identity)),
    ];
    for (policies, action, denied_by) in cases {
        let decision = decide(&user("bob"), &policies, action, "*");
        let denying = (!decision.is_allowed()).then_some(decision.layer);
        assert_eq!(denying, denied_by, "{action}");
    }
}

#[test]
fn root_may_do_everything_without_a_policy() {
    assert!(decide(&root(), &Policies::default(), "iam:DeleteUser", "*").is_allowed());
    assert!(!decide(&user("bob"), &Policies::default(), "iam:DeleteUser", "*").is_allowed());
}

fn assume(identity: &Identity, identity_policies: Vec<Named>, principal: Value) -> bool {
    let policies = Policies {
        identity: identity_policies,
        resource: Some(trust(json!({
            "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal
        }))),
        resource_must_allow: true,
        ..Policies::default()
    };
    decide(identity, &policies, "sts:AssumeRole", "arn:aws:iam::111122223333:role/x").is_allowed()
}

#[test]
fn a_trust_policy_that_names_the_principal_is_enough() {
    let bob = "arn:aws:iam::111122223333:user/bob";
    assert!(assume(&user("bob"), vec![], json!({"AWS": bob})));
    assert!(assume(&user("bob"), vec![], json!({"AWS": "AIDAbob"})));
    assert!(!assume(&user("eve"), vec![allow_all()], json!({"AWS": bob})));
    assert!(assume(&session("r"), vec![], json!({"AWS": "arn:aws:iam::111122223333:role/r"})));
    assert!(assume(&service("ec2.amazonaws.com"), vec![], json!({"Service": "ec2.amazonaws.com"})));
    assert!(!assume(
        &service("ec2.amazonaws.com"),
        vec![],
        json!({"Service": "eks.amazonaws.com"})
    ));
}

#[test]
fn a_trust_policy_that_names_the_account_leaves_it_to_identity_policies() {
    for principal in ["111122223333", "arn:aws:iam::111122223333:root"] {
        assert!(!assume(&user("bob"), vec![], json!({"AWS": principal})));
        assert!(assume(&user("bob"), vec![allow_all()], json!({"AWS": principal})));
    }
    let other = json!({"AWS": "444455556666"});
    assert!(!assume(&user("bob"), vec![allow_all()], other.clone()));
    assert!(!assume(&root(), vec![], other));
    assert!(assume(&root(), vec![], json!({"AWS": "111122223333"})));
}

#[test]
fn a_grant_to_a_role_is_limited_by_its_session_policy_and_one_to_a_session_is_not() {
    let policies = |principal: &str| Policies {
        session: vec![named(json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"}))],
        resource: Some(trust(json!({
            "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": principal}
        }))),
        ..Policies::default()
    };
    let test =
        |principal| decide(&session("r"), &policies(principal), "sts:AssumeRole", "*").is_allowed();
    assert!(!test("arn:aws:iam::111122223333:role/r"));
    assert!(test("arn:aws:sts::111122223333:assumed-role/r/s"));
}

/// "Permissions boundaries and session policies do not limit permissions granted using the
/// aws:PrincipalArn condition key with a wildcard(*) in the Principal element": IAM user guide, "How
/// AWS enforcement code logic evaluates requests". A grant to the role itself they do limit.
#[test]
fn a_grant_to_everybody_is_to_the_session_itself_and_no_boundary_limits_it() {
    let policies = |principal: Value| Policies {
        boundary: Some(named(json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"}))),
        resource: Some(trust(json!({
            "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal
        }))),
        ..Policies::default()
    };
    let test = |who: &Identity, policies: Policies, action: &str| {
        decide(who, &policies, action, "*").is_allowed()
    };
    for who in [session("r"), user("bob")] {
        assert!(test(&who, policies(json!("*")), "sts:AssumeRole"));
        assert!(test(&who, policies(json!({"AWS": "*"})), "sts:AssumeRole"));
    }
    let role = json!({"AWS": "arn:aws:iam::111122223333:role/r"});
    assert!(!test(&session("r"), policies(role), "sts:AssumeRole"));
    // A denial counts wherever it stands.
    let mut denying = policies(json!("*"));
    denying.boundary = Some(named(json!({"Effect": "Deny", "Action": "sts:*", "Resource": "*"})));
    assert!(!test(&session("r"), denying, "sts:AssumeRole"));
}

#[test]
fn reasons_are_worded_as_aws_words_them() {
    let decision = decide(&user("bob"), &Policies::default(), "ec2:CreateVpc", "*");
    assert_eq!(
        decision.reason("ec2:CreateVpc"),
        "because no identity-based policy allows the ec2:CreateVpc action"
    );
    let deny = named(json!({"Effect": "Deny", "Action": "*", "Resource": "*"}));
    let policies = Policies { identity: vec![deny], ..Policies::default() };
    let decision = decide(&user("bob"), &policies, "ec2:CreateVpc", "*");
    assert_eq!(
        decision.reason("ec2:CreateVpc"),
        "with an explicit deny in an identity-based policy"
    );
}

#[test]
fn nobody_may_assume_a_role_that_trusts_everybody() {
    let nobody = Identity { account: ACCOUNT.to_owned(), kind: IdentityKind::Anonymous };
    assert!(assume(&session("node"), vec![], json!("*")));
    assert!(!assume(&nobody, vec![], json!("*")));
    assert!(!assume(&nobody, vec![allow_all()], json!({"AWS": "*"})));
}
