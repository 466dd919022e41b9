//! The subcommand's flags, and the life of an instance from its first process to its last.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clock::Clock;
use lifecycle::Scope;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

use crate::{
    access, boot, logs,
    power::{Ends, Power},
    reaper::Reaper,
    services::{self, Service, Surroundings},
    shutdown,
    status::{Phase, Recorder},
};

/// Be PID 1 of an instance.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where user data comes from.
    #[arg(long, default_value = "imds://user-data")]
    pub config_source: String,
    /// How long to wait before user data, in seconds: firmware, kernel and systemd take that long on
    /// hardware.
    #[arg(long, default_value_t = 0)]
    pub boot_seconds: u64,
    /// How long containers may take to end when the instance is shut down, in seconds.
    #[arg(long, default_value_t = 10)]
    pub shutdown_grace: u64,
    /// Where the state of the boot and of the services is written down.
    #[arg(long, default_value = "/var/lib/nodestead/init.json")]
    pub status_file: PathBuf,
    /// The folder of the services' logs.
    #[arg(long, default_value = "/var/log")]
    pub log_dir: PathBuf,
}

pub async fn run(args: Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if std::process::id() != 1 {
        return Err("init is the first process of an instance; it cannot run beside others".into());
    }
    telemetry::init("info");
    // What the console says above is of earlier boots.
    info!("booting");
    let scope = Scope::new();
    let reaper = Arc::new(Reaper::default());
    let mut ends = Ends::listen()?;
    drop(scope.spawn("reaper", Reaper::run(reaper.clone(), signal(SignalKind::child())?)));
    let status = Recorder::open(&args.status_file, Clock::system());
    status.phase(Phase::Booting);
    boot::loopback_up()?;

    let work = live(&args, &scope, &reaper, &status);
    let asked = tokio::select! {
        () = work => Power::Lost,
        asked = ends.first() => asked,
    };
    info!(?asked, "shutting down");
    if asked == Power::Off {
        status.powering_off();
    }
    status.phase(Phase::Stopping);
    // No service comes back from here on.
    scope.cancel();
    let reaping = Scope::new();
    drop(reaping.spawn("reaper", Reaper::run(reaper.clone(), signal(SignalKind::child())?)));
    shutdown::run(&status.snapshot(), Duration::from_secs(args.shutdown_grace)).await;
    status.phase(Phase::Stopped);
    if asked == Power::Off {
        status.powered_off();
    }
    info!("end");
    Ok(())
}

/// Configures the node, then keeps its services running. Ends with the scope only.
async fn live(args: &Args, scope: &Scope, reaper: &Arc<Reaper>, status: &Recorder) {
    tokio::time::sleep(Duration::from_secs(args.boot_seconds)).await;
    let around = Surroundings {
        reaper: reaper.clone(),
        status: status.clone(),
        log_dir: args.log_dir.clone(),
        runtime: Arc::default(),
    };
    let configured = watch::Sender::new(false);
    drop(scope.spawn("SSH", access::serve(around.clone(), configured.subscribe())));
    let agent = Service::ssm_agent();
    for name in ["sshd", agent.name] {
        let log = args.log_dir.join(format!("{name}.log"));
        drop(scope.spawn("rotation", logs::rotate(log)));
    }
    drop(scope.spawn(agent.name, services::keep_running(agent, around.clone())));
    boot::configure(args, reaper, status).await;
    configured.send_replace(true);
    status.phase(Phase::Running);
    let wanted = Service::of_a_node();
    let present: Vec<_> = wanted.into_iter().filter(Service::is_configured).collect();
    if present.is_empty() {
        warn!("user data asked for no node: nothing but init runs here");
    }
    for service in present {
        let name = service.name;
        let log = args.log_dir.join(format!("{name}.log"));
        drop(scope.spawn("rotation", logs::rotate(log)));
        drop(scope.spawn(name, services::keep_running(service, around.clone())));
    }
    scope.cancelled().await;
}
