//! The steps between the first instruction and the first service.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use linux_netlink::{Netlink, OpenError, RequestError};
use tracing::{error, info};

use crate::{command::Args, reaper::Reaper, status::Recorder};

/// The pauses between attempts to configure the node: what is missing (an address, a right, an
/// endpoint) is mostly given from outside, and soon.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// The loopback link could not be brought up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoopbackError {
    #[error("failed to open the instance's network")]
    Open {
        #[source]
        source: OpenError,
    },
    #[error("failed to bring the loopback link up")]
    Change {
        #[source]
        source: RequestError,
    },
}

pub(crate) fn loopback_up() -> Result<(), LoopbackError> {
    let netlink = Netlink::here().map_err(|source| LoopbackError::Open { source })?;
    let failed = |source| LoopbackError::Change { source };
    match netlink.link_by_name("lo").map_err(failed)? {
        Some(link) => netlink.set_up(link.index).map_err(failed),
        None => Ok(()),
    }
}

/// Runs `nodeadm init` until it succeeds.
pub(crate) async fn configure(args: &Args, reaper: &Arc<Reaper>, status: &Recorder) {
    let own = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let mut pause = FIRST_PAUSE;
    loop {
        match configure_once(&own, &args.config_source, reaper).await {
            Ok(()) => {
                info!("the node is configured");
                return status.failure(None);
            }
            Err(failure) => {
                error!(failure, "failed to configure the node");
                status.failure(Some(failure));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn configure_once(own: &Path, source: &str, reaper: &Reaper) -> Result<(), String> {
    let mut command = Command::new(own);
    command.args(["run", "nodeadm", "init", "--config-source", source]);
    let started = reaper.spawn(&mut command).map_err(|error| format!("nodeadm: {error}"))?;
    match started.ended.await {
        Ok(end) if end.success() => Ok(()),
        Ok(end) => Err(format!("nodeadm: {end}; its messages are on the console")),
        Err(_) => Err("nodeadm: nobody waited for it".to_owned()),
    }
}
