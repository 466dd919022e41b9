//! What must hold of `authn`.

use std::convert::Infallible;

use http::{Request, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use transport::{Body, Peer};

use super::*;
use crate::authz::testing::Memory;

fn authenticator(hook: Option<Hook>) -> Authenticator {
    let config = Config {
        token_webhook: hook,
        token_webhook_memory: Duration::from_secs(120),
        ..Config::default()
    };
    Authenticator::new(config, Memory::default(), Clock::simulated(Timestamp::UNIX_EPOCH)).unwrap()
}

fn parts(path: &str, authorization: Option<&str>) -> Parts {
    let mut request = Request::builder().uri(path);
    if let Some(value) = authorization {
        request = request.header(AUTHORIZATION, value);
    }
    request.body(()).unwrap().into_parts().0
}

/// Knows one token, and counts the questions.
fn webhook(asked: Arc<std::sync::atomic::AtomicUsize>) -> Hook {
    Hook::local(
        "/authenticate",
        tower::service_fn(move |request: Request<Body>| {
            asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                let body = transport::collect(request.into_body(), 1 << 16).await.unwrap().unwrap();
                let review: Value = serde_json::from_slice(&body).unwrap();
                let is_known = review["spec"]["token"] == "k8s-aws-v1.good";
                let user = json!({"username": "system:node:a", "groups": ["system:nodes"]});
                let status = json!({"authenticated": is_known, "user": user});
                let body = transport::full(json!({"status": status}).to_string());
                Ok::<_, Infallible>(Response::new(body))
            }
        }),
    )
}

#[tokio::test]
async fn nobody_in_particular_sees_the_health_paths_and_no_more() {
    let authenticator = authenticator(None);
    for path in ["/healthz", "/livez", "/readyz"] {
        let user = authenticator.authenticate(&parts(path, None), None).await.unwrap();
        assert_eq!(user, UserInfo::anonymous());
    }
    for path in ["/api", "/api/v1/pods", "/healthzz", "/healthz/../api", "/version"] {
        assert!(authenticator.authenticate(&parts(path, None), None).await.is_err(), "{path}");
    }
}

#[tokio::test]
async fn bad_credentials_never_become_anonymous() {
    let authenticator = authenticator(None);
    for value in ["Bearer nonsense", "Bearer ", "Bearer", "Basic dGVzdDp0ZXN0", "bearer a.b.c"] {
        let parts = parts("/healthz", Some(value));
        assert!(authenticator.authenticate(&parts, None).await.is_err(), "{value}");
    }
}

#[tokio::test]
async fn a_certificate_names_its_user_and_groups() {
    let ca = pki::Ca::new("kubernetes").unwrap();
    let profile = pki::Profile {
        cn: "system:kube-scheduler".into(),
        organizations: vec!["ops".into()],
        sans: vec![],
        usages: vec![pki::Usage::Client],
        not_after: Timestamp::constant(2_000_000_000, 0),
    };
    let identity = ca.issue(&profile).unwrap();
    let certificate =
        <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(
            identity.certificate_pem.as_bytes(),
        )
        .unwrap();
    let peer = Peer {
        address: None,
        local: None,
        certificate: Some(certificate),
        intermediates: Vec::new(),
    };
    let found = authenticator(None).authenticate(&parts("/api", None), Some(&peer)).await;
    let user = found.unwrap();
    assert_eq!(user.username, "system:kube-scheduler");
    assert_eq!(user.groups, ["ops", "system:authenticated"]);
}

#[tokio::test(start_paused = true)]
async fn a_webhooks_yes_is_remembered_and_its_no_is_not() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let authenticator = authenticator(Some(webhook(asked.clone())));
    let good = parts("/api", Some("Bearer k8s-aws-v1.good"));
    for _ in 0..3 {
        let user = authenticator.authenticate(&good, None).await.unwrap();
        assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    let bad = parts("/api", Some("Bearer k8s-aws-v1.bad"));
    for _ in 0..2 {
        assert!(authenticator.authenticate(&bad, None).await.is_err());
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 3);
    tokio::time::sleep(Duration::from_secs(121)).await;
    assert!(authenticator.authenticate(&good, None).await.is_ok());
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 4);
}

fn issued(ca: &pki::Ca, cn: &str, headers: &[(&str, &str)]) -> (Parts, Peer) {
    let profile = pki::Profile {
        cn: cn.into(),
        organizations: vec!["system:masters".into()],
        sans: vec![],
        usages: vec![pki::Usage::Client],
        not_after: Timestamp::constant(2_000_000_000, 0),
    };
    let identity = ca.issue(&profile).unwrap();
    let certificate =
        <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(
            identity.certificate_pem.as_bytes(),
        )
        .unwrap();
    let mut request = Request::get("/api");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let peer = Peer {
        address: None,
        local: None,
        certificate: Some(certificate),
        intermediates: Vec::new(),
    };
    (request.body(()).unwrap().into_parts().0, peer)
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_good_at_each_request_between_its_dates_and_at_no_other() {
    let (front, clients) = (pki::Ca::new("front").unwrap(), pki::Ca::new("clients").unwrap());
    let config = Config {
        client_ca_pem: Some(clients.certificate_pem().to_owned()),
        request_header: Some(RequestHeader::new(front.certificate_pem(), &["front"])),
        ..Config::default()
    };
    let (clock, shift) = Clock::movable(Timestamp::UNIX_EPOCH);
    let authenticator = Authenticator::new(config, Memory::default(), clock).unwrap();
    let (head, peer) = issued(&clients, "jane", &[]);
    let (_, stranger) = issued(&pki::Ca::new("clients").unwrap(), "jane", &[]);
    for (at, is_good) in [
        (0, false),
        (1_999_999_998, true),
        (2_000_000_000, true),
        (2_000_000_001, false),
        (1_999_999_999, true),
        (1, false),
    ] {
        shift.jump(at - clock.now().as_second());
        for _ in 0..2 {
            let found = authenticator.authenticate(&head, Some(&peer)).await;
            assert_eq!(found.is_ok(), is_good, "{at}");
            assert!(authenticator.authenticate(&head, Some(&stranger)).await.is_err());
        }
    }
}

#[tokio::test]
async fn only_a_proxy_of_the_proxies_authority_may_name_its_user() {
    let (front, clients) = (pki::Ca::new("front").unwrap(), pki::Ca::new("clients").unwrap());
    let config = Config {
        client_ca_pem: Some(clients.certificate_pem().to_owned()),
        request_header: Some(RequestHeader::new(front.certificate_pem(), &["front"])),
        ..Config::default()
    };
    let clock = Clock::simulated(Clock::system().now());
    let authenticator = Authenticator::new(config, Memory::default(), clock).unwrap();
    let named = [
        ("X-Remote-User", "jane"),
        ("X-Remote-Uid", "7"),
        ("X-Remote-Group", "dev"),
        ("X-Remote-Group", "ops"),
        ("X-Remote-Extra-Example.com%2fScopes", "a"),
    ];
    let (mut head, peer) = issued(&front, "front", &named);
    let user = authenticator.authenticate(&head, Some(&peer)).await.unwrap();
    assert_eq!((user.username.as_str(), user.uid.as_str()), ("jane", "7"));
    assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
    assert_eq!(user.extra["example.com/scopes"], ["a"]);
    authenticator.forget(&mut head.headers);
    assert!(head.headers.is_empty(), "{:?}", head.headers);
    let (head, peer) = issued(&front, "another", &named);
    assert!(authenticator.authenticate(&head, Some(&peer)).await.is_err(), "not allowed");
    let (head, peer) = issued(&front, "front", &[]);
    assert!(authenticator.authenticate(&head, Some(&peer)).await.is_err(), "is no user itself");
    let (head, peer) = issued(&clients, "front", &named);
    let user = authenticator.authenticate(&head, Some(&peer)).await.unwrap();
    assert_eq!(user.username, "front", "clients speak for themselves only");
}
