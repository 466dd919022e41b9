//! The first kubeconfig of a node, got with a bootstrap kubeconfig.
//!
//! Upstream: `LoadClientConfig` and `LoadClientCert` in `pkg/kubelet/certificate/bootstrap`: one that
//! is there and whose certificate is valid is used as it is.

use std::{fs, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use clock::Clock;
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::{ConnectError, connect};
use crate::{
    certificates::{Validity, client, store::Store},
    settings::Settings,
};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Sees to it that `path` holds a kubeconfig that can be used.
pub(super) async fn ensure(
    from: &Path,
    path: &Path,
    store: &Store,
    settings: &Settings,
    clock: Clock,
) -> Result<(), ConnectError> {
    if is_usable(path, clock) {
        info!("the kubeconfig exists and is valid, using it as is");
        return Ok(());
    }
    if let Err(source) = fs::metadata(from) {
        return Err(ConnectError::NoBootstrap { path: from.to_owned(), source });
    }
    if client::kept(store, clock.now()).is_none() {
        let pem = first_certificate(from, settings).await?;
        store.write(&pem, clock.now()).map_err(ConnectError::Certificate)?;
        info!("the API server has signed the first client certificate");
    }
    write_kubeconfig(from, path, store)
}

/// A kubeconfig with a client certificate that has expired is none.
pub(super) fn is_usable(path: &Path, clock: Clock) -> bool {
    let Ok(kubeconfig) = Kubeconfig::read_from(path) else { return false };
    let Some(user) = kubeconfig.auth_infos.first().and_then(|it| it.auth_info.as_ref()) else {
        return false;
    };
    let Some(certificate) = &user.client_certificate else {
        // Another way of proving who one is, which only the API server can judge.
        return user.client_certificate_data.is_some()
            || user.exec.is_some()
            || user.token.is_some()
            || user.token_file.is_some();
    };
    let pem = fs::read_to_string(certificate).unwrap_or_default();
    Validity::of_pem(&pem).is_some_and(|it| clock.now() < it.to)
}

/// Asks until it is given: a node without a certificate has nothing else to do.
async fn first_certificate(from: &Path, settings: &Settings) -> Result<String, ConnectError> {
    let path = from.to_owned();
    let config = super::config(&path).await?;
    let client = connect(config, &path)?;
    let mut retry = FIRST_RETRY;
    loop {
        match client::ask(client.clone(), &settings.node_name).await {
            Ok(pem) => return Ok(pem),
            Err(error) => {
                warn!(error = %telemetry::chain(&error), "no client certificate yet");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }
}

/// Upstream's file: the bootstrap's cluster, and the certificate by its link.
fn write_kubeconfig(from: &Path, path: &Path, store: &Store) -> Result<(), ConnectError> {
    let bootstrap = Kubeconfig::read_from(from).map_err(|source| ConnectError::Kubeconfig {
        path: from.to_owned(),
        source: Box::new(source),
    })?;
    let cluster = cluster(&bootstrap);
    let current = store.current();
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "default-cluster", "cluster": cluster }],
        "contexts": [{
            "name": "default-context",
            "context": {
                "cluster": "default-cluster",
                "namespace": "default",
                "user": "default-auth",
            },
        }],
        "current-context": "default-context",
        "preferences": {},
        "users": [{
            "name": "default-auth",
            "user": { "client-certificate": current, "client-key": current },
        }],
    });
    let failed = |source| ConnectError::Write { path: path.to_owned(), source };
    let text = serde_saphyr::to_string(&kubeconfig)
        .map_err(|error| failed(std::io::Error::other(error)))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let staged = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&staged)
        .map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    fs::rename(&staged, path).map_err(failed)
}

/// The cluster of the current context.
fn cluster(bootstrap: &Kubeconfig) -> Value {
    let context = bootstrap.current_context.as_ref();
    let context = bootstrap.contexts.iter().find(|it| Some(&it.name) == context);
    let name = context.and_then(|it| it.context.as_ref()).map(|it| it.cluster.as_str());
    let mut clusters = bootstrap.clusters.iter();
    let found = match name {
        Some(name) => clusters.find(|it| it.name == name),
        None => clusters.next(),
    };
    found.map(|it| json!(it.cluster)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubeconfig_names_the_bootstraps_cluster_and_the_certificates_link() {
        let folder = tempfile::tempdir().unwrap();
        let (from, path) = (folder.path().join("bootstrap"), folder.path().join("a/kubeconfig"));
        let bootstrap = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [
                { "name": "other", "cluster": { "server": "https://other" } },
                { "name": "k", "cluster": { "server": "https://k:6443", "certificate-authority-data": "QQ==" } },
            ],
            "contexts": [{ "name": "c", "context": { "cluster": "k", "user": "u" } }],
            "users": [{ "name": "u", "user": { "token": "abcdef.secret" } }],
        });
        fs::write(&from, bootstrap.to_string()).unwrap();
        let store = Store::new(folder.path(), client::NAME);
        write_kubeconfig(&from, &path, &store).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("secret"), "the token stays in the bootstrap kubeconfig");
        let written = Kubeconfig::read_from(&path).unwrap();
        let cluster = written.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://k:6443"));
        let user = written.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!(user.client_certificate, Some(store.current().display().to_string()));
        assert!(!is_usable(&path, Clock::system()), "there is no certificate");
        assert!(is_usable(&from, Clock::system()));
    }
}
