//! ID tokens of an OpenID Connect provider.
//!
//! The provider's keys are asked for when a token comes that is signed with one that is not known, or
//! not with the one of its name: a provider may change a key and keep its name, or give it none. They
//! are not asked for again for a while: strangers can make up as many tokens as they like.
//!
//! Deviation: one provider, by flags; no structured configuration, and no distributed claims.
//!
//! Upstream: k8s.io/apiserver/plugin/pkg/authenticator/token/oidc.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Uri};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use parking_lot::RwLock;
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use super::hook::Peer;
use crate::{authz::text, request::UserInfo};

/// Keys are asked for at most this often.
const REFETCH: Duration = Duration::from_secs(10);

/// How long the provider may take to tell its keys.
const FETCH_LIMIT: Duration = Duration::from_secs(30);

/// How far in the future `nbf` may be: clocks differ.
const NOT_BEFORE_LEEWAY_SECONDS: i64 = 5 * 60;

/// Upstream's flags, without their prefix `oidc`.
#[derive(Clone, Debug)]
pub struct Oidc {
    pub issuer_url: String,
    pub client_id: String,
    pub username_claim: String,
    /// `-` is none; where it is not given, all claims but `email` have the issuer's.
    pub username_prefix: Option<String>,
    pub groups_claim: Option<String>,
    pub groups_prefix: String,
    pub required_claims: Vec<(String, String)>,
    pub signing_algs: Vec<Algorithm>,
    pub provider: Peer,
}

/// Why a token is nobody's.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    #[error("oidc: the token cannot be read")]
    Malformed,
    #[error("oidc: the token is signed with {0:?}, which is not accepted")]
    Algorithm(Algorithm),
    #[error("oidc: the token is signed with a key that the provider does not have")]
    UnknownKey,
    #[error("oidc: the provider's keys could not be had: {0}")]
    Provider(String),
    #[error("oidc: the token's signature is not the provider's")]
    Signature,
    #[error("oidc: the token has expired or is not valid yet")]
    Dates,
    #[error("oidc: the token is for {0}, not for this client")]
    Audience(Value),
    #[error("oidc: the claim `{0}` is not as it must be")]
    Claim(String),
}

/// A provider, with the keys that are known of it.
#[derive(Debug)]
pub(super) struct Provider {
    config: Oidc,
    keys: RwLock<Option<JwkSet>>,
    /// Held by who asks for them, with when that was done last: whose key is known does not wait.
    asked: Mutex<Option<Instant>>,
}

impl Provider {
    pub(super) fn new(config: Oidc) -> Self {
        Self { config, keys: RwLock::default(), asked: Mutex::default() }
    }

    /// Whether the token claims to be of this provider (nothing is verified).
    pub(super) fn claims(&self, token: &str) -> bool {
        let claims = jsonwebtoken::dangerous::insecure_decode_claims::<Value>(token);
        claims.is_ok_and(|claims| text(&claims, "/iss") == self.config.issuer_url)
    }

    pub(super) async fn authenticate(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<UserInfo, OidcError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| OidcError::Malformed)?;
        if !self.config.signing_algs.contains(&header.alg) {
            return Err(OidcError::Algorithm(header.alg));
        }
        let mut validation = Validation::new(header.alg);
        // Dates and audiences are checked below, against the injected clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = self.verified(token, header.kid.as_deref(), &validation).await?;
        self.check(&claims, now.as_second())?;
        self.user(&claims)
    }

    /// The claims of a token that a key of the provider has signed.
    async fn verified(
        &self,
        token: &str,
        id: Option<&str>,
        validation: &Validation,
    ) -> Result<Value, OidcError> {
        let verify = || {
            let key = self.known(id).ok_or(OidcError::UnknownKey)?;
            let claims = jsonwebtoken::decode::<Value>(token, &key, validation);
            claims.map(|it| it.claims).map_err(|_| OidcError::Signature)
        };
        if let Ok(claims) = verify() {
            return Ok(claims);
        }
        let mut asked = self.asked.lock().await;
        // Somebody else may have asked meanwhile.
        let found = verify();
        if found.is_ok() || asked.is_some_and(|it| it.elapsed() < REFETCH) {
            return found;
        }
        let fetched = tokio::time::timeout(FETCH_LIMIT, self.fetch_keys()).await;
        *asked = Some(Instant::now());
        let late = |_| OidcError::Provider(format!("no answer within {FETCH_LIMIT:?}"));
        *self.keys.write() = Some(fetched.map_err(late)??);
        verify()
    }

    fn known(&self, id: Option<&str>) -> Option<DecodingKey> {
        let keys = self.keys.read();
        let all = &keys.as_ref()?.keys;
        let key = match id {
            Some(id) => all.iter().find(|it| it.common.key_id.as_deref() == Some(id)),
            // Without a name it must be the only one.
            None => all.first().filter(|_| all.len() == 1),
        };
        DecodingKey::from_jwk(key?).ok()
    }

    async fn fetch_keys(&self) -> Result<JwkSet, OidcError> {
        let failed = |why: &dyn std::fmt::Display| OidcError::Provider(why.to_string());
        let issuer = &self.config.issuer_url;
        let about = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let about: Value =
            serde_json::from_slice(&self.get(&about).await?).map_err(|error| failed(&error))?;
        if text(&about, "/issuer") != issuer {
            return Err(failed(&"its document is of another issuer"));
        }
        let keys = self.get(text(&about, "/jwks_uri")).await?;
        serde_json::from_slice(&keys).map_err(|error| failed(&error))
    }

    async fn get(&self, uri: &str) -> Result<Bytes, OidcError> {
        let failed = |why: String| OidcError::Provider(format!("`{uri}`: {why}"));
        let place: Uri = uri.parse().map_err(|_| failed("no such address".into()))?;
        let request = Request::builder().method(Method::GET).uri(place).body(transport::empty());
        let request = request.map_err(|error| failed(error.to_string()))?;
        let asked = self.config.provider.send(request).await;
        let (status, body) =
            asked.map_err(|error| failed(telemetry::chain(&*error).to_string()))?;
        if status.is_success() { Ok(body) } else { Err(failed(status.to_string())) }
    }

    fn check(&self, claims: &Value, now: i64) -> Result<(), OidcError> {
        let config = &self.config;
        if text(claims, "/iss") != config.issuer_url {
            return Err(OidcError::Claim("iss".into()));
        }
        let is_for_us = match &claims["aud"] {
            Value::Array(all) => all.iter().any(|it| *it == config.client_id),
            one => *one == config.client_id,
        };
        if !is_for_us {
            return Err(OidcError::Audience(claims["aud"].clone()));
        }
        let begins = claims["nbf"].as_i64().unwrap_or_default();
        let is_now = claims["exp"].as_i64().is_some_and(|it| it > now)
            && begins <= now + NOT_BEFORE_LEEWAY_SECONDS;
        if !is_now {
            return Err(OidcError::Dates);
        }
        match config.required_claims.iter().find(|(name, value)| claims[name] != **value) {
            Some((name, _)) => Err(OidcError::Claim(name.clone())),
            None => Ok(()),
        }
    }

    fn user(&self, claims: &Value) -> Result<UserInfo, OidcError> {
        let config = &self.config;
        let claim = &config.username_claim;
        let name = claims[claim].as_str().filter(|it| !it.is_empty());
        let name = name.ok_or_else(|| OidcError::Claim(claim.clone()))?;
        let is_email = claim == "email";
        if is_email && claims.get("email_verified").is_some_and(|it| it != true) {
            return Err(OidcError::Claim("email_verified".into()));
        }
        let prefix = match config.username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) => prefix.to_owned(),
            None if is_email => String::new(),
            None => format!("{}#", config.issuer_url),
        };
        let mut user = UserInfo::new(&format!("{prefix}{name}"), &[]);
        let mut groups = self.groups(claims)?;
        groups.append(&mut user.groups);
        user.groups = groups;
        Ok(user)
    }

    fn groups(&self, claims: &Value) -> Result<Vec<String>, OidcError> {
        let Some(claim) = &self.config.groups_claim else { return Ok(Vec::new()) };
        let wrong = || OidcError::Claim(claim.clone());
        let named = |it: &Value| {
            let name = it.as_str().ok_or_else(wrong)?;
            Ok(format!("{}{name}", self.config.groups_prefix))
        };
        match &claims[claim] {
            Value::Null => Ok(Vec::new()),
            Value::Array(all) => all.iter().map(named).collect(),
            one => Ok(vec![named(one)?]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use http::Response;
    use jsonwebtoken::{EncodingKey, Header};
    use pki::ServiceAccountKey;
    use serde_json::json;
    use transport::Body;

    use super::*;

    const ISSUER: &str = "https://id.example.com";

    struct World {
        key: ServiceAccountKey,
        asked: Arc<AtomicUsize>,
        /// What the provider tells of its keys.
        shown: Arc<parking_lot::Mutex<Value>>,
        provider: Provider,
    }

    impl World {
        fn new(change: fn(&mut Oidc)) -> Self {
            let key = ServiceAccountKey::generate().unwrap();
            let shown = Arc::new(parking_lot::Mutex::new(key.jwks()));
            let (jwks, asked) = (shown.clone(), Arc::<AtomicUsize>::default());
            let count = asked.clone();
            let service = tower::service_fn(move |request: Request<Body>| {
                let is_keys = request.uri().path() == "/keys";
                count.fetch_add(usize::from(is_keys), Ordering::Relaxed);
                let about = json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys")});
                let body = if is_keys { jwks.lock().clone() } else { about };
                async move { Ok::<_, Infallible>(Response::new(transport::full(body.to_string()))) }
            });
            let mut config = Oidc {
                issuer_url: ISSUER.into(),
                client_id: "kubernetes".into(),
                username_claim: "sub".into(),
                username_prefix: None,
                groups_claim: Some("groups".into()),
                groups_prefix: "oidc:".into(),
                required_claims: Vec::new(),
                signing_algs: vec![Algorithm::RS256],
                provider: Peer::local(service),
            };
            change(&mut config);
            Self { key, asked, shown, provider: Provider::new(config) }
        }

        fn sign(&self, claims: &Value, kid: &str) -> String {
            let mut header = Header::new(Algorithm::RS256);
            header.kid = Some(kid.to_owned());
            let key = EncodingKey::from_rsa_pem(self.key.private_pem().as_bytes()).unwrap();
            jsonwebtoken::encode(&header, claims, &key).unwrap()
        }

        async fn of(&self, change: Value) -> Result<UserInfo, OidcError> {
            let mut claims = json!({"iss": ISSUER, "aud": "kubernetes", "sub": "ann", "exp": 100,
                "groups": ["dev"]});
            json_patch::merge(&mut claims, &change);
            let token = self.sign(&claims, self.key.key_id());
            assert!(self.provider.claims(&token) || change.get("iss").is_some());
            self.provider.authenticate(&token, Timestamp::UNIX_EPOCH).await
        }
    }

    #[tokio::test]
    async fn a_token_is_the_user_and_the_groups_of_its_claims() {
        let world = World::new(|_| {});
        let user = world.of(json!({})).await.unwrap();
        assert_eq!(user.username, "https://id.example.com#ann");
        assert_eq!(user.groups, ["oidc:dev", "system:authenticated"]);
        let user =
            world.of(json!({"groups": "ops", "aud": ["other", "kubernetes"]})).await.unwrap();
        assert_eq!(user.groups[0], "oidc:ops");
        let mail = World::new(|it| it.username_claim = "email".into());
        assert_eq!(mail.of(json!({"email": "a@b"})).await.unwrap().username, "a@b");
    }

    #[tokio::test]
    async fn a_token_that_is_not_good_in_every_part_is_nobodys() {
        let world = World::new(|it| it.required_claims = vec![("hd".into(), "b".into())]);
        assert!(world.of(json!({"hd": "b"})).await.is_ok());
        for change in [
            json!({"exp": 0}),
            json!({"exp": "soon"}),
            json!({"nbf": 301}),
            json!({"aud": "another"}),
            json!({"iss": "https://evil.example.com"}),
            json!({"sub": ""}),
            json!({"groups": [1]}),
            json!({"hd": "c"}),
        ] {
            let mut all = json!({"hd": "b"});
            json_patch::merge(&mut all, &change);
            assert!(world.of(all).await.is_err(), "{change}");
        }
        let mail = World::new(|it| it.username_claim = "email".into());
        assert!(mail.of(json!({"email": "a@b", "email_verified": false})).await.is_err());
        let (one, other) = (World::new(|_| {}), World::new(|_| {}));
        let claims = json!({"iss": ISSUER, "aud": "kubernetes", "sub": "ann", "exp": 100});
        let forged = other.sign(&claims, one.key.key_id());
        let refused = one.provider.authenticate(&forged, Timestamp::UNIX_EPOCH).await.unwrap_err();
        assert!(matches!(refused, OidcError::Signature), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_changed_under_its_name_or_has_none_is_asked_for_again() {
        for kid in [Some("one"), None] {
            let (old, new) = (World::new(|_| {}), World::new(|_| {}));
            let shown = |world: &World| {
                let mut jwks = world.key.jwks();
                jwks["keys"][0]["kid"] = json!(kid);
                serde_json::from_value::<JwkSet>(jwks).unwrap()
            };
            // What it knew, and what the provider has by now.
            *new.provider.keys.write() = Some(shown(&old));
            let mut header = Header::new(Algorithm::RS256);
            header.kid = kid.map(str::to_owned);
            let key = EncodingKey::from_rsa_pem(new.key.private_pem().as_bytes()).unwrap();
            let claims = json!({"iss": ISSUER, "aud": "kubernetes", "sub": "ann", "exp": 100});
            let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
            *new.shown.lock() = json!(shown(&new));
            let user = new.provider.authenticate(&token, Timestamp::UNIX_EPOCH).await.unwrap();
            assert!(user.username.ends_with("#ann"), "{kid:?}");
            assert_eq!(new.asked.load(Ordering::Relaxed), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_names_of_keys_do_not_flood_the_provider() {
        let world = World::new(|_| {});
        let claims = json!({"iss": ISSUER, "aud": "kubernetes", "sub": "ann", "exp": 100});
        for number in 0..5 {
            let token = world.sign(&claims, &format!("made-up-{number}"));
            assert!(world.provider.authenticate(&token, Timestamp::UNIX_EPOCH).await.is_err());
        }
        assert_eq!(world.asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(REFETCH).await;
        let token = world.sign(&claims, "made-up");
        assert!(world.provider.authenticate(&token, Timestamp::UNIX_EPOCH).await.is_err());
        assert_eq!(world.asked.load(Ordering::Relaxed), 2);
    }
}
