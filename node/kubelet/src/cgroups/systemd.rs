//! Slices of systemd, which are the groups of pods where the driver is `systemd`.
//!
//! systemd makes a slice with its properties (`StartTransientUnit`), changes them (`SetUnitProperties`)
//! and takes it away (`StopUnit`). It is told what the files of the group say as well: otherwise it
//! would undo them the next time that it looks. Each order has a connection of its own, so that no
//! signal waits for a reader while nothing is ordered. An order that nobody waits for is kept until it
//! was followed or refused; what is made anew has no older order.
//!
//! Upstream: `opencontainers/cgroups/systemd`, as `pkg/kubelet/cm/cgroup_manager_linux.go` uses it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::warn;

use super::{
    Limits,
    hierarchy::UNLIMITED,
    names::{parent, slice},
    orders::{Order, Orders},
};
use crate::{
    dbus::{Bus, BusError, SYSTEMD, wire::Value},
    qos::{CPU_PERIOD, cpu_weight},
};

const RULE: &str = "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved',path='/org/freedesktop/systemd1'";
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const UNKNOWN: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// Of one job.
const JOB_LIMIT: Duration = Duration::from_secs(30);
/// Between two attempts to give orders.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// systemd counts quotas in hundredths of a CPU.
const PERCENT_USEC: u64 = 10_000;
const USEC: u64 = 1_000_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum UnitError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("error creating systemd unit `{unit}`: got `{result}`")]
    Job { unit: String, result: String },
    #[error("Timeout waiting for systemd to create {0}")]
    Late(String),
}

/// The slices of this node.
pub(crate) struct Slices {
    socket: PathBuf,
    is_v2: bool,
    orders: Orders,
}

/// Whether systemd runs here.
pub(crate) fn is_running(run: &Path) -> bool {
    run.join("systemd/system").is_dir()
}

impl Slices {
    /// The slices, and what does the work that nobody waits for.
    pub(crate) fn new(socket: PathBuf, is_v2: bool) -> (Self, impl Future<Output = ()> + use<>) {
        let (orders, mut waiting) = Orders::new();
        let to = socket.clone();
        let work = async move {
            while waiting.woken().await {
                let mut pause = FIRST_RETRY;
                while let Some((slice, order)) = waiting.next() {
                    match follow(&to, &slice, &order).await {
                        Ok(()) => {
                            pause = FIRST_RETRY;
                            continue;
                        }
                        Err(error @ BusError::Answer { .. }) => {
                            refused(&slice, &order, &error);
                            continue;
                        }
                        Err(error) => failed(&slice, &error, pause),
                    }
                    waiting.again(&slice, order);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_RETRY);
                }
            }
        };
        (Self { socket, is_v2, orders }, work)
    }

    /// Makes a slice and those around it, or gives one that is there these limits.
    pub(super) async fn ensure(&self, path: &Path, limits: Limits) -> Result<(), UnitError> {
        let Some(unit) = slice(path) else { return Ok(()) };
        self.orders.revoke(unit);
        let limits = limit_properties(limits, self.is_v2);
        let mut properties = unit_properties(unit, parent(path), self.is_v2);
        properties.extend(limits.iter().cloned());
        let mut bus = Bus::connect(&self.socket).await?;
        bus.call(SYSTEMD, "Subscribe", &[]).await?;
        bus.watch(RULE).await?;
        let aux = Value::list("(sa(sv))", Vec::new());
        let body = [text(unit), text("replace"), Value::list("(sv)", properties), aux];
        match bus.call(SYSTEMD, "StartTransientUnit", &body).await {
            Ok(answer) => ended(&mut bus, unit, answer.body.first()).await,
            Err(BusError::Answer { name, .. }) if name == EXISTS => {
                set(&mut bus, unit, limits).await?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Has the limits of a slice changed, soon.
    pub(super) fn set(&self, path: &Path, limits: Limits) {
        let Some(unit) = slice(path) else { return };
        self.orders.put(unit, Order::Set(limit_properties(limits, self.is_v2)));
    }

    /// Has a slice taken away, soon.
    pub(super) fn stop(&self, path: &Path) {
        if let Some(unit) = slice(path) {
            self.orders.put(unit, Order::Stop);
        }
    }
}

fn refused(slice: &str, order: &Order, error: &BusError) {
    let order = match order {
        Order::Set(_) => "SetUnitProperties",
        Order::Stop => "StopUnit",
    };
    warn!(
        slice, order, %error,
        "systemd refused an order; `systemctl status` of the slice and systemd's journal say why"
    );
}

fn failed(slice: &str, error: &BusError, pause: Duration) {
    warn!(
        slice, %error, again_in = ?pause,
        "systemd could not be given an order, which is kept; look whether dbus and systemd answer (`systemctl is-system-running`)"
    );
}

async fn follow(socket: &Path, slice: &str, order: &Order) -> Result<(), BusError> {
    let mut bus = Bus::connect(socket).await?;
    match order {
        Order::Set(properties) => set(&mut bus, slice, properties.clone()).await,
        Order::Stop => {
            match bus.call(SYSTEMD, "StopUnit", &[text(slice), text("replace")]).await {
                Err(BusError::Answer { name, .. }) if name == UNKNOWN => return Ok(()),
                other => other.map(drop)?,
            }
            // One that failed would stay; that there is none that did is no failure.
            drop(bus.call(SYSTEMD, "ResetFailedUnit", &[text(slice)]).await);
            Ok(())
        }
    }
}

/// Until the next start of the machine.
async fn set(bus: &mut Bus, unit: &str, properties: Vec<Value>) -> Result<(), BusError> {
    if properties.is_empty() {
        return Ok(());
    }
    let body = [text(unit), Value::Flag(true), Value::list("(sv)", properties)];
    bus.call(SYSTEMD, "SetUnitProperties", &body).await.map(drop)
}

/// Waits for the end of a job.
async fn ended(bus: &mut Bus, unit: &str, job: Option<&Value>) -> Result<(), UnitError> {
    let waiting = async {
        loop {
            let signal = bus.signal().await?;
            // Its number, itself, its unit, how it ended.
            let [_, removed, _, Value::Text(result), ..] = signal.body.as_slice() else { continue };
            if signal.member == "JobRemoved" && Some(removed) == job {
                return match result.as_str() {
                    "done" => Ok(()),
                    _ => Err(UnitError::Job { unit: unit.to_owned(), result: result.clone() }),
                };
            }
        }
    };
    let late = |_| UnitError::Late(unit.to_owned());
    tokio::time::timeout(JOB_LIMIT, waiting).await.map_err(late)?
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn property(name: &str, value: Value) -> Value {
    Value::Struct(vec![text(name), Value::Variant(Box::new(value))])
}

fn unit_properties(unit: &str, parent: &str, is_v2: bool) -> Vec<Value> {
    let io = if is_v2 { "IOAccounting" } else { "BlockIOAccounting" };
    let on = ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"];
    let named = [
        property("Description", text(&format!("libcontainer container {unit}"))),
        property("Wants", Value::list("s", vec![text(parent)])),
    ];
    let flags = on.into_iter().map(|it| property(it, Value::Flag(true)));
    named
        .into_iter()
        .chain(flags)
        .chain([property("DefaultDependencies", Value::Flag(false))])
        .collect()
}

fn limit_properties(limits: Limits, is_v2: bool) -> Vec<Value> {
    let amount = |it: i64| u64::try_from(it).unwrap_or(u64::MAX);
    let is_limit = |it: &i64| *it > 0 || *it == UNLIMITED;
    let mut all = Vec::new();
    let mut put = |name: &str, value: u64| all.push(property(name, Value::U64(value)));
    if let Some(memory) = limits.memory.filter(is_limit) {
        put(if is_v2 { "MemoryMax" } else { "MemoryLimit" }, amount(memory));
    }
    match limits.shares {
        Some(shares) if is_v2 => put("CPUWeight", amount(cpu_weight(shares))),
        Some(shares) => put("CPUShares", amount(shares)),
        None => {}
    }
    if let Some(quota) = limits.quota.filter(is_limit) {
        let period = amount(limits.period.filter(|it| *it > 0).unwrap_or(CPU_PERIOD));
        put("CPUQuotaPerSecUSec", quota_per_second(quota, period));
        if is_v2 {
            put("CPUQuotaPeriodUSec", period);
        }
    }
    if let Some(pids) = limits.pids.filter(is_limit) {
        put("TasksMax", amount(pids));
    }
    all
}

/// Of a part of a hundredth nothing may be lost.
fn quota_per_second(quota: i64, period: u64) -> u64 {
    match u64::try_from(quota) {
        Ok(quota) => (quota.saturating_mul(USEC) / period).next_multiple_of(PERCENT_USEC),
        Err(_) => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dbus::{
        fake::{self, Peer},
        wire::Message,
    };

    const POD: &str = "kubepods.slice/kubepods-pod1_2.slice";
    const JOB: &str = "/org/freedesktop/systemd1/job/7";

    fn limits() -> Limits {
        Limits {
            shares: Some(1024),
            quota: Some(12_345),
            period: Some(100_000),
            memory: Some(1 << 20),
            pids: Some(64),
        }
    }

    fn number(properties: &[Value], name: &str) -> Option<u64> {
        let wanted = text(name);
        properties.iter().find_map(|it| match it {
            Value::Struct(parts) if parts[0] == wanted => match &parts[1] {
                Value::Variant(inner) => match **inner {
                    Value::U64(number) => Some(number),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        })
    }

    #[test]
    fn limits_are_told_in_the_words_of_each_version() {
        let v1 = limit_properties(limits(), false);
        assert_eq!(number(&v1, "MemoryLimit"), Some(1 << 20));
        assert_eq!(number(&v1, "CPUShares"), Some(1024));
        assert_eq!(number(&v1, "CPUQuotaPerSecUSec"), Some(130_000), "12.345 % is 13 %");
        assert_eq!((number(&v1, "CPUQuotaPeriodUSec"), number(&v1, "TasksMax")), (None, Some(64)));
        let v2 = limit_properties(limits(), true);
        assert_eq!(number(&v2, "MemoryMax"), Some(1 << 20));
        assert_eq!(number(&v2, "CPUWeight"), Some(100));
        assert_eq!(number(&v2, "CPUQuotaPeriodUSec"), Some(100_000));
        let free = Limits { quota: Some(-1), memory: Some(-1), ..Limits::default() };
        let free = limit_properties(free, true);
        assert_eq!(number(&free, "MemoryMax"), Some(u64::MAX));
        assert_eq!(number(&free, "CPUQuotaPerSecUSec"), Some(u64::MAX));
        assert!(limit_properties(Limits::default(), true).is_empty());
    }

    /// A systemd that lets a client in and takes its subscription.
    async fn systemd(listener: &tokio::net::UnixListener, is_subscribed: bool) -> Peer {
        let mut peer = Peer::accept(listener).await;
        let calls: &[&str] =
            if is_subscribed { &["Hello", "Subscribe", "AddMatch"] } else { &["Hello"] };
        for &member in calls {
            let call = peer.call().await;
            assert_eq!(call.member, member);
            peer.agree(call.serial, &[]).await;
        }
        peer
    }

    fn list(message: &Message, at: usize) -> &[Value] {
        let Value::List(_, items) = &message.body[at] else { panic!("{message:?}") };
        items
    }

    #[tokio::test]
    async fn a_slice_is_there_when_its_job_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let listener = fake::listen(&folder.path().join("bus"));
        let (slices, _work) = Slices::new(folder.path().join("bus"), true);
        let bus = async {
            let mut peer = systemd(&listener, true).await;
            let call = peer.call().await;
            assert_eq!(call.member, "StartTransientUnit");
            assert_eq!(call.body[..2], [text("kubepods-pod1_2.slice"), text("replace")]);
            let told = list(&call, 2);
            let wants = Value::list("s", vec![text("kubepods.slice")]);
            assert!(told.contains(&property("Wants", wants)), "{told:?}");
            assert!(told.contains(&property("TasksAccounting", Value::Flag(true))));
            assert_eq!(number(told, "MemoryMax"), Some(1 << 20));
            assert!(list(&call, 3).is_empty());
            // Somebody else's job, and this one's end, which may come before the answer.
            let removed =
                |job: &str, result: &str| [Value::U32(1), text(job), text("x.slice"), text(result)];
            peer.signal("JobRemoved", &removed("/other", "failed")).await;
            peer.signal("JobRemoved", &removed(JOB, "done")).await;
            peer.agree(call.serial, &[text(JOB)]).await;

            let mut peer = systemd(&listener, true).await;
            let call = peer.call().await;
            peer.agree(call.serial, &[text(JOB)]).await;
            peer.signal("JobRemoved", &removed(JOB, "failed")).await;

            let mut peer = systemd(&listener, true).await;
            let call = peer.call().await;
            peer.refuse(call.serial, EXISTS, "Unit kubepods-pod1_2.slice already exists.").await;
            let call = peer.call().await;
            assert_eq!(call.member, "SetUnitProperties");
            assert_eq!(call.body[..2], [text("kubepods-pod1_2.slice"), Value::Flag(true)]);
            assert_eq!(list(&call, 2).len(), limit_properties(limits(), true).len());
            peer.agree(call.serial, &[]).await;
        };
        let ordering = async {
            slices.ensure(Path::new(POD), limits()).await.unwrap();
            let failed = slices.ensure(Path::new(POD), limits()).await.unwrap_err();
            assert_eq!(
                failed.to_string(),
                "error creating systemd unit `kubepods-pod1_2.slice`: got `failed`"
            );
            slices.ensure(Path::new(POD), limits()).await.unwrap();
        };
        tokio::join!(bus, ordering);
    }

    #[tokio::test]
    async fn a_slice_is_changed_and_stopped_while_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let listener = fake::listen(&folder.path().join("bus"));
        let (slices, work) = Slices::new(folder.path().join("bus"), false);
        slices.set(Path::new("kubepods.slice"), Limits { shares: Some(7), ..Limits::default() });
        slices.stop(Path::new(POD));
        slices.stop(Path::new(POD));
        let bus = async {
            let mut peer = systemd(&listener, false).await;
            let call = peer.call().await;
            assert_eq!(
                (call.member.as_str(), &call.body[0]),
                ("SetUnitProperties", &text("kubepods.slice"))
            );
            assert_eq!(number(list(&call, 2), "CPUShares"), Some(7));
            peer.agree(call.serial, &[]).await;
            let mut peer = systemd(&listener, false).await;
            for member in ["StopUnit", "ResetFailedUnit"] {
                let call = peer.call().await;
                assert_eq!(call.member, member);
                assert_eq!(call.body[0], text("kubepods-pod1_2.slice"));
                peer.agree(call.serial, &[]).await;
            }
            // Both were one.
        };
        let ordered = async {
            work.await;
        };
        let ended = async {
            bus.await;
            drop(slices);
        };
        tokio::join!(ended, ordered);
        let nobody = tokio::time::timeout(Duration::from_millis(1), listener.accept());
        assert!(nobody.await.is_err(), "the second stop was another order");
    }

    #[tokio::test]
    async fn an_order_outlives_a_systemd_that_does_not_answer_and_none_is_lost_of_many() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus");
        let listener = fake::listen(&socket);
        let (slices, work) = Slices::new(socket.clone(), true);
        let pod = |it: usize| format!("kubepods.slice/kubepods-pod{it}.slice");
        const PODS: usize = 300;
        for it in 0..PODS {
            slices.stop(Path::new(&pod(it)));
        }
        let bus = async {
            // The first connection ends in the middle of an order.
            let mut peer = systemd(&listener, false).await;
            assert_eq!(peer.call().await.member, "StopUnit");
            drop(peer);
            let mut stopped = std::collections::BTreeSet::new();
            for _ in 0..PODS {
                let mut peer = systemd(&listener, false).await;
                let call = peer.call().await;
                assert_eq!(call.member, "StopUnit");
                stopped.insert(format!("{:?}", call.body[0]));
                // A refusal ends that order only; a slice that is not there is stopped.
                let refusal = if stopped.len() == 1 {
                    "org.freedesktop.DBus.Error.AccessDenied"
                } else {
                    UNKNOWN
                };
                peer.refuse(call.serial, refusal, "Access denied").await;
            }
            stopped.len()
        };
        let all = tokio::select! {
            all = bus => all,
            () = work => panic!("it ends before its orders"),
        };
        assert_eq!(all, PODS);
        drop(slices);
    }
}
