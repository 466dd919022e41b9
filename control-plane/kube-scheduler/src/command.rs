//! `kube-scheduler` alone, against any API server.
//!
//! As upstream: where a configuration file is given, `--kubeconfig` is ignored and the other flags override
//! the file.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clock::Clock;
use controller::{
    flags::{ClientFlags, FeatureFlags, LeaderFlags, ServingFlags},
    health,
    lease::{self, Election, Ended},
};
use lifecycle::Scope;

use crate::config::{Configuration, LeaderElection, load};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Upstream's.
const PORT: u16 = 10_259;

/// Upstream's flags, as far as they mean something here.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A `KubeSchedulerConfiguration` file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The kubeconfig of the API server; the pod's service account where it is not given. Ignored where
    /// there is a configuration file.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The address of the API server; overrides the kubeconfig's.
    #[arg(long)]
    pub master: Option<String>,
    #[command(flatten)]
    pub leader: LeaderFlags,
    #[command(flatten)]
    pub serving: ServingFlags,
    #[command(flatten)]
    pub features: FeatureFlags,
    #[command(flatten)]
    pub pace: ClientFlags,
    /// Log verbosity, as klog counts it.
    #[arg(short = 'v', long = "v", default_value_t = 2)]
    pub verbosity: u8,
}

/// Runs until the process is told to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
    let config = match &args.config {
        None => Configuration::default(),
        Some(path) => load::read(path)?,
    };
    let settings = config.settings()?;
    let kubeconfig = match &args.config {
        None => args.kubeconfig.clone(),
        Some(_) => Some(PathBuf::from(&config.client_connection.kubeconfig)),
    };
    let kubeconfig = kubeconfig.filter(|it| !it.as_os_str().is_empty());
    let client =
        controller::client("kube-scheduler", kubeconfig.as_deref(), args.master.as_deref()).await?;
    let scope = Scope::new();
    let metrics = settings.metrics.clone();
    let shown = metrics.clone();
    let page = health::Page { client: client.clone(), render: Arc::new(move || shown.render()) };
    health::serve(&args.serving, PORT, "kube-scheduler", page, Clock::system(), &scope)?;
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".to_owned());
    let of = &config.leader_election;
    let identity = format!("{host}_{}", entropy::uuid());
    let election = args.leader.over(of.leader_elect, election(of, identity))?;
    let lease = election.clone();
    lease.iter().for_each(|it| metrics.leads(&it.name, false));
    let work = || {
        if let Some(it) = &lease {
            metrics.leads(&it.name, true);
            // Upstream's tells in the name of its first profile.
            let component = config.profiles.first().map_or("default-scheduler", |it| it.name());
            lease::announce(client.clone(), it, component, Clock::system(), &scope);
        }
        crate::run_with(client.clone(), settings, Clock::system(), scope.clone())
    };
    let asked = async {
        if let Err(error) = lifecycle::asked_to_end().await {
            tracing::error!(%error, "cannot hear when to end");
        }
    };
    let client = client.clone();
    match lease::lead(client, election, Clock::system(), &scope, asked, work).await {
        Ended::Asked => Ok(()),
        Ended::LostLease => Err("leaderelection lost".into()),
    }
}

/// What the file says.
fn election(it: &LeaderElection, identity: String) -> Election {
    let duration = |nanoseconds: i64| Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
    Election {
        namespace: it.resource_namespace.clone(),
        name: it.resource_name.clone(),
        identity,
        lease_duration: duration(it.lease_duration.0),
        renew_deadline: duration(it.renew_deadline.0),
        retry_period: duration(it.retry_period.0),
    }
}
