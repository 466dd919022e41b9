//! `karpenter` alone, against any API server and any AWS endpoint.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clock::Clock;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use lifecycle::Scope;
use tokio::net::TcpListener;
use transport::{Body, Place};

use crate::{
    controllers::{self, Config, FeatureGates},
    metrics::Metrics,
};

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
    /// A batch of pods ends when none has come for so many milliseconds,
    #[arg(long, default_value_t = 1000)]
    pub batch_idle_duration: u64,
    /// or after so many.
    #[arg(long, default_value_t = 10_000)]
    pub batch_max_duration: u64,
    /// The SQS queue with EC2's and Health's events.
    #[arg(long, env = "INTERRUPTION_QUEUE")]
    pub interruption_queue: Option<String>,
    /// The port of `/metrics`; 0: none.
    #[arg(long, env = "METRICS_PORT", default_value_t = 8080)]
    pub metrics_port: u16,
    /// Gates to switch: `NodeRepair=true`, `SpotToSpotConsolidation=true`, `StaticCapacity=true`.
    #[arg(long, env = "FEATURE_GATES", value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    /// Print the CustomResourceDefinitions, which are otherwise installed, and end.
    #[arg(long)]
    pub print_crds: bool,
}

/// Runs until the process is told to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
    if args.print_crds {
        for definition in api_kube::karpenter::definitions() {
            // JSON is YAML.
            println!("---\n{}", serde_json::to_string_pretty(&definition)?);
        }
        return Ok(());
    }
    let mut config = Config::new(args.cluster_name.as_deref().unwrap_or_default());
    config.batch_idle = Duration::from_millis(args.batch_idle_duration);
    config.batch_max = Duration::from_millis(args.batch_max_duration);
    config.gates = FeatureGates::parse(&args.feature_gates)?;
    config.interruption_queue = args.interruption_queue.filter(|it| !it.is_empty());
    let client = controller::client(args.kubeconfig.as_deref(), None).await?;
    let clock = Clock::system();
    let environment = |name: &str| std::env::var(name).ok();
    let aws = aws_wire::client::from_environment(environment, args.aws_region.as_deref(), clock)?;
    let scope = Scope::new();
    if args.metrics_port != 0 {
        let listener = listen(args.metrics_port)?;
        let metrics = config.metrics.clone();
        let service = tower::service_fn(move |request| answer(request, metrics.clone()));
        drop(scope.spawn("metrics", transport::serve(listener, None, service, scope.child())));
    }
    tokio::select! {
        () = controllers::run(client, aws, config, clock, scope.clone()) => {}
        asked = lifecycle::asked_to_end() => asked?,
    }
    scope.cancel();
    Ok(())
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
