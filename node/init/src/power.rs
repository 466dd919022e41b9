//! How init is told that the instance is to end: by the signals that `systemctl`, `shutdown` and
//! busybox send to PID 1.
//!
//! Upstream: systemd(1), "Signals"; busybox's `init`.
//!
//! Deviation: reboot(2) in the instance's PID namespace kills PID 1 at once, and the machine's side
//! cannot see what it was called for: such an instance boots again, also where the call was to
//! switch it off (`poweroff -f` of the distribution's programs; the AMI's own ask init).

use std::{future::poll_fn, io, task::Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What comes after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// Whoever looks after the instance decides: it boots again unless it was to stop.
    Lost,
    /// It was told from within to switch itself off.
    Off,
}

/// glibc's SIGRTMIN, from which `systemctl` and `kill -s RTMIN+4` count.
const SIGRTMIN: i32 = 34;

/// SIGTERM is what the machine's side sends, and what busybox's `reboot` does; SIGINT is
/// Ctrl-Alt-Del; the last two are `systemctl reboot` and `systemctl kexec`.
const AGAIN: [i32; 4] = [15, 2, SIGRTMIN + 5, SIGRTMIN + 6];
/// busybox's `halt` and `poweroff`, systemd's.
const OFF: [i32; 4] = [10, 12, SIGRTMIN + 3, SIGRTMIN + 4];

/// The signals, listened to.
pub(crate) struct Ends(Vec<(Signal, Power)>);

impl Ends {
    pub(crate) fn listen() -> io::Result<Self> {
        let all =
            AGAIN.map(|it| (it, Power::Lost)).into_iter().chain(OFF.map(|it| (it, Power::Off)));
        let listen = |(number, power)| Ok((signal(SignalKind::from_raw(number))?, power));
        all.map(listen).collect::<io::Result<_>>().map(Self)
    }

    /// Ends with the first of them.
    pub(crate) async fn first(&mut self) -> Power {
        poll_fn(|context| {
            let come = self
                .0
                .iter_mut()
                .find_map(|(signal, power)| signal.poll_recv(context).is_ready().then_some(*power));
            come.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;

    use super::*;

    #[tokio::test]
    async fn a_power_off_is_told_from_a_reboot() {
        let mut ends = Ends::listen().unwrap();
        let own = Pid::this().as_raw().to_string();
        for (number, expected) in [(SIGRTMIN + 4, Power::Off), (SIGRTMIN + 5, Power::Lost)] {
            // Whether it went well may have been asked by the reaper that is tested in this process too.
            drop(
                std::process::Command::new("sh")
                    .args(["-c", &format!("kill -{number} {own}")])
                    .status(),
            );
            assert_eq!(ends.first().await, expected);
        }
    }
}
