//! Vectors with AWS's example credentials, tampering, and time.

use std::time::Duration;

use http::{Request, Uri, request::Parts};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::credentials::Credentials;

const BODY: &[u8] = b"Action=GetCallerIdentity&Version=2011-06-15";

fn credentials() -> Credentials {
    Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
}

fn now() -> Timestamp {
    "2015-08-30T12:36:00Z".parse().unwrap()
}

fn signer(credentials: &Credentials) -> Signer<'_> {
    Signer { credentials, region: "us-east-1", service: "service", now: now() }
}

fn request(method: &str, uri: &str) -> Parts {
    let builder =
        Request::builder().method(method).uri(uri).header("host", "example.amazonaws.com");
    builder.body(()).unwrap().into_parts().0
}

fn signed() -> Parts {
    let mut parts = request("POST", "/?b=2&a=1");
    parts.headers.insert("x-amz-target", "T.Do".parse().unwrap());
    signer(&credentials()).sign(&mut parts, BODY);
    parts
}

fn check(parts: &Parts, body: &[u8], at: Timestamp) -> Result<(), Problem> {
    let presented = Presented::read(parts)?.expect("the request is signed");
    presented.verify(parts, body, &credentials().secret_access_key, at)
}

fn signature(parts: &Parts) -> String {
    let value = parts.headers["authorization"].to_str().unwrap();
    value.rsplit("Signature=").next().unwrap().to_owned()
}

/// The published suite's `get-vanilla` and `get-vanilla-query-order-key-case`.
#[test]
fn published_vectors_hold() {
    for (uri, expected) in [
        ("/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "/?Param2=value2&Param1=value1",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
    ] {
        let mut parts = request("GET", uri);
        signer(&credentials()).sign(&mut parts, b"");
        assert_eq!(signature(&parts), expected, "{uri}");
    }
}

#[test]
fn what_was_signed_is_verified() {
    assert_eq!(check(&signed(), BODY, now()), Ok(()));
}

#[test]
fn every_covered_part_is_protected() {
    type Change = fn(&mut Parts);
    let cases: [(&str, Change); 7] = [
        ("method", |it| it.method = http::Method::PUT),
        ("path", |it| it.uri = Uri::from_static("/x?b=2&a=1")),
        ("query", |it| it.uri = Uri::from_static("/?b=2&a=2")),
        ("added query", |it| it.uri = Uri::from_static("/?b=2&a=1&c=3")),
        ("host", |it| drop(it.headers.insert("host", "evil.example".parse().unwrap()))),
        ("target", |it| drop(it.headers.insert("x-amz-target", "T.Other".parse().unwrap()))),
        ("date", |it| drop(it.headers.insert("x-amz-date", "20150830T123601Z".parse().unwrap()))),
    ];
    for (name, change) in cases {
        let mut parts = signed();
        change(&mut parts);
        assert_eq!(check(&parts, BODY, now()), Err(Problem::Mismatch), "{name}");
    }
    assert_eq!(check(&signed(), b"Action=Other", now()), Err(Problem::Mismatch));
}

#[test]
fn the_order_of_the_query_does_not_matter() {
    let mut parts = signed();
    parts.uri = Uri::from_static("/?a=1&b=2");
    assert_eq!(check(&parts, BODY, now()), Ok(()));
}

#[test]
fn a_decisive_header_that_is_not_covered_is_refused() {
    let mut parts = signed();
    parts.headers.insert("x-amz-security-token", "smuggled".parse().unwrap());
    assert!(matches!(check(&parts, BODY, now()), Err(Problem::Incomplete(_))));
}

#[test]
fn a_request_is_good_for_fifteen_minutes_either_way() {
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let second = Duration::from_secs(1);
    assert_eq!(check(&signed(), BODY, now() + minutes(15)), Ok(()));
    assert_eq!(check(&signed(), BODY, now() - minutes(15)), Ok(()));
    for at in [now() + minutes(15) + second, now() - minutes(15) - second] {
        assert!(matches!(check(&signed(), BODY, at), Err(Problem::Expired(_))), "{at}");
    }
}

#[test]
fn a_body_may_be_left_out_of_the_signature_only_when_the_signature_says_so() {
    let mut parts = request("POST", "/");
    parts.headers.insert("x-amz-content-sha256", "UNSIGNED-PAYLOAD".parse().unwrap());
    signer(&credentials()).sign(&mut parts, BODY);
    // Signing hashed the body, so the declaration does not fit the signature.
    assert_eq!(check(&parts, BODY, now()), Err(Problem::Mismatch));
}

fn presigned(service: &str, token: Option<&str>) -> Parts {
    let mut credentials = credentials();
    credentials.session_token = token.map(str::to_owned);
    let signer = Signer { service, ..signer(&credentials) };
    let url = Uri::from_static(
        "https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15",
    );
    let headers = [("x-k8s-aws-id", "stead")];
    let url = presign(&signer, &url, &headers, Duration::from_secs(60)).unwrap();
    let uri: Uri = url.parse().unwrap();
    let path = uri.path_and_query().unwrap().as_str().parse::<Uri>().unwrap();
    let builder = Request::builder().uri(path);
    let builder = builder.header("host", "sts.us-east-1.amazonaws.com");
    builder.header("x-k8s-aws-id", "stead").body(()).unwrap().into_parts().0
}

#[test]
fn a_presigned_url_is_verified_with_the_headers_that_it_names() {
    let mut parts = presigned("sts", Some("token/+="));
    let presented = Presented::read(&parts).unwrap().unwrap();
    assert!(presented.signs("x-k8s-aws-id"));
    assert_eq!(presented.session_token.as_deref(), Some("token/+="));
    assert_eq!(check(&parts, b"", now()), Ok(()));
    parts.headers.insert("x-k8s-aws-id", "other".parse().unwrap());
    assert_eq!(check(&parts, b"", now()), Err(Problem::Mismatch));
}

#[test]
fn only_sts_ignores_the_expiry_of_a_presigned_url() {
    let later = now() + Duration::from_secs(61);
    assert_eq!(check(&presigned("sts", None), b"", later), Ok(()));
    let expired = check(&presigned("ec2", None), b"", later);
    assert!(matches!(expired, Err(Problem::Expired(_))));
}

#[test]
fn malformed_claims_are_incomplete() {
    for header in [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=, SignedHeaders=host, Signature=x",
        "AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws4_request, SignedHeaders=x, Signature=x",
        "AWS4-HMAC-SHA256 Credential=A/20150831/r/s/aws4_request, SignedHeaders=host, Signature=x",
        "AWS4-HMAC-SHA256 Credential=A/20150830/s/aws4_request, SignedHeaders=host, Signature=x",
        "Bearer abc",
    ] {
        let mut parts = request("GET", "/");
        parts.headers.insert("x-amz-date", "20150830T123600Z".parse().unwrap());
        parts.headers.insert("authorization", header.parse().unwrap());
        let read = Presented::read(&parts);
        assert!(matches!(read, Err(Problem::Incomplete(_))), "{header}: {read:?}");
    }
    assert_eq!(Presented::read(&request("GET", "/?a=1")), Ok(None));
}

proptest! {
    #[test]
    fn arbitrary_claims_never_panic_and_never_pass(
        header in "(AWS4-HMAC-SHA256 )?(Credential=[ -~]{0,40}, ?)?(SignedHeaders=[ -~]{0,20},)?(Signature=)?[ -~]{0,40}",
        date in "([0-9]{8}T[0-9]{6}Z|[ -~]{0,20})",
        query in "[!-~&&[^#\"<>`{}\\\\^|]]{0,80}",
        body in any::<Vec<u8>>(),
    ) {
        let uri = format!("/?{query}");
        prop_assume!(uri.parse::<Uri>().is_ok());
        let mut parts = request("POST", &uri);
        parts.headers.insert("x-amz-date", date.parse().unwrap());
        parts.headers.insert("authorization", header.parse().unwrap());
        if let Ok(Some(presented)) = Presented::read(&parts) {
            prop_assert!(presented.verify(&parts, &body, "secret", now()).is_err());
        }
        parts.headers.remove("authorization");
        if let Ok(Some(presented)) = Presented::read(&parts) {
            prop_assert!(presented.verify(&parts, &body, "secret", now()).is_err());
        }
    }
}
