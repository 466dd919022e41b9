//! The key pair `test`/`test`, which people and tools try first: it is the account's root user for
//! processes of root on this machine, and nobody's for anyone else.
//!
//! Root of this machine reads the root user's own key anyway. The kernel says whose a connection over
//! the loopback is; from a VPC, where pods are, the pair is as unknown as any other.

use std::{fs, net::SocketAddr};

use transport::Peer;

use crate::{caller::Source, principals::AccessKey};

/// The key's id and its secret.
pub(crate) const PAIR: &str = "test";

/// Where the kernel lists IPv4 sockets, with the users that they belong to.
const SOCKETS: &str = "/proc/net/tcp";

/// Whether a request with the pair is one of root's of this machine.
pub(crate) fn is_meant(access_key_id: &str, source: &Source, peer: Option<&Peer>) -> bool {
    let Some(Peer { address: Some(client), local: Some(server), .. }) = peer else { return false };
    access_key_id == PAIR
        && *source == Source::Host
        && fs::read_to_string(SOCKETS).is_ok_and(|it| user_of(&it, *client, *server) == Some(0))
}

/// The root user's key, as the pair.
pub(crate) fn of(root: AccessKey) -> AccessKey {
    AccessKey { secret: PAIR.to_owned(), ..root }
}

/// `TCP_ESTABLISHED`.
const OPEN: &str = "01";

/// The user whose socket is the client's end of a connection that is open. The kernel shows the
/// sockets of programs that have closed theirs as root's, whose ever they were.
fn user_of(sockets: &str, client: SocketAddr, server: SocketAddr) -> Option<u32> {
    let (client, server) = (place(client)?, place(server)?);
    sockets.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&&*client)
            && fields.get(2) == Some(&&*server)
            && fields.get(3) == Some(&OPEN);
        fields.get(7).filter(|_| is_it)?.parse().ok()
    })
}

/// An address as the kernel prints it: the number as it lies in memory.
fn place(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    let number = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{number:08X}:{:04X}", address.port()))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::fs::MetadataExt,
    };

    use super::*;

    #[test]
    fn the_kernel_says_whose_a_connection_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, from) = listener.accept().unwrap();
        let sockets = fs::read_to_string(SOCKETS).unwrap();
        let own = fs::metadata("/proc/self").unwrap().uid();
        assert_eq!(user_of(&sockets, from, server.local_addr().unwrap()), Some(own));
        let nobodys = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(user_of(&sockets, nobodys, client.local_addr().unwrap()), None);
        // Who has closed its end waits for nothing, and is shown as root whoever it was.
        drop(client);
        let sockets = fs::read_to_string(SOCKETS).unwrap();
        assert_eq!(user_of(&sockets, from, server.local_addr().unwrap()), None);
    }

    #[test]
    fn the_pair_is_nobodys_without_a_connection_of_this_machine() {
        let vpc = Source::Vpc { vpc_id: "vpc-1".into(), address: [10, 0, 0, 1].into() };
        let peer = Peer {
            address: Some(([10, 0, 0, 1], 40_000).into()),
            local: Some(([10, 0, 0, 2], 443).into()),
            certificate: None,
            intermediates: Vec::new(),
        };
        for source in [vpc, Source::Internal, Source::Host] {
            assert!(!is_meant(PAIR, &source, Some(&peer)), "{source}");
            assert!(!is_meant(PAIR, &source, None), "{source}");
        }
    }
}
