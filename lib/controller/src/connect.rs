//! The client of a component that runs alone: by a kubeconfig, or by the pod's service account.
//!
//! It tells the API server its component's name, by which `managedFields` know who wrote what.
//!
//! Upstream: `clientcmd.BuildConfigFromFlags` of client-go.

use std::path::{Path, PathBuf};

use http::{HeaderValue, header::USER_AGENT};
use kube::{
    Client, Config,
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use crate::connection::connect;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("failed to use the kubeconfig `{}`", path.display())]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: Box<KubeconfigError>,
    },
    #[error("no kubeconfig was given, and none was found")]
    Nowhere {
        #[source]
        source: Box<InferConfigError>,
    },
    #[error("`{address}` is no address of an API server")]
    Master {
        address: String,
        #[source]
        source: http::uri::InvalidUri,
    },
    #[error("failed to make a client of the API server")]
    Client {
        #[source]
        source: Box<kube::Error>,
    },
}

/// The client that `--kubeconfig` and `--master` describe. Without a kubeconfig it is the pod's
/// service account, or the user's own kubeconfig; `master` overrides the address.
pub async fn client(
    component: &'static str,
    kubeconfig: Option<&Path>,
    master: Option<&str>,
) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        None => {
            let inferred = Config::infer().await;
            inferred.map_err(|source| ConnectError::Nowhere { source: Box::new(source) })?
        }
        Some(path) => read(path).await.map_err(|source| ConnectError::Kubeconfig {
            path: path.to_owned(),
            source: Box::new(source),
        })?,
    };
    if let Some(address) = master {
        let parsed = address.parse();
        config.cluster_url = parsed
            .map_err(|source| ConnectError::Master { address: address.to_owned(), source })?;
    }
    config.headers.push((USER_AGENT, HeaderValue::from_static(component)));
    let made = connect(config);
    made.map_err(|source| ConnectError::Client { source: Box::new(source) })
}

async fn read(path: &Path) -> Result<Config, KubeconfigError> {
    let file = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_wrong_with_a_kubeconfig_is_told_with_its_path() {
        let error =
            client("test", Some(Path::new("/nowhere/kubeconfig")), None).await.err().unwrap();
        assert_eq!(error.to_string(), "failed to use the kubeconfig `/nowhere/kubeconfig`");
        assert!(std::error::Error::source(&error).is_some());
    }
}
