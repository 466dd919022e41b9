//! A Kubernetes client from the data directory's kubeconfig.

use std::{io::ErrorKind, path::Path};

use anyhow::Context;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    failure::{Failure, NEXT},
    layout::Layout,
};

/// The administrator's client of the region's cluster.
pub(crate) async fn client(layout: &Layout) -> anyhow::Result<Client> {
    let next = match layout.admin_socket().exists() {
        true => "its cluster is not there yet: see `nodestead status`",
        false => NEXT,
    };
    client_of(&layout.kubeconfig(), next).await
}

/// The client that a kubeconfig describes; `next` is what to do where there is none.
pub(crate) async fn client_of(path: &Path, next: &str) -> anyhow::Result<Client> {
    if let Err(error) = std::fs::File::open(path) {
        let unreadable = match error.kind() {
            ErrorKind::PermissionDenied => Failure::unreadable(path, &error),
            _ => {
                Failure::new(format!("there is no kubeconfig `{}` ({error})", path.display()), next)
            }
        };
        return Err(unreadable.into());
    }
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| {
        Failure::new(format!("cannot read `{}` ({error})", path.display()), next)
    })?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("the kubeconfig is damaged")?;
    Ok(Client::try_from(config)?)
}
