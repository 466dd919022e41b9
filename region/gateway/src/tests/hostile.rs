//! Clients that leave, stall, or add to what was signed.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::bodies::Bodies;

/// Answers a second later, and counts what it has begun and ended.
#[derive(Default)]
struct Slow {
    begun: AtomicUsize,
    ended: AtomicUsize,
    waits: bool,
}

impl Handle<Ec2Echo> for Slow {
    fn waits(&self) -> bool {
        self.waits
    }

    async fn handle(&self, _: &Caller, request: Echo) -> Result<Echo, Fault> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.ended.fetch_add(1, Ordering::Relaxed);
        Ok(request)
    }
}

/// How many calls of three a slow handler ends, whose client leaves at once, and what is recorded.
async fn left(waits: bool, scope: Option<&Scope>) -> (usize, Vec<u16>) {
    let slow = Arc::new(Slow { waits, ..Slow::default() });
    let gateway = closed();
    assert!(gateway.open(Routes::new().operation::<Ec2Echo, _>(slow.clone())));
    scope.into_iter().for_each(|it| gateway.finish_calls_in(it.clone()));
    for _ in 0..3 {
        let client = client(&gateway, "root", "secret", None);
        let call = client.call::<Ec2Echo>(echo("any"));
        let left = tokio::time::timeout(Duration::from_millis(10), call).await;
        assert!(left.is_err());
    }
    assert_eq!(slow.begun.load(Ordering::Relaxed), 3);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let statuses = gateway.events().recent(9).iter().map(|it| it.status).collect();
    (slow.ended.load(Ordering::Relaxed), statuses)
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_client_leaves_goes_on_to_its_end_and_is_recorded() {
    let scope = Scope::new();
    assert_eq!(left(false, Some(&scope)).await, (3, vec![200; 3]));
    // One that waits for something to come ends with who asked, and is recorded all the same.
    assert_eq!(left(true, Some(&scope)).await, (0, vec![499; 3]));
    assert_eq!(left(false, None).await, (0, vec![499; 3]));
}

/// Answers a second later, and holds so much of a peer's.
fn slow(most: usize) -> Gateway {
    let gateway = Gateway::with_bodies(config(), Bodies::with(2 * most, most));
    assert!(gateway.open(Routes::new().operation::<Ec2Echo, _>(Arc::new(Slow::default()))));
    gateway.finish_calls_in(Scope::new());
    gateway
}

#[tokio::test(start_paused = true)]
async fn what_a_client_left_behind_counts_as_its_own_until_it_ends() {
    let gateway = slow(200 << 10);
    let leave = async || {
        let client = client(&gateway, "root", "secret", None);
        let call = client.call::<Ec2Echo>(echo(&"x".repeat(40 << 10)));
        tokio::time::timeout(Duration::from_millis(10), call).await
    };
    for _ in 0..4 {
        assert!(leave().await.is_err(), "it would be answered a second later");
    }
    assert!(gateway.bodies().held() > 160 << 10);
    // There is no room for a fifth of the same peer.
    let refused = leave().await.expect("it is answered at once").unwrap_err();
    assert_eq!(refused.fault().unwrap().code, "RequestLimitExceeded");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(gateway.bodies().held(), 0);
    assert!(leave().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn one_peer_has_so_many_calls_at_once_however_small() {
    let gateway = slow(200 << 10);
    let client = client(&gateway, "root", "secret", None);
    let calls = (0..60).map(|_| client.call::<Ec2Echo>(echo("small")));
    let answers = futures::future::join_all(calls).await;
    // Four KiB each, and its body.
    let done = answers.iter().filter(|it| it.is_ok()).count();
    assert!((45..50).contains(&done), "{done}");
    assert_eq!(gateway.bodies().held(), 0);
}

/// Fails at once, or after it has waited for something.
struct Broken {
    waits: bool,
}

macro_rules! broken {
    ($($operation:ty),*) => {$(
        impl Handle<$operation> for Broken {
            fn targets(&self, _: &Caller, request: &Echo) -> Vec<Target> {
                assert!(request.name != "targets", "nobody foresaw this");
                Vec::new()
            }

            async fn handle(&self, _: &Caller, _: Echo) -> Result<Echo, Fault> {
                if self.waits {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                panic!("nobody foresaw this");
            }
        }
    )*};
}
broken!(Ec2Echo, QueryEcho, JsonEcho, RestEcho);

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_is_an_internal_failure_and_recorded_as_one() {
    for waits in [false, true] {
        let gateway = closed();
        let broken = Arc::new(Broken { waits });
        let routes = Routes::new()
            .operation::<Ec2Echo, _>(broken.clone())
            .operation::<QueryEcho, _>(broken.clone())
            .operation::<JsonEcho, _>(broken.clone())
            .operation::<RestEcho, _>(broken);
        assert!(gateway.open(routes));
        gateway.finish_calls_in(Scope::new());
        let client = client(&gateway, "root", "secret", None);
        for name in ["any", "targets"] {
            let told = [
                code::<Ec2Echo>(&client, name).await,
                code::<QueryEcho>(&client, name).await,
                code::<JsonEcho>(&client, name).await,
                code::<RestEcho>(&client, name).await,
            ];
            let codes = told.map(|(code, status, _)| (code, status));
            let [ec2, others @ ..] = codes;
            assert_eq!(ec2, ("InternalError".to_owned(), 500));
            assert!(others.iter().all(|it| *it == ("InternalFailure".to_owned(), 500)));
        }
        let statuses: Vec<_> = gateway.events().recent(9).iter().map(|it| it.status).collect();
        assert_eq!(statuses, [500; 8]);
    }
}

/// Sends a byte every so often.
async fn trickled(seconds: u64) -> StatusCode {
    let bytes = futures::stream::unfold((), move |()| async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let frame = hyper::body::Frame::data(Bytes::from_static(b"x"));
        Some((Ok::<_, std::convert::Infallible>(frame), ()))
    });
    let body = http_body_util::StreamBody::new(Box::pin(bytes));
    let request = Request::post("/").header("host", "ec2.us-east-1.amazonaws.com");
    let response = gateway().service(Side::Host).oneshot(request.body(body).unwrap()).await;
    response.unwrap().status()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_pauses_is_turned_away_long_before_one_that_comes_slowly() {
    let began = tokio::time::Instant::now();
    assert_eq!(trickled(11).await, 408);
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(trickled(9).await, 408);
    assert_eq!(began.elapsed().as_secs(), 70);
}

/// Whoever holds a presigned URL can send it with headers of their own.
#[tokio::test(start_paused = true)]
async fn a_presigned_url_does_what_was_signed_and_nothing_that_is_added() {
    let credentials = Credentials::new("root", "secret");
    let presign = |service: &str| {
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let signer = Signer { credentials: &credentials, region: "us-east-1", service, now };
        let url = format!(
            "https://{service}.us-east-1.amazonaws.com/?Action=DescribeEcho&Name=x&Version=2016-11-15"
        );
        presign(&signer, &url.parse().unwrap(), &[], Duration::from_secs(60)).unwrap()
    };
    let send = |service: &str, headers: &[(&str, &str)]| {
        let uri: http::Uri = presign(service).parse().unwrap();
        let mut request = Request::get(uri.path_and_query().unwrap().as_str())
            .header("host", format!("{service}.us-east-1.amazonaws.com"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        raw(request.body("").unwrap())
    };
    let (status, body) = send("ec2", &[]).await;
    assert_eq!(status, 200, "{body}");
    for (name, value) in [
        ("x-amz-target", "AmazonSSM.DescribeEcho"),
        ("x-amz-security-token", "mine"),
        ("x-amz-date", "20261123T120000Z"),
    ] {
        let (status, body) = send("ssm", &[(name, value)]).await;
        assert!(status == 400 && body.contains("IncompleteSignature"), "{name} {body}");
        assert!(body.contains(&format!("not signed: {name}")), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_signature_for_one_service_is_none_at_the_host_of_another() {
    let credentials = Credentials::new("root", "secret");
    let body = "Action=DescribeEcho&Name=x&Version=2016-11-15";
    for (host, expected) in [
        ("ec2.us-east-1.amazonaws.com", 200),
        ("127.0.0.1:4566", 200),
        ("autoscaling.us-east-1.amazonaws.com", 401),
    ] {
        let (mut parts, ()) =
            Request::post("/").header("host", host).body(()).unwrap().into_parts();
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        Signer { credentials: &credentials, region: "us-east-1", service: "ec2", now }
            .sign(&mut parts, body.as_bytes());
        let (status, said) = raw(Request::from_parts(parts, body)).await;
        assert_eq!(status.is_success(), expected == 200, "{host} {said}");
        let names_it = said.contains("correct service: 'autoscaling'");
        assert_eq!(names_it, expected != 200, "{said}");
    }
}

/// The signature is over the path without dots, which a router reads otherwise.
#[tokio::test(start_paused = true)]
async fn a_signed_path_cannot_be_spelt_as_another_operations() {
    let credentials = Credentials::new("root", "secret");
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    let send = |signed: &str, sent: &str| {
        let (mut parts, ()) = Request::post(signed)
            .header("host", "eks.us-east-1.amazonaws.com")
            .body(())
            .unwrap()
            .into_parts();
        Signer { credentials: &credentials, region: "us-east-1", service: "eks", now }
            .sign(&mut parts, b"{}");
        parts.uri = sent.parse().unwrap();
        raw(Request::from_parts(parts, "{}"))
    };
    assert_eq!(send("/echo/x", "/echo/x").await.0, 200);
    assert_eq!(send("/echo/x%20y", "/echo/x%20y").await.0, 200);
    // Encoded once more on the way, it is another path.
    assert_eq!(send("/echo/x%20y", "/echo/x%2520y").await.0, 403);
    assert_eq!(send("/echo/a%2Fb", "/echo/a/b").await.0, 403);
    for (signed, sent) in [("/echo", "/echo/."), ("/echo", "/x/../echo"), ("/", "/echo/..")] {
        let (status, body) = send(signed, sent).await;
        assert_eq!(status, 404, "{sent} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_signed_in_chunks_is_s3s_alone() {
    let body = "Action=DescribeEcho&Name=x&Version=2016-11-15";
    for (declared, expected) in [
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", 401),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", 401),
        ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 401),
    ] {
        let request = Request::post("/").header("host", "ec2.us-east-1.amazonaws.com");
        let request = request.header("x-amz-content-sha256", declared);
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let credentials = Credentials::new("root", "secret");
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        Signer { credentials: &credentials, region: "us-east-1", service: "ec2", now }
            .sign(&mut parts, body.as_bytes());
        let (status, said) = raw(Request::from_parts(parts, body)).await;
        assert_eq!(status, expected, "{declared} {said}");
    }
}

/// Two readers of a header that is there twice take another one each.
#[tokio::test(start_paused = true)]
async fn what_a_signature_covers_it_covers_with_all_its_values() {
    let credentials = Credentials::new("root", "secret");
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    let request = Request::post("/").header("host", "ssm.us-east-1.amazonaws.com");
    let request = request.header("x-amz-target", "AmazonSSM.DescribeEcho");
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let body = r#"{"Name": "x"}"#;
    Signer { credentials: &credentials, region: "us-east-1", service: "ssm", now }
        .sign(&mut parts, body.as_bytes());
    assert_eq!(raw(Request::from_parts(parts.clone(), body)).await.0, 200);
    for name in ["x-amz-target", "x-amz-date", "host"] {
        let mut twice = parts.clone();
        twice.headers.append(name, "AmazonSSM.Other".parse().unwrap());
        let (status, said) = raw(Request::from_parts(twice, body)).await;
        assert_eq!(status, 400, "{name} {said}");
        assert!(said.contains("InvalidSignatureException"), "{name} {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn ec2_recognises_no_parameter_that_it_does_not_have() {
    let credentials = Credentials::new("root", "secret");
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    for (service, parameter, expected) in [
        ("ec2", "Size=1", Some("The parameter Size is not recognized")),
        ("ec2", "Size.1=1", Some("The parameter Size is not recognized")),
        ("ec2", "name=y", Some("The parameter name is not recognized")),
        ("ec2", "Sizes.1=1&DryRun=false", None),
        // The others of the query protocol do not look.
        ("autoscaling", "Size=1", None),
    ] {
        let version = if service == "ec2" { "2016-11-15" } else { "2011-01-01" };
        let body = format!("Action=DescribeEcho&Name=x&Version={version}&{parameter}");
        let host = format!("{service}.us-east-1.amazonaws.com");
        let (mut parts, ()) =
            Request::post("/").header("host", host).body(()).unwrap().into_parts();
        Signer { credentials: &credentials, region: "us-east-1", service, now }
            .sign(&mut parts, body.as_bytes());
        let (status, said) = raw(Request::from_parts(parts, body)).await;
        match expected {
            None => assert_eq!(status, 200, "{parameter} {said}"),
            Some(message) => {
                assert_eq!(status, 400, "{parameter} {said}");
                assert!(said.contains("<Code>UnknownParameter</Code>"), "{said}");
                assert!(said.contains(message), "{said}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_speaks_a_services_older_protocol_is_answered_in_it() {
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    let send = async |key: &str, body: &str| {
        let credentials = Credentials::new(key, "secret");
        let request = Request::post("/111122223333/jobs")
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .header("host", "sqs.us-east-1.amazonaws.com");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        Signer { credentials: &credentials, region: "us-east-1", service: "sqs", now }
            .sign(&mut parts, body.as_bytes());
        raw(Request::from_parts(parts, body.to_owned())).await
    };
    let call = "Action=DescribeEcho&Version=2012-11-05";
    let (status, said) = send("root", &format!("{call}&Name=x&Sizes.1=7")).await;
    assert_eq!(status, 200, "{said}");
    let namespace = "xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\"";
    assert!(said.starts_with(&format!("<DescribeEchoResponse {namespace}>")), "{said}");
    assert!(said.contains("<DescribeEchoResult><Name>x</Name>"), "{said}");
    assert!(said.contains("<Sizes>7</Sizes>") && said.contains("<RequestId>"), "{said}");
    for (key, body, expected) in [
        ("root", format!("{call}&Name=missing"), "NotFound"),
        ("root", call.to_owned(), "MissingParameter"),
        ("root", "Action=AddPermission&Version=2012-11-05".to_owned(), "InvalidAction"),
        ("root", "Action=DescribeEcho&Version=2009-02-01&Name=x".to_owned(), "InvalidAction"),
        ("bob", format!("{call}&Name=x"), "AccessDenied"),
        ("nobody", format!("{call}&Name=x"), "InvalidClientTokenId"),
    ] {
        let (_, said) = send(key, &body).await;
        let code = format!("<Code>{expected}</Code>");
        assert!(said.starts_with("<ErrorResponse xmlns") && said.contains(&code), "{key} {said}");
    }
}
