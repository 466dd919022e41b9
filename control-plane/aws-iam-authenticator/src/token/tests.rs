//! What must hold of `token`.

use std::time::Duration;

use aws_wire::{
    credentials::Credentials,
    sigv4::{self, Signer},
};
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn url(endpoint: &str, cluster: Option<&str>) -> String {
    let credentials = Credentials {
        session_token: Some("session/+=".into()),
        ..Credentials::new("ASIAEXAMPLE", "secret")
    };
    let signer =
        Signer { credentials: &credentials, region: "us-east-1", service: "sts", now: NOW };
    let uri = format!("{endpoint}/?Action=GetCallerIdentity&Version=2011-06-15").parse().unwrap();
    let headers: Vec<_> = cluster.into_iter().map(|it| (CLUSTER_HEADER, it)).collect();
    sigv4::presign(&signer, &uri, &headers, Duration::from_secs(60)).unwrap()
}

fn regional() -> String {
    url("https://sts.us-east-1.amazonaws.com", Some("stead"))
}

fn check(url: &str) -> Result<VerifiedUrl, TokenError> {
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(url));
    TokenRules::default().check(&token, NOW)
}

#[test]
fn a_genuine_token_names_its_access_key() {
    assert_eq!(check(&regional()).unwrap().access_key_id, "ASIAEXAMPLE");
}

#[test]
fn only_sts_endpoints_of_the_partition_are_performed() {
    for host in [
        "sts.amazonaws.com",
        "sts.eu-central-1.amazonaws.com",
        "sts-fips.us-east-1.amazonaws.com",
        "sts.us-east-1.api.aws",
    ] {
        assert!(check(&url(&format!("https://{host}"), Some("c"))).is_ok(), "{host}");
    }
    for host in [
        "sts.evil.com",
        "sts.us-east-1.amazonaws.com.evil.com",
        "evil.com",
        "sts.us-east-1.amazonaws.com:8443",
        "user@sts.us-east-1.amazonaws.com",
        "sts.evil.us-east-1.amazonaws.com",
        "sts.cn-north-1.amazonaws.com",
        "sts.us-gov-west-1.amazonaws.com",
        "sts..amazonaws.com",
        "ec2.us-east-1.amazonaws.com",
        "127.0.0.1",
    ] {
        let changed = regional().replace("sts.us-east-1.amazonaws.com", host);
        assert!(matches!(check(&changed), Err(TokenError::Host { .. })), "{host}");
    }
    let plain = regional().replace("https://", "http://");
    assert!(matches!(check(&plain), Err(TokenError::Scheme { .. })));
}

#[test]
fn an_origin_of_the_region_itself_is_known_only_if_it_was_given() {
    let local = url("http://127.0.0.1:4566", Some("stead"));
    assert!(check(&local).is_err());
    let rules =
        TokenRules { origins: vec!["http://127.0.0.1:4566".into()], ..TokenRules::default() };
    let token = |url: &str| format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(url));
    assert!(rules.check(&token(&local), NOW).is_ok());
    let other = local.replace(":4566", ":4567");
    assert!(rules.check(&token(&other), NOW).is_err());
}

#[test]
fn a_url_that_does_anything_else_is_refused() {
    let genuine = regional();
    let cases = [
        (genuine.replace("GetCallerIdentity", "AssumeRole"), "another action"),
        (genuine.replace("Action=GetCallerIdentity&", ""), "no action"),
        (format!("{genuine}&Action=AssumeRole"), "a second action"),
        (format!("{genuine}&action=GetCallerIdentity"), "a second action in another case"),
        (format!("{genuine}&RoleArn=x"), "another parameter"),
        (genuine.replace(".com/?", ".com/path?"), "another path"),
        (genuine.replace("X-Amz-Expires=60", "X-Amz-Expires=901"), "a long life"),
        (genuine.replace("X-Amz-Expires=60", "X-Amz-Expires=-1"), "a negative life"),
        (genuine.replace("X-Amz-Expires=60&", ""), "no life"),
        (genuine.replace("X-Amz-Date=2", "X-Amz-Date=x2"), "no date"),
        (genuine.split("&X-Amz-Signature").next().unwrap().to_owned(), "no signature"),
        (format!("{genuine}#fragment"), "a fragment"),
        (url("https://sts.us-east-1.amazonaws.com", None), "no cluster in the signature"),
    ];
    for (url, what) in cases {
        assert!(check(&url).is_err(), "{what}: {url}");
    }
}

#[test]
fn a_token_dies_a_quarter_of_an_hour_after_its_date() {
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(regional()));
    let rules = TokenRules::default();
    let last = NOW + 15.minutes() - 1.second();
    assert!(rules.check(&token, last).is_ok());
    assert_eq!(rules.check(&token, NOW + 15.minutes()), Err(TokenError::Expired));
}

#[test]
fn a_token_has_a_form_and_a_size() {
    let rules = TokenRules::default();
    let long = format!("{PREFIX}{}", "A".repeat(4096));
    assert_eq!(rules.check(&long, NOW), Err(TokenError::TooLarge));
    assert_eq!(rules.check("k8s-aws-v2.AAAA", NOW), Err(TokenError::Prefix));
    assert_eq!(rules.check("k8s-aws-v1.*", NOW), Err(TokenError::Encoding));
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in ".{0,200}") {
        prop_assert!(TokenRules::default().check(&text, NOW).is_err());
        prop_assert!(check(&text).is_err());
    }
}
