//! The client of a component that runs alone: by a kubeconfig, or by the pod's service account.
//!
//! It tells the API server its component's name, by which `managedFields` know who wrote what.
//!
//! Upstream: `clientcmd.BuildConfigFromFlags` of client-go.

use std::path::{Path, PathBuf};

use http::{HeaderValue, header::USER_AGENT};
use kube::{
    Client, Config,
    config::{AuthInfo, InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
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
    of(config(component, kubeconfig, master).await?)
}

/// The client of the same API server that shows nothing of who it is.
pub async fn bare_client(
    component: &'static str,
    kubeconfig: Option<&Path>,
    master: Option<&str>,
) -> Result<Client, ConnectError> {
    let mut config = config(component, kubeconfig, master).await?;
    config.auth_info = AuthInfo::default();
    of(config)
}

fn of(config: Config) -> Result<Client, ConnectError> {
    connect(config).map_err(|source| ConnectError::Client { source: Box::new(source) })
}

async fn config(
    component: &'static str,
    kubeconfig: Option<&Path>,
    master: Option<&str>,
) -> Result<Config, ConnectError> {
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
    Ok(config)
}

async fn read(path: &Path) -> Result<Config, KubeconfigError> {
    let file = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a server that answers as no server should")]
    async fn a_bare_client_shows_nothing_of_who_it_is() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kubeconfig = serde_json::json!({ "clusters": [{ "name": "c",
            "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "u", "user": { "token": "secret" } }],
            "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u" } }],
            "current-context": "x" });
        let path = std::env::temp_dir().join(format!("nst-t-{}", address.port()));
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        let asked = async |client: Client| {
            let asking = tokio::spawn(async move { client.apiserver_version().await });
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap();
            asking.abort();
            String::from_utf8(request[..read].to_vec()).unwrap().to_lowercase()
        };
        let whole = asked(client("test", Some(&path), None).await.unwrap()).await;
        assert!(whole.contains("authorization: bearer secret"), "{whole}");
        let bare = asked(bare_client("test", Some(&path), None).await.unwrap()).await;
        assert!(!bare.contains("authorization") && bare.contains("user-agent: test"), "{bare}");
        std::fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_kubeconfig_is_told_with_its_path() {
        let error =
            client("test", Some(Path::new("/nowhere/kubeconfig")), None).await.err().unwrap();
        assert_eq!(error.to_string(), "failed to use the kubeconfig `/nowhere/kubeconfig`");
        assert!(std::error::Error::source(&error).is_some());
    }
}
