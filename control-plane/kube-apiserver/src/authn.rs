//! Who makes a request: proxies that name their users, client certificates, service-account tokens, bootstrap tokens, ID tokens of
//! a provider, a token webhook, and for the health paths nobody in particular.
//!
//! **Invariant:** credentials that were given and are not good end the request; they never fall
//! back to anonymous.

mod bootstrap_token;
mod certificates;
mod hook;
mod impersonation;
mod legacy_token;
mod oidc;
mod request_header;
mod reviews;
mod service_account;
mod signing_keys;
mod token_request;
mod webhook;

use std::{io, sync::Arc, time::Duration};

use clock::Clock;
use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use serde_json::{Map, Value};

use self::{
    certificates::Certificates, legacy_token::LegacyTokenError, request_header::Authority,
    webhook::TokenWebhook,
};
pub use self::{
    hook::{Hook, HookError, Peer},
    impersonation::impersonate,
    oidc::{Oidc, OidcError},
    request_header::RequestHeader,
    service_account::{ServiceAccounts, TokenError},
    signing_keys::SigningKeys,
};
pub(crate) use self::{
    legacy_token::{LAST_USED, Uses, day},
    reviews::{create as create_review, shown},
};
use crate::{authz::Objects, metrics::histogram::Histogram, request::UserInfo};

/// Upper bounds of what is left of certificates' time, in seconds: half an hour to a year.
const EXPIRATIONS: &[f64] = &[
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21600.0,
    43200.0,
    86400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];

/// Paths that anyone may ask for (EKS restricts anonymous requests to them).
const OPEN_PATHS: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Where credentials are checked.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Who signs service-account tokens; `None`: nobody does, and none is accepted.
    pub service_accounts: Option<ServiceAccounts>,
    /// Whose ID tokens are accepted.
    pub oidc: Option<Oidc>,
    /// Who knows bearer tokens of other kinds (`k8s-aws-v1.…`).
    pub token_webhook: Option<Hook>,
    /// How long the webhook's good answers are kept; upstream's default is two minutes.
    pub token_webhook_memory: Duration,
    /// Who signs clients' certificates, as servers behind this one are told. With `request_header` the
    /// listener trusts the proxies' authority besides, and this one is needed to tell them apart.
    pub client_ca_pem: Option<String>,
    /// Which proxies in front may name their users.
    pub request_header: Option<RequestHeader>,
}

impl Config {
    /// What `kube-system/extension-apiserver-authentication` says.
    pub(crate) fn published(&self) -> Map<String, Value> {
        let mut data = Map::new();
        if let Some(pem) = &self.client_ca_pem {
            data.insert("client-ca-file".into(), pem.as_str().into());
        }
        if let Some(header) = &self.request_header {
            header.publish(&mut data);
        }
        data
    }
}

/// By whom a client's certificate may be signed where proxies have an authority of their own.
#[derive(Debug)]
struct Authorities {
    proxies: Authority,
    /// `None`: no certificate makes a user.
    clients: Option<Authority>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    config: Arc<Config>,
    objects: Arc<dyn Objects>,
    clock: Clock,
    oidc: Option<Arc<oidc::Provider>>,
    webhook: Option<Arc<TokenWebhook>>,
    legacy_uses: Uses,
    authorities: Option<Arc<Authorities>>,
    certificates: Arc<Certificates>,
    /// How long clients' certificates are good yet.
    expirations: Arc<Histogram>,
}

/// The credentials were given and are not good, or none were given where some are needed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("Unauthorized")]
pub struct Unauthorized;

/// Why a bearer token is nobody's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BearerError {
    #[error("{0}")]
    ServiceAccount(TokenError),
    #[error("{0}")]
    Legacy(LegacyTokenError),
    #[error("{0}")]
    Oidc(OidcError),
    #[error("token lookup failed")]
    Unknown,
}

impl Authenticator {
    /// Fails where an authority is no certificate.
    pub fn new(config: Config, objects: impl Objects, clock: Clock) -> io::Result<Self> {
        let webhook = config.token_webhook.clone();
        let memory = config.token_webhook_memory;
        let webhook = webhook.map(|hook| Arc::new(TokenWebhook::new(hook, memory)));
        let oidc = config.oidc.clone().map(|it| Arc::new(oidc::Provider::new(it)));
        let authorities = match &config.request_header {
            None => None,
            Some(header) => Some(Arc::new(Authorities {
                proxies: Authority::new(&header.ca_pem)?,
                clients: config.client_ca_pem.as_deref().map(Authority::new).transpose()?,
            })),
        };
        let (config, objects) = (Arc::new(config), Arc::new(objects));
        let legacy_uses = Uses::default();
        let (certificates, expirations) = (Arc::default(), Arc::new(Histogram::new(EXPIRATIONS)));
        Ok(Self {
            config,
            objects,
            clock,
            oidc,
            webhook,
            legacy_uses,
            authorities,
            certificates,
            expirations,
        })
    }

    /// How long the certificates of clients were good yet when they were shown.
    pub(crate) fn expirations(&self) -> &Histogram {
        &self.expirations
    }

    /// Takes what named a user out of the headers.
    pub(crate) fn forget(&self, headers: &mut HeaderMap) {
        if let Some(header) = &self.config.request_header {
            header.forget(headers);
        }
    }

    /// The user of a client certificate, or whom its owner speaks for.
    fn by_certificate(
        &self,
        headers: &HeaderMap,
        peer: &transport::Peer,
        certificate: &[u8],
    ) -> Result<UserInfo, Unauthorized> {
        let authorities = self.authorities.as_deref();
        // Without any the TLS layer's word is what counts: it verified the chain and that it is for clients.
        let now = self.clock.now();
        let known = self.certificates.look(peer, certificate, authorities, now);
        if let Some(end) = known.ends_at {
            self.expirations.observe(end.duration_since(now).as_secs_f64());
        }
        if let Some(header) = self.config.request_header.as_ref().filter(|_| known.is_of_proxies) {
            let is_allowed = header.allowed_names.is_empty()
                || header.allowed_names.contains(&known.common_name);
            if let Some(user) = header.user(headers).filter(|_| is_allowed) {
                return Ok(user);
            }
        }
        known.user.clone().filter(|_| known.is_of_clients).ok_or(Unauthorized)
    }

    pub async fn authenticate(
        &self,
        parts: &Parts,
        peer: Option<&transport::Peer>,
    ) -> Result<UserInfo, Unauthorized> {
        if let Some(peer) = peer
            && let Some(certificate) = &peer.certificate
        {
            return self.by_certificate(&parts.headers, peer, certificate);
        }
        match bearer(&parts.headers)? {
            Some(token) => match self.authenticate_token(token, &[]).await {
                Ok((user, _)) => Ok(user),
                Err(error) => {
                    tracing::debug!(%error, "a bearer token was refused");
                    Err(Unauthorized)
                }
            },
            None if is_open(parts.uri.path()) => Ok(UserInfo::anonymous()),
            None => Err(Unauthorized),
        }
    }

    /// The issuer's public keys and discovery document, if tokens are signed here.
    pub fn service_accounts(&self) -> Option<&ServiceAccounts> {
        self.config.service_accounts.as_ref()
    }

    /// Which tokens of Secrets were used.
    pub(crate) fn legacy_uses(&self) -> &Uses {
        &self.legacy_uses
    }

    /// Checks a token for `audiences` (none: the API server's own). Returns those in common.
    pub(crate) async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(UserInfo, Vec<String>), BearerError> {
        let own = self.config.service_accounts.as_ref();
        let default = own.map(|it| it.audiences.as_slice()).unwrap_or_default();
        let audiences = if audiences.is_empty() { default } else { audiences };
        if let Some(accounts) = own.filter(|it| it.is_own(token)) {
            let verified = accounts.verify(token, audiences, &self.objects, self.clock);
            return verified.map_err(BearerError::ServiceAccount);
        }
        if let Some(accounts) = own.filter(|_| ServiceAccounts::is_legacy(token)) {
            let (objects, now) = (&*self.objects, self.clock.now());
            let verified =
                legacy_token::verify(accounts, token, audiences, objects, now, &self.legacy_uses);
            return verified.map_err(BearerError::Legacy);
        }
        // The others know of no audiences: their tokens are for the API server and nobody else.
        let common: Vec<String> =
            audiences.iter().filter(|it| default.contains(it)).cloned().collect();
        if common.is_empty() && !audiences.is_empty() {
            return Err(BearerError::Unknown);
        }
        if let Some(token) = bootstrap_token::parse(token) {
            let user = bootstrap_token::authenticate(token, &self.objects, self.clock.now());
            return user.map(|user| (user, common)).ok_or(BearerError::Unknown);
        }
        if let Some(provider) = self.oidc.as_ref().filter(|it| it.claims(token)) {
            let user = provider.authenticate(token, self.clock.now()).await;
            return user.map(|user| (user, common)).map_err(BearerError::Oidc);
        }
        let webhook = self.webhook.as_ref().ok_or(BearerError::Unknown)?;
        let mut user = webhook.authenticate(token, &common).await.ok_or(BearerError::Unknown)?;
        if !user.is_in("system:authenticated") {
            user.groups.push("system:authenticated".into());
        }
        Ok((user, common))
    }
}

fn certificate_user(der: &[u8]) -> Result<UserInfo, Unauthorized> {
    let subject = pki::subject(der).map_err(|_| Unauthorized)?;
    if subject.common_name.is_empty() {
        return Err(Unauthorized);
    }
    let groups: Vec<&str> = subject.organizations.iter().map(String::as_str).collect();
    let mut user = UserInfo::new(&subject.common_name, &groups);
    let id = format!("X509SHA256={}", pki::fingerprint(der));
    user.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![id]);
    Ok(user)
}

/// The bearer token, if there is one. Another scheme is no credential; an empty token is a bad one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Unauthorized> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let value = value.to_str().map_err(|_| Unauthorized)?.trim();
    let Some((scheme, token)) = value.split_once(' ') else { return Err(Unauthorized) };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Unauthorized);
    }
    match token.trim() {
        "" => Err(Unauthorized),
        token => Ok(Some(token)),
    }
}

fn is_open(path: &str) -> bool {
    OPEN_PATHS.contains(&path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests;
