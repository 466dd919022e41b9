//! One instance, as one node sees it: where it is, how it does, what is under way to it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lifecycle::Scope;
use parking_lot::Mutex;
use transport::Place;

use super::check::{self, Health, Row};
use crate::records::HealthCheck;

/// How many checks may come faster than they are meant to.
const EAGER_CHECKS: u32 = 30;

pub(super) struct Backend {
    pub(super) address: Ipv4Addr,
    row: Mutex<Row>,
    outstanding: AtomicUsize,
    /// Of the connections to it.
    pub(super) scope: Scope,
    /// Of its checks.
    checking: Mutex<Scope>,
}

/// A connection or request under way.
pub(super) struct Outstanding(Arc<Backend>);

impl Backend {
    pub(super) fn new(address: Ipv4Addr, scope: Scope) -> Self {
        let checking = Mutex::new(scope.child());
        Self {
            address,
            row: Mutex::new(Row::new()),
            outstanding: AtomicUsize::new(0),
            scope,
            checking,
        }
    }

    pub(super) fn health(&self) -> Health {
        self.row.lock().health()
    }

    pub(super) fn is_in_service(&self) -> bool {
        self.health() == Health::InService
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    pub(super) fn begin(self: &Arc<Self>) -> Outstanding {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Outstanding(self.clone())
    }

    /// Checks it like this from now on.
    pub(super) fn watch(
        self: &Arc<Self>,
        place: &Place,
        wanted: &HealthCheck,
        eager: Option<Duration>,
    ) {
        let scope = self.scope.child();
        std::mem::replace(&mut *self.checking.lock(), scope.clone()).cancel();
        let (it, place, wanted) = (self.clone(), place.clone(), wanted.clone());
        drop(scope.spawn("health check", async move {
            let address = SocketAddr::from((it.address, wanted.target.port));
            let mut checks = 0;
            loop {
                let passed = check::check(&place, address, &wanted).await;
                it.row.lock().note(passed, &wanted);
                checks += 1;
                let is_new = checks < EAGER_CHECKS && !it.is_in_service();
                let interval = wanted.interval();
                let pause = eager.filter(|_| is_new).map_or(interval, |it| it.min(interval));
                tokio::time::sleep(pause).await;
            }
        }));
    }

    /// It gets no more connections; those that it has live on for as long as they may.
    pub(super) fn retire(&self, draining: Option<Duration>) {
        self.checking.lock().cancel();
        let Some(limit) = draining else { return self.scope.cancel() };
        let scope = self.scope.clone();
        drop(self.scope.spawn("connection draining", async move {
            tokio::time::sleep(limit).await;
            scope.cancel();
        }));
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}
