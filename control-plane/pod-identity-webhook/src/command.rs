//! `pod-identity-webhook` alone, beside any API server.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use clock::Clock;
use lifecycle::Scope;
use transport::{Place, tls};

use crate::{Config, Endpoint, NoAssociations, Webhook};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Upstream's flags, as far as they mean something here.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kubeconfig of the API server; the pod's service account where it is not given.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The port to serve on.
    #[arg(long, default_value_t = 443)]
    pub port: u16,
    /// The serving certificate, in PEM.
    #[arg(long)]
    pub tls_cert: PathBuf,
    /// Its key, in PEM.
    #[arg(long)]
    pub tls_key: PathBuf,
    /// Who signed the certificate, in PEM; the certificate itself where it is not given.
    #[arg(long)]
    pub tls_ca: Option<PathBuf>,
    /// How the API server reaches this webhook, written into its MutatingWebhookConfiguration.
    #[arg(long, default_value = "https://127.0.0.1:443/mutate")]
    pub url: String,
    /// What the names of annotations begin with.
    #[arg(long, default_value = "eks.amazonaws.com")]
    pub annotation_prefix: String,
    /// The audience of tokens, where an account names no other.
    #[arg(long, default_value = "sts.amazonaws.com")]
    pub token_audience: String,
    /// How long tokens live, in seconds, where neither pod nor account names another time.
    #[arg(long, default_value_t = 86_400)]
    pub token_expiration: i64,
    /// Where tokens are mounted.
    #[arg(long, default_value = "/var/run/secrets/eks.amazonaws.com/serviceaccount")]
    pub token_mount_path: String,
    /// Sets AWS_REGION and AWS_DEFAULT_REGION in pods.
    #[arg(long, default_value = "")]
    pub aws_default_region: String,
    /// Sets AWS_STS_REGIONAL_ENDPOINTS=regional in pods.
    #[arg(long)]
    pub sts_regional_endpoint: bool,
}

/// Serves until the process is told to stop. Pod Identity's associations are EKS's and not known here.
pub async fn run(args: Args) -> Result<(), BoxError> {
    let client =
        controller::client("pod-identity-webhook", args.kubeconfig.as_deref(), None).await?;
    let identity = tls::Identity {
        certificate_pem: std::fs::read_to_string(&args.tls_cert)?,
        key_pem: std::fs::read_to_string(&args.tls_key)?,
    };
    let ca_pem = match &args.tls_ca {
        Some(path) => std::fs::read_to_string(path)?,
        None => identity.certificate_pem.clone(),
    };
    let webhook = Webhook::new(client, config(&args), Arc::new(NoAssociations));
    let scope = Scope::new();
    let address = SocketAddr::from(([0, 0, 0, 0], args.port));
    let listener = Place::Here.listen(address)?;
    let tls = Some(tls::server(&identity, None)?);
    let serving = transport::serve(listener, tls, webhook.service(), scope.clone());
    drop(scope.spawn("pod-identity-webhook", serving));
    let endpoint = Endpoint { url: args.url, ca_pem };
    tokio::select! {
        () = crate::run(webhook, endpoint, Clock::system(), scope.clone()) => {}
        asked = lifecycle::asked_to_end() => asked?,
    }
    scope.cancel();
    Ok(())
}

fn config(args: &Args) -> Config {
    let region = Some(args.aws_default_region.clone()).filter(|it| !it.is_empty());
    Config {
        annotation_prefix: args.annotation_prefix.clone(),
        token_audience: args.token_audience.clone(),
        token_expiration: args.token_expiration,
        token_mount_path: args.token_mount_path.clone(),
        sts_regional_endpoints: args.sts_regional_endpoint,
        region,
        ..Config::default()
    }
}
