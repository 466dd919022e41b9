//! One run of a credential provider plugin: a program that exchanges an image's name, and perhaps a token
//! of the pod's service account, for passwords.
//!
//! Upstream: `ExecPlugin` in `pkg/credentialprovider/plugin/plugin.go`.
//!
//! **Invariant:** what a plugin answers is never in a log: it may be a password.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

use super::config::Provider;
use crate::duration::GoDuration;

const LIMIT: Duration = Duration::from_secs(60);
const RESPONSE: &str = "CredentialProviderResponse";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Response {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(default)]
    pub cache_key_type: String,
    #[serde(default)]
    pub cache_duration: Option<GoDuration>,
    #[serde(default)]
    pub auth: Option<BTreeMap<String, Pair>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    #[serde(default)]
    pub username: String,
    #[serde(default)]
    pub password: String,
}

/// The service account that a plugin acts for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub annotations: BTreeMap<String, String>,
    pub token: String,
}

#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum RunPluginError {
    #[error("error execing credential provider plugin {plugin} for image {image}: {message}")]
    Failed { plugin: String, image: String, message: String },
    #[error("error reading GVK from response of {0}")]
    NoVersion(String),
    #[error(
        "apiVersion from credential plugin response did not match expected apiVersion:{wanted}, actual apiVersion:{found}"
    )]
    Version { wanted: String, found: String },
    /// Without what is wrong: that may hold credentials.
    #[error("error decoding credential provider plugin response from stdout")]
    Decode,
}

/// What a plugin is asked.
#[derive(Clone)]
pub(super) struct Question {
    pub provider: Arc<Provider>,
    pub folder: PathBuf,
    pub image: String,
    pub account: Option<Account>,
}

impl Question {
    pub(super) async fn ask(self) -> Result<Arc<Response>, RunPluginError> {
        let failed = |message: String| RunPluginError::Failed {
            plugin: self.provider.name.clone(),
            image: self.image.clone(),
            message,
        };
        let output = match tokio::time::timeout(LIMIT, self.run()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("context deadline exceeded".to_owned())),
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(failed(format!("{}: {}", output.status, said.trim())));
        }
        self.decode(&output.stdout).map(Arc::new)
    }

    fn request(&self) -> Value {
        let mut request = json!({
            "apiVersion": self.provider.api_version,
            "kind": "CredentialProviderRequest",
            "image": self.image,
        });
        if let Some(account) = &self.account {
            request["serviceAccountToken"] = json!(account.token);
            if !account.annotations.is_empty() {
                request["serviceAccountAnnotations"] = json!(account.annotations);
            }
        }
        request
    }

    async fn run(&self) -> std::io::Result<std::process::Output> {
        let mut child = Command::new(self.folder.join(&self.provider.name))
            .args(&self.provider.args)
            .envs(self.provider.env.iter().map(|it| (&it.name, &it.value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            let written = stdin.write_all(self.request().to_string().as_bytes()).await;
            // One that knows its answer need not read the question.
            if let Err(error) = written
                && error.kind() != std::io::ErrorKind::BrokenPipe
            {
                return Err(error);
            }
        }
        child.wait_with_output().await
    }

    fn decode(&self, bytes: &[u8]) -> Result<Response, RunPluginError> {
        let no_version = || RunPluginError::NoVersion(self.provider.name.clone());
        let value: Value = serde_json::from_slice(bytes).map_err(|_| no_version())?;
        let (kind, found) = (value["kind"].as_str(), value["apiVersion"].as_str());
        let found = found.unwrap_or_default().to_owned();
        if found != self.provider.api_version {
            let wanted = self.provider.api_version.clone();
            return Err(RunPluginError::Version { wanted, found });
        }
        if kind != Some(RESPONSE) {
            return Err(RunPluginError::Decode);
        }
        serde_json::from_value(value).map_err(|_| RunPluginError::Decode)
    }
}
