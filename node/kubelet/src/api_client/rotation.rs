//! Replaces the client certificate before it expires, and the connection with it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{Client, Config};
use tracing::{info, warn};

use super::{ConnectError, switch::Switch, with_certificate};
use crate::{
    certificates::{Validity, client, store::Store},
    context::Context,
};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What a rotation needs.
pub(crate) struct Rotation {
    switch: Arc<Switch>,
    client: Client,
    config: Config,
    path: PathBuf,
    store: Store,
    jitter: u64,
}

impl Rotation {
    pub(super) fn new(
        switch: Arc<Switch>,
        client: Client,
        config: Config,
        path: PathBuf,
        store: Store,
    ) -> Self {
        Self { switch, client, config, path, store, jitter: entropy::below(1000) }
    }

    /// Runs as long as the scope lives. Ends at once where there is no certificate to replace.
    pub(crate) async fn run(self, context: Arc<Context>) {
        let mut retry = FIRST_RETRY;
        loop {
            let now = context.clock.now();
            let Some(validity) = self.validity(now) else {
                info!("the kubeconfig has no client certificate to rotate");
                return;
            };
            tell_life(&context, validity, now);
            let renew_at = validity.renewal(self.jitter);
            if now < renew_at {
                tokio::time::sleep(context.clock.until(renew_at)).await;
                continue;
            }
            match self.renew(&context).await {
                Ok(()) => retry = FIRST_RETRY,
                Err(error) => {
                    let name = "kubelet_certificate_manager_client_expiration_renew_errors";
                    context.metrics.add(name, &[], 1.0);
                    warn!(error = %telemetry::chain(&error), "the client certificate was not renewed");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// Of the certificate that is kept, or that the kubeconfig came with.
    fn validity(&self, now: Timestamp) -> Option<Validity> {
        client::kept(&self.store, now)
            .map(|it| it.1)
            .or_else(|| Validity::of_pem(&own_certificate(&self.config)?))
    }

    async fn renew(&self, context: &Context) -> Result<(), ConnectError> {
        let pem = client::ask(self.client.clone(), &context.settings.node_name)
            .await
            .map_err(ConnectError::Certificate)?;
        self.store.write(&pem, context.clock.now()).map_err(ConnectError::Certificate)?;
        self.switch.replace(with_certificate(
            &self.config,
            &self.path,
            &self.store,
            context.clock,
        )?);
        info!("the client certificate was renewed; connections begin anew");
        Ok(())
    }
}

fn own_certificate(config: &Config) -> Option<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let user = &config.auth_info;
    if let Some(data) = &user.client_certificate_data {
        return String::from_utf8(STANDARD.decode(data).ok()?).ok();
    }
    std::fs::read_to_string(user.client_certificate.as_ref()?).ok()
}

fn tell_life(context: &Context, validity: Validity, now: Timestamp) {
    let left = validity.to.as_second() - now.as_second();
    let name = "kubelet_certificate_manager_client_ttl_seconds";
    context.metrics.set(name, &[], left as f64);
}
