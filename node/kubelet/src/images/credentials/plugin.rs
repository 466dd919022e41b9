//! Credential provider plugins: programs that exchange an image's name for a password.
//!
//! **Invariant:** a plugin that hangs or fails costs its own credentials, never the pull.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::{io::AsyncWriteExt, process::Command};
use tracing::warn;

use super::{Entry, matching};
use crate::{duration::GoDuration, yaml};

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProviderConfig {
    providers: Vec<Provider>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    name: String,
    match_images: Vec<String>,
    #[serde(default)]
    default_cache_duration: Option<GoDuration>,
    api_version: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
}

#[derive(Clone, Debug, Deserialize)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    cache_key_type: String,
    #[serde(default)]
    cache_duration: Option<GoDuration>,
    #[serde(default)]
    auth: Option<BTreeMap<String, Pair>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Pair {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadProvidersError {
    #[error("failed to read the credential provider configuration `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{}` is no CredentialProviderConfig: {message}", path.display())]
    Parse { path: PathBuf, message: String },
}

#[derive(Debug, thiserror::Error)]
enum RunPluginError {
    #[error("failed to run `{}`", path.display())]
    Run {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{}` failed: {message}", path.display())]
    Failed { path: PathBuf, message: String },
    #[error("`{}` did not end within a minute", path.display())]
    TimedOut { path: PathBuf },
}

#[derive(Clone, Debug)]
struct Cached {
    until: Timestamp,
    entries: Vec<(String, Entry)>,
}

#[derive(Default)]
pub(crate) struct Providers {
    folder: PathBuf,
    providers: Vec<Provider>,
    cache: Mutex<HashMap<(String, String), Cached>>,
}

impl Providers {
    pub(crate) fn load(config: &Path, folder: &Path) -> Result<Self, LoadProvidersError> {
        let text = std::fs::read_to_string(config)
            .map_err(|source| LoadProvidersError::Read { path: config.to_owned(), source })?;
        let config: ProviderConfig = yaml::from_str(&text).map_err(|error| {
            LoadProvidersError::Parse { path: config.to_owned(), message: error.to_string() }
        })?;
        let folder = folder.to_owned();
        Ok(Self { folder, providers: config.providers, cache: Mutex::default() })
    }

    /// The credentials that the plugins give for an image.
    pub(super) async fn entries(&self, image: &str, now: Timestamp) -> Vec<(String, Entry)> {
        let mut all = Vec::new();
        for provider in &self.providers {
            if !provider.match_images.iter().any(|it| matching::matches(it, image)) {
                continue;
            }
            if let Some(entries) = self.cached(&provider.name, image, now) {
                all.extend(entries);
                continue;
            }
            match self.ask(provider, image).await {
                Ok(response) => all.extend(self.keep(provider, image, response, now)),
                Err(error) => {
                    warn!(error = %telemetry::chain(&error), image, "no credentials from a plugin");
                }
            }
        }
        all
    }

    fn cached(&self, provider: &str, image: &str, now: Timestamp) -> Option<Vec<(String, Entry)>> {
        let mut cache = self.cache.lock();
        cache.retain(|_, it| now < it.until);
        let keys = [image, registry(image), ""];
        let found =
            keys.iter().find_map(|key| cache.get(&(provider.to_owned(), (*key).to_owned())));
        found.map(|it| it.entries.clone())
    }

    fn keep(
        &self,
        provider: &Provider,
        image: &str,
        response: Response,
        now: Timestamp,
    ) -> Vec<(String, Entry)> {
        let entries: Vec<_> = response
            .auth
            .unwrap_or_default()
            .into_iter()
            .map(|(pattern, it)| (pattern, Entry::new(it.username, it.password)))
            .collect();
        let life = response.cache_duration.or(provider.default_cache_duration);
        let life = life.map_or(Duration::ZERO, |it| it.0);
        if !life.is_zero() {
            let key = match response.cache_key_type.as_str() {
                "Registry" => registry(image),
                "Global" => "",
                _ => image,
            };
            let key = (provider.name.clone(), key.to_owned());
            let cached = Cached { until: now + life, entries: entries.clone() };
            self.cache.lock().insert(key, cached);
        }
        entries
    }

    async fn ask(&self, provider: &Provider, image: &str) -> Result<Response, RunPluginError> {
        let path = self.folder.join(&provider.name);
        let request = json!({
            "apiVersion": provider.api_version,
            "kind": "CredentialProviderRequest",
            "image": image,
        });
        let run = self.run(provider, &path, request.to_string());
        let output = match tokio::time::timeout(LIMIT, run).await {
            Ok(Ok(output)) => output,
            Ok(Err(source)) => return Err(RunPluginError::Run { path, source }),
            Err(_) => return Err(RunPluginError::TimedOut { path }),
        };
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let message = format!("{}: {message}", output.status);
            return Err(RunPluginError::Failed { path, message });
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| RunPluginError::Failed { path, message: error.to_string() })
    }

    async fn run(
        &self,
        provider: &Provider,
        path: &Path,
        request: String,
    ) -> std::io::Result<std::process::Output> {
        let mut child = Command::new(path)
            .args(&provider.args)
            .envs(provider.env.iter().map(|it| (&it.name, &it.value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(request.as_bytes()).await?;
        }
        child.wait_with_output().await
    }
}

fn registry(image: &str) -> &str {
    image.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const CONFIG: &str = r#"{"apiVersion":"kubelet.config.k8s.io/v1","kind":"CredentialProviderConfig","providers":[
        {"name":"p","matchImages":["*.dkr.ecr.*.amazonaws.com"],"defaultCacheDuration":"12h","apiVersion":"credentialprovider.kubelet.k8s.io/v1"}]}"#;

    #[tokio::test]
    async fn a_plugin_is_asked_once_for_a_registry() {
        let folder = tempfile::tempdir().unwrap();
        let (config, plugin) = (folder.path().join("c.json"), folder.path().join("p"));
        std::fs::write(&config, CONFIG).unwrap();
        let script = "#!/bin/sh\ncat >/dev/null\necho x >> \"$0.log\"\necho '{\"cacheKeyType\":\"Registry\",\"auth\":{\"*.dkr.ecr.*.amazonaws.com\":{\"username\":\"AWS\",\"password\":\"t\"}}}'\n";
        std::fs::write(&plugin, script).unwrap();
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        let providers = Providers::load(&config, folder.path()).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let host = "1.dkr.ecr.us-east-1.amazonaws.com";
        for image in ["a", "b"] {
            let entries = providers.entries(&format!("{host}/{image}:1"), now).await;
            assert_eq!(entries[0].1.password, "t");
        }
        assert!(providers.entries("docker.io/x", now).await.is_empty());
        let log = std::fs::read_to_string(folder.path().join("p.log")).unwrap();
        assert_eq!(log.lines().count(), 1);
    }
}
