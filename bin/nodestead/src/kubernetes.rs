//! A Kubernetes client from the data directory's kubeconfig.

use std::path::Path;

use anyhow::Context;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{failure::Failure, layout::Layout};

/// The administrator's client of the region's cluster.
pub(crate) async fn client(layout: &Layout) -> anyhow::Result<Client> {
    client_of(&layout.kubeconfig(), "bring the region up with `nodestead up`").await
}

/// The client that a kubeconfig describes; `next` is what to do where there is none.
pub(crate) async fn client_of(path: &Path, next: &str) -> anyhow::Result<Client> {
    if let Err(error) = std::fs::File::open(path)
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        return Err(Failure::unreadable(path, &error).into());
    }
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| {
        Failure::new(format!("cannot read `{}` ({error})", path.display()), next)
    })?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("the kubeconfig is damaged")?;
    Ok(Client::try_from(config)?)
}
