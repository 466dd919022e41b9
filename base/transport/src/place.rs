//! Where a socket is made: the host's network namespace or a named one.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{setsockopt, sockopt},
};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket, UnixListener, UnixStream};

/// A network namespace to make sockets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// The namespace that this process started in.
    #[default]
    Here,
    /// The namespace that this file stands for (`/run/netns/NAME`, `/proc/PID/ns/net`).
    Netns(PathBuf),
}

impl Place {
    /// The namespace that `ip netns` knows by this name.
    pub fn named(name: &str) -> Self {
        Self::Netns(Path::new("/run/netns").join(name))
    }

    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let listener = self.enter(move || {
            let socket = std::net::TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        TcpListener::from_std(listener)
    }

    pub fn udp(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.enter(move || {
            let socket = std::net::UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        UdpSocket::from_std(socket)
    }

    /// Connects, or fails with `TimedOut` after `limit`.
    pub async fn connect(&self, address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        let socket =
            self.enter(
                move || {
                    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
                },
            )?;
        let stream =
            tokio::time::timeout(limit, socket.connect(address)).await.map_err(|_| {
                io::Error::new(io::ErrorKind::TimedOut, format!("dial tcp {address}: i/o timeout"))
            })??;
        tune(&stream);
        Ok(stream)
    }

    /// Runs `make` in the namespace, on a thread that ends with it.
    pub fn enter<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let Self::Netns(path) = self else { return make() };
        let namespace = File::open(path)?;
        let thread = std::thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            make()
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the socket's thread panicked")))
    }
}

/// Go's period of probes and count, which Kubernetes' own servers have.
const KEEP_ALIVE_SECONDS: u32 = 15;
const KEEP_ALIVE_COUNT: u32 = 9;

/// No delays, and no peer that has vanished is kept for ever.
pub(crate) fn tune(stream: &TcpStream) {
    drop(stream.set_nodelay(true));
    let tuned = setsockopt(stream, sockopt::KeepAlive, &true)
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepIdle, &KEEP_ALIVE_SECONDS))
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepInterval, &KEEP_ALIVE_SECONDS))
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepCount, &KEEP_ALIVE_COUNT));
    if let Err(error) = tuned {
        tracing::debug!(%error, "a connection has no keep-alive");
    }
}

/// How many routers what `stream` sends may pass, less one.
pub fn limit_hops(stream: &std::net::TcpStream, hops: u32) -> io::Result<()> {
    let hops = i32::try_from(hops).map_err(io::Error::other)?;
    let done = if stream.local_addr()?.is_ipv4() {
        setsockopt(stream, sockopt::Ipv4Ttl, &hops)
    } else {
        setsockopt(stream, sockopt::Ipv6Ttl, &hops)
    };
    done.map_err(io::Error::from)
}

/// Listens on a Unix socket, replacing one that a dead process left.
#[expect(clippy::disallowed_methods, reason = "the one place that opens sockets")]
pub fn unix_listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

#[expect(clippy::disallowed_methods, reason = "the one place that opens sockets")]
pub async fn unix_connect(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

/// Two ends of an in-memory connection, for tests in virtual time.
pub fn memory() -> (tokio::io::DuplexStream, tokio::io::DuplexStream) {
    tokio::io::duplex(64 * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_connection_is_an_error_at_once() {
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = Place::Here.connect(address, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_place_that_does_not_exist_is_an_error() {
        assert!(Place::named("nst-no-such").enter(|| Ok(())).is_err());
    }
}
