//! What must hold of `service_account`.

use pki::ServiceAccountKey;
use serde_json::json;

use super::*;
use crate::{
    authn::{Authenticator, Config},
    authz::testing::Memory,
    request::RequestInfo,
};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const ISSUER: &str = "https://oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF";

struct Cluster {
    memory: Arc<Memory>,
    authenticator: Authenticator,
}

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

fn key() -> ServiceAccountKey {
    // Making an RSA key is slow, and one serves all tests.
    static KEY: std::sync::LazyLock<ServiceAccountKey> =
        std::sync::LazyLock::new(|| ServiceAccountKey::generate().unwrap());
    KEY.clone()
}

fn accounts(key: ServiceAccountKey) -> ServiceAccounts {
    let audiences = vec!["https://kubernetes.default.svc".into()];
    let keys = SigningKeys::new(vec![key]);
    let jwks_uri = format!("{ISSUER}/keys");
    let legacy_keys = SigningKeys::default();
    ServiceAccounts { issuer: ISSUER.into(), audiences, jwks_uri, keys, legacy_keys }
}

fn object(name: &str, uid: &str) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name, "uid": uid}})
}

fn cluster() -> Cluster {
    let mut pod = object("p", "pod-uid");
    pod["spec"] = json!({"serviceAccountName": "web", "nodeName": "n"});
    let node = json!({"metadata": {"name": "n", "uid": "node-uid"}});
    let memory = Memory::with(&[
        ("serviceaccounts", object("web", "sa-uid")),
        ("pods", pod),
        ("nodes", node),
    ]);
    let config = Config { service_accounts: Some(accounts(key())), ..Config::default() };
    let clock = Clock::simulated(NOW);
    let authenticator = Authenticator::new(config, Shared(memory.clone()), clock).unwrap();
    Cluster { memory, authenticator }
}

impl Cluster {
    fn request(&self, user: &UserInfo, spec: Value) -> Result<Value, crate::status::Status> {
        let path = "/api/v1/namespaces/ns/serviceaccounts/web/token";
        let info = RequestInfo::parse(&http::Method::POST, path, "");
        self.authenticator.create_token(user, &info, json!({"metadata": {}, "spec": spec}), &[])
    }

    fn token(&self, spec: Value) -> String {
        let made = self.request(&UserInfo::master("admin"), spec).unwrap();
        text(&made, "/status/token").to_owned()
    }

    async fn user(&self, token: &str) -> Option<UserInfo> {
        self.authenticator.authenticate_token(token, &[]).await.ok().map(|(user, _)| user)
    }
}

fn bound_to_pod() -> Value {
    json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pod-uid"}})
}

#[tokio::test(start_paused = true)]
async fn a_bound_token_names_its_account_its_pod_and_its_node() {
    let cluster = cluster();
    let user = cluster.user(&cluster.token(bound_to_pod())).await.unwrap();
    assert_eq!(user.username, "system:serviceaccount:ns:web");
    assert_eq!(user.uid, "sa-uid");
    assert!(user.is_in("system:serviceaccounts:ns") && user.is_in("system:authenticated"));
    let extra = |key: &str| user.extra[&format!("authentication.kubernetes.io/{key}")][0].clone();
    assert_eq!(extra("pod-name"), "p");
    assert_eq!(extra("node-uid"), "node-uid");
    assert!(extra("credential-id").starts_with("JTI="));
}

#[tokio::test(start_paused = true)]
async fn a_token_dies_with_what_it_is_bound_to() {
    for (resource, name) in [("pods", "p"), ("serviceaccounts", "web")] {
        let cluster = cluster();
        let token = cluster.token(bound_to_pod());
        cluster.memory.remove(resource, "ns", name);
        assert!(cluster.user(&token).await.is_none(), "without {resource}");
        // One of the same name is another one.
        cluster.memory.put(resource, object(name, "another-uid"));
        assert!(cluster.user(&token).await.is_none(), "with another of {resource}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_refused_a_minute_after_its_expiry() {
    let cluster = cluster();
    let token = cluster.token(json!({"expirationSeconds": 600}));
    tokio::time::sleep(std::time::Duration::from_secs(660)).await;
    assert!(cluster.user(&token).await.is_some());
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(cluster.user(&token).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_for_someone_else_is_not_for_us() {
    let cluster = cluster();
    let token = cluster.token(json!({"audiences": ["sts.amazonaws.com"]}));
    assert!(cluster.user(&token).await.is_none());
    let wanted = ["sts.amazonaws.com".to_owned(), "other".to_owned()];
    let (_, common) = cluster.authenticator.authenticate_token(&token, &wanted).await.ok().unwrap();
    assert_eq!(common, ["sts.amazonaws.com"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_key_or_with_changed_claims_is_forged() {
    let cluster = cluster();
    let genuine = cluster.token(json!({}));
    let own = accounts(key());
    let claims = own.decode(&genuine).unwrap();
    let mut stranger = accounts(ServiceAccountKey::generate().unwrap());
    stranger.issuer = ISSUER.into();
    assert!(cluster.user(&stranger.sign(&claims).unwrap()).await.is_none());

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let parts: Vec<&str> = genuine.split('.').collect();
    let mut admin = claims.clone();
    admin.sub = "system:serviceaccount:kube-system:admin".into();
    let forged = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&admin).unwrap());
    assert!(cluster.user(&format!("{}.{forged}.{}", parts[0], parts[2])).await.is_none());

    let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none"}"#);
    assert!(cluster.user(&format!("{none}.{}.", parts[1])).await.is_none());
    // The public key is no shared secret, whatever the header says.
    let hmac = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(key().public_pem().as_bytes()),
    );
    assert!(cluster.user(&hmac.unwrap()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn after_a_rotation_the_new_key_signs_and_tokens_of_the_old_one_are_good_until_it_goes() {
    let cluster = cluster();
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let old = cluster.token(json!({}));
    let next = ServiceAccountKey::generate().unwrap();
    let keys = &cluster.authenticator.service_accounts().unwrap().keys;
    keys.replace(vec![next.clone(), key()]);
    let new = cluster.token(json!({}));
    assert_eq!((kid(&old).as_str(), kid(&new).as_str()), (key().key_id(), next.key_id()));
    assert!(cluster.user(&old).await.is_some() && cluster.user(&new).await.is_some());
    let published = keys.jwks();
    assert_eq!(published["keys"].as_array().unwrap().len(), 2);
    keys.replace(vec![next]);
    assert!(cluster.user(&old).await.is_none());
    assert!(cluster.user(&new).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_signed_token_whose_subject_contradicts_its_claims_is_refused() {
    let cluster = cluster();
    let own = accounts(key());
    let mut claims = own.decode(&cluster.token(json!({}))).unwrap();
    claims.sub = "system:serviceaccount:kube-system:web".into();
    assert!(cluster.user(&own.sign(&claims).unwrap()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_default_volumes_token_lives_longer_than_it_says() {
    let cluster = cluster();
    let spec = json!({"expirationSeconds": 3607});
    let made = cluster.request(&UserInfo::master("admin"), spec).unwrap();
    let claims = accounts(key()).decode(text(&made, "/status/token")).unwrap();
    assert_eq!(claims.exp - claims.iat, 90 * 24 * 3600);
    assert_eq!(claims.kubernetes.warnafter, Some(claims.iat + 3607));
    assert_eq!(text(&made, "/status/expirationTimestamp"), "2027-01-15T09:00:07Z");
}

#[tokio::test(start_paused = true)]
async fn a_short_life_and_another_accounts_pod_are_refused() {
    let cluster = cluster();
    let admin = UserInfo::master("admin");
    let short = cluster.request(&admin, json!({"expirationSeconds": 599})).unwrap_err();
    assert_eq!(short.code, 422);
    let mut other = object("other", "other-uid");
    other["spec"] = json!({"serviceAccountName": "default", "nodeName": "n"});
    cluster.memory.put("pods", other);
    let bound = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "other"}});
    assert_eq!(cluster.request(&admin, bound).unwrap_err().code, 400);
}

#[tokio::test(start_paused = true)]
async fn a_node_gets_tokens_only_for_its_own_pods() {
    let cluster = cluster();
    let node = |name: &str| {
        UserInfo::new(&format!("system:node:{name}"), &["system:bootstrappers", "system:nodes"])
    };
    assert!(cluster.request(&node("n"), bound_to_pod()).is_ok());
    let other = cluster.request(&node("m"), bound_to_pod()).unwrap_err();
    assert_eq!(
        other.message,
        "serviceaccounts \"web\" is forbidden: node requested token bound to a pod scheduled on a \
         different node"
    );
    let unbound = cluster.request(&node("n"), json!({})).unwrap_err();
    assert!(unbound.message.ends_with("node requested token not bound to a pod"));
    let mut stranger = bound_to_pod();
    stranger["audiences"] = json!(["vault"]);
    assert_eq!(cluster.request(&node("n"), stranger).unwrap_err().code, 403);
}
