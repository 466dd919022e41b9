//! The change of a pod, as a JSON patch: pure.
//!
//! With an association of Pod Identity a pod gets the node agent's address, and a token for it; with
//! a role in its service account's annotations the role, and a token for STS. The association wins.
//! Either token is in a volume that comes first, mounted read-only into every container that the pod
//! does not name in `skip-containers`.
//!
//! Variables come after those that a container has. Where it has one of the pair already, neither is
//! set, but the volume is mounted.
//!
//! Upstream: `pkg/handler/handler.go`.
//! Deviation: where the endpoints of AWS are signed by an authority of their own
//! ([`Config::authority_pem`]), its certificate is put beside the token, from an annotation of the
//! pod, and `AWS_CA_BUNDLE` and `NODE_EXTRA_CA_CERTS` name it. AWS's endpoints are signed by
//! authorities that images know.

use serde_json::{Value, json};

use crate::{
    Account, Config,
    account::{self, JITTER},
};

/// The file of the authority's certificate, beside the token.
const AUTHORITY_FILE: &str = "region-ca.crt";
/// Where a projected volume can read it: every kubelet knows annotations, in every namespace.
pub(crate) const AUTHORITY_ANNOTATION: &str = "nodestead.io/region-ca";
/// AWS's own SDKs and CLI; SDKs in Node.js, which know no other way.
const AUTHORITY_VARIABLES: [&str; 2] = ["AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];

pub(crate) const WEB_IDENTITY_VOLUME: &str = "aws-iam-token";
pub(crate) const POD_IDENTITY_VOLUME: &str = "eks-pod-identity-token";
const WEB_IDENTITY_FILE: &str = "token";
const POD_IDENTITY_FILE: &str = "eks-pod-identity-token";

pub(crate) const ROLE_ARN: &str = "AWS_ROLE_ARN";
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
pub(crate) const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const AUTHORIZATION_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const REGION: &str = "AWS_REGION";
const DEFAULT_REGION: &str = "AWS_DEFAULT_REGION";
const REGIONAL_STS: &str = "AWS_STS_REGIONAL_ENDPOINTS";
/// SDKs take these before any token.
const STATIC_KEY: &str = "AWS_ACCESS_KEY_ID";

/// Who a pod is, as far as the cluster knows.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The ServiceAccount; `None` where there is none of the pod's name.
    pub account: Option<&'a Value>,
    /// There is an association of Pod Identity for it.
    pub is_associated: bool,
    /// Below [`Subject::JITTER`], drawn anew for each pod, in seconds.
    pub jitter: i64,
}

impl Subject<'_> {
    /// How far the expiry of a Pod Identity token that nobody asked for may be from the default.
    pub const JITTER: i64 = JITTER;
}

/// What is done to a pod, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutation {
    /// A JSON patch; empty where the pod stays as it is.
    pub patch: Vec<Value>,
    /// For whoever creates the pod.
    pub warnings: Vec<String>,
}

/// The credentials that a pod gets: one volume, and the variables that lead to it.
struct Plan {
    volume: &'static str,
    mount_path: String,
    token: Value,
    /// Set all together, or not at all.
    pair: [(&'static str, String); 2],
    /// Set where they are not: STS and region.
    others: Vec<(&'static str, String)>,
    is_pod_identity: bool,
}

/// Decides what a pod gets.
pub fn mutate(pod: &Value, subject: Subject<'_>, config: &Config) -> Mutation {
    let account = Account::of(subject.account, config);
    let mut mutation = Mutation { patch: Vec::new(), warnings: account.complaints.clone() };
    let (seconds, complaints) = account.expiration_for(pod, config);
    let plan = match &account.role_arn {
        _ if subject.is_associated => pod_identity(&account, seconds, subject.jitter, config),
        Some(role) => web_identity(&account, role, seconds, config),
        None => return mutation,
    };
    mutation.warnings.extend(complaints);
    plan.patch(pod, config, &mut mutation);
    mutation
}

fn web_identity(account: &Account, role: &str, seconds: i64, config: &Config) -> Plan {
    let mount_path = config.token_mount_path.clone();
    Plan {
        volume: WEB_IDENTITY_VOLUME,
        token: token(&account.audience, seconds, WEB_IDENTITY_FILE),
        pair: [
            (ROLE_ARN, role.to_owned()),
            (TOKEN_FILE, format!("{mount_path}/{WEB_IDENTITY_FILE}")),
        ],
        others: others(account, config),
        is_pod_identity: false,
        mount_path,
    }
}

fn pod_identity(account: &Account, seconds: i64, jitter: i64, config: &Config) -> Plan {
    let mount_path = config.container_credentials_mount_path.clone();
    let is_default = seconds == account::DEFAULT_EXPIRATION;
    let jitter = if is_default { jitter.clamp(0, JITTER) } else { 0 };
    let audience = &config.container_credentials_audience;
    Plan {
        volume: POD_IDENTITY_VOLUME,
        token: token(audience, seconds - jitter, POD_IDENTITY_FILE),
        pair: [
            (FULL_URI, config.container_credentials_uri.clone()),
            (AUTHORIZATION_FILE, format!("{mount_path}/{POD_IDENTITY_FILE}")),
        ],
        others: others(account, config),
        is_pod_identity: true,
        mount_path,
    }
}

fn token(audience: &str, seconds: i64, path: &str) -> Value {
    json!({"serviceAccountToken": {
        "audience": audience, "expirationSeconds": seconds, "path": path,
    }})
}

/// What is set where it is not: STS and region.
fn others(account: &Account, config: &Config) -> Vec<(&'static str, String)> {
    let mut others = Vec::new();
    if account.uses_regional_sts {
        others.push((REGIONAL_STS, "regional".to_owned()));
    }
    for name in [DEFAULT_REGION, REGION] {
        others.extend(config.region.iter().map(|region| (name, region.clone())));
    }
    others
}

impl Plan {
    fn patch(&self, pod: &Value, config: &Config, mutation: &mut Mutation) {
        let skipped = account::skipped(pod, config);
        let patch = &mut mutation.patch;
        if config.authority_pem.is_some() {
            patch.extend(entry(pod, "annotations", AUTHORITY_ANNOTATION, &config.authority_pem));
        }
        if self.is_pod_identity {
            let label = format!("{}/pod-identity", config.annotation_prefix);
            patch.extend(entry(pod, "labels", &label, &Some("enabled".to_owned())));
        }
        patch.extend(self.volume(pod, config));
        for list in ["initContainers", "containers"] {
            let Some(containers) = pod["spec"][list].as_array() else { continue };
            let changed: Vec<Value> = containers
                .iter()
                .map(|it| match skipped.contains(it["name"].as_str().unwrap_or_default()) {
                    true => it.clone(),
                    false => self.container(it, config, &mut mutation.warnings),
                })
                .collect();
            if changed != *containers {
                let path = format!("/spec/{list}");
                mutation.patch.push(json!({"op": "replace", "path": path, "value": changed}));
            }
        }
    }

    /// The volume comes first, unless the pod has one of its name.
    fn volume(&self, pod: &Value, config: &Config) -> Option<Value> {
        let mut sources = vec![self.token.clone()];
        if config.authority_pem.is_some() {
            let path = format!("metadata.annotations['{AUTHORITY_ANNOTATION}']");
            let field = json!({"apiVersion": "v1", "fieldPath": path});
            sources.push(json!({"downwardAPI": {"items": [
                {"path": AUTHORITY_FILE, "fieldRef": field},
            ]}}));
        }
        let volume = json!({"name": self.volume, "projected": {"sources": sources}});
        match pod["spec"]["volumes"].as_array() {
            Some(volumes) if volumes.iter().any(|it| it["name"] == self.volume) => None,
            Some(volumes) if !volumes.is_empty() => {
                Some(json!({"op": "add", "path": "/spec/volumes/0", "value": volume}))
            }
            _ => Some(json!({"op": "add", "path": "/spec/volumes", "value": [volume]})),
        }
    }

    fn container(&self, container: &Value, config: &Config, warnings: &mut Vec<String>) -> Value {
        let mut container = container.clone();
        let name = container["name"].as_str().unwrap_or_default().to_owned();
        let mut variables = container["env"].as_array().cloned().unwrap_or_default();
        let has = |variable: &str| variables.iter().any(|it| it["name"] == variable);
        let mut added: Vec<(&str, String)> = Vec::new();
        let has_region = has(REGION) || has(DEFAULT_REGION);
        for (variable, value) in &self.others {
            let is_there = match *variable {
                REGION | DEFAULT_REGION => has_region,
                other => has(other),
            };
            if !is_there {
                added.push((variable, value.clone()));
            }
        }
        match self.pair.iter().find(|(it, _)| has(it)) {
            None => added.extend(self.pair.iter().cloned()),
            Some((variable, _)) => warnings.push(format!(
                "container {name:?} sets {variable} itself: it is not given the credentials of its \
                 service account"
            )),
        }
        if has(STATIC_KEY) {
            warnings.push(format!(
                "container {name:?} sets {STATIC_KEY}: SDKs use it, and not the credentials of its \
                 service account"
            ));
        }
        if config.authority_pem.is_some() {
            let path = format!("{}/{AUTHORITY_FILE}", self.mount_path);
            let missing = AUTHORITY_VARIABLES.iter().filter(|it| !has(it));
            added.extend(missing.map(|it| (*it, path.clone())));
        }
        variables
            .extend(added.into_iter().map(|(name, value)| json!({"name": name, "value": value})));
        if !variables.is_empty() {
            container["env"] = variables.into();
        }
        self.mount(&mut container);
        container
    }

    fn mount(&self, container: &mut Value) {
        let mut mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
        if mounts.iter().any(|it| it["name"] == self.volume) {
            return;
        }
        mounts.push(json!({"name": self.volume, "mountPath": self.mount_path, "readOnly": true}));
        container["volumeMounts"] = mounts.into();
    }
}

/// An entry of a map in the pod's metadata, set.
fn entry(pod: &Value, map: &str, key: &str, value: &Option<String>) -> Option<Value> {
    let known = &pod["metadata"][map];
    let Some(entries) = known.as_object() else {
        let path = format!("/metadata/{map}");
        return Some(json!({"op": "add", "path": path, "value": {key: value}}));
    };
    if entries.get(key).and_then(Value::as_str) == value.as_deref() {
        return None;
    }
    let escaped = key.replace('~', "~0").replace('/', "~1");
    Some(json!({"op": "add", "path": format!("/metadata/{map}/{escaped}"), "value": value}))
}

#[cfg(test)]
mod tests;
