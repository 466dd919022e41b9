//! The API server alone, for trying clients against it:
//! `cargo run -p kube-apiserver --example serve -- --data-dir /tmp/x --secure-port 16443`.

use clap::Parser;
use kube_apiserver::command::{Args, run};

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    telemetry::init("info");
    run(Cli::parse().args).await
}
