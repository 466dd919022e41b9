//! systemd's logind, which tells that the machine is about to go, and waits for whoever holds a lock.
//!
//! Upstream: `pkg/kubelet/nodeshutdown/systemd/inhibit_linux.go`,
//! `pkg/kubelet/nodeshutdown/nodeshutdown_manager_linux.go`.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    dbus::{
        Bus, BusError, Object, SYSTEMD,
        wire::{Message, Value},
    },
    duration,
};

const LOGIND: Object = Object {
    destination: "org.freedesktop.login1",
    path: "/org/freedesktop/login1",
    interface: "org.freedesktop.login1.Manager",
};
const PROPERTIES: Object = Object { interface: "org.freedesktop.DBus.Properties", ..LOGIND };
const RULE: &str = "type='signal',interface='org.freedesktop.login1.Manager',member='PrepareForShutdown',path='/org/freedesktop/login1'";
const SIGHUP: i32 = 1;

#[derive(Debug, thiserror::Error)]
pub(super) enum LogindError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("failed reading InhibitDelayMaxUSec property from logind: {0}")]
    Delay(BusError),
    #[error("InhibitDelayMaxUSec from logind is not a uint64 as expected")]
    DelayType,
    #[error("failed creating systemd inhibitor: {0}")]
    Inhibit(BusError),
    #[error("failed storing inhibit lock file descriptor")]
    NoLock,
    #[error("unable to reload logind conf: {0}")]
    Reload(BusError),
    #[error("unable to override inhibit delay by shutdown manager: failed writing logind shutdown inhibit override file {}: {source}", path.display())]
    Override {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "node shutdown manager was unable to update logind InhibitDelayMaxSec to {wanted} (ShutdownGracePeriod), current value of InhibitDelayMaxSec ({found}) is less than requested ShutdownGracePeriod"
    )]
    TooShort { wanted: String, found: String },
}

/// A lock that keeps the machine from going. Dropping it lets the machine go.
pub(super) struct Logind {
    bus: Bus,
    lock: Option<OwnedFd>,
}

impl Logind {
    /// Makes sure that the machine waits for `period`, and takes the lock. `etc` is where logind is told
    /// to wait longer than it does.
    pub(super) async fn start(
        socket: &Path,
        etc: &Path,
        period: Duration,
    ) -> Result<Self, LogindError> {
        let mut this = Self { bus: Bus::connect(socket).await?, lock: None };
        if period > this.delay().await? {
            this.override_delay(etc, period)?;
            let signal = [text("systemd-logind.service"), text("all"), Value::I32(SIGHUP)];
            let told = this.bus.call(SYSTEMD, "KillUnit", &signal).await;
            told.map_err(LogindError::Reload)?;
            let found = this.delay().await?;
            if period > found {
                let (wanted, found) = (duration::format(period), duration::format(found));
                return Err(LogindError::TooShort { wanted, found });
            }
        }
        this.inhibit().await?;
        this.bus.watch(RULE).await?;
        Ok(this)
    }

    async fn delay(&mut self) -> Result<Duration, LogindError> {
        let property = [text(LOGIND.interface), text("InhibitDelayMaxUSec")];
        let answer = self.bus.call(PROPERTIES, "Get", &property).await;
        let answer = answer.map_err(LogindError::Delay)?;
        match answer.body.into_iter().next() {
            Some(Value::Variant(value)) => match *value {
                Value::U64(micros) => Ok(Duration::from_micros(micros)),
                _ => Err(LogindError::DelayType),
            },
            _ => Err(LogindError::DelayType),
        }
    }

    fn override_delay(&self, etc: &Path, period: Duration) -> Result<(), LogindError> {
        let folder = etc.join("systemd/logind.conf.d");
        let path = folder.join("99-kubelet.conf");
        let seconds = period.as_secs();
        let content = format!("# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={seconds}\n");
        // logind reads `*.conf` only, so what stands beside it is nothing to it.
        let beside = folder.join(".99-kubelet.conf.tmp");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&beside, content))
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(|source| LogindError::Override { path, source })
    }

    pub(super) async fn inhibit(&mut self) -> Result<(), LogindError> {
        let why = "Kubelet needs time to handle node shutdown";
        let body = [text("shutdown"), text("kubelet"), text(why), text("delay")];
        let answer = self.bus.call(LOGIND, "Inhibit", &body).await;
        let answer: Message = answer.map_err(LogindError::Inhibit)?;
        let lock = answer.descriptors.into_iter().next().ok_or(LogindError::NoLock)?;
        self.lock = Some(lock);
        Ok(())
    }

    /// Lets the machine go.
    pub(super) fn release(&mut self) {
        self.lock = None;
    }

    /// Waits for the news that the machine is going, or that it does not go after all.
    pub(super) async fn news(&mut self) -> Result<bool, LogindError> {
        loop {
            let signal = self.bus.signal().await?;
            if let ("PrepareForShutdown", [Value::Flag(is_going)]) =
                (signal.member.as_str(), signal.body.as_slice())
            {
                return Ok(*is_going);
            }
        }
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::dbus::fake::{self, Peer};

    fn micros(seconds: u64) -> Vec<Value> {
        vec![Value::Variant(Box::new(Value::U64(seconds * 1_000_000)))]
    }

    /// Answers all until the lock is taken. Returns the end of it that logind keeps.
    async fn let_in(peer: &mut Peer, delays: &[u64]) -> io::PipeReader {
        let none = None::<&io::PipeWriter>;
        let mut delays = delays.iter();
        let (kept, given) = io::pipe().unwrap();
        loop {
            let call = peer.call().await;
            match call.member.as_str() {
                "Get" => {
                    let delay = micros(*delays.next().unwrap());
                    peer.answer(call.serial, &delay, none).await;
                }
                "KillUnit" => {
                    assert_eq!(call.body[0], text("systemd-logind.service"));
                    assert_eq!(call.body[2], Value::I32(SIGHUP));
                    peer.answer(call.serial, &[], none).await;
                }
                "Inhibit" => {
                    assert_eq!(call.body[0], text("shutdown"));
                    assert_eq!(call.body[3], text("delay"));
                    peer.answer(call.serial, &[Value::Descriptor(0)], Some(&given)).await;
                }
                "AddMatch" => {
                    peer.answer(call.serial, &[], none).await;
                    return kept;
                }
                _ => peer.answer(call.serial, &[text(":1.7")], none).await,
            }
        }
    }

    #[tokio::test]
    async fn the_machine_waits_until_the_lock_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus");
        let listener = fake::listen(&socket);
        let bus = async {
            let mut peer = Peer::accept(&listener).await;
            let kept = let_in(&mut peer, &[5, 30]).await;
            peer.signal("SessionNew", &[text("3")]).await;
            peer.signal("PrepareForShutdown", &[Value::Flag(true)]).await;
            (peer, kept)
        };
        let period = Duration::from_secs(30);
        let etc = folder.path().join("etc");
        let (started, (_peer, mut kept)) = tokio::join!(Logind::start(&socket, &etc, period), bus);
        let mut logind = started.unwrap();
        let file = etc.join("systemd/logind.conf.d/99-kubelet.conf");
        let content = "# Kubelet logind override\n[Login]\nInhibitDelayMaxSec=30\n";
        assert_eq!(fs::read_to_string(file).unwrap(), content);
        assert!(logind.news().await.unwrap());
        logind.release();
        // Nobody holds the other end any more.
        assert_eq!(kept.read(&mut [0]).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_logind_that_does_not_wait_long_enough_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus");
        let listener = fake::listen(&socket);
        let bus = async {
            let mut peer = Peer::accept(&listener).await;
            // It hears nothing more, and stays until the test ends.
            let_in(&mut peer, &[5, 5]).await
        };
        let period = Duration::from_secs(30);
        let starting = Logind::start(&socket, folder.path(), period);
        let error = tokio::select! {
            started = starting => started.err().unwrap(),
            _ = bus => panic!("the lock was taken"),
        };
        let expected = "node shutdown manager was unable to update logind InhibitDelayMaxSec to 30s (ShutdownGracePeriod), current value of InhibitDelayMaxSec (5s) is less than requested ShutdownGracePeriod";
        assert_eq!(error.to_string(), expected);
        let nobody = folder.path().join("none");
        assert!(Logind::start(&nobody, folder.path(), period).await.is_err());
    }
}
