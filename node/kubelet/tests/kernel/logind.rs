//! A machine that goes: logind tells the kubelet over D-Bus, and waits until its pods have ended.
//!
//! Upstream: `test/e2e_node/node_shutdown_linux_test.go`.

use std::{fs, io, io::Read, process::Command};

use serde_json::json;
use tokio::net::UnixListener;

use crate::{
    dbus::{
        fake::{self, Peer},
        wire::Value,
    },
    on_host::OnHost,
    shares::is_inside,
    support::{Bed, LIMIT},
};

/// What logind waits for by itself, in microseconds.
const DELAY: u64 = 60_000_000;

/// A logind on the system's bus, which nobody else in this namespace has.
struct Logind {
    peer: Peer,
    /// The end of the lock that logind keeps.
    lock: io::PipeReader,
}

impl Logind {
    fn listen(bed: &Bed) -> UnixListener {
        let folder = bed.path("dbus");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all("/run/dbus").unwrap();
        let bind = Command::new("mount").arg("--bind").arg(&folder).arg("/run/dbus").status();
        assert!(bind.unwrap().success());
        fake::listen("/run/dbus/system_bus_socket".as_ref())
    }

    /// Lets the kubelet in, up to where it waits for news.
    async fn accept(listener: &UnixListener) -> Self {
        let (lock, given) = io::pipe().unwrap();
        let mut this = Self { peer: Peer::accept(listener).await, lock };
        while !this.answer(&given).await {}
        this
    }

    /// Answers a call; says whether it was the one for news.
    async fn answer(&mut self, given: &io::PipeWriter) -> bool {
        let call = self.peer.call().await;
        let none = None::<&io::PipeWriter>;
        match call.member.as_str() {
            "Get" => {
                let delay = Value::Variant(Box::new(Value::U64(DELAY)));
                self.peer.answer(call.serial, &[delay], none).await;
            }
            "Inhibit" => {
                self.peer.answer(call.serial, &[Value::Descriptor(0)], Some(given)).await;
            }
            "AddMatch" => self.peer.answer(call.serial, &[], none).await,
            _ => self.peer.answer(call.serial, &[Value::Text(":1.7".to_owned())], none).await,
        }
        call.member == "AddMatch"
    }

    async fn say(&mut self, is_going: bool) {
        self.peer.signal("PrepareForShutdown", &[Value::Flag(is_going)]).await;
    }

    /// Waits until nobody holds the lock any more.
    async fn until_let_go(&mut self) {
        let mut lock = self.lock.try_clone().unwrap();
        let waiting = tokio::task::spawn_blocking(move || lock.read(&mut [0]).unwrap());
        assert_eq!(tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_goes_waits_for_its_pods_and_one_that_stays_after_all_takes_new_ones() {
    let test = "logind::a_machine_that_goes_waits_for_its_pods_and_one_that_stays_after_all_takes_new_ones";
    if !is_inside(test, "nst-none", "#!/bin/sh\n") {
        return;
    }
    let Some(bed) = Bed::own("logind").await else { return };
    let listener = Logind::listen(&bed);
    let graceful = json!({
        "shutdownGracePeriod": "30s", "shutdownGracePeriodCriticalPods": "10s",
    });
    let (kubelet, mut logind) =
        tokio::join!(OnHost::prepare(&bed, &graceful), Logind::accept(&listener));
    let script = "trap 'busybox sleep 2; exit 0' TERM; while :; do busybox sleep 0.1; done";
    let pod = |name: &str| {
        let container = bed.container("main", script);
        json!({ "metadata": { "name": name }, "spec": { "containers": [container] } })
    };
    bed.create_pod(pod("web")).await;
    bed.until_ready("web").await;
    logind.say(true).await;
    bed.until_node("False", "node is shutting down").await;
    bed.create_pod(pod("late")).await;
    bed.until("late", |it| it.reason.as_deref() == Some("NodeShutdown")).await;
    logind.until_let_go().await;
    let status = bed.pod("web").await.status.unwrap();
    let told = (status.phase.as_deref(), status.reason.as_deref());
    assert_eq!(told, (Some("Failed"), Some("Terminated")), "before the machine went");
    // It does not go.
    let (_lock, given) = io::pipe().unwrap();
    logind.say(false).await;
    assert!(!logind.answer(&given).await, "it is held back again");
    bed.until_node("True", "").await;
    bed.create_pod(pod("next")).await;
    bed.until_ready("next").await;
    for name in ["web", "late", "next"] {
        bed.delete_pod(name, 0).await;
        bed.until_gone(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.end().await;
}
