//! Ctrl-C while `up` works: what was begun stays and runs on, and the user hears that.
//!
//! The daemon has a process group of its own and lives on; the region goes on with what it was asked
//! for. What was not asked for yet, a second `up` asks for: this process alone knew of it.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{commands::down, failure::Status, layout::Layout};

/// What ends `up` early, and the code that shells give for it.
const SIGNALS: [(SignalKind, u8); 2] =
    [(SignalKind::interrupt(), 130), (SignalKind::terminate(), 143)];

/// Does `work`; one of the signals ends it with a word about what goes on.
pub(super) async fn or_told(
    work: impl Future<Output = anyhow::Result<()>>,
    layout: &Layout,
) -> anyhow::Result<()> {
    let [(interrupt, interrupted), (terminate, terminated)] = SIGNALS;
    let (mut interrupt, mut terminate): (Signal, Signal) = (signal(interrupt)?, signal(terminate)?);
    let code = {
        let work = std::pin::pin!(work);
        tokio::select! {
            done = work => return done,
            _ = interrupt.recv() => interrupted,
            _ = terminate.recv() => terminated,
        }
        // The work goes here, and with it its bar.
    };
    eprint!("{}", words(layout, down::daemon(layout).is_some()));
    Err(Status(code).into())
}

fn words(layout: &Layout, has_daemon: bool) -> String {
    let at = layout.root().display();
    let first = match has_daemon {
        true => {
            "interrupted: the daemon runs on in the background with what it was asked for so far; the rest is not asked for"
        }
        false => "interrupted: the region's daemon may still be starting in the background",
    };
    format!(
        "{first}\n  next: watch it with `nodestead status --data-dir {at}`, finish with \
         `nodestead up --data-dir {at}`, or remove it with `nodestead down --purge --data-dir {at}`\n"
    )
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::*;

    #[test]
    fn an_interrupted_user_is_told_what_goes_on_and_how_to_end_it() {
        let layout = Layout::new(Path::new("/var/lib/no-such-region")).unwrap();
        let said = words(&layout, true);
        for part in ["in the background", "nodestead status", "nodestead up", "nodestead down"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    /// The signal goes to this process: no other test of this program listens for it.
    #[tokio::test]
    async fn work_that_is_terminated_ends_with_the_shells_code() {
        let layout = Layout::new(Path::new("/var/lib/no-such-region")).unwrap();
        assert!(or_told(std::future::ready(Ok(())), &layout).await.is_ok());
        let work = async {
            let own = std::process::id().to_string();
            let killed = Command::new("kill").args(["-TERM", &own]).status()?;
            assert!(killed.success());
            std::future::pending().await
        };
        let error = or_told(work, &layout).await.unwrap_err();
        assert_eq!(error.downcast_ref::<Status>().map(|it| it.0), Some(143));
    }
}
