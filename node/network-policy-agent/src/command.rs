//! `run network-policy-agent`: the container `aws-eks-nodeagent` of `aws-node`.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api_imds::{FetchError, ImdsClient, paths};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use lifecycle::Scope;
use linux_nftables::{ApplyError, Family, Nft, Table};
use network_policy::TABLE;
use tokio::{sync::mpsc, time::timeout};
use tower::service_fn;
use tracing::{info, warn};
use transport::{Body, BoxError, Place};

use crate::{
    ruleset::{self, Mode},
    state::State,
    watch::{self, Update},
};

/// Until a refused transaction is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// So many updates go into one transaction at most.
const MAX_BATCH: usize = 1024;

/// Upstream's flags, as far as they mean something here.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whom to call; in a pod, the service account says.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Whether policies are enforced; where not, the table is removed.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub enable_network_policy: bool,
    /// `/healthz` and `/readyz`.
    #[arg(long, default_value = ":8163")]
    pub health_probe_bind_addr: String,
    /// What becomes of pods that no policy selects: `standard` or `strict`.
    #[arg(long, env = "NETWORK_POLICY_ENFORCING_MODE", default_value = "standard")]
    pub network_policy_enforcing_mode: String,
    /// How pods' links begin.
    #[arg(long, env = "AWS_VPC_K8S_CNI_VETHPREFIX", default_value = "eni")]
    pub veth_prefix: String,
    /// The node's primary address, where IMDS is not to be asked.
    #[arg(long)]
    pub node_ip: Option<String>,
}

pub async fn run(args: Args) -> Result<(), BoxError> {
    transport::tls::install_provider();
    let scope = Scope::new();
    let is_synced = Arc::new(AtomicBool::new(false));
    serve(&args.health_probe_bind_addr, is_synced.clone(), &scope)?;
    let nft = Nft::here();
    if args.enable_network_policy {
        let mode = Mode::parse(&args.network_policy_enforcing_mode).unwrap_or_else(|| {
            warn!(mode = args.network_policy_enforcing_mode, "an unknown mode: standard it is");
            Mode::Standard
        });
        let host_ip = match &args.node_ip {
            Some(address) => address.clone(),
            None => host_ip(&ImdsClient::new()).await?,
        };
        info!(host_ip, ?mode, "enforcing network policies");
        let mut enforcer =
            Enforcer { state: State::new(host_ip), nft, mode, prefix: args.veth_prefix, old: None };
        enforcer.close().await?;
        let updates =
            watch::start(controller::client(args.kubeconfig.as_deref(), None).await?, &scope);
        drop(scope.spawn("enforcer", enforcer.run(updates, is_synced)));
    } else {
        nft.delete_table(Family::Inet, TABLE)?;
        is_synced.store(true, Ordering::Relaxed);
    }
    lifecycle::asked_to_end().await?;
    // The table stays: policies hold while a new version starts.
    scope.drain(Duration::from_secs(2)).await;
    Ok(())
}

/// IMDS may need a moment after boot.
async fn host_ip(imds: &ImdsClient) -> Result<String, FetchError> {
    let mut pause = Duration::from_millis(100);
    loop {
        match imds.required(paths::LOCAL_IPV4).await {
            Err(FetchError::Token { .. } | FetchError::Send { .. })
                if pause < Duration::from_secs(5) =>
            {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            done => return done.map(|it| it.trim().to_owned()),
        }
    }
}

/// `:8163` is all addresses, as Go reads it.
fn address(text: &str) -> Result<SocketAddr, std::net::AddrParseError> {
    match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}").parse(),
        None => text.parse(),
    }
}

fn serve(bind: &str, is_synced: Arc<AtomicBool>, scope: &Scope) -> Result<(), BoxError> {
    let listener = Place::Here.listen(address(bind)?)?;
    let service = service_fn(move |request: Request<Incoming>| {
        let is_ready = is_synced.load(Ordering::Relaxed);
        async move { Ok::<_, Infallible>(health(request.uri().path(), is_ready)) }
    });
    drop(scope.spawn("health", transport::serve(listener, None, service, scope.clone())));
    Ok(())
}

fn health(path: &str, is_ready: bool) -> Response<Body> {
    let (status, text) = match (path, is_ready) {
        ("/healthz", _) | ("/readyz", true) => (StatusCode::OK, "ok"),
        ("/readyz", false) => (StatusCode::SERVICE_UNAVAILABLE, "policies are not in place yet"),
        _ => (StatusCode::NOT_FOUND, "404 page not found"),
    };
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    response
}

/// The state, and the kernel kept equal to it.
struct Enforcer {
    state: State,
    nft: Nft,
    mode: Mode,
    prefix: String,
    /// What the kernel holds, as far as is known.
    old: Option<Table>,
}

impl Enforcer {
    /// In strict mode pods are shut in before the first list; a table of an earlier run stays, as it
    /// knows more.
    async fn close(&mut self) -> Result<(), ApplyError> {
        if self.mode == Mode::Strict && !self.nft.has_table(Family::Inet, TABLE)? {
            self.apply().await?;
        }
        Ok(())
    }

    /// Takes what arrived, all of it, and applies it in one transaction.
    async fn run(mut self, mut updates: mpsc::Receiver<Update>, is_synced: Arc<AtomicBool>) {
        let mut batch = Vec::new();
        let (mut is_listed, mut is_behind) = (false, false);
        loop {
            let limit = if is_behind { RETRY } else { Duration::from_secs(3600) };
            if let Ok(0) = timeout(limit, updates.recv_many(&mut batch, MAX_BATCH)).await {
                return;
            }
            for update in batch.drain(..) {
                let is_list = matches!(update, Update::Listed(_));
                // The first list is applied whatever is in it: an earlier run's table may hold more.
                is_behind |= self.take(update) || (is_list && !is_listed);
                is_listed |= is_list;
            }
            if !is_listed || !is_behind {
                continue;
            }
            match self.apply().await {
                Ok(()) => {
                    is_behind = false;
                    is_synced.store(true, Ordering::Relaxed);
                }
                Err(error) => {
                    warn!(error = %telemetry::chain(&error), "the kernel refused the policies");
                    self.old = None;
                }
            }
        }
    }

    fn take(&mut self, update: Update) -> bool {
        match update {
            Update::Set(endpoint) => self.state.set(*endpoint),
            Update::Gone(key) => self.state.remove(&key),
            Update::Listed(present) => self.state.retain(&present),
        }
    }

    async fn apply(&mut self) -> Result<(), ApplyError> {
        let table = ruleset::table(self.state.endpoints(), self.mode, &self.prefix);
        let (nft, old, new) = (self.nft.clone(), self.old.take(), table.clone());
        let done = tokio::task::spawn_blocking(move || nft.update(old.as_ref(), &new)).await;
        done.unwrap_or_else(|error| Err(ApplyError::Run { source: std::io::Error::other(error) }))?;
        self.old = Some(table);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_upstream_writes_them() {
        assert_eq!(address(":8163").unwrap(), "0.0.0.0:8163".parse().unwrap());
        assert_eq!(address("127.0.0.1:1").unwrap(), "127.0.0.1:1".parse().unwrap());
    }

    #[test]
    fn it_is_ready_once_the_policies_are_in_place() {
        assert_eq!(health("/readyz", false).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health("/readyz", true).status(), StatusCode::OK);
        assert_eq!(health("/healthz", false).status(), StatusCode::OK);
    }
}
