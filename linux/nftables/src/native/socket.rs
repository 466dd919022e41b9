//! Sends a batch and reads what the kernel says to it.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc::sync_channel},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
        sockopt,
    },
};

use crate::ApplyError;

const HEADER_LEN: usize = 16;
const NLMSG_ERROR: u16 = 2;
/// Answers are short, but a batch that is all wrong has one for each message.
const RECEIVE_BUFFER: usize = 4 << 20;
/// What fits into a socket's ordinary buffer.
const SMALL_BATCH: usize = 64 * 1024;

/// The command's number, where it is known, and what was wrong with it.
pub(super) type Refusal = (Option<usize>, Errno);

/// The socket of the caller's own namespace, which stays open: closing one waits for the kernel to
/// free what the last batch took out, which is ten times what the batch itself costs. It keeps
/// nothing alive but the namespace that this process is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(Arc<Mutex<Option<OwnedFd>>>);

/// It is where it is used that makes a difference, and that is not the socket's to say.
impl PartialEq for Kept {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Kept {}

/// Applies a batch in the namespace at `netns` (`None`: here).
pub(super) fn exchange(
    netns: Option<&Path>,
    kept: &Kept,
    batch: Vec<u8>,
) -> Result<Result<(), Refusal>, ApplyError> {
    match netns {
        None => Ok(exchange_here(kept, &batch)),
        Some(netns) => exchange_at(netns, batch),
    }
}

fn exchange_here(kept: &Kept, batch: &[u8]) -> Result<(), Refusal> {
    let mut kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
    let socket = match kept.take() {
        Some(socket) => socket,
        None => open().map_err(unplaced)?,
    };
    // A socket that failed is not used again.
    let done = talk(&socket, batch);
    if !matches!(done, Err((None, _))) {
        *kept = Some(socket);
    }
    done
}

/// A thread's namespace is its own: nobody else sees it change. It ends once the socket is closed,
/// which nobody has to wait for.
fn exchange_at(netns: &Path, batch: Vec<u8>) -> Result<Result<(), Refusal>, ApplyError> {
    let failed = |source: io::Error| ApplyError::Enter { netns: netns.to_owned(), source };
    let namespace = File::open(netns).map_err(failed)?;
    let (sender, receiver) = sync_channel(1);
    let work = move || {
        let entered = setns(&namespace, CloneFlags::CLONE_NEWNET);
        let opened = entered.map(|()| open());
        let done = match &opened {
            Err(errno) => Err(*errno),
            Ok(Err(errno)) => Ok(Err(unplaced(*errno))),
            Ok(Ok(socket)) => Ok(talk(socket, &batch)),
        };
        let sent = sender.send(done);
        debug_assert!(sent.is_ok(), "who asked waits for the answer");
    };
    std::thread::Builder::new().name("nftables".to_owned()).spawn(work).map_err(failed)?;
    let died = |_| failed(io::Error::other("the thread panicked"));
    receiver.recv().map_err(died)?.map_err(|errno| failed(errno.into()))
}

fn unplaced(errno: Errno) -> Refusal {
    (None, errno)
}

fn open() -> Result<OwnedFd, Errno> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    Ok(socket)
}

fn talk(socket: &OwnedFd, batch: &[u8]) -> Result<(), Refusal> {
    // The whole batch has to fit into one datagram, as the kernel takes it as one.
    if batch.len() > SMALL_BATCH {
        setsockopt(socket, sockopt::SndBufForce, &(batch.len() * 2)).map_err(unplaced)?;
    }
    while let Err(errno) = send(socket.as_raw_fd(), batch, MsgFlags::empty()) {
        if errno != Errno::EINTR {
            return Err(unplaced(errno));
        }
    }
    answers(socket)
}

/// The kernel has done the whole batch when `send` returns, and its answers are there. They are
/// read to their end, so that none is left for the next batch.
fn answers(socket: &OwnedFd) -> Result<(), Refusal> {
    let mut buffer = vec![0; 16 * 1024];
    let mut outcome = Err(unplaced(Errno::ENODATA));
    loop {
        let len = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(len) => len,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => return outcome,
            Err(errno) => return Err(unplaced(errno)),
        };
        for (sequence, code) in outcomes(&buffer[..len]) {
            let number = (sequence as usize).checked_sub(1);
            match (code, &outcome) {
                (0, Err((None, Errno::ENODATA))) => outcome = Ok(()),
                // What failed first is what the others failed of.
                (0, _) | (_, Err((Some(_), _))) => {}
                _ => outcome = Err((number, Errno::from_raw(code.wrapping_neg()))),
            }
        }
    }
}

/// (Sequence, zero or a negative error number) of each answer.
fn outcomes(mut bytes: &[u8]) -> impl Iterator<Item = (u32, i32)> {
    std::iter::from_fn(move || {
        loop {
            let number =
                |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
            let len = number(0)? as usize;
            let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
            let (sequence, code) = (number(8)?, number(HEADER_LEN));
            if len < HEADER_LEN {
                return None;
            }
            bytes = bytes.get((len + 3) & !3..).unwrap_or_default();
            if kind == NLMSG_ERROR {
                return Some((sequence, code?.cast_signed()));
            }
        }
    })
}
