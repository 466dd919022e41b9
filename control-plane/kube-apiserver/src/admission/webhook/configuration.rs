//! Webhook configurations, read once per change.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::ClientConfig;
use serde_json::Value;

use super::client::CallError;
use crate::{
    admission::{
        conditions::Conditions,
        expressions::{self, Names},
        matching::Matcher,
    },
    authz::{items, text},
    cel::Type,
    status::Status,
};

const DEFAULT_TIMEOUT: u64 = 10;
const HTTPS: u64 = 443;

/// What match conditions may name.
pub(crate) const NAMES: Names =
    Names { has_params: false, has_authorizer: true, has_namespace: false };

#[derive(Default)]
pub(super) struct Configurations {
    /// What they were read of.
    pub(super) revisions: [u64; 2],
    pub(super) mutating: Vec<Webhook>,
    pub(super) validating: Vec<Webhook>,
}

pub(super) struct Webhook {
    pub(super) name: String,
    pub(super) is_mutating: bool,
    pub(super) endpoint: Endpoint,
    pub(super) matcher: Matcher,
    pub(super) conditions: Conditions,
    /// `failurePolicy: Ignore`
    pub(super) fails_open: bool,
    /// `reinvocationPolicy: IfNeeded`
    pub(super) is_reinvoked: bool,
    /// Has no effects beyond its answer, at least in a dry run.
    pub(super) is_harmless: bool,
    /// `v1` or `v1beta1`, by its own preference.
    pub(super) version: &'static str,
}

/// Where a program is asked, and for how long at most.
pub(crate) struct Endpoint {
    pub(super) target: Target,
    pub(super) ca_bundle: String,
    /// What `ca_bundle` makes, from the first call on: later ones resume its TLS sessions.
    pub(super) trusted: OnceLock<Result<Arc<ClientConfig>, String>>,
    pub(super) limit: Duration,
}

impl Endpoint {
    /// Of a `clientConfig`.
    pub(crate) fn of(client: &Value, limit: Duration) -> Result<Self, String> {
        let (target, ca_bundle) = (Target::of(client), bundle(client)?);
        Ok(Self { target, ca_bundle, trusted: OnceLock::new(), limit })
    }
}

pub(super) enum Target {
    Url(String),
    Service { namespace: String, name: String, port: u16, path: String },
}

impl Configurations {
    pub(super) fn of(
        revisions: [u64; 2],
        mutating: &[Arc<Value>],
        validating: &[Arc<Value>],
    ) -> Self {
        let mutating = webhooks(mutating, true);
        Self { revisions, mutating, validating: webhooks(validating, false) }
    }
}

fn webhooks(configurations: &[Arc<Value>], is_mutating: bool) -> Vec<Webhook> {
    let mut sorted: Vec<_> = configurations.iter().collect();
    sorted.sort_by_key(|it| text(it, "/metadata/name").to_owned());
    let all = sorted.iter().flat_map(|it| items(it, "/webhooks"));
    all.filter_map(|it| {
        let webhook = Webhook::of(it, is_mutating);
        if let Err(why) = &webhook {
            let name = text(it, "/name");
            tracing::warn!(webhook = name, why, "a webhook that cannot be read is not called");
        }
        webhook.ok()
    })
    .collect()
}

impl Webhook {
    fn of(webhook: &Value, is_mutating: bool) -> Result<Self, String> {
        let client = &webhook["clientConfig"];
        let seconds = webhook["timeoutSeconds"].as_u64().unwrap_or(DEFAULT_TIMEOUT);
        let versions = items(webhook, "/admissionReviewVersions").iter();
        let version = versions.filter_map(Value::as_str).find_map(|it| match it {
            "v1" => Some("v1"),
            "v1beta1" => Some("v1beta1"),
            _ => None,
        });
        Ok(Self {
            name: text(webhook, "/name").to_owned(),
            is_mutating,
            endpoint: Endpoint::of(client, Duration::from_secs(seconds))?,
            matcher: Matcher::of(webhook)?,
            conditions: Conditions::of(
                items(webhook, "/matchConditions"),
                &expressions::environment(NAMES, Type::Dyn),
            )?,
            fails_open: webhook["failurePolicy"] == "Ignore",
            is_reinvoked: webhook["reinvocationPolicy"] == "IfNeeded",
            is_harmless: matches!(text(webhook, "/sideEffects"), "None" | "NoneOnDryRun"),
            version: version.ok_or("no admissionReviewVersion that is known here")?,
        })
    }

    /// Passes where the webhook is not needed; refuses in upstream's words otherwise.
    pub(super) fn failed(&self, error: &CallError) -> Result<(), Status> {
        let told = error.told(&self.name);
        if self.fails_open {
            tracing::warn!(webhook = self.name, why = told, "failing open");
            return Ok(());
        }
        Err(Status::internal(told))
    }

    /// What follows of what the match conditions gave; an error is the reason of a refusal.
    pub(super) fn decided(&self, hold: Result<bool, String>) -> Result<bool, String> {
        match hold {
            Err(why) if self.fails_open => {
                tracing::warn!(webhook = self.name, why, "match conditions failed: not called");
                Ok(false)
            }
            refused => refused,
        }
    }
}

impl Target {
    fn of(client: &Value) -> Self {
        if let Some(url) = client["url"].as_str() {
            return Self::Url(url.to_owned());
        }
        let service = &client["service"];
        Self::Service {
            namespace: text(service, "/namespace").to_owned(),
            name: text(service, "/name").to_owned(),
            port: u16::try_from(service["port"].as_u64().unwrap_or(HTTPS)).unwrap_or_default(),
            path: text(service, "/path").to_owned(),
        }
    }
}

fn bundle(client: &Value) -> Result<String, String> {
    use base64::Engine;
    let encoded = text(client, "/caBundle");
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded);
    let bytes = bytes.map_err(|error| format!("caBundle: {error}"))?;
    String::from_utf8(bytes).map_err(|error| format!("caBundle: {error}"))
}
