//! `karpenter` alone, against any API server and any AWS endpoint.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use aws_eks::{DescribeCluster, DescribeClusterRequest};
use aws_sqs::queue::{GetQueueUrl, GetQueueUrlRequest};
use aws_wire::client::{CallError, Client};
use clock::Clock;
use controller::lease::{self, Election, Ended};
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use karpenter_core::{MinValues, Preferences};
use lifecycle::Scope;
use tokio::net::TcpListener;
use transport::{Body, Place};

use crate::{
    controllers::{self, Config, FeatureGates},
    metrics::Metrics,
};

const NAMESPACE_OF_POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Upstream's settings, as far as they mean something here.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kubeconfig of the API server; the pod's service account where it is not given.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The cluster's name, as EKS knows it.
    #[arg(long, env = "CLUSTER_NAME", required_unless_present = "print_crds")]
    pub cluster_name: Option<String>,
    /// The AWS region; `AWS_REGION` where it is not given.
    #[arg(long, env = "AWS_REGION")]
    pub aws_region: Option<String>,
    /// A batch of pods ends when none has come for so long,
    #[arg(long, env = "BATCH_IDLE_DURATION", default_value = "1s", value_parser = duration)]
    pub batch_idle_duration: Duration,
    /// or after so long.
    #[arg(long, env = "BATCH_MAX_DURATION", default_value = "10s", value_parser = duration)]
    pub batch_max_duration: Duration,
    /// What pods prefer is tried as if it had to hold (`Respect`), or not looked at (`Ignore`).
    #[arg(long, env = "PREFERENCE_POLICY", default_value = "Respect")]
    pub preference_policy: PreferencePolicy,
    /// Without as many values as a requirement's `minValues` wants no node is made (`Strict`), or as
    /// many as there are have to do (`BestEffort`).
    #[arg(long, env = "MIN_VALUES_POLICY", default_value = "Strict")]
    pub min_values_policy: MinValuesPolicy,
    /// The SQS queue with EC2's and Health's events.
    #[arg(long, env = "INTERRUPTION_QUEUE")]
    pub interruption_queue: Option<String>,
    /// The port of `/metrics`; 0: none.
    #[arg(long, env = "METRICS_PORT", default_value_t = 8080)]
    pub metrics_port: u16,
    /// Of several replicas all work, instead of the one that holds the lease.
    #[arg(long, env = "DISABLE_LEADER_ELECTION", num_args = 0..=1, require_equals = true,
        action = clap::ArgAction::Set,
        default_value_t = false, default_missing_value = "true")]
    pub disable_leader_election: bool,
    /// The name of the lease that the one which works holds.
    #[arg(long, env = "LEADER_ELECTION_NAME", default_value = "karpenter-leader-election")]
    pub leader_election_name: String,
    /// Its namespace; the pod's own where it is not given, outside of a cluster kube-system.
    #[arg(long, env = "LEADER_ELECTION_NAMESPACE", default_value = "")]
    pub leader_election_namespace: String,
    /// Gates to switch: `NodeRepair=true`, `SpotToSpotConsolidation=true`, `StaticCapacity=true`,
    /// `NodeOverlay=true`.
    #[arg(long, env = "FEATURE_GATES", value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    /// Print the CustomResourceDefinitions, which are otherwise installed, and end.
    #[arg(long)]
    pub print_crds: bool,
}

/// Upstream's words.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PreferencePolicy {
    Respect,
    Ignore,
}

impl From<PreferencePolicy> for Preferences {
    fn from(policy: PreferencePolicy) -> Self {
        match policy {
            PreferencePolicy::Respect => Self::Respect,
            PreferencePolicy::Ignore => Self::Ignore,
        }
    }
}

/// Upstream's words.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum MinValuesPolicy {
    Strict,
    BestEffort,
}

impl From<MinValuesPolicy> for MinValues {
    fn from(policy: MinValuesPolicy) -> Self {
        match policy {
            MinValuesPolicy::Strict => Self::Strict,
            MinValuesPolicy::BestEffort => Self::BestEffort,
        }
    }
}

/// A Go duration (`1s`), of milliseconds too (`500ms`).
fn duration(text: &str) -> Result<Duration, String> {
    match text.strip_suffix("ms").and_then(|it| it.parse().ok()) {
        Some(millis) => Ok(Duration::from_millis(millis)),
        None => controller::flags::go_duration(text),
    }
}

/// Runs until the process is told to stop, or another takes the lease.
pub async fn run(args: Args) -> Result<(), BoxError> {
    if args.print_crds {
        for definition in api_kube::karpenter::definitions() {
            // JSON is YAML.
            println!("---\n{}", serde_json::to_string_pretty(&definition)?);
        }
        return Ok(());
    }
    let mut config = Config::new(args.cluster_name.as_deref().unwrap_or_default());
    config.batch_idle = args.batch_idle_duration;
    config.batch_max = args.batch_max_duration;
    config.gates = FeatureGates::parse(&args.feature_gates)?;
    config.preferences = args.preference_policy.into();
    config.min_values = args.min_values_policy.into();
    config.interruption_queue = args.interruption_queue.filter(|it| !it.is_empty());
    let client = controller::client("karpenter", args.kubeconfig.as_deref(), None).await?;
    let clock = Clock::system();
    let environment = |name: &str| std::env::var(name).ok();
    let aws = aws_wire::client::from_environment(environment, args.aws_region.as_deref(), clock)?;
    verify(&aws, &config).await?;
    let scope = Scope::new();
    if args.metrics_port != 0 {
        let listener = listen(args.metrics_port)?;
        let metrics = config.metrics.clone();
        let service = tower::service_fn(move |request| answer(request, metrics.clone()));
        drop(scope.spawn("metrics", transport::serve(listener, None, service, scope.child())));
    }
    let election = (!args.disable_leader_election)
        .then(|| election(args.leader_election_name, &args.leader_election_namespace));
    let mut signals = Ok(());
    let asked = async { signals = lifecycle::asked_to_end().await };
    let work = || controllers::run(client.clone(), aws, config, clock, scope.clone());
    match lease::lead(client.clone(), election, clock, &scope, asked, work).await {
        Ended::LostLease => {
            Err("leader election lost: the lease was not renewed in time, or another \
                                 Karpenter has it; start it again"
                .into())
        }
        Ended::Asked => signals.map_err(Into::into),
    }
}

/// Whether AWS knows what the flags name. Who cannot be asked now is asked later.
pub async fn verify(aws: &Client, config: &Config) -> Result<(), BoxError> {
    let cluster = DescribeClusterRequest { name: config.cluster.clone() };
    let described = aws.call::<DescribeCluster>(cluster).await.map(drop);
    let there_is = |flag: &str, answer: Result<(), CallError>, codes: &[&str]| match answer {
        Err(error) if codes.iter().any(|it| error.is(it)) => Err(format!("{flag}: {error}")),
        _ => Ok(()),
    };
    there_is("--cluster-name", described, &["ResourceNotFoundException"])?;
    if let Some(name) = config.interruption_queue.clone() {
        let queue = GetQueueUrlRequest { queue_name: name, ..GetQueueUrlRequest::default() };
        let found = aws.call::<GetQueueUrl>(queue).await.map(drop);
        // The second is what the query protocol calls it.
        let codes = ["QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"];
        there_is("--interruption-queue", found, &codes)?;
    }
    Ok(())
}

/// The lease with controller-runtime's times.
fn election(name: String, namespace: &str) -> Election {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".to_owned());
    let of_pod = || std::fs::read_to_string(NAMESPACE_OF_POD).ok().map(|it| it.trim().to_owned());
    let given = Some(namespace.to_owned()).filter(|it| !it.is_empty());
    Election {
        namespace: given.or_else(of_pod).unwrap_or_else(|| "kube-system".to_owned()),
        name,
        identity: format!("{host}_{}", entropy::uuid()),
        lease_duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
    }
}

/// On every address, of both families where the kernel has both.
fn listen(port: u16) -> Result<TcpListener, BoxError> {
    let any = |host: &str| -> Result<TcpListener, BoxError> {
        let address: SocketAddr = format!("{host}:{port}").parse()?;
        Ok(Place::Here.listen(address)?)
    };
    let listener = any("[::]").or_else(|_| any("0.0.0.0"));
    listener.map_err(|it| format!("failed to listen on port {port} (--metrics-port): {it}").into())
}

async fn answer<B>(
    request: Request<B>,
    metrics: Arc<Metrics>,
) -> Result<Response<Body>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/metrics" => (StatusCode::OK, metrics.render()),
        "/healthz" | "/readyz" => (StatusCode::OK, "ok".to_owned()),
        _ => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    };
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_upstream_writes_them() {
        for (text, millis) in [("1s", 1000), ("500ms", 500), ("1m30s", 90_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert!(duration("soon").is_err());
    }
}
