//! Operators, missing keys, quantifiers, variables.

use proptest::prelude::*;

use super::*;

fn holds(condition: Value, context: &Context) -> bool {
    let statement =
        json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition});
    let policies = Policies { identity: vec![named(statement)], ..Policies::default() };
    let identity = user("bob");
    let request = Request { identity: &identity, action: "a:b", resource: "*", context };
    evaluate(&request, &policies).is_allowed()
}

fn with(key: &str, values: &[&str]) -> Context {
    let mut context = Context::new();
    context.set_all(key, values.iter().map(|it| (*it).to_owned()).collect());
    context
}

#[test]
fn each_operator_compares_in_its_own_way() {
    for (operator, wanted, value, expected) in [
        ("StringEquals", json!("a"), "a", true),
        ("StringEquals", json!("a*"), "ab", false),
        ("StringEquals", json!(["x", "a"]), "a", true),
        ("StringNotEquals", json!(["x", "a"]), "a", false),
        ("StringNotEquals", json!("x"), "a", true),
        ("StringEqualsIgnoreCase", json!("ABC"), "abc", true),
        ("StringNotEqualsIgnoreCase", json!("ABC"), "abc", false),
        ("StringLike", json!("a*c"), "abc", true),
        ("StringNotLike", json!("a*c"), "abc", false),
        ("NumericEquals", json!(10), "10.0", true),
        ("NumericNotEquals", json!("10"), "11", true),
        ("NumericLessThan", json!("10"), "9", true),
        ("NumericLessThan", json!("10"), "10", false),
        ("NumericLessThanEquals", json!("10"), "10", true),
        ("NumericGreaterThan", json!("10"), "10", false),
        ("NumericGreaterThanEquals", json!("10"), "10", true),
        ("NumericEquals", json!("ten"), "ten", false),
        ("DateLessThan", json!("2026-11-24T00:00:00Z"), "2026-11-23T12:00:00Z", true),
        ("DateGreaterThan", json!("2026-11-24T00:00:00Z"), "2026-11-23T12:00:00Z", false),
        ("DateEquals", json!("0"), "1970-01-01T00:00:00Z", true),
        ("DateGreaterThanEquals", json!("2026-11-23"), "2026-11-23T00:00:00Z", true),
        ("Bool", json!(true), "true", true),
        ("Bool", json!("false"), "true", false),
        ("BinaryEquals", json!("aGk="), "aGk=", true),
        ("IpAddress", json!("192.168.0.0/16"), "192.168.3.4", true),
        ("IpAddress", json!("192.168.0.1"), "192.168.0.1", true),
        ("IpAddress", json!("2001:db8::/32"), "2001:db8::1", true),
        ("NotIpAddress", json!("192.168.0.0/16"), "192.168.3.4", false),
        ("NotIpAddress", json!("192.168.0.0/16"), "10.0.0.1", true),
        ("ArnLike", json!("arn:aws:iam::*:role/*"), "arn:aws:iam::1:role/x", true),
        ("ArnEquals", json!("arn:aws:iam::*:role/*"), "arn:aws:iam::1:role/x", true),
        ("ArnNotLike", json!("arn:aws:iam::*:role/*"), "arn:aws:iam::1:role/x", false),
        ("ArnLike", json!("arn:aws:*:role/x"), "arn:aws:iam::1:role/x", false),
    ] {
        let condition = json!({operator: {"k:x": wanted}});
        let context = with("k:x", &[value]);
        assert_eq!(holds(condition, &context), expected, "{operator} {wanted} {value}");
    }
}

#[test]
fn a_missing_key_fails_positive_and_passes_negated_operators() {
    let empty = Context::new();
    for (operator, expected) in [
        ("StringEquals", false),
        ("StringNotEquals", true),
        ("StringEqualsIfExists", true),
        ("StringNotEqualsIfExists", true),
        ("IpAddress", false),
        ("NotIpAddress", true),
        ("ForAnyValue:StringEquals", false),
        ("ForAllValues:StringEquals", true),
        ("ForAllValues:StringNotEquals", true),
        ("Bool", false),
        ("BoolIfExists", true),
    ] {
        assert_eq!(holds(json!({operator: {"k:x": "a"}}), &empty), expected, "{operator}");
    }
}

#[test]
fn quantifiers_count_the_values_of_the_request() {
    for (operator, values, expected) in [
        ("ForAllValues:StringEquals", &["a", "b"][..], true),
        ("ForAllValues:StringEquals", &["a", "z"], false),
        ("ForAnyValue:StringEquals", &["a", "z"], true),
        ("ForAnyValue:StringEquals", &["y", "z"], false),
        ("ForAllValues:StringNotEquals", &["y", "z"], true),
        ("ForAllValues:StringNotEquals", &["a", "z"], false),
        ("ForAnyValue:StringNotEquals", &["a", "z"], true),
        ("ForAnyValue:StringNotEquals", &["a", "b"], false),
        ("StringEquals", &["z", "b"], true),
        ("StringNotEquals", &["z", "b"], false),
    ] {
        let condition = json!({operator: {"k:x": ["a", "b"]}});
        assert_eq!(holds(condition, &with("k:x", values)), expected, "{operator} {values:?}");
    }
}

#[test]
fn null_asks_for_presence() {
    let present = with("k:x", &["a"]);
    for (wanted, context, expected) in [
        ("true", &Context::new(), true),
        ("false", &Context::new(), false),
        ("true", &present, false),
        ("false", &present, true),
    ] {
        assert_eq!(holds(json!({"Null": {"k:x": wanted}}), context), expected, "{wanted}");
    }
}

#[test]
fn all_operators_and_keys_must_hold() {
    let mut context = with("k:x", &["a"]);
    context.set("k:y", "b");
    let both = json!({"StringEquals": {"k:x": "a", "k:y": "b"}, "StringLike": {"k:y": "b*"}});
    let one_fails = json!({"StringEquals": {"k:x": "a", "k:y": "c"}});
    let other_fails = json!({"StringEquals": {"k:x": "a"}, "StringLike": {"k:y": "c*"}});
    assert!(holds(both, &context));
    assert!(!holds(one_fails, &context));
    assert!(!holds(other_fails, &context));
    assert!(holds(json!({}), &context));
}

#[test]
fn key_names_are_case_insensitive_and_values_are_not() {
    let context = with("aws:RequestTag/Team", &["Red"]);
    assert!(holds(json!({"StringEquals": {"AWS:requesttag/team": "Red"}}), &context));
    assert!(!holds(json!({"StringEquals": {"aws:RequestTag/Team": "red"}}), &context));
}

#[test]
fn an_unknown_variable_grants_nothing_even_when_negated() {
    let context = with("k:x", &["a"]);
    for operator in ["StringEquals", "StringNotEquals", "StringNotLike", "ArnNotLike"] {
        assert!(!holds(json!({operator: {"k:x": "${k:nope}"}}), &context), "{operator}");
    }
    assert!(holds(json!({"StringEquals": {"k:x": "${k:nope, 'a'}"}}), &context));
}

#[test]
fn an_unknown_variable_lifts_no_denial() {
    let is_allowed = |deny: Value| {
        let policies = Policies { identity: vec![allow_all(), named(deny)], ..Policies::default() };
        let (identity, context) = (session("node"), with("s3:prefix", &["ann/"]));
        let (action, resource) = ("s3:ListBucket", "arn:aws:s3:::home/ann");
        let request = Request { identity: &identity, action, resource, context: &context };
        evaluate(&request, &policies).is_allowed()
    };
    for operator in ["StringNotEquals", "StringNotLike"] {
        let condition = json!({operator: {"s3:prefix": "${aws:username}"}});
        let mut deny = json!({"Effect": "Deny", "Action": "*", "Resource": "*"});
        deny["Condition"] = condition;
        assert!(!is_allowed(deny), "{operator}");
    }
    let spared = "arn:aws:s3:::home/${aws:username}";
    assert!(!is_allowed(json!({"Effect": "Deny", "Action": "*", "NotResource": spared})));
    // What is not negated names nothing.
    assert!(is_allowed(json!({"Effect": "Deny", "Action": "*", "Resource": spared})));
}

#[test]
fn variables_work_in_conditions() {
    let mut context = with("aws:ResourceTag/owner", &["Bob"]);
    context.set("aws:username", "bob");
    let condition =
        |operator: &str| json!({operator: {"aws:ResourceTag/owner": "${aws:username}"}});
    assert!(!holds(condition("StringEquals"), &context));
    assert!(holds(condition("StringEqualsIgnoreCase"), &context));
}

proptest! {
    #[test]
    fn arbitrary_conditions_never_panic(
        operator in "(ForAllValues:|ForAnyValue:)?(String|Numeric|Date|Arn|Ip)[A-Za-z]{0,12}",
        wanted in "\\PC{0,20}",
        value in "\\PC{0,20}",
    ) {
        let text = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": "*", "Resource": "*",
            "Condition": {operator: {"k:x": wanted}},
        }});
        if let Ok(policy) = Policy::parse(&text.to_string(), Kind::Identity) {
            let named = Named { name: String::new(), policy: Arc::new(policy) };
            let policies = Policies { identity: vec![named], ..Policies::default() };
            let (identity, context) = (user("bob"), with("k:x", &[&value]));
            let request =
                Request { identity: &identity, action: "a:b", resource: "*", context: &context };
            evaluate(&request, &policies);
        }
    }
}
