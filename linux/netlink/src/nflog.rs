//! Packets that nftables rules log to a group: received, not interpreted.
//!
//! Source: Linux `include/uapi/linux/netfilter/nfnetlink_log.h`. The kernel gathers packets for a
//! tenth of a second; what no room is left for is lost, and [`PacketLog::next`] says that it was.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, SockProtocol, recv},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    Netlink, OpenError, RequestError,
    codec::{Request, attributes, messages},
    socket::CHANGE,
};

/// `NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET` and `…_CONFIG`.
const PACKET: u16 = 0x0400;
const CONFIG: u16 = 0x0401;
const NFULA_CFG_CMD: u16 = 1;
const NFULA_CFG_MODE: u16 = 2;
const NFULA_CFG_TIMEOUT: u16 = 4;
const CMD_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const NFULA_PAYLOAD: u16 = 9;
const NFULA_PREFIX: u16 = 10;
const NFGENMSG_LEN: usize = 4;
const BUFFER_LEN: usize = 128 * 1024;
/// In hundredths of a second.
const GATHERING: u32 = 10;

/// The packets of one group in the network namespace in which it was opened.
#[derive(Debug)]
pub struct PacketLog {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

/// A packet with the prefix of the rule that logged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedPacket {
    pub prefix: String,
    /// From the network header on, as long as it was asked for.
    pub bytes: Vec<u8>,
}

/// What [`PacketLog::next`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    Packets(Vec<LoggedPacket>),
    /// Some came faster than they were taken.
    Lost,
}

/// Why a group's packets cannot be received.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("failed to open a socket for logged packets")]
    Open {
        #[source]
        source: OpenError,
    },
    #[error("failed to ask the kernel for packets of log group {group}")]
    Bind {
        group: u16,
        #[source]
        source: RequestError,
    },
    #[error("failed to wait for logged packets")]
    Wait {
        #[source]
        source: io::Error,
    },
    #[error("failed to receive logged packets")]
    Receive {
        #[source]
        source: Errno,
    },
}

impl PacketLog {
    /// Asks for the first `len` bytes of each packet of `group`. Fails where somebody has the group.
    pub fn open(group: u16, len: u32) -> Result<Self, LogError> {
        let socket = Netlink::open_here(SockProtocol::NetlinkNetFilter)
            .map_err(|source| LogError::Open { source })?;
        let request = || {
            let [high, low] = group.to_be_bytes();
            Request::new(CONFIG, CHANGE, &[0, 0, high, low])
        };
        let mut bind = request();
        bind.attribute(NFULA_CFG_CMD, &[CMD_BIND]);
        let mut mode = request();
        let mut how = len.to_be_bytes().to_vec();
        how.extend([COPY_PACKET, 0]);
        mode.attribute(NFULA_CFG_MODE, &how);
        mode.attribute(NFULA_CFG_TIMEOUT, &GATHERING.to_be_bytes());
        for (what, request) in [("bind a log group", bind), ("set up a log group", mode)] {
            let done = socket.change(what, request);
            done.map_err(|source| LogError::Bind { group, source })?;
        }
        let socket = register(socket.into_socket()).map_err(|source| LogError::Wait { source })?;
        Ok(Self { socket, buffer: vec![0; BUFFER_LEN] })
    }

    /// The next packets; waits for them.
    pub async fn next(&mut self) -> Result<Logged, LogError> {
        loop {
            let ready = self.socket.readable().await;
            let mut ready = ready.map_err(|source| LogError::Wait { source })?;
            let fd = self.socket.get_ref().as_raw_fd();
            match recv(fd, &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => {
                    let packets = packets(&self.buffer[..len]);
                    if !packets.is_empty() {
                        return Ok(Logged::Packets(packets));
                    }
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => return Ok(Logged::Lost),
                Err(source) => return Err(LogError::Receive { source }),
            }
        }
    }
}

#[expect(unsafe_code, reason = "a descriptor is given to the reactor")]
fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, is moved into the `AsyncFd`, and is neither replaced nor
    // closed before the `AsyncFd` is dropped.
    let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    socket.map_err(io::Error::from)
}

fn packets(datagram: &[u8]) -> Vec<LoggedPacket> {
    let logged = messages(datagram).filter(|it| it.kind == PACKET);
    let packet = |body: &[u8]| {
        let mut packet = LoggedPacket { prefix: String::new(), bytes: Vec::new() };
        for (kind, value) in attributes(body) {
            match kind {
                NFULA_PREFIX => {
                    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
                    packet.prefix = String::from_utf8_lossy(text).into_owned();
                }
                NFULA_PAYLOAD => packet.bytes = value.to_vec(),
                _ => {}
            }
        }
        packet
    };
    logged.filter_map(|it| it.payload.get(NFGENMSG_LEN..)).map(packet).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_cut_out_of_a_datagram_and_other_messages_are_not_packets() {
        let message = |kind: u16, prefix: &str, payload: &[u8]| {
            let mut request = Request::new(kind, 0, &[2, 0, 0, 5]);
            request.string(NFULA_PREFIX, prefix);
            request.attribute(NFULA_PAYLOAD, payload);
            request.finish(0)
        };
        let mut datagram = message(PACKET, "deny", &[0x45, 0, 0]);
        datagram.extend(message(0x0101, "other", &[1]));
        datagram.extend(message(PACKET, "", &[0x60]));
        let logged = packets(&datagram);
        assert_eq!(logged.len(), 2);
        assert_eq!(logged[0], LoggedPacket { prefix: "deny".into(), bytes: vec![0x45, 0, 0] });
        assert_eq!(logged[1].bytes, [0x60]);
    }
}
