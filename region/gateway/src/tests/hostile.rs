//! Clients that leave, stall, or add to what was signed.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

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
async fn who_speaks_a_services_older_protocol_is_told_so_in_it() {
    let media = "application/x-www-form-urlencoded; charset=utf-8";
    let body = "Action=SendMessage&Version=2012-11-05&MessageBody=x";
    let credentials = Credentials::new("root", "secret");
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    let request = Request::post("/").header("content-type", media);
    let request = request.header("host", "sqs.us-east-1.amazonaws.com").body(()).unwrap();
    let (mut parts, ()) = request.into_parts();
    Signer { credentials: &credentials, region: "us-east-1", service: "sqs", now }
        .sign(&mut parts, body.as_bytes());
    let (status, said) = raw(Request::from_parts(parts, body)).await;
    assert_eq!(status, 400, "{said}");
    assert!(said.contains("<Code>InvalidAction</Code>"), "{said}");
    assert!(said.contains("JSON protocol alone"), "{said}");
}
