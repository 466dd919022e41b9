//! Credentials for registries: pull secrets, and plugins (`credentialprovider.kubelet.k8s.io/v1`).
//!
//! Upstream: `pkg/credentialprovider` (the keyring and its matching) and its `plugin` folder.

mod config;
mod matching;
mod plugin;
mod providers;

use api_cri::v1;
use base64::{Engine, engine::general_purpose::STANDARD};
use clock::Clock;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use std::collections::BTreeMap;
use tracing::warn;

pub(crate) use self::{config::LoadProvidersError, providers::Providers};
use crate::{
    objects::{ObjectKind, Objects},
    pod::{PodExt, PodUid},
};

/// Something to try for an image.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub auth: v1::AuthConfig,
    pub owner: Owner,
}

/// Who has a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The node, and with it every pod.
    Node,
    /// Whoever has the secret.
    Secret,
    /// The pods of a service account, whatever its tokens are exchanged for.
    Account(String),
}

/// What there is to try for an image.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// The best first.
    pub all: Vec<Candidate>,
    /// Why plugins gave nothing.
    pub failures: Vec<String>,
    /// The pod's secrets that could not be had.
    pub missing: Vec<String>,
}

pub(crate) struct Credentials {
    providers: Providers,
    clock: Clock,
}

#[derive(Debug, Default, Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

impl Credentials {
    pub(crate) fn new(providers: Providers, clock: Clock) -> Self {
        Self { providers, clock }
    }

    /// What to try for an image: the pod's secrets, then the node's plugins.
    pub(crate) async fn candidates(&self, pod: &Pod, image: &str, objects: &Objects) -> Candidates {
        let (mut ring, mut missing) = (Vec::<(String, Entry, Owner)>::new(), Vec::new());
        let secret = |(pattern, entry)| (pattern, entry, Owner::Secret);
        for reference in PodExt::spec(pod).image_pull_secrets.iter().flatten() {
            let name = reference.name.as_str();
            if name.is_empty() {
                continue;
            }
            match objects.find(ObjectKind::Secret, pod.namespace(), name).await {
                Ok(Some(data)) => ring.extend(entries(&data).into_iter().map(secret)),
                Ok(None) => missing.push(name.to_owned()),
                Err(error) => {
                    warn!(%error, "an image pull secret cannot be read");
                    missing.push(name.to_owned());
                }
            }
        }
        let (provided, failures) = self.providers.entries(pod, image, self.clock.now()).await;
        ring.extend(
            provided
                .into_iter()
                .map(|it| (it.pattern, it.entry, it.account.map_or(Owner::Node, Owner::Account))),
        );
        let mut matched: Vec<_> =
            ring.into_iter().filter(|(pattern, ..)| matching::matches(pattern, image)).collect();
        // The most specific pattern first; the order within is kept.
        matched.sort_by_key(|(pattern, ..)| std::cmp::Reverse(pattern.len()));
        let all = matched
            .into_iter()
            .map(|(_, entry, owner)| Candidate { auth: auth(entry), owner })
            .collect();
        Candidates { all, failures, missing }
    }

    /// A pod is gone.
    pub(crate) fn forget(&self, uid: &PodUid) {
        self.providers.forget(uid);
    }
}

fn entries(data: &crate::objects::Data) -> Vec<(String, Entry)> {
    if let Some(text) = data.get(".dockerconfigjson") {
        return match serde_json::from_slice::<DockerConfig>(text) {
            Ok(config) => config.auths.into_iter().collect(),
            Err(error) => {
                warn!(%error, "an image pull secret holds no Docker configuration");
                Vec::new()
            }
        };
    }
    let old = data.get(".dockercfg").map(|it| serde_json::from_slice::<BTreeMap<_, _>>(it));
    old.and_then(Result::ok).unwrap_or_default().into_iter().collect()
}

/// Without a server address: containerd gives no credentials to a server whose address it cannot
/// parse as a URL, and patterns are none.
fn auth(entry: Entry) -> v1::AuthConfig {
    let (mut username, mut password) = (entry.username, entry.password);
    if username.is_empty()
        && let Some(decoded) = STANDARD.decode(&entry.auth).ok()
        && let Ok(text) = String::from_utf8(decoded)
        && let Some((user, secret)) = text.split_once(':')
    {
        (username, password) = (user.to_owned(), secret.trim_end_matches('\0').to_owned());
    }
    v1::AuthConfig {
        username,
        password,
        identity_token: entry.identity_token,
        ..Default::default()
    }
}

impl Entry {
    fn new(username: String, password: String) -> Self {
        Self { username, password, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_configuration_is_read_in_each_of_its_forms() {
        let text = br#"{"auths":{"a.example":{"auth":"dTpwOnA="},"b.example":{"username":"x","password":"y"}}}"#;
        let data =
            crate::objects::Data::from_iter([(".dockerconfigjson".to_owned(), text.to_vec())]);
        let all: Vec<_> = entries(&data).into_iter().map(|(_, entry)| auth(entry)).collect();
        assert!(all.iter().all(|it| it.server_address.is_empty()));
        assert_eq!((all[0].username.as_str(), all[0].password.as_str()), ("u", "p:p"));
        assert_eq!((all[1].username.as_str(), all[1].password.as_str()), ("x", "y"));
    }
}
