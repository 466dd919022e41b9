//! The way to the API server: from a kubeconfig, from nothing but a bootstrap kubeconfig, or none.
//!
//! One client is handed to everything; behind it stands the connection of the moment, which is replaced
//! when the client certificate is. What still hangs on the old connection, watches above all, is ended
//! then, so that it comes back with the new certificate.
//!
//! Upstream: `buildKubeletClientConfig` in `cmd/kubelet/app/server.go`,
//! `pkg/kubelet/certificate/transport.go`.

mod bootstrap;
pub(crate) mod limited;
mod rotation;
mod switch;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clock::Clock;
use http::{HeaderValue, header::USER_AGENT};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tracing::info;

pub(crate) use self::rotation::Rotation;
use self::switch::Switch;
use crate::{
    certificates::{CertificateError, client, store::Store},
    settings::Settings,
};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Where a client comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// `--kubeconfig`. Without it there is no API server.
    pub kubeconfig: Option<PathBuf>,
    /// `--bootstrap-kubeconfig`
    pub bootstrap: Option<PathBuf>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("failed to load the kubeconfig `{}`", path.display())]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    #[error("invalid kubeconfig `{}`", path.display())]
    Client {
        path: PathBuf,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to run Kubelet: unable to load bootstrap kubeconfig: stat {}", path.display())]
    NoBootstrap {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to write the kubeconfig `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to get a client certificate")]
    Certificate(#[source] CertificateError),
}

/// A client, and what keeps it valid.
pub struct ApiClient {
    pub(crate) client: Client,
    pub(crate) rotation: Option<Rotation>,
}

impl From<Client> for ApiClient {
    /// A client that somebody else keeps valid.
    fn from(client: Client) -> Self {
        Self { client, rotation: None }
    }
}

impl ApiClient {
    /// Connects as upstream does; waits for the first certificate if one has to be asked for.
    pub(crate) async fn connect(
        sources: &Sources,
        settings: &Settings,
        clock: Clock,
    ) -> Result<Self, ConnectError> {
        let Some(path) = &sources.kubeconfig else {
            info!("standalone mode, no API client");
            return Ok(Self::from(switch::nowhere()));
        };
        let store = Store::new(&settings.certificates(), client::NAME);
        if let Some(from) = &sources.bootstrap {
            bootstrap::ensure(from, path, &store, settings, clock).await?;
        }
        let config = config(path).await?;
        let first = match settings.config.rotate_certificates {
            true => with_certificate(&config, path, &store, clock)?,
            false => connect(config.clone(), path)?,
        };
        let switch = Arc::new(Switch::new(first));
        let client = switch::client(&switch);
        let rotation = settings
            .config
            .rotate_certificates
            .then(|| Rotation::new(switch, client.clone(), config, path.clone(), store));
        Ok(Self { client, rotation })
    }
}

/// Whether there is a kubeconfig to begin with. Asks nobody and writes nothing.
pub(crate) async fn check(sources: &Sources, clock: Clock) -> Result<(), ConnectError> {
    let Some(path) = &sources.kubeconfig else { return Ok(()) };
    let from = match &sources.bootstrap {
        Some(from) if !bootstrap::is_usable(path, clock) => {
            let path = from.clone();
            std::fs::metadata(from).map_err(|source| ConnectError::NoBootstrap { path, source })?;
            from
        }
        _ => path,
    };
    config(from).await.map(drop)
}

/// With the newest certificate that was kept, or else the kubeconfig's own.
fn with_certificate(
    config: &Config,
    path: &Path,
    store: &Store,
    clock: Clock,
) -> Result<Client, ConnectError> {
    let mut config = config.clone();
    if client::kept(store, clock.now()).is_some() {
        let current = store.current().display().to_string();
        config.auth_info.client_certificate = Some(current.clone());
        config.auth_info.client_key = Some(current);
        config.auth_info.client_certificate_data = None;
        config.auth_info.client_key_data = None;
    }
    connect(config, path)
}

async fn config(path: &Path) -> Result<Config, ConnectError> {
    let failed =
        |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)?;
    config.connect_timeout = Some(CONNECT_LIMIT);
    config.headers.push((USER_AGENT, HeaderValue::from_static("kubelet")));
    Ok(config)
}

fn connect(config: Config, path: &Path) -> Result<Client, ConnectError> {
    controller::connect(config)
        .map_err(|source| ConnectError::Client { path: path.to_owned(), source: Box::new(source) })
}
