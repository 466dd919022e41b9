//! The socket: opens it in a namespace, sends requests, reads answers and dumps.

use std::{
    cell::{Cell, RefCell},
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

use crate::codec::{Message, Request, messages, u32_at};

/// Room for one datagram of a dump; the kernel fills at most 32 KiB of it.
const BUFFER_LEN: usize = 64 * 1024;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;

/// A request that changes something and is acknowledged.
pub(crate) const CHANGE: u16 = NLM_F_REQUEST | NLM_F_ACK;
/// A request that lists everything of its kind.
pub(crate) const DUMP: u16 = NLM_F_REQUEST | NLM_F_DUMP;

/// An rtnetlink socket in one namespace. `Send`, but for one thread at a time.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: Cell<u32>,
    buffer: RefCell<Vec<u8>>,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("failed to open a netlink socket")]
    Socket {
        #[source]
        source: Errno,
    },
    #[error("failed to open an rtnetlink socket in namespace `{}`", netns.display())]
    Netns {
        netns: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the runtime stopped before the request ran")]
    Stopped,
}

/// Why the kernel did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what}")]
pub struct RequestError {
    /// What was asked, with its object: ``add route `10.0.0.0/8` ``.
    pub what: String,
    #[source]
    pub source: Errno,
}

impl RequestError {
    pub(crate) fn new(what: impl Into<String>, source: Errno) -> Self {
        Self { what: what.into(), source }
    }

    /// The object of the request does not exist: no such link, route, rule or address.
    pub fn is_not_found(&self) -> bool {
        use Errno::{EADDRNOTAVAIL, ENODEV, ENOENT, ENXIO, ESRCH};
        matches!(self.source, ENODEV | ESRCH | ENOENT | EADDRNOTAVAIL | ENXIO)
    }

    /// It is there already.
    pub fn is_already_there(&self) -> bool {
        self.source == Errno::EEXIST
    }
}

impl Netlink {
    /// Opens a socket in the caller's namespace.
    pub fn here() -> Result<Self, OpenError> {
        Self::open_here(SockProtocol::NetlinkRoute)
    }

    pub(crate) fn open_here(protocol: SockProtocol) -> Result<Self, OpenError> {
        open(protocol).map_err(|source| OpenError::Socket { source })
    }

    /// Opens a socket in the namespace at `netns` (`/run/netns/NAME`, `/proc/PID/ns/net`).
    pub fn at(netns: &Path) -> Result<Self, OpenError> {
        let failed = |source: io::Error| OpenError::Netns { netns: netns.to_owned(), source };
        let file = File::open(netns).map_err(failed)?;
        // A thread's namespace is its own: nobody else sees it change, and it ends here.
        let opened = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&file, CloneFlags::CLONE_NEWNET)?;
                    open(SockProtocol::NetlinkRoute)
                })
                .join()
        });
        match opened {
            Ok(result) => result.map_err(|errno| failed(errno.into())),
            Err(_) => Err(failed(io::Error::other("the thread panicked"))),
        }
    }

    /// The socket alone: for what the kernel sends without being asked.
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Sends a request that changes something and waits for its acknowledgement.
    pub fn change(&self, what: &str, request: Request) -> Result<(), RequestError> {
        self.exchange(request, |_| {}).map_err(|source| RequestError::new(what, source))
    }

    /// Sends a request and hands each message of the answer to `each`.
    pub fn query(
        &self,
        what: &str,
        request: Request,
        each: impl FnMut(Message<'_>),
    ) -> Result<(), RequestError> {
        self.exchange(request, each).map_err(|source| RequestError::new(what, source))
    }

    fn exchange(&self, request: Request, mut each: impl FnMut(Message<'_>)) -> Result<(), Errno> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let bytes = request.finish(sequence);
        let fd = self.socket.as_raw_fd();
        while let Err(errno) = send(fd, &bytes, MsgFlags::empty()) {
            if errno != Errno::EINTR {
                return Err(errno);
            }
        }
        let mut buffer = self.buffer.borrow_mut();
        loop {
            let len = match recv(fd, &mut buffer, MsgFlags::empty()) {
                Ok(len) => len,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            };
            for message in messages(&buffer[..len]).filter(|it| it.sequence == sequence) {
                match message.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return outcome(message.payload),
                    _ => each(message),
                }
            }
        }
    }
}

/// Reads an acknowledgement: zero, or a negative error number.
fn outcome(payload: &[u8]) -> Result<(), Errno> {
    let code = u32_at(payload, 0).ok_or(Errno::EBADMSG)?.cast_signed();
    if code == 0 { Ok(()) } else { Err(Errno::from_raw(code.wrapping_neg())) }
}

fn open(protocol: SockProtocol) -> Result<Netlink, Errno> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    Ok(Netlink { socket, sequence: Cell::new(0), buffer: RefCell::new(vec![0; BUFFER_LEN]) })
}
