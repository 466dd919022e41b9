//! What must hold of `legacy_token`.

use clock::Clock;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pki::ServiceAccountKey;
use serde_json::json;

use super::*;
use crate::{
    authn::{Authenticator, Config, SigningKeys},
    authz::testing::Memory,
};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const AUDIENCE: &str = "https://kubernetes.default.svc";

/// Shares the objects with the authenticator, so that a test can change them.
struct Shared(Arc<Memory>);

impl Objects for Shared {
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0.get(resource, namespace, name)
    }

    fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        self.0.list(resource, namespace)
    }

    fn revision(&self, resource: &str) -> u64 {
        self.0.revision(resource)
    }
}

/// The keys that sign other tokens, and the one of these.
fn keys() -> &'static (ServiceAccountKey, ServiceAccountKey) {
    static KEYS: std::sync::LazyLock<(ServiceAccountKey, ServiceAccountKey)> =
        std::sync::LazyLock::new(|| {
            (ServiceAccountKey::generate().unwrap(), ServiceAccountKey::generate().unwrap())
        });
    &KEYS
}

fn signed(claims: &Value, key: &ServiceAccountKey) -> String {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(key.key_id().to_owned());
    let key = EncodingKey::from_rsa_pem(key.private_pem().as_bytes()).unwrap();
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "system:serviceaccount:ns:web",
        "kubernetes.io/serviceaccount/namespace": "ns",
        "kubernetes.io/serviceaccount/secret.name": "web-token",
        "kubernetes.io/serviceaccount/service-account.name": "web",
        "kubernetes.io/serviceaccount/service-account.uid": "sa-uid",
    })
}

fn secret(token: &str) -> Value {
    json!({ "metadata": { "namespace": "ns", "name": "web-token", "uid": "secret-uid" },
        "type": "kubernetes.io/service-account-token",
        "data": { "token": BASE64_STANDARD.encode(token) } })
}

fn account(uid: &str) -> Value {
    json!({ "metadata": { "namespace": "ns", "name": "web", "uid": uid } })
}

struct Cluster {
    memory: Arc<Memory>,
    authenticator: Authenticator,
}

fn cluster(token: &str) -> Cluster {
    let memory =
        Memory::with(&[("secrets", secret(token)), ("serviceaccounts", account("sa-uid"))]);
    let accounts = ServiceAccounts {
        issuer: "https://issuer".into(),
        audiences: vec![AUDIENCE.into()],
        jwks_uri: "https://issuer/keys".into(),
        keys: SigningKeys::new(vec![keys().0.clone()]),
        legacy_keys: SigningKeys::new(vec![keys().1.clone()]),
    };
    let config = Config { service_accounts: Some(accounts), ..Config::default() };
    let clock = Clock::simulated(NOW);
    let authenticator = Authenticator::new(config, Shared(memory.clone()), clock).unwrap();
    Cluster { memory, authenticator }
}

impl Cluster {
    async fn check(&self, token: &str, audiences: &[&str]) -> Result<UserInfo, String> {
        let audiences: Vec<String> = audiences.iter().map(|it| (*it).to_owned()).collect();
        let checked = self.authenticator.authenticate_token(token, &audiences).await;
        checked.map(|(user, _)| user).map_err(|it| it.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_secret_is_its_account_for_as_long_as_both_are_there() {
    for key in [&keys().0, &keys().1] {
        let token = signed(&claims(), key);
        let cluster = cluster(&token);
        let user = cluster.check(&token, &[]).await.unwrap();
        assert_eq!((&*user.username, &*user.uid), ("system:serviceaccount:ns:web", "sa-uid"));
        assert!(user.is_in("system:serviceaccounts:ns") && user.is_in("system:authenticated"));
        assert!(user.extra.is_empty(), "such a token has no id");
        tokio::time::sleep(std::time::Duration::from_secs(10 * 365 * 24 * 3600)).await;
        assert!(cluster.check(&token, &[AUDIENCE]).await.is_ok(), "it has no end");
        assert!(cluster.check(&token, &["vault"]).await.is_err(), "it is for nobody else");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_secret_or_account_is_another_is_refused_in_upstreams_words() {
    let token = signed(&claims(), &keys().1);
    let with = |edit: &dyn Fn(&Memory)| {
        let cluster = cluster(&token);
        edit(&cluster.memory);
        cluster
    };
    let leaving = |mut object: Value| {
        object["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z".into();
        object
    };
    let marked = |mut object: Value| {
        object["metadata"]["labels"][INVALID_SINCE] = "2026-11-23".into();
        object
    };
    type Edit<'a> = &'a dyn Fn(&Memory);
    let cases: [(Edit<'_>, &str); 7] = [
        (&|it| it.remove("secrets", "ns", "web-token"), "Token has been invalidated"),
        (&|it| it.put("secrets", leaving(secret(&token))), "Token has been invalidated"),
        (&|it| it.put("secrets", secret("other")), "Token does not match server's copy"),
        (&|it| it.remove("serviceaccounts", "ns", "web"), "serviceaccounts \"web\" not found"),
        (
            &|it| it.put("serviceaccounts", leaving(account("sa-uid"))),
            "ServiceAccount ns/web has been deleted",
        ),
        (
            &|it| it.put("serviceaccounts", account("new")),
            "ServiceAccount UID (new) does not match claim (sa-uid)",
        ),
        (
            &|it| it.put("secrets", marked(secret(&token))),
            "the token in secret ns/web-token for service account ns/web has been marked invalid. \
             Use tokens from the TokenRequest API or manually created secret-based tokens, or \
             remove the 'kubernetes.io/legacy-token-invalid-since' label from the secret to \
             temporarily allow use of this token",
        ),
    ];
    for (edit, expected) in cases {
        assert_eq!(with(edit).check(&token, &[]).await.unwrap_err(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn claims_that_lack_something_or_contradict_each_other_are_refused() {
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let prefix = "kubernetes.io/serviceaccount";
    let mut stranger = claims();
    stranger["sub"] = "system:serviceaccount:kube-system:web".into();
    for (claims, expected) in [
        (without("sub"), "sub claim is missing"),
        (without(&format!("{prefix}/namespace")), "namespace claim is missing"),
        (without(&format!("{prefix}/secret.name")), "secretName claim is missing"),
        (without(&format!("{prefix}/service-account.name")), "serviceAccountName claim is missing"),
        (without(&format!("{prefix}/service-account.uid")), "serviceAccountUID claim is missing"),
        (stranger, "sub claim is invalid"),
    ] {
        let token = signed(&claims, &keys().1);
        assert_eq!(cluster(&token).check(&token, &[]).await.unwrap_err(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_forged_token_is_refused_even_where_a_secret_holds_it() {
    let stranger = ServiceAccountKey::generate().unwrap();
    let forged = signed(&claims(), &stranger);
    assert!(cluster(&forged).check(&forged, &[]).await.is_err());
    // The key of these tokens makes no others.
    let mut claims = claims();
    claims["iss"] = "https://issuer".into();
    let token = signed(&claims, &keys().1);
    assert!(cluster(&token).check(&token, &[]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_use_of_a_token_is_noted_once_a_day() {
    let token = signed(&claims(), &keys().1);
    let cluster = cluster(&token);
    let uses = cluster.authenticator.legacy_uses();
    cluster.check(&token, &[]).await.unwrap();
    let used = Use { namespace: "ns".into(), name: "web-token".into(), uid: "secret-uid".into() };
    assert_eq!(uses.next().await, [used]);
    let mut shown = secret(&token);
    shown["metadata"]["labels"][LAST_USED] = day(NOW).into();
    cluster.memory.put("secrets", shown);
    cluster.check(&token, &[]).await.unwrap();
    let next = tokio::time::timeout(std::time::Duration::from_secs(1), uses.next());
    assert!(next.await.is_err(), "the label shows it");
    tokio::time::sleep(std::time::Duration::from_secs(24 * 3600)).await;
    cluster.check(&token, &[]).await.unwrap();
    assert_eq!(uses.next().await.len(), 1);
}
