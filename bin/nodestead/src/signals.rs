//! Ctrl-C and SIGTERM while a command works.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What ends a command early, and the code that shells give for it.
const SIGNALS: [(SignalKind, u8); 2] =
    [(SignalKind::interrupt(), 130), (SignalKind::terminate(), 143)];

/// Does `work`, or gives the code of the signal that ended it early. The work is then gone, and with it
/// what it showed.
pub(crate) async fn unless_asked_to_end<T>(
    work: impl Future<Output = T>,
) -> std::io::Result<Result<T, u8>> {
    let [(interrupt, interrupted), (terminate, terminated)] = SIGNALS;
    let (mut interrupt, mut terminate): (Signal, Signal) = (signal(interrupt)?, signal(terminate)?);
    let work = std::pin::pin!(work);
    Ok(tokio::select! {
        done = work => Ok(done),
        _ = interrupt.recv() => Err(interrupted),
        _ = terminate.recv() => Err(terminated),
    })
}
