//! A client of D-Bus for the few questions that a kubelet has: method calls with plain arguments,
//! signals, and file descriptors that come with an answer.
//!
//! One task owns a connection. Signals that come while an answer is waited for are kept.
//!
//! Sources: the D-Bus specification, <https://dbus.freedesktop.org/doc/dbus-specification.html>.
//!
//! **Invariant:** no length that the peer names is trusted beyond the bound of a message.

// With their paths, as a test of the kernel tier includes this file.
#[path = "dbus/wire.rs"]
pub(crate) mod wire;

#[cfg(test)]
#[path = "dbus/fake.rs"]
pub(crate) mod fake;

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::BytesMut;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::UnixStream,
};

use self::wire::{Kind, Message, Value};

/// Of one answer.
const LIMIT: Duration = Duration::from_secs(25);
const BLOCK: usize = 4096;
/// Signals that nobody has taken yet.
const MOST_SIGNALS: usize = 64;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    #[error("dial unix: {0}")]
    Io(#[from] io::Error),
    #[error("dbus: authentication failed: {0}")]
    Refused(String),
    #[error("dbus: {0}")]
    Malformed(&'static str),
    #[error("{text}")]
    Answer { name: String, text: String },
    #[error("dbus: no answer within {LIMIT:?}")]
    Late,
}

/// What is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    pub destination: &'static str,
    pub path: &'static str,
    pub interface: &'static str,
}

const BUS: Object = Object {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

pub(crate) const SYSTEMD: Object = Object {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};
const SOCKET: &str = "/run/dbus/system_bus_socket";

/// Where the system's bus is.
pub(crate) fn system() -> PathBuf {
    let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_default();
    let path = address.strip_prefix("unix:path=").unwrap_or(SOCKET);
    PathBuf::from(path.split([',', ';']).next().unwrap_or(SOCKET))
}

pub(crate) struct Bus {
    stream: UnixStream,
    serial: u32,
    received: BytesMut,
    descriptors: VecDeque<OwnedFd>,
    signals: VecDeque<Message>,
}

impl Bus {
    /// Connects as the user that this process is.
    pub(crate) async fn connect(path: &Path) -> Result<Self, BusError> {
        let connecting = async {
            let mut bus = Self::over(transport::unix_connect(path).await?);
            bus.authenticate().await?;
            bus.call(BUS, "Hello", &[]).await?;
            Ok(bus)
        };
        tokio::time::timeout(LIMIT, connecting).await.map_err(|_| BusError::Late)?
    }

    fn over(stream: UnixStream) -> Self {
        let (received, descriptors) = (BytesMut::new(), VecDeque::new());
        Self { stream, serial: 0, received, descriptors, signals: VecDeque::new() }
    }

    async fn authenticate(&mut self) -> Result<(), BusError> {
        let user = rustix::process::geteuid().as_raw().to_string();
        let hex: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes()).await?;
        let line = self.line().await?;
        if !line.starts_with("OK ") {
            return Err(BusError::Refused(line));
        }
        self.stream.write_all(b"NEGOTIATE_UNIX_FD\r\n").await?;
        let line = self.line().await?;
        if line != "AGREE_UNIX_FD" {
            return Err(BusError::Refused(line));
        }
        self.stream.write_all(b"BEGIN\r\n").await?;
        Ok(())
    }

    async fn line(&mut self) -> Result<String, BusError> {
        loop {
            if let Some(end) = self.received.windows(2).position(|it| it == b"\r\n") {
                let line = self.received.split_to(end + 2);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.received.len() > BLOCK {
                return Err(BusError::Malformed("a line is too long"));
            }
            self.receive().await?;
        }
    }

    /// Reads what is there, and takes what comes with it.
    async fn receive(&mut self) -> Result<(), BusError> {
        let Self { stream, received, descriptors, .. } = self;
        let count = stream
            .async_io(Interest::READABLE, || {
                let mut block = [0; BLOCK];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
                let mut ancillary = RecvAncillaryBuffer::new(&mut space);
                let mut parts = [IoSliceMut::new(&mut block)];
                let flags = RecvFlags::CMSG_CLOEXEC;
                let got = recvmsg(&*stream, &mut parts, &mut ancillary, flags)?;
                for it in ancillary.drain() {
                    if let RecvAncillaryMessage::ScmRights(all) = it {
                        descriptors.extend(all);
                    }
                }
                received.extend_from_slice(&block[..got.bytes]);
                Ok(got.bytes)
            })
            .await?;
        if count == 0 { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(()) }
    }

    async fn message(&mut self) -> Result<Message, BusError> {
        loop {
            if let Some(mut message) = wire::decode(&mut self.received)? {
                for _ in 0..message.descriptor_count {
                    message.descriptors.extend(self.descriptors.pop_front());
                }
                return Ok(message);
            }
            self.receive().await?;
        }
    }

    /// Calls a method, and waits for its answer.
    pub(crate) async fn call(
        &mut self,
        object: Object,
        member: &str,
        body: &[Value],
    ) -> Result<Message, BusError> {
        self.serial += 1;
        let serial = self.serial;
        let bytes = wire::encode_call(serial, object, member, body);
        let answering = async {
            self.stream.write_all(&bytes).await?;
            loop {
                let message = self.message().await?;
                match message.kind {
                    Kind::Answer if message.reply_to == serial => return Ok(message),
                    Kind::Error if message.reply_to == serial => {
                        let text = match message.body.first() {
                            Some(Value::Text(text)) => text.clone(),
                            _ => message.error.clone(),
                        };
                        return Err(BusError::Answer { name: message.error, text });
                    }
                    Kind::Signal if self.signals.len() < MOST_SIGNALS => {
                        self.signals.push_back(message);
                    }
                    _ => {}
                }
            }
        };
        tokio::time::timeout(LIMIT, answering).await.map_err(|_| BusError::Late)?
    }

    /// Asks for the signals that a rule describes.
    pub(crate) async fn watch(&mut self, rule: &str) -> Result<(), BusError> {
        self.call(BUS, "AddMatch", &[Value::Text(rule.to_owned())]).await.map(drop)
    }

    /// The next signal, whenever it comes.
    pub(crate) async fn signal(&mut self) -> Result<Message, BusError> {
        if let Some(kept) = self.signals.pop_front() {
            return Ok(kept);
        }
        loop {
            let message = self.message().await?;
            if message.kind == Kind::Signal {
                return Ok(message);
            }
        }
    }
}
