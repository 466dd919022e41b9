//! What holds for all policies.

use proptest::prelude::*;

use super::*;

/// A statement out of few words, so that many of them apply to the same request.
fn statement() -> impl Strategy<Value = Value> {
    let action = prop::sample::select(vec!["*", "ec2:*", "ec2:Run*", "s3:*", "ec2:RunInstances"]);
    let resource = prop::sample::select(vec!["*", "arn:aws:ec2:*", "arn:aws:s3:::*"]);
    let condition = prop::sample::select(vec![
        json!({}),
        json!({"StringEquals": {"k:x": "a"}}),
        json!({"StringNotEquals": {"k:x": "a"}}),
        json!({"ForAllValues:StringLike": {"k:x": ["a*", "b"]}}),
        json!({"Null": {"k:x": "true"}}),
        json!({"StringNotLike": {"k:x": "${k:y}"}}),
    ]);
    let effect = prop::sample::select(vec!["Allow", "Deny"]);
    (effect, action, resource, condition).prop_map(|(effect, action, resource, condition)| {
        json!({"Effect": effect, "Action": action, "Resource": resource, "Condition": condition})
    })
}

fn identity_policies() -> impl Strategy<Value = Vec<Named>> {
    prop::collection::vec(prop::collection::vec(statement(), 1..4), 0..3)
        .prop_map(|all| all.into_iter().map(|it| named(json!(it))).collect())
}

fn resource_policy() -> impl Strategy<Value = Option<Named>> {
    let principal = prop::sample::select(vec![
        json!("*"),
        json!({"AWS": "111122223333"}),
        json!({"AWS": "arn:aws:iam::111122223333:role/r"}),
        json!({"AWS": "arn:aws:sts::111122223333:assumed-role/r/s"}),
        json!({"Service": "ec2.amazonaws.com"}),
    ]);
    prop::option::of((statement(), principal).prop_map(|(mut statement, principal)| {
        statement["Principal"] = principal;
        let text = json!({"Version": "2012-10-17", "Statement": statement}).to_string();
        let policy = Arc::new(Policy::parse(&text, Kind::Resource).unwrap());
        Named { name: "resource".to_owned(), policy }
    }))
}

fn policies() -> impl Strategy<Value = Policies> {
    let boundary = identity_policies().prop_map(|mut it| it.pop());
    let all =
        (identity_policies(), boundary, identity_policies(), resource_policy(), any::<bool>());
    all.prop_map(|(identity, boundary, session, resource, resource_must_allow)| Policies {
        identity,
        boundary,
        session,
        resource,
        resource_must_allow,
    })
}

fn context() -> impl Strategy<Value = Context> {
    prop::option::of(prop::collection::vec("[abc]{1,2}", 0..3)).prop_map(|values| {
        let mut context = Context::new();
        if let Some(values) = values {
            context.set_all("k:x", values);
        }
        context
    })
}

fn somebody() -> impl Strategy<Value = Identity> {
    prop::sample::select(vec![user("bob"), session("r"), root(), service("ec2.amazonaws.com")])
}

fn ask(identity: &Identity, context: &Context, policies: &Policies) -> Decision {
    let resource = "arn:aws:ec2:us-east-1:111122223333:instance/i-1";
    let action = "ec2:RunInstances";
    evaluate(&Request { identity, action, resource, context }, policies)
}

proptest! {
    #[test]
    fn no_policy_makes_an_explicit_denial_lose(
        policies in policies(), identity in somebody(), context in context(), layer in 0..3,
    ) {
        let deny = named(json!({"Sid": "No", "Effect": "Deny", "Action": "ec2:*", "Resource": "*"}));
        let mut policies = policies;
        match layer {
            0 => policies.identity.push(deny),
            1 => policies.session.push(deny),
            _ => policies.boundary = Some(deny),
        }
        let decision = ask(&identity, &context, &policies);
        prop_assert_eq!(decision.verdict, Verdict::ExplicitDeny);
        prop_assert!(decision.deciding.is_some(), "a denial names its statement");
    }

    #[test]
    fn one_more_denial_or_limit_never_gives_a_right(
        policies in policies(), more in policies(), identity in somebody(), context in context(),
    ) {
        let before = ask(&identity, &context, &policies);
        let mut after = policies.clone();
        after.session.extend(more.session);
        // A session without policies is not limited; one with some is.
        if policies.session.is_empty() && !before.is_allowed() {
            let after = ask(&identity, &context, &after);
            prop_assert!(!after.is_allowed());
        }
        let mut bounded = policies.clone();
        if bounded.boundary.is_none() {
            bounded.boundary = more.boundary;
            prop_assert!(before.is_allowed() || !ask(&identity, &context, &bounded).is_allowed());
        }
    }

    #[test]
    fn what_allows_is_named_unless_it_is_the_root(
        policies in policies(), identity in somebody(), context in context(),
    ) {
        let decision = ask(&identity, &context, &policies);
        let is_named = decision.deciding.is_some();
        let is_root = identity.kind == IdentityKind::Root;
        match decision.verdict {
            Verdict::Allowed => prop_assert!(is_named || is_root),
            Verdict::ExplicitDeny => prop_assert!(is_named),
            Verdict::ImplicitDeny => prop_assert!(!is_named),
        }
    }
}
