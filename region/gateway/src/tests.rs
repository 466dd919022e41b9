//! Calls through the whole gateway, in each protocol.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_wire::{
    Client, Fault, Operation, StatusCode,
    client::{Config as ClientConfig, Endpoints, Exchange},
    credentials::Credentials,
    sigv4::{Signer, presign},
};
use bytes::Bytes;
use clock::Clock;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use iam_policy::{Kind, Named, Policy};
use jiff::Timestamp;
use lifecycle::Scope;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower::ServiceExt;

use super::*;

mod hostile;
mod unowned;

const ACCOUNT: &str = "111122223333";
const TOKEN: &str = "token/+=";

macro_rules! echo {
    ($name:ident, $service:literal) => {
        #[derive(Debug)]
        enum $name {}

        impl Operation for $name {
            const SERVICE: &'static str = $service;
            const ACTION: &'static str = "DescribeEcho";
            const HTTP: aws_wire::Http = aws_wire::Http { method: "POST", path: "/echo/{Name}" };
            type Request = Echo;
            type Response = Echo;
        }

        impl Handle<$name> for Echoes {
            fn targets(&self, _: &Caller, request: &Echo) -> Vec<Target> {
                vec![Target::resource(format!("arn:aws:x:::{}", request.name))]
            }

            async fn handle(&self, caller: &Caller, request: Echo) -> Result<Echo, Fault> {
                if request.name == "missing" {
                    return Err(Fault::new("NotFound", "no such echo"));
                }
                Ok(Echo { principal: Some(caller.arn.clone()), ..request })
            }
        }
    };
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Echo {
    name: String,
    #[serde(default)]
    sizes: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
}

struct Echoes;

echo!(Ec2Echo, "ec2");
echo!(QueryEcho, "autoscaling");
echo!(JsonEcho, "ssm");
echo!(RestEcho, "eks");
echo!(OlderEcho, "sqs");

/// `root` is the account, `bob` a user who may describe `arn:aws:x:::mine`, `gone` has expired.
struct People;

fn principal(kind: CallerKind, arn: &str) -> Principal {
    let arn = format!("arn:aws:iam::{ACCOUNT}:{arn}");
    let user_id = "AIDABOB".to_owned();
    Principal { account: ACCOUNT.to_owned(), arn, user_id, kind, tags: BTreeMap::new() }
}

impl AccessKeys for People {
    fn access_key(&self, access_key_id: &str) -> Option<AccessKey> {
        let bob = CallerKind::User { name: "bob".to_owned() };
        let (principal, token, expires) = match access_key_id {
            "root" => (principal(CallerKind::Root, "root"), None, None),
            "bob" => (principal(bob, "user/bob"), None, None),
            "gone" => (principal(bob, "user/bob"), Some(TOKEN), Some(Timestamp::MIN)),
            _ => return None,
        };
        Some(AccessKey {
            secret: "secret".to_owned(),
            session_token: token.map(str::to_owned),
            expires,
            principal,
            session_policies: Vec::new(),
            session_context: BTreeMap::new(),
        })
    }
}

impl Identities for People {
    fn attached(&self, kind: &CallerKind) -> Option<Attached> {
        let CallerKind::User { .. } = kind else { return None };
        let text = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": "*:Describe*", "Resource": "arn:aws:x:::mine"
        }});
        let policy = Arc::new(Policy::parse(&text.to_string(), Kind::Identity).unwrap());
        let identity = vec![Named { name: "mine".to_owned(), policy }];
        Some(Attached { identity, boundary: None })
    }

    fn role(&self, _: &str) -> Option<Role> {
        None
    }

    fn managed_policy(&self, _: &str) -> Option<Named> {
        None
    }
}

fn clock() -> Clock {
    Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap())
}

fn config() -> Config {
    Config {
        region: "us-east-1".to_owned(),
        account: ACCOUNT.to_owned(),
        clock: clock(),
        keys: vec![Arc::new(People)],
        identities: Arc::new(People),
        events: Events::in_memory(),
    }
}

fn closed() -> Gateway {
    Gateway::new(config())
}

fn gateway() -> Gateway {
    let gateway = closed();
    let echoes = Arc::new(Echoes);
    let routes = Routes::new()
        .operation::<Ec2Echo, _>(echoes.clone())
        .operation::<QueryEcho, _>(echoes.clone())
        .operation::<JsonEcho, _>(echoes.clone())
        .operation::<OlderEcho, _>(echoes.clone())
        .operation::<RestEcho, _>(echoes);
    assert!(gateway.open(routes));
    gateway
}

fn client(gateway: &Gateway, key: &str, secret: &str, token: Option<&str>) -> Client {
    let service = gateway.service(Side::Host);
    let exchange = Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
        service.clone().oneshot(request.map(Full::new))
    }));
    let credentials =
        Credentials { session_token: token.map(str::to_owned), ..Credentials::new(key, secret) };
    Client::new(ClientConfig {
        region: "us-east-1".to_owned(),
        endpoints: Endpoints::single("http://127.0.0.1:4566"),
        exchange,
        credentials: Some(Arc::new(credentials)),
        clock: clock(),
        attempts: 1,
    })
}

fn echo(name: &str) -> Echo {
    Echo { name: name.to_owned(), sizes: vec![1, 2], principal: None }
}

async fn code<O>(client: &Client, name: &str) -> (String, u16, String)
where
    O: Operation<Request = Echo, Response = Echo>,
{
    match client.call::<O>(echo(name)).await {
        Ok(_) => ("fine".to_owned(), 200, String::new()),
        Err(error) => {
            let fault = error.fault().expect("the service answered").clone();
            (fault.code.into_owned(), fault.status.as_u16(), fault.message)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_protocol_passes_there_and_back() {
    let gateway = gateway();
    let client = client(&gateway, "root", "secret", None);
    let principal = Some(format!("arn:aws:iam::{ACCOUNT}:root"));
    let expected = Echo { principal, ..echo("any") };
    assert_eq!(client.call::<Ec2Echo>(echo("any")).await.unwrap(), expected);
    assert_eq!(client.call::<QueryEcho>(echo("any")).await.unwrap(), expected);
    assert_eq!(client.call::<JsonEcho>(echo("any")).await.unwrap(), expected);
    assert_eq!(client.call::<RestEcho>(echo("any")).await.unwrap(), expected);
    assert_eq!(code::<RestEcho>(&client, "missing").await.0, "NotFound");
    assert_eq!(gateway.events().recent(10).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn ec2_alone_refuses_calls_that_come_too_fast_and_only_where_it_is_told_to() {
    let gateway = gateway();
    let client = client(&gateway, "root", "secret", None);
    for _ in 0..150 {
        client.call::<Ec2Echo>(echo("any")).await.unwrap();
    }
    gateway.limit_rates();
    for _ in 0..100 {
        client.call::<Ec2Echo>(echo("any")).await.unwrap();
    }
    let (code_of, status, _) = code::<Ec2Echo>(&client, "any").await;
    assert_eq!((code_of.as_str(), status), ("RequestLimitExceeded", 503));
    assert_eq!(gateway.events().recent(1)[0].code.as_deref(), Some("RequestLimitExceeded"));
    client.call::<QueryEcho>(echo("any")).await.unwrap();
    gateway.client_as("eks.amazonaws.com").call::<Ec2Echo>(echo("any")).await.unwrap();
    tokio::time::advance(Duration::from_millis(50)).await;
    client.call::<Ec2Echo>(echo("any")).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_too_long_is_refused_in_the_form_of_its_service() {
    let gateway = gateway();
    for (host, header, wanted) in [
        ("ec2.us-east-1.amazonaws.com", ("accept", "*/*"), "<Code>RequestEntityTooLarge</Code>"),
        (
            "ssm.us-east-1.amazonaws.com",
            ("x-amz-target", "AmazonSSM.DescribeEcho"),
            "\"__type\":\"RequestEntityTooLarge\"",
        ),
    ] {
        let request = Request::post("/").header("host", host).header(header.0, header.1);
        let body = Full::new(Bytes::from(vec![b'x'; (8 << 20) + 1]));
        let service = gateway.service(Side::Host);
        let response = service.oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), 413, "{host}");
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains(wanted), "{host}: {text}");
    }
    assert_eq!(gateway.events().recent(10).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn bodies_that_stall_fill_no_memory_and_are_turned_away() {
    let gateway = gateway();
    let send = |gateway: &Gateway| {
        let part = Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'x'; 7 << 20]));
        let part = part.map(hyper::body::Frame::data);
        let stalled =
            futures::StreamExt::chain(futures::stream::iter([part]), futures::stream::pending());
        let request = Request::post("/").header("host", "ec2.us-east-1.amazonaws.com");
        let request = request.body(http_body_util::StreamBody::new(stalled)).unwrap();
        gateway.service(Side::Host).oneshot(request)
    };
    let all = futures::future::join_all((0..6).map(|_| send(&gateway))).await;
    let statuses = all.into_iter().map(|it| it.unwrap().status().as_u16());
    // Four are waited for; there is room for no more of one peer.
    assert_eq!(statuses.collect::<Vec<_>>(), [408, 408, 408, 408, 503, 503]);
    assert_eq!(send(&gateway).await.unwrap().status(), 408, "what ended holds nothing");
}

/// A client that stalls holds nothing for ever.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let gateway = gateway();
    let stalled = http_body_util::StreamBody::new(futures::stream::pending::<
        Result<hyper::body::Frame<Bytes>, std::convert::Infallible>,
    >());
    let request = Request::post("/").header("host", "ec2.us-east-1.amazonaws.com");
    let response =
        gateway.service(Side::Host).oneshot(request.body(stalled).unwrap()).await.unwrap();
    assert_eq!(response.status(), 408);
    assert_eq!(gateway.events().recent(1)[0].code.as_deref(), Some("RequestTimeout"));
}

#[tokio::test(start_paused = true)]
async fn callers_who_are_not_who_they_say_get_the_codes_of_their_protocol() {
    let gateway = gateway();
    for (key, secret, token, ec2, query, json, rest) in [
        (
            "nobody",
            "secret",
            None,
            ("AuthFailure", 401),
            ("InvalidClientTokenId", 403),
            ("UnrecognizedClientException", 400),
            ("UnrecognizedClientException", 403),
        ),
        (
            "root",
            "wrong",
            None,
            ("AuthFailure", 401),
            ("SignatureDoesNotMatch", 403),
            ("InvalidSignatureException", 400),
            ("InvalidSignatureException", 403),
        ),
        (
            "root",
            "secret",
            Some("made up"),
            ("AuthFailure", 401),
            ("InvalidClientTokenId", 403),
            ("UnrecognizedClientException", 400),
            ("UnrecognizedClientException", 403),
        ),
        (
            "gone",
            "secret",
            Some(TOKEN),
            ("RequestExpired", 400),
            ("ExpiredToken", 403),
            ("ExpiredTokenException", 400),
            ("ExpiredTokenException", 403),
        ),
    ] {
        let client = client(&gateway, key, secret, token);
        let pair = |(code, status, _): (String, u16, String)| (code, status);
        let expected = |(code, status): (&str, u16)| (code.to_owned(), status);
        assert_eq!(pair(code::<Ec2Echo>(&client, "x").await), expected(ec2), "{key} {secret}");
        assert_eq!(pair(code::<QueryEcho>(&client, "x").await), expected(query), "{key}");
        assert_eq!(pair(code::<JsonEcho>(&client, "x").await), expected(json), "{key}");
        assert_eq!(pair(code::<RestEcho>(&client, "x").await), expected(rest), "{key}");
    }
    assert!(gateway.events().recent(99).iter().all(|it| it.decision == Outcome::Refused));
}

#[tokio::test(start_paused = true)]
async fn what_no_policy_allows_is_denied_with_the_reason_and_recorded() {
    let gateway = gateway();
    let bob = client(&gateway, "bob", "secret", None);
    assert_eq!(code::<QueryEcho>(&bob, "mine").await.0, "fine");
    let (name, status, message) = code::<QueryEcho>(&bob, "yours").await;
    assert_eq!((name.as_str(), status), ("AccessDenied", 403));
    assert_eq!(
        message,
        "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: \
         autoscaling:DescribeEcho on resource: arn:aws:x:::yours because no identity-based policy \
         allows the autoscaling:DescribeEcho action"
    );
    let (name, status, message) = code::<Ec2Echo>(&bob, "yours").await;
    assert_eq!((name.as_str(), status), ("UnauthorizedOperation", 403));
    assert!(message.starts_with("You are not authorized to perform this operation. User: "));
    assert_eq!(code::<RestEcho>(&bob, "yours").await.0, "AccessDeniedException");

    let events = gateway.events().recent(10);
    let decisions: Vec<Outcome> = events.iter().map(|it| it.decision).collect();
    let denied = Outcome::Denied;
    assert_eq!(decisions, [Outcome::Allowed, denied, denied, denied]);
    assert_eq!(events[0].by.as_deref(), Some("mine 0"));
}

#[tokio::test(start_paused = true)]
async fn a_service_in_this_process_needs_no_policy() {
    let gateway = gateway();
    let eks = gateway.client_as("eks.amazonaws.com");
    let answer = eks.call::<Ec2Echo>(echo("x")).await.unwrap();
    assert_eq!(answer.principal.as_deref(), Some("eks.amazonaws.com"));
}

/// What is let in without a signature must be what runs.
#[tokio::test(start_paused = true)]
async fn an_unsigned_request_cannot_name_a_second_action() {
    let web_identity = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15";
    for (query, body) in [
        (web_identity, "Action=GetCallerIdentity"),
        ("Action=GetCallerIdentity&Version=2011-06-15", web_identity),
        ("", "Action=AssumeRoleWithWebIdentity&Action=AssumeRole&Version=2011-06-15"),
    ] {
        let request = Request::post(format!("http://127.0.0.1:4566/?{query}"));
        let (status, said) = raw(request.body(body).unwrap()).await;
        assert_eq!(status, 403, "{query} {body}: {said}");
        assert!(said.contains("<Code>MissingAuthenticationToken</Code>"), "{said}");
    }
    // Alone it is let in; there is no STS behind this gateway.
    let request = Request::post("http://127.0.0.1:4566/").body(web_identity).unwrap();
    assert!(raw(request).await.1.contains("<Code>InvalidAction</Code>"));
}

async fn raw(request: Request<impl Into<Bytes>>) -> (StatusCode, String) {
    let request = request.map(|it| Full::new(it.into()));
    let response: Response<_> = gateway().service(Side::Host).oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test(start_paused = true)]
async fn unsigned_requests_are_refused_in_the_protocol_that_they_look_like() {
    let form = || Request::post("http://127.0.0.1:4566/");
    let (status, body) = raw(form().body("Action=X&Version=2016-11-15").unwrap()).await;
    assert_eq!(status, 401);
    assert!(body.contains("<Response><Errors><Error><Code>AuthFailure</Code>"), "{body}");
    let (status, body) = raw(form().body("Action=X&Version=2011-06-15").unwrap()).await;
    assert_eq!(status, 403);
    assert!(body.contains("<Code>MissingAuthenticationToken</Code>"), "{body}");
    let json = form().header("x-amz-target", "AmazonSSM.X").body("{}").unwrap();
    let (status, body) = raw(json).await;
    assert_eq!(status, 400);
    assert!(body.contains("MissingAuthenticationTokenException"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn services_that_are_not_here_are_refused_in_a_form_that_their_clients_read() {
    let signed = |service: &str, request: http::request::Builder| {
        let headers = "host;smithy-protocol;x-amz-date;x-amz-target";
        let scope = format!("Credential=AKIA/20261123/us-east-1/{service}/aws4_request");
        let signature = format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders={headers}, Signature=00");
        request.header("authorization", signature).header("x-amz-date", "20261123T120000Z")
    };
    let get = || Request::get("http://127.0.0.1:4566/");
    let (status, body) = raw(signed("s3", get()).body("").unwrap()).await;
    assert_eq!(status, 501);
    assert!(
        body.contains("<Error><Code>NotImplemented</Code><Message>The service 's3' is not"),
        "{body}"
    );
    let (status, body) = raw(signed("route53", get()).body("").unwrap()).await;
    assert!(
        status == 400 && body.contains("<Error><Type>Sender</Type><Code>InvalidAction"),
        "{body}"
    );
    let (status, body) = raw(signed("lambda", get()).body("").unwrap()).await;
    assert!(status == 404 && body.starts_with('{') && body.contains("'lambda'"), "{body}");
    let post = || Request::post("http://127.0.0.1:4566/");
    let target = post().header("x-amz-target", "DynamoDB_20120810.ListTables");
    let (status, body) = raw(signed("dynamodb", target).body("{}").unwrap()).await;
    assert!(status == 400 && body.contains("UnknownOperationException"), "{body}");
    let cbor = post().header("smithy-protocol", "rpc-v2-cbor");
    let (status, body) = raw(signed("monitoring", cbor).body("").unwrap()).await;
    assert!(status == 404 && body.contains("__type"), "{body}");
    // What a client signed for is no way to write markup into the answer.
    let (_, body) = raw(signed("s3<x>", get()).body("").unwrap()).await;
    assert!(!body.contains("<x>"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn unknown_actions_have_the_code_of_their_protocol() {
    macro_rules! unknown {
        ($name:ident, $service:literal) => {
            enum $name {}
            impl Operation for $name {
                const SERVICE: &'static str = $service;
                const ACTION: &'static str = "Frobnicate";
                const HTTP: aws_wire::Http = aws_wire::Http { method: "PUT", path: "/nope" };
                type Request = Echo;
                type Response = Echo;
            }
        };
    }
    unknown!(Ec2Unknown, "ec2");
    unknown!(SsmUnknown, "ssm");
    unknown!(EksUnknown, "eks");
    let gateway = gateway();
    let client = client(&gateway, "root", "secret", None);
    let (name, status, message) = code::<Ec2Unknown>(&client, "x").await;
    assert_eq!((name.as_str(), status), ("InvalidAction", 400));
    let expected =
        "The action Frobnicate is not valid for this web service: this region does not serve it.";
    assert_eq!(message, expected);
    let (name, status, _) = code::<SsmUnknown>(&client, "x").await;
    assert_eq!((name.as_str(), status), ("UnknownOperationException", 400));
    let (name, status, _) = code::<EksUnknown>(&client, "x").await;
    assert_eq!((name.as_str(), status), ("UnknownOperationException", 404));
    assert!(gateway.events().recent(9).iter().all(|it| it.decision == Outcome::Refused));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_requests_never_panic_and_never_reach_a_handler(
        path in "/[!-~&&[^#\"<>`{}\\\\^|]]{0,40}",
        target in "[ -~]{0,20}",
        authorization in "[ -~]{0,60}",
        body in any::<Vec<u8>>(),
    ) {
        let request = Request::post(format!("http://h{path}"))
            .header("x-amz-target", target)
            .header("x-amz-date", "20261123T120000Z")
            .header("authorization", authorization)
            .body(Full::new(Bytes::from(body)));
        if let Ok(request) = request {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let status = runtime.block_on(async {
                gateway().service(Side::Host).oneshot(request).await.unwrap().status()
            });
            prop_assert!(status.is_client_error());
        }
    }
}
