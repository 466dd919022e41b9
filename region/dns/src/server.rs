//! Sockets: UDP and TCP on each address, and the way to the outside resolvers.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use lifecycle::Scope;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};
use tracing::debug;
use transport::Place;

use crate::{
    Zone,
    answer::{Answer, Limit, answer},
};

const PORT: u16 = 53;
const IDLE_LIMIT: Duration = Duration::from_secs(10);
const OUTSIDE_LIMIT: Duration = Duration::from_secs(3);

/// The resolver could not listen.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}")]
pub struct ServeError {
    pub address: SocketAddr,
    #[source]
    pub source: io::Error,
}

/// Serves `zone` on `addresses` in the VPC's router until `scope` is cancelled. Returns when it
/// listens.
pub fn serve(
    router: &Place,
    addresses: &[Ipv4Addr],
    zone: Zone,
    scope: &Scope,
) -> Result<(), ServeError> {
    let zone = Arc::new(zone);
    for address in addresses {
        let address = SocketAddr::from((*address, PORT));
        let failed = |source| ServeError { address, source };
        let udp = Arc::new(router.udp(address).map_err(failed)?);
        let tcp = router.listen(address).map_err(failed)?;
        drop(scope.spawn("dns over udp", datagrams(udp, zone.clone(), scope.clone())));
        drop(scope.spawn("dns over tcp", connections(tcp, zone.clone(), scope.clone())));
    }
    Ok(())
}

async fn datagrams(socket: Arc<UdpSocket>, zone: Arc<Zone>, scope: Scope) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((len, peer)) = socket.recv_from(&mut buffer).await else { continue };
        match answer(&zone, &buffer[..len], Limit::Udp) {
            Answer::Nothing => {}
            Answer::Reply(reply) => send(&socket, &reply, peer).await,
            Answer::Forward => {
                let (socket, zone, query) = (socket.clone(), zone.clone(), buffer[..len].to_vec());
                drop(scope.spawn("dns forward", async move {
                    if let Some(reply) = outside(&zone, &query).await {
                        send(&socket, &reply, peer).await;
                    }
                }));
            }
        }
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(reply, peer).await {
        debug!(%error, %peer, "failed to send an answer");
    }
}

async fn connections(listener: TcpListener, zone: Arc<Zone>, scope: Scope) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, mostly: waiting is the only thing that helps.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let zone = zone.clone();
        drop(scope.spawn("dns connection", async move {
            if let Err(error) = converse(stream, &zone).await {
                debug!(%error, "connection ended");
            }
        }));
    }
}

async fn converse(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    loop {
        let len = timeout(IDLE_LIMIT, stream.read_u16()).await??;
        let mut query = vec![0; usize::from(len)];
        timeout(IDLE_LIMIT, stream.read_exact(&mut query)).await??;
        let reply = match answer(zone, &query, Limit::Tcp) {
            Answer::Reply(reply) => Some(reply),
            Answer::Forward => outside(zone, &query).await,
            Answer::Nothing => None,
        };
        let Some(reply) = reply else { return Ok(()) };
        let len = u16::try_from(reply.len()).map_err(io::Error::other)?;
        stream.write_u16(len).await?;
        stream.write_all(&reply).await?;
    }
}

/// Asks the outside resolvers one after the other, from the machine's own network.
async fn outside(zone: &Zone, query: &[u8]) -> Option<Vec<u8>> {
    for resolver in &zone.outside {
        match timeout(OUTSIDE_LIMIT, exchange(*resolver, query)).await {
            Ok(Ok(reply)) => return Some(reply),
            Ok(Err(error)) => debug!(%error, %resolver, "an outside resolver failed"),
            Err(_) => debug!(%resolver, "an outside resolver did not answer"),
        }
    }
    None
}

async fn exchange(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if resolver.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = Place::Here.udp(any)?;
    socket.connect(resolver).await?;
    socket.send(query).await?;
    let mut reply = vec![0; 4096];
    loop {
        let len = socket.recv(&mut reply).await?;
        // Not an answer to this question: somebody else's, or a forgery.
        if reply.get(..2) == query.get(..2) {
            reply.truncate(len);
            return Ok(reply);
        }
    }
}
