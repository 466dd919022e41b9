//! `kube-controller-manager` alone, against any API server.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clock::Clock;
use lifecycle::Scope;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Upstream's flags, as far as they mean something here.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kubeconfig of the API server; the pod's service account where it is not given.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The certificate that signs kubelets' and clients' certificates.
    #[arg(long)]
    pub cluster_signing_cert_file: PathBuf,
    /// Its key.
    #[arg(long)]
    pub cluster_signing_key_file: PathBuf,
    /// What pods trust the API server by; the signing certificate where it is not given.
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// How long signed certificates are valid, at most (seconds, or like `8760h`).
    #[arg(long, default_value = "8760h", value_parser = duration)]
    pub cluster_signing_duration: Duration,
    /// How long a node may be silent before it counts as unreachable.
    #[arg(long, default_value = "50s", value_parser = duration)]
    pub node_monitor_grace_period: Duration,
    /// How many finished pods are kept before the oldest are deleted.
    #[arg(long, default_value_t = 12_500)]
    pub terminated_pod_gc_threshold: usize,
    /// Not supported: `true` is answered with a warning, and one process must run.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Log verbosity, as klog counts it.
    #[arg(short = 'v', long = "v", default_value_t = 2)]
    pub verbosity: u8,
}

/// Runs until the process is told to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
    if args.leader_elect {
        tracing::warn!("--leader-elect is not supported: run one kube-controller-manager only");
    }
    let certificate = std::fs::read_to_string(&args.cluster_signing_cert_file)?;
    let key = std::fs::read_to_string(&args.cluster_signing_key_file)?;
    let root = match &args.root_ca_file {
        None => certificate.clone(),
        Some(path) => std::fs::read_to_string(path)?,
    };
    let mut config = crate::Config::new(Arc::new(pki::Ca::from_pem(&certificate, &key)?), root);
    config.cluster_signing_duration = args.cluster_signing_duration;
    config.node_monitor_grace_period = args.node_monitor_grace_period;
    config.terminated_pod_gc_threshold = args.terminated_pod_gc_threshold;
    let client = controller::client(args.kubeconfig.as_deref(), None).await?;
    let scope = Scope::new();
    tokio::select! {
        () = crate::run(client, config, Clock::system(), scope.clone()) => {}
        asked = lifecycle::asked_to_end() => asked?,
    }
    scope.cancel();
    Ok(())
}

/// A Go duration of whole hours, minutes and seconds (`1h30m`), or plain seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration like `50s` or `1h30m`");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let (mut seconds, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let end = rest.find(|it: char| !it.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..end].parse().map_err(|_| wrong())?;
        let factor = match rest.as_bytes().get(end) {
            Some(b'h') => 3600,
            Some(b'm') => 60,
            Some(b's') => 1,
            _ => return Err(wrong()),
        };
        seconds += number * factor;
        rest = &rest[end + 1..];
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [("50s", 50), ("1h30m", 5400), ("8760h0m0s", 31_536_000), ("7", 7)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert!(duration("soon").is_err() && duration("1x").is_err());
    }
}
