//! Calls that the region does not serve, with another emulator behind it.

use std::{convert::Infallible, sync::Mutex};

use hyper::body::Incoming;
use transport::{Body, Place};

use super::*;

/// What the emulator was sent: method, path, host, authorization, body.
type Heard = Arc<Mutex<Vec<[String; 5]>>>;

struct Bed {
    gateway: Gateway,
    heard: Heard,
    scope: Scope,
}

/// A gateway with an emulator that answers 201 and a body in two parts.
fn bed() -> Bed {
    let listener = Place::Here.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, scope) = (Heard::default(), Scope::new());
    let told = heard.clone();
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let told = told.clone();
        async move { Ok::<_, Infallible>(answer(request, &told).await) }
    });
    drop(scope.spawn("emulator", transport::serve(listener, None, service, scope.child())));
    let gateway = gateway();
    gateway.pass_unowned_to(Upstream::parse(&format!("http://{address}")).unwrap());
    Bed { gateway, heard, scope }
}

async fn answer(request: Request<Incoming>, heard: &Heard) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| {
        let value = parts.headers.get(name).map(|it| it.to_str().unwrap());
        value.unwrap_or_default().to_owned()
    };
    heard.lock().unwrap().push([
        parts.method.to_string(),
        parts.uri.to_string(),
        header("host"),
        header("authorization"),
        String::from_utf8(body.to_vec()).unwrap(),
    ]);
    let (sender, chunks) = tokio::sync::mpsc::channel(2);
    sender.try_send(Bytes::from_static(b"<first>")).unwrap();
    sender.try_send(Bytes::from_static(b"<second>")).unwrap();
    let mut response = Response::new(transport::stream(chunks));
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert("x-emulator", http::HeaderValue::from_static("yes"));
    response
}

/// A signed request.
fn signed(
    key: &str,
    service: &str,
    request: http::request::Builder,
    body: &str,
) -> Request<Full<Bytes>> {
    let host = format!("{service}.us-east-1.amazonaws.com");
    let request = request.header("host", host).body(()).unwrap();
    let (mut parts, ()) = request.into_parts();
    let credentials = Credentials::new(key, "secret");
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    Signer { credentials: &credentials, region: "us-east-1", service, now }
        .sign(&mut parts, body.as_bytes());
    Request::from_parts(parts, Full::new(Bytes::copy_from_slice(body.as_bytes())))
}

fn form(key: &str, service: &str, body: &str) -> Request<Full<Bytes>> {
    let media = "application/x-www-form-urlencoded; charset=utf-8";
    signed(key, service, Request::post("/").header("content-type", media), body)
}

impl Bed {
    async fn send(&self, request: Request<Full<Bytes>>) -> (u16, String) {
        let response = self.gateway.service(Side::Host).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn end(&self) {
        self.scope.cancel();
        assert!(self.scope.drain(Duration::from_secs(5)).await);
    }

    fn heard(&self) -> Vec<[String; 5]> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

#[tokio::test]
async fn what_the_region_does_not_serve_is_answered_by_the_other_emulator() {
    let bed = bed();
    let answered = (201, "<first><second>".to_owned());
    let body = "Action=Publish&Version=2010-03-31";
    let request = form("root", "sns", body);
    let authorization = request.headers()["authorization"].to_str().unwrap().to_owned();
    assert_eq!(bed.send(request).await, answered);
    let host = "sns.us-east-1.amazonaws.com";
    let expected = ["POST", "/", host, &authorization, body].map(str::to_owned);
    assert_eq!(bed.heard(), [expected]);
    let event = bed.gateway.events().recent(1).remove(0);
    assert_eq!((&*event.service, &*event.action, event.status), ("sns", "Publish", 201));
    assert!(event.passed_to.is_some_and(|it| it.starts_with("http://127.0.0.1:")));

    // Another API under a name that the region has, and an action that it lacks.
    let v2 = "Action=DescribeLoadBalancers&Version=2015-12-01";
    assert_eq!(bed.send(form("root", "elasticloadbalancing", v2)).await, answered);
    let lacking = "Action=PutScalingPolicy&Version=2011-01-01";
    assert_eq!(bed.send(form("root", "autoscaling", lacking)).await, answered);
    // S3's path is signed as it is sent.
    let put = signed("root", "s3", Request::put("/bucket//a%20b"), "content");
    assert_eq!(bed.send(put).await, answered);
    assert_eq!(bed.heard().pop().unwrap()[1], "/bucket//a%20b");
    bed.end().await;
}

#[tokio::test]
async fn what_the_region_serves_it_answers_itself() {
    let bed = bed();
    let (status, body) = bed
        .send(form("root", "autoscaling", "Action=DescribeEcho&Version=2011-01-01&Name=x"))
        .await;
    assert_eq!(status, 200, "{body}");
    // Also where the request is no good.
    let (status, body) =
        bed.send(form("root", "autoscaling", "Action=DescribeEcho&Version=2011-01-01")).await;
    assert_eq!(status, 400, "{body}");
    assert_eq!(bed.heard(), Vec::<[String; 5]>::new());
    bed.end().await;
}

#[tokio::test]
async fn nobody_gets_past_the_region_to_the_emulator() {
    let bed = bed();
    let list = "Action=ListTopics&Version=2010-03-31";
    // bob may `*:Describe*` on one resource: not this, and S3 does not name its actions at all.
    let (status, body) = bed.send(form("bob", "sns", list)).await;
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("sns:ListTopics"), "{body}");
    let delete = Request::delete("/bucket").header("x-amz-target", "X.DescribeEcho");
    let (status, body) = bed.send(signed("bob", "s3", delete, "")).await;
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("<Error><Code>AccessDenied"), "{body}");
    let event = bed.gateway.events().recent(1).remove(0);
    assert_eq!((event.decision, event.passed_to), (Outcome::Denied, None));

    assert_eq!(bed.send(form("nobody", "sns", list)).await.0, 403);
    // What is remembered of those whom nobody knows is bounded.
    assert_eq!(bed.send(form("nobody", &"x".repeat(50_000), list)).await.0, 403);
    assert!(bed.gateway.events().recent(1).remove(0).service.len() < 3_000);
    let mut forged = form("root", "sns", list);
    *forged.body_mut() = Full::new(Bytes::from_static(b"Action=DeleteTopic&Version=2010-03-31"));
    assert_eq!(bed.send(forged).await.0, 403);
    let unsigned = Request::post("/").header("host", "sns.us-east-1.amazonaws.com");
    let unsigned = unsigned.body(Full::new(Bytes::from_static(list.as_bytes()))).unwrap();
    assert!(bed.send(unsigned).await.0 >= 400);
    assert_eq!(bed.heard(), Vec::<[String; 5]>::new());
    bed.end().await;
}

#[tokio::test]
async fn an_emulator_that_is_not_there_is_said_to_be_so() {
    let bed = bed();
    bed.end().await;
    let (status, body) = bed.send(form("root", "sns", "Action=ListTopics")).await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("does not answer"), "{body}");
}

#[tokio::test]
async fn an_action_that_may_be_read_in_two_ways_is_for_nobody() {
    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/x-amz-json-1.1";
    let bed = bed();
    let post = |path: &str, media: &str| Request::post(path).header("content-type", media);
    let target = |request: http::request::Builder, it: &str| request.header("x-amz-target", it);
    let listed = target(post("/", JSON), "TrentService.ListKeys");
    assert_eq!(bed.send(signed("root", "kms", listed, "{}")).await.0, 201);
    assert_eq!(bed.heard().len(), 1);

    let twice = target(target(post("/", JSON), "TrentService.ListKeys"), "TrentService.DeleteKey");
    let beside = target(post("/?Action=DeleteDocument", JSON), "AmazonSSM.ListDocuments");
    let both = target(post("/", FORM), "X.DeletePolicy");
    let in_disguise = target(post("/", &FORM.to_uppercase()), "DynamoDB_20120810.ListTables");
    for (service, request, body) in [
        ("kms", twice, "{}"),
        ("ssm", beside, "{}"),
        ("autoscaling", both, "Action=PutScalingPolicy&Version=2011-01-01"),
        ("dynamodb", in_disguise, "Action=DeleteTable"),
        ("sns", post("/?Action=ListTopics", FORM), "Action=DeleteTopic"),
        ("sns", post("/?Action=ListTopics", "text/plain"), "Action=DeleteTopic"),
    ] {
        // Not for its signature, which is good.
        let (status, body) = bed.send(signed("root", service, request, body)).await;
        assert!(matches!(status, 400 | 404), "{service}: {status} {body}");
    }
    assert_eq!(bed.heard(), Vec::<[String; 5]>::new());

    // A GET has its query alone.
    let get = Request::get("/?Action=ListTopics&Version=2010-03-31");
    let (status, body) = bed.send(signed("bob", "sns", get, "")).await;
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("sns:ListTopics"), "{body}");
    bed.end().await;
}

/// Emulators tell services apart by the host, the path and the signature, each in its own order.
#[tokio::test]
async fn a_request_whose_service_may_be_read_in_two_ways_is_for_nobody() {
    let bed = bed();
    let list = "Action=ListTopics&Version=2010-03-31";
    let media = "application/x-www-form-urlencoded";
    let post = |uri: &str| Request::post(uri.to_owned()).header("content-type", media);
    let with_host = |host: &str, uri: &str| {
        let (mut parts, ()) = post(uri).header("host", host).body(()).unwrap().into_parts();
        let credentials = Credentials::new("root", "secret");
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        Signer { credentials: &credentials, region: "us-east-1", service: "sns", now }
            .sign(&mut parts, list.as_bytes());
        Request::from_parts(parts, Full::new(Bytes::from_static(list.as_bytes())))
    };
    assert_eq!(bed.send(with_host("127.0.0.1:4566", "/")).await.0, 201);
    assert_eq!(bed.heard().len(), 1);

    let mut twice = with_host("127.0.0.1:4566", "/");
    let other = signed("root", "s3", Request::get("/bucket"), "");
    twice.headers_mut().append("authorization", other.headers()["authorization"].clone());
    let mut second_claim = with_host("127.0.0.1:4566", "/");
    let claims = second_claim.headers()["authorization"].to_str().unwrap();
    let claims = format!("{claims}, Credential=root/20261123/us-east-1/s3/aws4_request");
    second_claim.headers_mut().insert("authorization", claims.parse().unwrap());
    let claim_in_query = "/?X-Amz-Credential=root/20261123/us-east-1/s3/aws4_request";
    for request in [
        with_host("s3.us-east-1.amazonaws.com", "/"),
        with_host("secret.s3.us-east-1.amazonaws.com", "/"),
        with_host("example.com", "/"),
        with_host("127.0.0.1:4566", claim_in_query),
        twice,
        second_claim,
    ] {
        let (status, body) = bed.send(request).await;
        assert!(matches!(status, 400 | 404), "{status} {body}");
    }
    assert_eq!(bed.heard(), Vec::<[String; 5]>::new());
    bed.end().await;
}

#[tokio::test]
async fn a_region_that_is_its_own_emulator_does_not_ask_itself_for_ever() {
    let listener = Place::Here.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (gateway, scope) = (gateway(), Scope::new());
    gateway.pass_unowned_to(Upstream::parse(&format!("http://{address}")).unwrap());
    let service = gateway.service(Side::Host);
    drop(scope.spawn("region", transport::serve(listener, None, service, scope.child())));
    let bed = Bed { gateway, heard: Heard::default(), scope };
    let (status, body) = bed.send(form("root", "sns", "Action=ListTopics")).await;
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("is not part of this region"), "{body}");
    assert_eq!(bed.gateway.events().recent(9).len(), 1);
    bed.end().await;
}
