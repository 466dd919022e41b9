//! Listeners, on a node's interface or on this machine's loopback, and who is let in.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lifecycle::Scope;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use transport::Place;

use super::{
    http,
    node::Node,
    spec::{Admission, Front, HostSpec},
};
use crate::records::Protocol;

/// How soon a port that could not be listened on is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How long to wait when no connection can be accepted: file descriptors have run out, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listeners at one address.
#[derive(Default)]
pub(super) struct Fronts(BTreeMap<u16, Listening>);

struct Listening {
    front: Front,
    door: Door,
    scope: Scope,
    problem: Arc<Mutex<Option<String>>>,
}

/// Which node takes a client that comes in.
#[derive(Clone)]
pub(super) struct Door {
    nodes: Arc<Mutex<Vec<Arc<Node>>>>,
    admits: Option<Vec<Admission>>,
    turn: Arc<AtomicUsize>,
}

impl Door {
    /// Everyone who has come this far, to this node.
    pub(super) fn open(node: Arc<Node>) -> Self {
        Self { nodes: Arc::new(Mutex::new(vec![node])), admits: None, turn: Arc::default() }
    }

    /// Whom the rules let in, to any of the nodes.
    pub(super) fn guarded(nodes: Arc<Mutex<Vec<Arc<Node>>>>, admits: Vec<Admission>) -> Self {
        Self { nodes, admits: Some(admits), turn: Arc::default() }
    }

    /// As clients find nodes by the load balancer's name: one after the other, those that have an
    /// instance in service first.
    fn node(&self) -> Option<Arc<Node>> {
        let nodes = self.nodes.lock();
        let able: Vec<_> = nodes.iter().filter(|it| it.is_able()).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match able.is_empty() {
            true => nodes.get(turn % nodes.len().max(1)).cloned(),
            false => able.get(turn % able.len()).map(|it| (*it).clone()),
        }
    }

    fn lets_in(&self, peer: SocketAddr, port: u16) -> bool {
        self.admits.as_ref().is_none_or(|it| HostSpec::lets_in(it, peer.ip(), port))
    }

    fn is_same(&self, other: &Self) -> bool {
        let is_same_node = match (&self.admits, &other.admits) {
            (None, None) => {
                let (one, other) = (self.nodes.lock().clone(), other.nodes.lock().clone());
                one.iter().zip(&other).all(|(one, other)| Arc::ptr_eq(one, other))
            }
            _ => Arc::ptr_eq(&self.nodes, &other.nodes),
        };
        is_same_node && self.admits == other.admits
    }
}

impl Fronts {
    /// Listens on these ports of `address` and no others.
    pub(super) fn update(
        &mut self,
        place: &Place,
        address: Ipv4Addr,
        wanted: &BTreeMap<u16, Front>,
        door: &Door,
        scope: &Scope,
    ) {
        self.0.retain(|port, it| {
            let is_wanted = wanted.get(port) == Some(&it.front) && it.door.is_same(door);
            if !is_wanted {
                it.scope.cancel();
            }
            is_wanted
        });
        for (port, front) in wanted {
            if self.0.contains_key(port) {
                continue;
            }
            let scope = scope.child();
            let problem: Arc<Mutex<Option<String>>> = Arc::default();
            let serving = Serving {
                place: place.clone(),
                at: SocketAddr::from((address, *port)),
                front: *front,
                door: door.clone(),
                scope: scope.clone(),
                problem: problem.clone(),
            };
            drop(scope.spawn("load balancer", serving.run()));
            let listening = Listening { front: *front, door: door.clone(), scope, problem };
            self.0.insert(*port, listening);
        }
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        self.0.values().filter_map(|it| it.problem.lock().clone())
    }
}

impl Drop for Fronts {
    fn drop(&mut self) {
        self.0.values().for_each(|it| it.scope.cancel());
    }
}

struct Serving {
    place: Place,
    at: SocketAddr,
    front: Front,
    door: Door,
    scope: Scope,
    problem: Arc<Mutex<Option<String>>>,
}

impl Serving {
    async fn run(self) {
        let listener = self.listener().await;
        loop {
            let Some(node) = self.door.node() else {
                tokio::time::sleep(RETRY).await;
                continue;
            };
            // Who finds no room waits outside.
            let Some(room) = node.room().await else { return };
            match listener.accept().await {
                Ok((client, peer)) if self.door.lets_in(peer, self.at.port()) => {
                    let (front, port) = (self.front, self.at.port());
                    drop(self.scope.spawn("connection", async move {
                        let _room = room;
                        converse(node, client, peer, front, port).await;
                    }));
                }
                Ok((_, peer)) => {
                    tracing::debug!(%peer, "the security groups do not let it in");
                }
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A namespace that is not there yet comes; who has the port may go.
    async fn listener(&self) -> TcpListener {
        loop {
            match self.place.listen(self.at) {
                Ok(listener) => {
                    self.problem.lock().take();
                    return listener;
                }
                Err(error) => {
                    let told = format!("cannot listen on {}: {error}", self.at);
                    if self.problem.lock().replace(told.clone()).as_ref() != Some(&told) {
                        tracing::warn!("a load balancer {told}; it is tried again");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

async fn converse(node: Arc<Node>, client: TcpStream, peer: SocketAddr, front: Front, port: u16) {
    if let Err(error) = client.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delays");
    }
    match front.protocol {
        Protocol::Tcp => node.carry(client, front).await,
        Protocol::Http => http::converse(node, client, peer, front, port).await,
    }
}
