//! What must hold of `server`.

use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use tower::ServiceExt;

use super::*;
use crate::{Mapping, client::issue};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const NODE: &str = "arn:aws:sts::111122223333:assumed-role/node/i-0123456789abcdef0";

struct Entries;

impl Mappings for Entries {
    fn find<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Option<Mapping>> {
        let mapping = match identity.canonical_arn.as_str() {
            "arn:aws:iam::111122223333:role/node" => Some(Mapping {
                username: "system:node:{{EC2PrivateDNSName}}".into(),
                groups: vec!["system:bootstrappers".into(), "system:nodes".into()],
            }),
            "arn:aws:iam::111122223333:user/bob" => {
                Some(Mapping { username: "bob".into(), groups: vec![] })
            }
            _ => None,
        };
        Box::pin(async { mapping })
    }

    fn private_dns_name<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Option<String>> {
        let is_known = instance == "i-0123456789abcdef0";
        Box::pin(async move { is_known.then(|| "ip-192-168-0-12.ec2.internal".into()) })
    }
}

/// An STS that says the signer is `arn`, and counts.
fn sts(arn: &'static str, asked: Arc<AtomicUsize>) -> Exchange {
    Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
        asked.fetch_add(1, Ordering::Relaxed);
        let session = arn.rsplit('/').next().unwrap_or_default();
        let is_session = arn.contains("assumed-role");
        let user_id = if is_session { format!("AROA1:{session}") } else { "AIDA1".into() };
        let (status, body) = match request.headers().get("x-k8s-aws-id") {
            Some(cluster) if cluster == "stead" => {
                let result = json!({"Account": "111122223333", "Arn": arn, "UserId": user_id});
                let body =
                    json!({"GetCallerIdentityResponse": {"GetCallerIdentityResult": result}});
                (200, body)
            }
            _ => (403, json!({"Error": {"Code": "SignatureDoesNotMatch"}})),
        };
        let response = Response::builder().status(status).body(transport::full(body.to_string()));
        async move { Ok(response.unwrap()) }
    }))
}

async fn review(cluster: &str, arn: &'static str, token: &str) -> (StatusCode, Value, usize) {
    let asked = Arc::new(AtomicUsize::new(0));
    let authenticator = Authenticator::new(Config {
        cluster: cluster.into(),
        rules: TokenRules::default(),
        sts: sts(arn, asked.clone()),
        mappings: Arc::new(Entries),
        clock: Clock::simulated(NOW),
    });
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                        "spec": {"token": token}});
    let request = Request::builder()
        .method("POST")
        .uri(PATH)
        .body(transport::full(review.to_string()))
        .unwrap();
    let answer = authenticator.service().oneshot(request).await.unwrap();
    let status = answer.status();
    let body = transport::collect(answer.into_body(), 1 << 16).await.unwrap().unwrap();
    (status, serde_json::from_slice(&body).unwrap(), asked.load(Ordering::Relaxed))
}

fn token() -> String {
    let credentials = aws_wire::credentials::Credentials::new("ASIAEXAMPLE", "secret");
    issue(&credentials, "https://sts.us-east-1.amazonaws.com", "us-east-1", "stead", NOW)
        .unwrap()
        .token
}

#[tokio::test(start_paused = true)]
async fn a_nodes_session_becomes_its_node() {
    let (status, answer, _) = review("stead", NODE, &token()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["apiVersion"], "authentication.k8s.io/v1");
    let user = &answer["status"]["user"];
    assert_eq!(user["username"], "system:node:ip-192-168-0-12.ec2.internal");
    assert_eq!(user["groups"], json!(["system:bootstrappers", "system:nodes"]));
    assert_eq!(user["uid"], "aws-iam-authenticator:111122223333:AROA1");
    assert_eq!(user["extra"]["canonicalArn"][0], "arn:aws:iam::111122223333:role/node");
}

#[tokio::test(start_paused = true)]
async fn an_unmapped_principal_and_an_unknown_instance_are_denied() {
    for arn in [
        "arn:aws:iam::111122223333:user/eve",
        "arn:aws:sts::111122223333:assumed-role/node/not-an-instance",
        "arn:aws:sts::111122223333:assumed-role/node/i-0000000000000000a",
        "arn:aws:sts::999999999999:assumed-role/node/i-0123456789abcdef0",
    ] {
        let (status, answer, asked) = review("stead", arn, &token()).await;
        assert_eq!((status, asked), (StatusCode::FORBIDDEN, 1), "{arn}");
        assert_eq!(answer["status"]["authenticated"], false);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_for_another_cluster_does_not_verify_here() {
    // STS checks the signature over the header that we send, which is our own name.
    let (status, _, _) = review("other", NODE, &token()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test(start_paused = true)]
async fn a_tampered_token_is_never_sent_anywhere() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let url = URL_SAFE_NO_PAD.decode(token().strip_prefix("k8s-aws-v1.").unwrap()).unwrap();
    let url = String::from_utf8(url).unwrap();
    for bad in [
        url.replace("sts.us-east-1.amazonaws.com", "169.254.169.254"),
        url.replace("GetCallerIdentity", "GetSessionToken"),
        format!("{url}&X-Amz-Foo=1"),
    ] {
        let token = format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(&bad));
        let (status, _, asked) = review("stead", NODE, &token).await;
        assert_eq!((status, asked), (StatusCode::FORBIDDEN, 0), "{bad}");
    }
}
