//! Logging in by SSH.
//!
//! It does not wait for the node: whoever has a key pair can look at an instance that does not join. Where
//! nobody has a key, nothing listens; a script of the user data may still bring one.
//!
//! Deviation: Amazon Linux runs sshd on every instance. Here it runs where the default user has a key when
//! the instance boots, or when its user data has been handled.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::{error, warn};

use crate::{
    reaper::Reaper,
    services::{self, Service, Surroundings},
};

/// The metadata service answers as soon as the instance's interface is in place.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// About ten minutes: what has not come by then is not there.
const ATTEMPTS: u32 = 32;

/// Ends when nobody can log in in this boot; otherwise with its scope.
pub(crate) async fn serve(around: Surroundings, mut is_configured: watch::Receiver<bool>) {
    let own = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let service = Service::sshd();
    prepare(&own, &around.reaper).await;
    if !service.is_configured() {
        // An error: the sender is gone, and so is everything else.
        is_configured.wait_for(|it| *it).await.ok();
        if !service.is_configured() {
            return;
        }
        prepare(&own, &around.reaper).await;
    }
    if !service.is_installed() {
        error!(
            "nobody can log in by SSH: /usr/sbin/sshd is not there (the package openssh-server of the \
             machine, or of the image where it has programs of its own)"
        );
        return;
    }
    services::keep_running(service, around).await;
}

/// Runs `nodeadm access` until it succeeds, or nobody waits for it any more.
async fn prepare(own: &Path, reaper: &Arc<Reaper>) {
    let mut pause = FIRST_PAUSE;
    for _attempt in 0..ATTEMPTS {
        let Err(failure) = prepare_once(own, reaper).await else { return };
        warn!(failure, "failed to prepare logging in by SSH");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn prepare_once(own: &Path, reaper: &Reaper) -> Result<(), String> {
    let mut command = Command::new(own);
    command.args(["run", "nodeadm", "access"]);
    let started = reaper.spawn(&mut command).map_err(|error| format!("nodeadm: {error}"))?;
    match started.ended.await {
        Ok(end) if end.success() => Ok(()),
        Ok(end) => Err(format!("nodeadm: {end}; its messages are on the console")),
        Err(_) => Err("nodeadm: nobody waited for it".to_owned()),
    }
}
