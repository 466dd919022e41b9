//! What must hold of `registry`.

use aws_ecr::{
    image::{BatchGetImage, BatchGetImageRequest, ImageIdentifier},
    policy::{SetRepositoryPolicy, SetRepositoryPolicyRequest},
    repository::{CreateRepository, CreateRepositoryRequest},
};
use http::header::{HOST as HOST_HEADER, WWW_AUTHENTICATE};
use jiff::{SignedDuration, Timestamp};
use region_gateway::{CallerKind, Handle, Side};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{Digest, registry::testing::ecr, tokens};

const HOST: &str = "111122223333.dkr.ecr.us-east-1.amazonaws.com";

fn caller(kind: CallerKind) -> Caller {
    let now = Timestamp::constant(1_800_000_000, 0);
    let arn = match &kind {
        CallerKind::AssumedRole { role_arn, session } => {
            format!(
                "{}/{session}",
                role_arn.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
            )
        }
        _ => "arn:aws:iam::111122223333:root".to_owned(),
    };
    Caller { kind, arn, ..Caller::root("111122223333", "us-east-1", now) }
}

fn role(name: &str) -> Caller {
    let role_arn = format!("arn:aws:iam::111122223333:role/{name}");
    caller(CallerKind::AssumedRole { role_arn, session: "i-1".into() })
}

fn basic(ecr: &Ecr, caller: &Caller) -> String {
    let expires = ecr.config.clock.now() + tokens::LIFE;
    let password = ecr.tokens.seal(caller, expires).unwrap();
    format!("Basic {}", STANDARD.encode(format!("AWS:{password}")))
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn send(
    ecr: &Arc<Ecr>,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    send_to(ecr.registry(Side::Host), method, target, headers, body).await
}

async fn send_to(
    registry: RegistryService,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(transport::full(body.to_vec())).unwrap();
    let (parts, body) = registry.oneshot(request).await.unwrap().into_parts();
    let body = transport::collect(body, 1 << 20).await.unwrap().unwrap().to_vec();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// Pushes an image of one layer, and returns its manifest's digest.
async fn push(ecr: &Arc<Ecr>, layer: &[u8], tag: &str) -> Digest {
    let auth = basic(ecr, &caller(CallerKind::Root));
    let headers = [("host", HOST), ("authorization", auth.as_str())];
    let mut parts = Vec::new();
    for blob in [b"{}".as_slice(), layer] {
        let begun = send(ecr, "POST", "/v2/team/app/blobs/uploads/", &headers, b"").await;
        assert_eq!(begun.status, 202);
        let location = begun.headers["location"].to_str().unwrap().to_owned();
        let part = send(ecr, "PATCH", &location, &headers, &blob[..1]).await;
        assert_eq!((part.status, &part.headers["range"]), (202, &"0-0".parse().unwrap()));
        let digest = Digest::of(blob);
        let end = format!("{location}?digest={digest}");
        assert_eq!(send(ecr, "PUT", &end, &headers, &blob[1..]).await.status, 201);
        parts.push(json!({"digest": digest.as_str(), "size": blob.len()}));
    }
    let manifest = json!({"schemaVersion": 2, "config": parts[0], "layers": [parts[1]]});
    let bytes = manifest.to_string().into_bytes();
    let path = format!("/v2/team/app/manifests/{tag}");
    let put = send(ecr, "PUT", &path, &headers, &bytes).await;
    assert_eq!(put.status, 201, "{}", String::from_utf8_lossy(&put.body));
    Digest::of(&bytes)
}

fn create(ecr: &Ecr) {
    ecr.catalog.ensure_repository(&RepositoryId::new(HOST, "team/app"), 0.0).unwrap();
}

#[tokio::test]
async fn what_was_pushed_is_pulled() {
    let (ecr, _folder) = ecr();
    create(&ecr);
    let digest = push(&ecr, b"layer", "v1").await;
    let auth = basic(&ecr, &role("reader"));
    let headers = [("host", HOST), ("authorization", auth.as_str())];
    let head = send(&ecr, "HEAD", "/v2/team/app/manifests/v1", &headers, b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers["docker-content-digest"], digest.as_str());
    let manifest =
        send(&ecr, "GET", &format!("/v2/team/app/manifests/{digest}"), &headers, b"").await;
    let layer = manifest.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
    let path = format!("/v2/team/app/blobs/{layer}");
    assert_eq!(send(&ecr, "GET", &path, &headers, b"").await.body, b"layer");
    let ranged = [headers[0], headers[1], ("range", "bytes=1-3")];
    let part = send(&ecr, "GET", &path, &ranged, b"").await;
    assert_eq!((part.status, part.body.as_slice()), (206, b"aye".as_slice()));
    assert_eq!(part.headers["content-range"], "bytes 1-3/5");
    let tags = send(&ecr, "GET", "/v2/team/app/tags/list", &headers, b"").await;
    assert_eq!(tags.json(), json!({"name": "team/app", "tags": ["v1"]}));
}

#[tokio::test]
async fn without_a_password_the_registry_asks_for_one() {
    let (ecr, _folder) = ecr();
    create(&ecr);
    for auth in ["", "Basic bm9uZQ==", "Basic QVdTOm5vbnNlbnNl", "Bearer x"] {
        let headers = [("host", HOST), ("authorization", auth)];
        let asked = send(&ecr, "GET", "/v2/", &headers, b"").await;
        assert_eq!(asked.status, 401, "{auth}");
        let realm = format!("Basic realm=\"https://{HOST}/\",service=\"ecr.amazonaws.com\"");
        assert_eq!(asked.headers[WWW_AUTHENTICATE], realm.as_str());
    }
    let password = ecr
        .tokens
        .seal(&caller(CallerKind::Root), ecr.config.clock.now() - SignedDuration::from_secs(1));
    let old = format!("Basic {}", STANDARD.encode(format!("AWS:{}", password.unwrap())));
    let expired = send(&ecr, "GET", "/v2/", &[("host", HOST), ("authorization", &old)], b"").await;
    assert_eq!(expired.status, 403);
}

#[tokio::test]
async fn a_role_without_the_policy_is_refused_in_aws_words() {
    let (ecr, _folder) = ecr();
    create(&ecr);
    let digest = push(&ecr, b"layer", "v1").await;
    let auth = basic(&ecr, &role("bare"));
    let headers = [("host", HOST), ("authorization", auth.as_str())];
    let refused = send(&ecr, "GET", "/v2/team/app/manifests/v1", &headers, b"").await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.json()["errors"][0]["message"],
        "User: arn:aws:sts::111122223333:assumed-role/bare/i-1 is not authorized to perform: \
         ecr:BatchGetImage on resource: \
         arn:aws:ecr:us-east-1:111122223333:repository/team/app because no identity-based policy \
         allows the ecr:BatchGetImage action"
    );
    let layer = Digest::of(b"layer");
    let path = format!("/v2/team/app/blobs/{layer}");
    assert_eq!(send(&ecr, "GET", &path, &headers, b"").await.status, 403);
    // A reader may not push, nor delete.
    let auth = basic(&ecr, &role("reader"));
    let headers = [("host", HOST), ("authorization", auth.as_str())];
    let push = send(&ecr, "POST", "/v2/team/app/blobs/uploads/", &headers, b"").await;
    assert_eq!(push.status, 403);
    let path = format!("/v2/team/app/manifests/{digest}");
    assert_eq!(send(&ecr, "DELETE", &path, &headers, b"").await.status, 403);
    assert_eq!(send(&ecr, "PUT", &path, &headers, b"{}").await.status, 403);
}

#[tokio::test]
async fn a_blob_is_read_only_through_a_repository_that_holds_it() {
    let (ecr, _folder) = ecr();
    create(&ecr);
    push(&ecr, b"secret layer", "v1").await;
    ecr.catalog.ensure_repository(&RepositoryId::new(HOST, "other"), 0.0).unwrap();
    let auth = basic(&ecr, &role("reader"));
    let headers = [("host", HOST), ("authorization", auth.as_str())];
    let path = format!("/v2/other/blobs/{}", Digest::of(b"secret layer"));
    assert_eq!(send(&ecr, "GET", &path, &headers, b"").await.status, 404);
}

#[tokio::test]
async fn other_registries_names_are_public_to_read_and_ecrs_are_not() {
    let (ecr, _folder) = ecr();
    create(&ecr);
    push(&ecr, b"layer", "v1").await;
    let id = RepositoryId::new("docker.io", "library/nginx");
    ecr.catalog.ensure_repository(&id, 0.0).unwrap();
    let manifest = ecr.catalog.resolve(&RepositoryId::new(HOST, "team/app"), "v1").unwrap().0;
    for blob in [b"{}".as_slice(), b"layer"] {
        ecr.catalog.add_layer(&id, &Digest::of(blob), blob.len() as u64).unwrap();
    }
    let bytes = ecr.blobs.read(&manifest).unwrap();
    ecr.catalog.put_manifest(&id, &bytes, None, Some("1"), 0.0).unwrap();
    let mirror = [("host", "mirror.registry.us-east-1.amazonaws.com")];
    let mut headers = HeaderMap::new();
    for (host, expected) in [
        (mirror[0].1, true),
        (HOST, true),
        ("mirror.registry.eu-west-1.amazonaws.com", false),
        ("ec2.us-east-1.amazonaws.com", false),
    ] {
        headers.insert(HOST_HEADER, host.parse().unwrap());
        assert_eq!(ecr.registry(Side::Host).is_for_registry(&headers, None), expected, "{host}");
    }
    let path = "/v2/library/nginx/manifests/1?ns=docker.io";
    assert_eq!(send(&ecr, "GET", path, &mirror, b"").await.status, 200);
    let missing = "/v2/library/none/manifests/1?ns=docker.io";
    assert_eq!(send(&ecr, "GET", missing, &mirror, b"").await.status, 404);
    let push = "/v2/library/nginx/blobs/uploads/?ns=docker.io";
    assert_eq!(send(&ecr, "POST", push, &mirror, b"").await.status, 403);
    for ns in [HOST.to_owned(), format!("{HOST}:443")] {
        let path = format!("/v2/team/app/manifests/v1?ns={ns}");
        assert_eq!(send(&ecr, "GET", &path, &mirror, b"").await.status, 401, "{ns}");
    }
    // Nor does `ns` lead away from the password of the host.
    let path = "/v2/library/nginx/manifests/1?ns=docker.io";
    assert_eq!(send(&ecr, "GET", path, &[("host", HOST)], b"").await.status, 401);
}

#[tokio::test]
async fn a_wrong_digest_and_a_missing_layer_are_refused() {
    let (ecr, _folder) = ecr();
    create(&ecr);
    let auth = basic(&ecr, &caller(CallerKind::Root));
    let headers = [("host", HOST), ("authorization", auth.as_str())];
    let begun = send(&ecr, "POST", "/v2/team/app/blobs/uploads/", &headers, b"").await;
    let location = begun.headers["location"].to_str().unwrap().to_owned();
    let wrong = format!("{location}?digest={}", Digest::of(b"other"));
    let refused = send(&ecr, "PUT", &wrong, &headers, b"bytes").await;
    assert_eq!(
        (refused.status, &refused.json()["errors"][0]["code"]),
        (400, &json!("DIGEST_INVALID"))
    );
    let again = send(&ecr, "PUT", &wrong, &headers, b"other").await;
    assert_eq!(again.status, 404);
    let part = json!({"digest": Digest::of(b"none").as_str(), "size": 4});
    let manifest = json!({"schemaVersion": 2, "config": part, "layers": []}).to_string();
    let put = send(&ecr, "PUT", "/v2/team/app/manifests/v1", &headers, manifest.as_bytes()).await;
    assert_eq!(put.json()["errors"][0]["code"], "MANIFEST_BLOB_UNKNOWN");
    for path in ["/v2/team/../etc/manifests/v1", "/v2/Upper/manifests/v1", "/v2/a/b"] {
        assert!(send(&ecr, "GET", path, &headers, b"").await.status >= 400, "{path}");
    }
}

#[tokio::test]
async fn an_image_of_another_account_needs_the_callers_own_policy() {
    let (ecr, _folder) = ecr();
    let host = "602401143452.dkr.ecr.us-east-1.amazonaws.com";
    let id = RepositoryId::new(host, "eks/coredns");
    ecr.catalog.ensure_repository(&id, 0.0).unwrap();
    for (name, expected) in [("reader", 404), ("bare", 403)] {
        let auth = basic(&ecr, &role(name));
        let headers = [("host", host), ("authorization", auth.as_str())];
        let answer = send(&ecr, "GET", "/v2/eks/coredns/manifests/v1", &headers, b"").await;
        assert_eq!(answer.status, expected, "{name}");
    }
}

#[tokio::test]
async fn a_password_is_worth_no_more_than_the_session_that_asked_for_it() {
    let (ecr, _folder) = ecr();
    create(&ecr);
    push(&ecr, b"layer", "v1").await;
    let statuses = async |key: &str| {
        let auth = basic(&ecr, &Caller { access_key_id: key.to_owned(), ..role("reader") });
        let headers = [("host", HOST), ("authorization", auth.as_str())];
        let list = send(&ecr, "GET", "/v2/team/app/tags/list", &headers, b"").await;
        let pull = send(&ecr, "GET", "/v2/team/app/manifests/v1", &headers, b"").await;
        (list.status, pull.status)
    };
    assert_eq!(statuses("ASIAFREE").await, (200, 200));
    assert_eq!(statuses("ASIALIMITED").await, (200, 403));
    assert_eq!(statuses("gone").await, (403, 403));
}

#[tokio::test]
async fn a_policy_may_ask_from_which_vpc_a_pull_comes() {
    let (ecr, _folder) = ecr();
    create(&ecr);
    push(&ecr, b"layer", "v1").await;
    let auth = basic(&ecr, &role("inside"));
    let headers = [("host", HOST), ("authorization", auth.as_str())];
    let vpc = |id: &str| Side::Vpc(id.to_owned());
    for (side, status) in [(vpc("vpc-1"), 200), (vpc("vpc-2"), 403), (Side::Host, 403)] {
        let registry = ecr.registry(side.clone());
        let path = "/v2/team/app/manifests/v1";
        let answer = send_to(registry, "GET", path, &headers, b"").await;
        assert_eq!(answer.status, status, "{side:?}");
    }
}

#[tokio::test]
async fn pulls_are_in_the_log_of_calls_with_their_decision() {
    let (ecr, _folder) = ecr();
    create(&ecr);
    push(&ecr, b"layer", "v1").await;
    for (name, status, decision) in
        [("reader", 200, Outcome::Allowed), ("bare", 403, Outcome::Denied)]
    {
        let auth = basic(&ecr, &role(name));
        let headers = [("host", HOST), ("authorization", auth.as_str())];
        send(&ecr, "GET", "/v2/team/app/manifests/v1", &headers, b"").await;
        let event = ecr.config.gateway.events().recent(1).remove(0);
        assert_eq!((&*event.service, &*event.action), ("ecr", "BatchGetImage"));
        assert_eq!((event.decision, event.status), (decision, status), "{name}");
        assert!(event.principal.ends_with(&format!("{name}/i-1")), "{}", event.principal);
        assert!(event.resources[0].ends_with(":repository/team/app"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_stalls_is_not_waited_for() {
    let (ecr, _folder) = ecr();
    create(&ecr);
    let auth = basic(&ecr, &caller(CallerKind::Root));
    let headers = [("host", HOST), ("authorization", auth.as_str())];
    let begun = send(&ecr, "POST", "/v2/team/app/blobs/uploads/", &headers, b"").await;
    let location = begun.headers["location"].to_str().unwrap();
    let stalled = http_body_util::StreamBody::new(futures::stream::pending::<
        Result<hyper::body::Frame<Bytes>, Infallible>,
    >());
    let mut request = Request::builder().method("PATCH").uri(location);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = ecr.registry(Side::Host).oneshot(request.body(stalled).unwrap()).await.unwrap();
    assert_eq!(response.status(), 408);
}

/// The same image by the API and by the registry: a policy has the same say in both.
#[tokio::test]
async fn a_repositorys_policy_and_tags_have_a_say_in_the_api_too() {
    let (ecr, _folder) = ecr();
    create(&ecr);
    let digest = push(&ecr, b"layer", "v1").await;
    let get = || BatchGetImageRequest {
        repository_name: "team/app".to_owned(),
        image_ids: vec![ImageIdentifier {
            image_digest: Some(digest.to_string()),
            image_tag: None,
        }],
        ..Default::default()
    };
    let code = async |who: &Caller| match Handle::<BatchGetImage>::handle(&*ecr, who, get()).await {
        Ok(_) => "fine".to_owned(),
        Err(fault) => fault.code.into_owned(),
    };
    let (reader, bare) = (role("reader"), role("bare"));
    assert_eq!([code(&reader).await, code(&bare).await], ["fine", "AccessDeniedException"]);
    let policy = |effect: &str, name: &str| {
        json!({"Version": "2012-10-17", "Statement": [{
            "Effect": effect, "Action": "ecr:BatchGetImage",
            "Principal": {"AWS": format!("arn:aws:iam::111122223333:role/{name}")},
        }]})
    };
    for (effect, name, expected) in [
        ("Deny", "reader", ["AccessDeniedException", "AccessDeniedException"]),
        ("Allow", "bare", ["fine", "fine"]),
    ] {
        let request = SetRepositoryPolicyRequest {
            repository_name: "team/app".to_owned(),
            policy_text: policy(effect, name).to_string(),
            ..Default::default()
        };
        let root = caller(CallerKind::Root);
        Handle::<SetRepositoryPolicy>::handle(&*ecr, &root, request).await.unwrap();
        assert_eq!([code(&reader).await, code(&bare).await], expected, "{effect}");
        assert!(!reader.decisions.take().is_empty(), "it is told what was decided");
    }
}

#[tokio::test]
async fn a_repository_that_is_made_with_tags_asks_for_the_right_to_tag_it() {
    let (ecr, _folder) = ecr();
    let actions = |tags: Vec<aws_ecr::tag::Tag>| {
        let request = CreateRepositoryRequest {
            repository_name: "team/new".to_owned(),
            tags,
            ..Default::default()
        };
        let who = caller(CallerKind::Root);
        let targets = Handle::<CreateRepository>::targets(&*ecr, &who, &request);
        targets.into_iter().map(|it| (it.action, it.resource)).collect::<Vec<_>>()
    };
    let arn = "arn:aws:ecr:us-east-1:111122223333:repository/team/new".to_owned();
    assert_eq!(actions(Vec::new()), [(None, arn.clone())]);
    let tag = aws_ecr::tag::Tag { key: "team".to_owned(), value: "red".to_owned() };
    let tagging = Some("ecr:TagResource".to_owned());
    assert_eq!(actions(vec![tag]), [(None, arn.clone()), (tagging, arn)]);
}
