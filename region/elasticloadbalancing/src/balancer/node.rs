//! A node of a load balancer: its instances, and who of them is next.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lifecycle::Scope;
use parking_lot::{Mutex, RwLock};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use transport::Place;

use super::{
    backend::{Backend, Outstanding},
    check::Health,
    idle::Watched,
    spec::{BalancerSpec, Front, NodeSpec},
};
use crate::records::{HealthCheck, Protocol};

/// Connections of one node at once; more wait to be taken.
const CONNECTIONS: usize = 1024;
/// How long an instance may take to take a connection before the next one is tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

pub(super) struct Node {
    pub(super) place: Place,
    zone: String,
    eager: Option<Duration>,
    scope: Scope,
    idle: RwLock<Duration>,
    backends: RwLock<BTreeMap<String, Arc<Backend>>>,
    check: Mutex<Option<HealthCheck>>,
    turn: AtomicUsize,
    room: Arc<Semaphore>,
}

impl Node {
    pub(super) fn new(spec: &NodeSpec, eager: Option<Duration>, scope: Scope) -> Self {
        Self {
            place: spec.place.clone(),
            zone: spec.zone.clone(),
            eager,
            scope,
            idle: RwLock::new(Duration::ZERO),
            backends: RwLock::default(),
            check: Mutex::default(),
            turn: AtomicUsize::new(0),
            room: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(super) fn idle(&self) -> Duration {
        *self.idle.read()
    }

    pub(super) fn end(&self) {
        self.scope.cancel();
    }

    pub(super) fn update(&self, spec: &BalancerSpec) {
        *self.idle.write() = spec.idle;
        let wanted: BTreeMap<_, _> = spec.of_zone(&self.zone).collect();
        let mut backends = self.backends.write();
        backends.retain(|id, backend| {
            let is_wanted = wanted.get(id).is_some_and(|it| it.address == backend.address);
            if !is_wanted {
                backend.retire(spec.draining);
            }
            is_wanted
        });
        let mut check = self.check.lock();
        let is_other_check = check.as_ref() != Some(&spec.health_check);
        for (id, member) in wanted {
            let known = backends.get(id).cloned();
            let is_new = known.is_none();
            let new = || Arc::new(Backend::new(member.address, self.scope.child()));
            let backend = known.unwrap_or_else(new);
            if is_new || is_other_check {
                backend.watch(&self.place, &spec.health_check, self.eager);
            }
            backends.insert(id.clone(), backend);
        }
        *check = Some(spec.health_check.clone());
    }

    pub(super) fn health(&self) -> Vec<(String, Health)> {
        self.backends.read().iter().map(|(id, it)| (id.clone(), it.health())).collect()
    }

    /// Whether it has an instance in service.
    pub(super) fn is_able(&self) -> bool {
        self.backends.read().values().any(|it| it.is_in_service())
    }

    /// Room for a connection, once there is some; `None` only at the end of all.
    pub(super) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.room.clone().acquire_owned().await.ok()
    }

    /// Those in service, in the order in which they are to be tried: one after the other for TCP,
    /// who has least to do first for HTTP.
    pub(super) fn candidates(&self, protocol: Protocol) -> Vec<Arc<Backend>> {
        let backends = self.backends.read();
        let mut able: Vec<_> = backends.values().filter(|it| it.is_in_service()).cloned().collect();
        if able.is_empty() {
            return able;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % able.len();
        able.rotate_left(turn);
        if protocol == Protocol::Http {
            able.sort_by_key(|it| it.outstanding());
        }
        able
    }

    /// Carries a client's bytes to an instance and back, until both have ended, one of them is cut
    /// off, or nothing moves for too long.
    pub(super) async fn carry(&self, client: TcpStream, front: Front) {
        let Some((mut instance, backend, _under_way)) = self.connect(front).await else { return };
        if front.proxy_protocol && greet(&client, &mut instance).await.is_err() {
            return;
        }
        let (client, activity) = Watched::new(client);
        tokio::select! {
            ended = transport::splice(client, instance) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection was cut off");
                }
            }
            () = activity.ended(self.idle()) => {}
            () = backend.scope.cancelled() => {}
        }
    }

    async fn connect(&self, front: Front) -> Option<(TcpStream, Arc<Backend>, Outstanding)> {
        for backend in self.candidates(front.protocol) {
            let under_way = backend.begin();
            let address = SocketAddr::from((backend.address, front.instance_port));
            match self.place.connect(address, CONNECT_LIMIT).await {
                Ok(stream) => return Some((stream, backend, under_way)),
                Err(error) => tracing::debug!(%address, %error, "an instance takes no connection"),
            }
        }
        None
    }
}

/// The proxy protocol, version 1.
async fn greet(client: &TcpStream, instance: &mut TcpStream) -> io::Result<()> {
    let (peer, local) = (client.peer_addr()?, client.local_addr()?);
    let line =
        format!("PROXY TCP4 {} {} {} {}\r\n", peer.ip(), local.ip(), peer.port(), local.port());
    instance.write_all(line.as_bytes()).await
}
