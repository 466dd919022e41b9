//! Sockets: UDP and TCP on each address, and the way to the outside resolvers.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use lifecycle::Scope;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};
use tracing::debug;
use transport::{Admission, Place};

use crate::{
    Zone,
    answer::{Answer, Limit, answer, failed},
};

const PORT: u16 = 53;
const IDLE_LIMIT: Duration = Duration::from_secs(10);
const OUTSIDE_LIMIT: Duration = Duration::from_secs(3);
/// Queries that the outside is asked for at the same time, each with a socket of its own; more fail.
const MAX_FORWARDED: usize = 1000;
/// Nothing can be received: descriptors or memory have run out, and only waiting helps.
const PAUSE: Duration = Duration::from_millis(50);

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
    addresses: &[IpAddr],
    zone: Zone,
    scope: &Scope,
) -> Result<(), ServeError> {
    let zone = Arc::new(zone);
    let forwards = Arc::new(Semaphore::new(MAX_FORWARDED));
    for address in addresses {
        let address = SocketAddr::from((*address, PORT));
        let failed = |source| ServeError { address, source };
        let udp = Arc::new(router.udp(address).map_err(failed)?);
        let tcp = router.listen(address).map_err(failed)?;
        drop(
            scope.spawn(
                "dns over udp",
                datagrams(udp, zone.clone(), forwards.clone(), scope.clone()),
            ),
        );
        drop(scope.spawn(
            "dns over tcp",
            connections(tcp, zone.clone(), forwards.clone(), scope.clone()),
        ));
    }
    Ok(())
}

async fn datagrams(
    socket: Arc<UdpSocket>,
    zone: Arc<Zone>,
    forwards: Arc<Semaphore>,
    scope: Scope,
) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((len, peer)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        match answer(&zone, &buffer[..len], Limit::Udp) {
            Answer::Nothing => {}
            Answer::Reply(reply) => send(&socket, &reply, peer).await,
            Answer::Forward => {
                let Ok(permit) = forwards.clone().try_acquire_owned() else {
                    if let Some(reply) = failed(&buffer[..len]) {
                        send(&socket, &reply, peer).await;
                    }
                    continue;
                };
                let (socket, zone, query) = (socket.clone(), zone.clone(), buffer[..len].to_vec());
                drop(scope.spawn("dns forward", async move {
                    let _permit = permit;
                    if let Some(reply) = outside(&zone, &query, Limit::Udp).await {
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

async fn connections(
    listener: TcpListener,
    zone: Arc<Zone>,
    forwards: Arc<Semaphore>,
    scope: Scope,
) {
    let admission = Admission::of_process();
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Some(admitted) = admission.admit(peer.ip()) else { continue };
        let (zone, forwards) = (zone.clone(), forwards.clone());
        drop(scope.spawn("dns connection", async move {
            let _admitted = admitted;
            if let Err(error) = converse(stream, &zone, &forwards).await {
                debug!(%error, "connection ended");
            }
        }));
    }
}

async fn converse(mut stream: TcpStream, zone: &Zone, forwards: &Semaphore) -> io::Result<()> {
    loop {
        let len = timeout(IDLE_LIMIT, stream.read_u16()).await??;
        let mut query = vec![0; usize::from(len)];
        timeout(IDLE_LIMIT, stream.read_exact(&mut query)).await??;
        let reply = match answer(zone, &query, Limit::Tcp) {
            Answer::Reply(reply) => Some(reply),
            Answer::Forward => match forwards.try_acquire() {
                Ok(_permit) => outside(zone, &query, Limit::Tcp).await,
                Err(_) => failed(&query),
            },
            Answer::Nothing => None,
        };
        let Some(reply) = reply else { return Ok(()) };
        let len = u16::try_from(reply.len()).map_err(io::Error::other)?;
        stream.write_u16(len).await?;
        stream.write_all(&reply).await?;
    }
}

/// Asks the outside resolvers one after the other, from the machine's own network, and in the way
/// that the client chose: it comes back over TCP for what was too long.
async fn outside(zone: &Zone, query: &[u8], limit: Limit) -> Option<Vec<u8>> {
    for resolver in (zone.outside)() {
        let exchange = async {
            match limit {
                Limit::Udp => exchange(resolver, query).await,
                Limit::Tcp => exchange_over_tcp(resolver, query).await,
            }
        };
        match timeout(OUTSIDE_LIMIT, exchange).await {
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

async fn exchange_over_tcp(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = Place::Here.connect(resolver, OUTSIDE_LIMIT).await?;
    stream.write_u16(u16::try_from(query.len()).map_err(io::Error::other)?).await?;
    stream.write_all(query).await?;
    let len = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(len)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::zone::tests::zone;

    /// A resolver that gives back what it was asked, over UDP and TCP on one port.
    async fn echo() -> (SocketAddr, Scope) {
        let udp = Place::Here.udp((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = Place::Here.listen(address).unwrap();
        let scope = Scope::new();
        drop(scope.spawn("udp", async move {
            let mut buffer = [0; 512];
            while let Ok((len, peer)) = udp.recv_from(&mut buffer).await {
                udp.send_to(&buffer[..len], peer).await.unwrap();
            }
        }));
        drop(scope.spawn("tcp", async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let len = stream.read_u16().await.unwrap();
                let mut query = vec![0; usize::from(len)];
                stream.read_exact(&mut query).await.unwrap();
                stream.write_u16(len).await.unwrap();
                stream.write_all(&query).await.unwrap();
            }
        }));
        (address, scope)
    }

    #[tokio::test]
    async fn the_second_resolver_is_asked_when_the_first_is_silent_and_over_what_the_client_used() {
        let ((good, _scope), mut zone) = (echo().await, zone());
        let dead: SocketAddr = (Ipv4Addr::LOCALHOST, 1).into();
        zone.outside = Arc::new(move || vec![dead, good]);
        for limit in [Limit::Udp, Limit::Tcp] {
            assert_eq!(outside(&zone, b"query", limit).await.unwrap(), b"query", "{limit:?}");
        }
        zone.outside = Arc::new(move || vec![dead]);
        assert_eq!(outside(&zone, b"query", Limit::Tcp).await, None);
    }
}
