//! UDP and TCP on one port.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hickory_proto::{
    op::{Message, Query},
    rr::Name,
};
use lifecycle::Scope;
use parking_lot::RwLock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};
use tracing::debug;
use transport::Place;

use crate::{
    answer::{Answer, Limit, answer, complete},
    metrics::Metrics,
    upstream::Upstream,
    zone::Zone,
};

const IDLE: Duration = Duration::from_secs(10);
/// Queries that others are asked for at the same time; more are dropped, as CoreDNS refuses them.
const MAX_FORWARDED: usize = 1000;

/// See the module.
#[derive(Debug)]
pub struct Server {
    pub zone: RwLock<Zone>,
    pub metrics: Metrics,
    upstream: Upstream,
    is_ready: AtomicBool,
    forwards: Semaphore,
}

impl Server {
    pub fn new(zone: Zone, upstream: Upstream) -> Self {
        Self {
            zone: RwLock::new(zone),
            metrics: Metrics::default(),
            upstream,
            is_ready: AtomicBool::new(false),
            forwards: Semaphore::new(MAX_FORWARDED),
        }
    }

    /// The zone is complete.
    pub fn set_ready(&self) {
        self.is_ready.store(true, Ordering::Release);
    }

    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Listens on `address`; gives back where (port 0 is any), and serves until `scope` ends.
    pub fn listen(
        self: &Arc<Self>,
        place: &Place,
        address: SocketAddr,
        scope: &Scope,
    ) -> io::Result<SocketAddr> {
        let udp = Arc::new(place.udp(address)?);
        let address = udp.local_addr()?;
        let tcp = place.listen(address)?;
        drop(scope.spawn("udp", datagrams(self.clone(), udp, scope.clone())));
        drop(scope.spawn("tcp", connections(self.clone(), tcp, scope.clone())));
        Ok(address)
    }

    fn decide(&self, query: &[u8], limit: Limit) -> Answer {
        if !self.is_ready() {
            return answer(None, query, limit);
        }
        answer(Some(&self.zone.read()), query, limit)
    }

    /// What needs others: `None` where nobody answered in time.
    async fn ask(&self, decided: Answer, query: &[u8], limit: Limit) -> Option<Vec<u8>> {
        let _permit = self.forwards.try_acquire().ok()?;
        self.metrics.forwarded.fetch_add(1, Ordering::Relaxed);
        match decided {
            Answer::Follow { reply, target } => {
                let question = question(&reply, target);
                let theirs = match question {
                    Some(question) => self.upstream.ask(&question, Limit::Tcp.min_for(limit)).await,
                    None => None,
                };
                Some(complete(*reply, theirs.as_deref(), limit))
            }
            _ => {
                let reply = self.upstream.ask(query, limit).await;
                if reply.is_none() {
                    self.metrics.unanswered.fetch_add(1, Ordering::Relaxed);
                }
                reply.or_else(|| failure(query))
            }
        }
    }
}

impl Limit {
    /// An alias's target is asked for the way the client came.
    fn min_for(self, client: Self) -> Self {
        if client == Self::Udp { Self::Udp } else { self }
    }
}

/// The question for an alias's target, of the type that the client asked for.
fn question(reply: &Message, target: Name) -> Option<Vec<u8>> {
    let kind = reply.queries.first()?.query_type();
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(target, kind));
    message.to_vec().ok()
}

/// "Ask again", when nobody answered.
fn failure(query: &[u8]) -> Option<Vec<u8>> {
    match answer(None, query, Limit::Udp) {
        Answer::Reply(bytes) => Some(bytes),
        _ => None,
    }
}

async fn datagrams(server: Arc<Server>, socket: Arc<UdpSocket>, scope: Scope) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((len, peer)) = socket.recv_from(&mut buffer).await else { continue };
        server.metrics.udp.fetch_add(1, Ordering::Relaxed);
        match server.decide(&buffer[..len], Limit::Udp) {
            Answer::Nothing => {}
            Answer::Reply(reply) => send(&socket, &reply, peer).await,
            decided => {
                let (server, socket) = (server.clone(), socket.clone());
                let query = buffer[..len].to_vec();
                drop(scope.spawn("forward", async move {
                    if let Some(reply) = server.ask(decided, &query, Limit::Udp).await {
                        send(&socket, &reply, peer).await;
                    }
                }));
            }
        }
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(reply, peer).await {
        debug!(%peer, %error, "a reply was not sent");
    }
}

async fn connections(server: Arc<Server>, listener: TcpListener, scope: Scope) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors, mostly: time is what helps.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let server = server.clone();
        drop(scope.spawn("connection", async move {
            if let Err(error) = converse(&server, stream).await {
                debug!(%peer, %error, "a connection ended");
            }
        }));
    }
}

async fn converse(server: &Server, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let len = timeout(IDLE, stream.read_u16()).await??;
        let mut query = vec![0; usize::from(len)];
        timeout(IDLE, stream.read_exact(&mut query)).await??;
        server.metrics.tcp.fetch_add(1, Ordering::Relaxed);
        let reply = match server.decide(&query, Limit::Tcp) {
            Answer::Nothing => return Ok(()),
            Answer::Reply(reply) => Some(reply),
            decided => server.ask(decided, &query, Limit::Tcp).await,
        };
        let Some(reply) = reply else { return Ok(()) };
        let len = u16::try_from(reply.len()).map_err(io::Error::other)?;
        stream.write_u16(len).await?;
        stream.write_all(&reply).await?;
    }
}
