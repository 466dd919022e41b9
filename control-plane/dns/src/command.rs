//! `run cluster-dns`: what the `coredns` Deployment runs.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use lifecycle::Scope;
use tower::service_fn;
use tracing::{info, warn};
use transport::{BoxError, Place};

use crate::{
    corefile::{self, Forward, Settings},
    health,
    server::Server,
    upstream::{Upstream, parse_resolv_conf},
    watch,
    zone::Zone,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A Corefile.
    #[arg(long)]
    pub conf: Option<PathBuf>,
    /// Where to answer queries.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Whom to ask about Services; in a pod, the service account says.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub health_address: SocketAddr,
    #[arg(long, default_value = "0.0.0.0:8181")]
    pub ready_address: SocketAddr,
    #[arg(long, default_value = "0.0.0.0:9153")]
    pub metrics_address: SocketAddr,
}

pub async fn run(args: Args) -> Result<(), BoxError> {
    transport::tls::install_provider();
    let settings = match &args.conf {
        Some(path) => corefile::parse(&std::fs::read_to_string(path)?),
        None => Settings::default(),
    };
    if !settings.ignored.is_empty() {
        warn!(plugins = ?settings.ignored, "these lines of the Corefile have no effect");
    }
    let scope = Scope::new();
    let upstream = Upstream::new(servers(&settings.forward)?, settings.cache);
    let server = Arc::new(Server::new(Zone::new(&settings.domain), upstream));
    let address = args.listen.unwrap_or_else(|| ([0, 0, 0, 0], settings.port).into());
    serve_http(&args, &server, &scope)?;
    let address = server.listen(&Place::Here, address, &scope)?;
    info!(%address, domain = settings.domain, "answering");
    watch::start(
        controller::client("coredns", args.kubeconfig.as_deref(), None).await?,
        &server,
        &scope,
    );

    lifecycle::asked_to_end().await?;
    // Clients that still have this address get their answers.
    tokio::time::sleep(settings.lameduck).await;
    scope.drain(Duration::from_secs(2)).await;
    Ok(())
}

fn servers(forward: &[Forward]) -> Result<Vec<SocketAddr>, std::io::Error> {
    let mut servers = Vec::new();
    for to in forward {
        match to {
            Forward::Server(server) => servers.push(*server),
            Forward::File(path) => {
                servers.extend(parse_resolv_conf(&std::fs::read_to_string(path)?));
            }
        }
    }
    Ok(servers)
}

fn serve_http(args: &Args, server: &Arc<Server>, scope: &Scope) -> Result<(), BoxError> {
    let listener = Place::Here.listen(args.health_address)?;
    let service = service_fn(health::health);
    drop(scope.spawn("health", transport::serve(listener, None, service, scope.clone())));
    let listener = Place::Here.listen(args.ready_address)?;
    let shared = server.clone();
    let service = service_fn(move |request| health::ready(request, shared.clone()));
    drop(scope.spawn("ready", transport::serve(listener, None, service, scope.clone())));
    let listener = Place::Here.listen(args.metrics_address)?;
    let shared = server.clone();
    let service = service_fn(move |request| health::metrics(request, shared.clone()));
    drop(scope.spawn("metrics", transport::serve(listener, None, service, scope.clone())));
    Ok(())
}
