//! Tokens that are good, and each way in which one is not.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clock::Clock;
use futures::future::BoxFuture;
use iam_policy::{Kind, Policy};
use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header};
use pki::ServiceAccountKey;
use proptest::prelude::*;
use region_gateway::{AccessKeys, Attached, CallerKind, Identities};
use region_store::Store;
use serde_json::json;

use super::*;
use crate::{FetchError, IssuerDocuments};

const ACCOUNT: &str = "111122223333";
const ISSUER: &str = "https://oidc.eks.us-east-1.amazonaws.com/id/ABC";
const PROVIDER: &str =
    "arn:aws:iam::111122223333:oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/ABC";
const SUBJECT: &str = "system:serviceaccount:default:app";

/// `app` trusts the service account `default/app`.
struct People;

impl Identities for People {
    fn attached(&self, _: &CallerKind) -> Option<Attached> {
        None
    }

    fn role(&self, name: &str) -> Option<Role> {
        let text = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow",
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Principal": { "Federated": PROVIDER },
            "Condition": { "StringEquals": {
                "oidc.eks.us-east-1.amazonaws.com/id/ABC:sub": SUBJECT,
                "oidc.eks.us-east-1.amazonaws.com/id/ABC:aud": "sts.amazonaws.com",
            }},
        }});
        (name == "app").then(|| Role {
            name: name.to_owned(),
            arn: format!("arn:aws:iam::{ACCOUNT}:role/{name}"),
            id: "AROAAPP".to_owned(),
            trust: Arc::new(Policy::parse(&text.to_string(), Kind::Trust).unwrap()),
            max_session: Duration::from_secs(3600),
            tags: BTreeMap::new(),
        })
    }

    fn managed_policy(&self, _: &str) -> Option<Named> {
        None
    }

    fn identity_provider(&self, issuer: &str) -> Option<IdentityProvider> {
        let client_ids = vec!["sts.amazonaws.com".to_owned()];
        (issuer == ISSUER).then(|| IdentityProvider { arn: PROVIDER.to_owned(), client_ids })
    }
}

struct Keys(Value);

impl IssuerDocuments for Keys {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Value, FetchError>> {
        let keys = format!("{ISSUER}/keys");
        let document = match url.strip_prefix(ISSUER) {
            Some("/.well-known/openid-configuration") => {
                Ok(json!({"issuer": ISSUER, "jwks_uri": keys}))
            }
            Some("/keys") => Ok(self.0.clone()),
            _ => Err(FetchError::Missing),
        };
        Box::pin(std::future::ready(document))
    }
}

fn sts(key: &ServiceAccountKey) -> Arc<Sts> {
    let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
    let sts =
        Sts::open(&Store::in_memory(), ACCOUNT, "us-east-1", Arc::new(People), clock).unwrap();
    sts.reach_issuers_by(Arc::new(Keys(key.jwks())));
    sts
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": SUBJECT, "aud": ["sts.amazonaws.com"], "exp": 600, "nbf": 0})
}

fn sign(key: &ServiceAccountKey, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(key.key_id().to_owned());
    let key = EncodingKey::from_rsa_pem(key.private_pem().as_bytes()).unwrap();
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

async fn assume(
    sts: &Sts,
    token: String,
    role: &str,
) -> Result<AssumeRoleWithWebIdentityResponse, Fault> {
    let caller = Caller::root(ACCOUNT, "us-east-1", Timestamp::UNIX_EPOCH);
    let request = AssumeRoleWithWebIdentityRequest {
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/{role}"),
        role_session_name: "session".to_owned(),
        web_identity_token: token,
        ..AssumeRoleWithWebIdentityRequest::default()
    };
    let result = Handle::<AssumeRoleWithWebIdentity>::handle(sts, &caller, request).await;
    let decided = caller.decisions.take();
    let is_allowed = decided.iter().all(|it| it.decision.is_allowed());
    // The log of calls says what was decided, and on which role.
    assert_eq!((decided.len(), is_allowed), (1, result.is_ok()));
    assert!(decided[0].resource.ends_with(role));
    result
}

#[tokio::test(start_paused = true)]
async fn only_a_true_token_of_the_trusted_subject_gives_credentials() {
    let (key, other) =
        (ServiceAccountKey::generate().unwrap(), ServiceAccountKey::generate().unwrap());
    let sts = sts(&key);
    let good = assume(&sts, sign(&key, &claims()), "app").await.unwrap();
    assert_eq!(good.subject_from_web_identity_token, SUBJECT);
    assert_eq!(good.provider, PROVIDER);
    assert!(sts.access_key(&good.credentials.access_key_id).is_some());

    let with = |field: &str, value: Value| {
        let mut claims = claims();
        claims[field] = value;
        sign(&key, &claims)
    };
    let mut tampered: Vec<String> = sign(&key, &claims()).split('.').map(str::to_owned).collect();
    tampered[1] = with("sub", json!("evil")).split('.').nth(1).unwrap().to_owned();
    for (why, token, role, code) in [
        ("issuer", with("iss", json!("https://evil")), "app", "InvalidIdentityToken"),
        ("audience", with("aud", json!("vault")), "app", "InvalidIdentityToken"),
        ("expired", with("exp", json!(0)), "app", "ExpiredTokenException"),
        ("early", with("nbf", json!(3600)), "app", "InvalidIdentityToken"),
        ("early", with("nbf", json!(1e12)), "app", "InvalidIdentityToken"),
        ("no time", with("nbf", json!("soon")), "app", "InvalidIdentityToken"),
        ("no end", with("exp", json!(null)), "app", "InvalidIdentityToken"),
        ("no subject", with("sub", json!(["x"])), "app", "InvalidIdentityToken"),
        ("subject", with("sub", json!("system:serviceaccount:x:app")), "app", "AccessDenied"),
        ("role", sign(&key, &claims()), "other", "AccessDenied"),
        ("signer", sign(&other, &claims()), "app", "InvalidIdentityToken"),
        ("tampered", tampered.join("."), "app", "InvalidIdentityToken"),
        ("no token", "a.b.c".to_owned(), "app", "InvalidIdentityToken"),
    ] {
        let fault = assume(&sts, token, role).await.unwrap_err();
        assert_eq!(&*fault.code, code, "{why}: {}", fault.message);
    }
}

/// What a token says of its own signature is not believed.
#[tokio::test(start_paused = true)]
async fn a_token_does_not_choose_how_it_is_verified() {
    let (key, other) =
        (ServiceAccountKey::generate().unwrap(), ServiceAccountKey::generate().unwrap());
    let sts = sts(&key);
    let part = |it: &Value| URL_SAFE_NO_PAD.encode(it.to_string());
    let unsigned = |header: Value, signature: &str| {
        format!("{}.{}.{signature}", part(&header), part(&claims()))
    };
    // The public key as the secret of an HMAC.
    let public = key.jwks()["keys"][0].clone();
    let by_hmac = |secret: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(key.key_id().to_owned());
        jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap()
    };
    let named = |signer: &ServiceAccountKey, kid: Option<&str>| {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = kid.map(str::to_owned);
        // Where a key could be had that the issuer does not publish.
        header.jku = Some("https://evil.test/keys".to_owned());
        let key = EncodingKey::from_rsa_pem(signer.private_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&header, &claims(), &key).unwrap()
    };
    for (why, token) in [
        ("no algorithm", unsigned(json!({"alg": "none", "kid": key.key_id()}), "")),
        ("no algorithm", unsigned(json!({"alg": "None", "kid": key.key_id()}), "c2ln")),
        ("hmac", by_hmac(public["n"].as_str().unwrap().as_bytes())),
        ("hmac", by_hmac(public.to_string().as_bytes())),
        ("another's key under its name", named(&other, Some(key.key_id()))),
        ("an unknown name", named(&key, Some("other"))),
        ("another's key without a name", named(&other, None)),
    ] {
        let fault = assume(&sts, token, "app").await.unwrap_err();
        assert_eq!(&*fault.code, "InvalidIdentityToken", "{why}: {}", fault.message);
    }
    // Some issuers' tokens name no key: each that is published is tried.
    assert!(assume(&sts, named(&key, None), "app").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_keys_no_token_is_believed() {
    let key = ServiceAccountKey::generate().unwrap();
    let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
    let sts =
        Sts::open(&Store::in_memory(), ACCOUNT, "us-east-1", Arc::new(People), clock).unwrap();
    let fault = assume(&sts, sign(&key, &claims()), "app").await.unwrap_err();
    assert_eq!(&*fault.code, "InvalidIdentityToken");
}

proptest! {
    #[test]
    fn arbitrary_tokens_never_panic(token in "[A-Za-z0-9_=-]{0,40}(\\.[A-Za-z0-9_=-]{0,40}){0,3}") {
        let jwks = json!({"keys": [{"kid": "a", "n": "AQAB", "e": "AQAB"}]});
        prop_assert!(signed_claims(&token, &jwks).is_none());
    }
}
