//! A Kubernetes client from the data directory's kubeconfig.

use anyhow::Context;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{failure::Failure, layout::Layout};

/// The administrator's client of the region's cluster.
pub(crate) async fn client(layout: &Layout) -> anyhow::Result<Client> {
    let path = layout.kubeconfig();
    let kubeconfig = Kubeconfig::read_from(&path).map_err(|error| {
        Failure::new(
            format!("cannot read `{}` ({error})", path.display()),
            "bring the region up with `nodestead up`",
        )
    })?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("the kubeconfig is damaged")?;
    Ok(Client::try_from(config)?)
}
