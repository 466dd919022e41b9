//! Patterns against events: one line each, with EventBridge's own examples among them.

use serde_json::json;

use super::*;

fn event() -> Value {
    json!({
        "source": "aws.ec2",
        "detail-type": "EC2 Instance State-change Notification",
        "resources": ["arn:aws:ec2:us-east-1:1:instance/i-1"],
        "detail": {
            "instance-id": "i-1", "state": "running", "count": 5, "ratio": 0.5, "is-new": true,
            "none": null, "empty": [], "address": "10.0.0.7", "file": "Dir/Report.PNG",
            "cards": [{"suit": "hearts", "value": 3}, {"suit": "clubs", "value": 9}],
        },
    })
}

fn says(pattern: &Value) -> bool {
    Pattern::parse(&pattern.to_string()).unwrap().matches(&event())
}

fn of_detail(field: &str, matcher: Value) -> bool {
    says(&json!({ "detail": { field: [matcher] } }))
}

#[test]
fn listed_values_are_alternatives_and_fields_all_must_match() {
    assert!(says(&json!({ "source": ["aws.s3", "aws.ec2"] })));
    assert!(!says(&json!({ "source": ["aws.s3"] })));
    assert!(says(&json!({ "source": ["aws.ec2"], "detail": { "state": ["running"] } })));
    assert!(!says(&json!({ "source": ["aws.ec2"], "detail": { "state": ["stopped"] } })));
    assert!(!says(&json!({ "missing": ["x"] })));
}

#[test]
fn scalars_match_by_type_and_value() {
    assert!(of_detail("count", json!(5)) && !of_detail("count", json!("5")));
    assert!(of_detail("is-new", json!(true)) && !of_detail("is-new", json!(false)));
    assert!(of_detail("none", Value::Null) && !of_detail("state", Value::Null));
}

#[test]
fn of_a_list_one_element_is_enough() {
    let arn = "arn:aws:ec2:us-east-1:1:instance/i-1";
    assert!(says(&json!({ "resources": [arn] })));
    assert!(says(&json!({ "resources": [{ "prefix": "arn:aws:ec2:" }] })));
    assert!(says(&json!({ "detail": { "cards": { "suit": ["clubs"] } } })));
    assert!(!says(&json!({ "detail": { "cards": { "suit": ["spades"] } } })));
    // Of one card, not of two.
    assert!(!says(&json!({ "detail": { "cards": { "suit": ["clubs"], "value": [3] } } })));
}

#[test]
fn texts_match_by_their_ends_and_in_any_case() {
    assert!(of_detail("state", json!({ "prefix": "run" })));
    assert!(!of_detail("state", json!({ "prefix": "Run" })));
    assert!(of_detail("state", json!({ "prefix": { "equals-ignore-case": "RUN" } })));
    assert!(of_detail("file", json!({ "suffix": ".PNG" })));
    assert!(of_detail("file", json!({ "suffix": { "equals-ignore-case": ".png" } })));
    assert!(of_detail("state", json!({ "equals-ignore-case": "RUNNING" })));
    assert!(of_detail("file", json!({ "wildcard": "Dir/*.PNG" })));
    assert!(of_detail("file", json!({ "wildcard": "*Report*" })));
    assert!(!of_detail("file", json!({ "wildcard": "Report*" })));
    assert!(!of_detail("file", json!({ "wildcard": "Dir\\*" })));
}

#[test]
fn anything_but_is_about_fields_that_are_there() {
    assert!(of_detail("state", json!({ "anything-but": "stopped" })));
    assert!(!of_detail("state", json!({ "anything-but": ["stopped", "running"] })));
    assert!(!of_detail("state", json!({ "anything-but": { "prefix": "run" } })));
    assert!(of_detail("state", json!({ "anything-but": { "prefix": ["st", "sh"] } })));
    assert!(of_detail("count", json!({ "anything-but": [1, 2] })));
    assert!(!of_detail("missing", json!({ "anything-but": "x" })));
}

#[test]
fn numbers_are_compared() {
    assert!(of_detail("count", json!({ "numeric": [">", 4, "<=", 5] })));
    assert!(!of_detail("count", json!({ "numeric": [">", 5] })));
    assert!(of_detail("ratio", json!({ "numeric": ["=", 0.5] })));
    assert!(!of_detail("state", json!({ "numeric": [">", 0] })));
}

#[test]
fn exists_asks_for_a_leaf() {
    assert!(of_detail("state", json!({ "exists": true })));
    assert!(of_detail("missing", json!({ "exists": false })));
    assert!(!of_detail("missing", json!({ "exists": true })));
    assert!(!of_detail("empty", json!({ "exists": true })));
    // A null is a value.
    assert!(of_detail("none", json!({ "exists": true })));
}

#[test]
fn addresses_match_networks() {
    assert!(of_detail("address", json!({ "cidr": "10.0.0.0/24" })));
    assert!(!of_detail("address", json!({ "cidr": "10.0.1.0/24" })));
}

#[test]
fn of_or_one_is_enough() {
    let either = json!({ "detail": { "$or": [{ "state": ["stopped"] }, { "count": [5] }] } });
    assert!(says(&either));
    let neither = json!({ "detail": { "$or": [{ "state": ["stopped"] }, { "count": [6] }] } });
    assert!(!says(&neither));
}

#[test]
fn what_is_no_pattern_is_said() {
    let told = |text: &str| Pattern::parse(text).unwrap_err().to_string();
    assert_eq!(told("[]"), "Filter is not an object");
    assert_eq!(told("{}"), "Empty objects are not allowed");
    assert_eq!(told(r#"{"source":"aws.ec2"}"#), "\"source\" must be an object or an array");
    assert_eq!(told(r#"{"source":[]}"#), "Empty arrays are not allowed");
    assert_eq!(told(r#"{"source":[{"like":"x"}]}"#), "Unrecognized match type like");
    assert_eq!(told(r#"{"a":[{"numeric":["~",1]}]}"#), "Value of numeric is not valid");
    assert_eq!(told(r#"{"a":[{"wildcard":"a**"}]}"#), "Value of wildcard is not valid");
}
