//! What is a policy and what is not, in IAM's words.

use proptest::prelude::*;

use super::*;

fn error(kind: Kind, statement: Value) -> String {
    let text = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
    match Policy::parse(&text, kind) {
        Ok(_) => "fine".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn identity_policies_are_checked() {
    for (statement, expected) in [
        (json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"}), "fine"),
        (json!({"Action": "s3:*", "Resource": "*"}), "Missing required field Effect"),
        (json!({"Effect": "Allow", "Resource": "*"}), "Policy statement must contain actions."),
        (json!({"Effect": "Allow", "Action": "s3:*"}), "Policy statement must contain resources."),
        (
            json!({"Effect": "Allow", "Action": "GetObject", "Resource": "*"}),
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ),
        (
            json!({"Effect": "Allow", "Action": "s3:*", "Resource": "bucket"}),
            "Resource bucket must be in ARN format or \"*\".",
        ),
        (
            json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Principal": "*"}),
            "Policy document should not specify a principal.",
        ),
        (
            json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Nonsense": 1}),
            "Syntax errors in policy.",
        ),
        (
            json!({"Effect": "Allow", "Action": "s3:*", "NotAction": "s3:x", "Resource": "*"}),
            "Syntax errors in policy.",
        ),
        (
            json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*",
                "Condition": {"StringSortOf": {"a:b": "c"}}}),
            "Invalid Condition type : StringSortOf",
        ),
    ] {
        assert_eq!(error(Kind::Identity, statement.clone()), expected, "{statement}");
    }
}

#[test]
fn trust_policies_are_checked() {
    let ec2 = json!({"Service": "ec2.amazonaws.com"});
    for (statement, expected) in [
        (json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": ec2}), "fine"),
        (
            json!({"Effect": "Allow", "Action": "sts:AssumeRole"}),
            "Missing required field Principal",
        ),
        (
            json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": ec2, "Resource": "*"}),
            "Has prohibited field Resource",
        ),
        (
            json!({"Effect": "Deny", "Action": "sts:AssumeRole", "NotPrincipal": ec2}),
            "Has prohibited field NotPrincipal",
        ),
        (
            json!({"Effect": "Allow", "Action": "s3:*", "Principal": ec2}),
            "AssumeRole policy may only specify STS AssumeRole actions.",
        ),
        (
            json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "bob"}}),
            "Invalid principal in policy: \"AWS\":\"bob\"",
        ),
    ] {
        assert_eq!(error(Kind::Trust, statement.clone()), expected, "{statement}");
    }
}

#[test]
fn whole_documents_are_checked() {
    for (text, expected) in [
        ("{", PolicyError::NotJson),
        ("[]", PolicyError::Syntax),
        ("{\"Version\":\"2012-10-17\"}", PolicyError::Syntax),
        ("{\"Version\":\"2013-01-01\",\"Statement\":[]}", PolicyError::Version),
        ("{\"Version\":\"2012-10-17\",\"Statement\":[]}", PolicyError::Syntax),
    ] {
        assert_eq!(Policy::parse(text, Kind::Identity), Err(expected), "{text}");
    }
    let twice = json!({"Sid": "A", "Effect": "Allow", "Action": "a:b", "Resource": "*"});
    let text = json!({"Version": "2012-10-17", "Statement": [twice, twice]}).to_string();
    assert_eq!(Policy::parse(&text, Kind::Identity), Err(PolicyError::DuplicateSid));
}

#[test]
fn the_old_version_has_no_variables() {
    let text = |version: &str| {
        json!({"Version": version, "Statement": {
            "Effect": "Allow", "Action": "*", "Resource": "arn:${aws:username}"
        }})
        .to_string()
    };
    for (version, expected) in [("2008-10-17", false), ("2012-10-17", true)] {
        let policy = Arc::new(Policy::parse(&text(version), Kind::Identity).unwrap());
        let identity = vec![Named { name: String::new(), policy }];
        let policies = Policies { identity, ..Policies::default() };
        let decision = decide(&user("bob"), &policies, "a:b", "arn:bob");
        assert_eq!(decision.is_allowed(), expected, "{version}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        drop(Policy::parse(&text, Kind::Identity));
        drop(Policy::parse(&text, Kind::Trust));
    }
}
