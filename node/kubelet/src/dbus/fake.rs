//! A bus on a socket with a logind or a systemd behind it, for tests.

use std::{io::IoSlice, mem::MaybeUninit, os::fd::AsFd, path::Path};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::{io::AsyncWriteExt, net::UnixStream};

use super::{
    Bus,
    wire::{self, Fields, Kind, Message, Value},
};

pub(crate) struct Peer {
    bus: Bus,
    serial: u32,
}

impl Peer {
    /// Takes the next connection, and lets it in.
    pub(crate) async fn accept(listener: &tokio::net::UnixListener) -> Self {
        let stream: UnixStream = listener.accept().await.unwrap().0;
        let mut peer = Self { bus: Bus::over(stream), serial: 0 };
        let line = peer.bus.line().await.unwrap();
        assert!(line.starts_with("\0AUTH EXTERNAL "), "{line:?}");
        peer.bus.stream.write_all(b"OK 1234\r\n").await.unwrap();
        assert_eq!(peer.bus.line().await.unwrap(), "NEGOTIATE_UNIX_FD");
        peer.bus.stream.write_all(b"AGREE_UNIX_FD\r\n").await.unwrap();
        assert_eq!(peer.bus.line().await.unwrap(), "BEGIN");
        peer
    }

    pub(crate) async fn call(&mut self) -> Message {
        let message = self.bus.message().await.unwrap();
        assert_eq!(message.kind, Kind::Call);
        message
    }

    /// Answers a call without a descriptor.
    pub(crate) async fn agree(&mut self, to: u32, body: &[Value]) {
        self.answer(to, body, None::<&std::os::fd::OwnedFd>).await;
    }

    /// Answers a call with an error.
    pub(crate) async fn refuse(&mut self, to: u32, error: &'static str, text: &str) {
        self.serial += 1;
        let (path, interface, destination) = ("", "", "");
        let fields = Fields { path, interface, destination, error, reply_to: to, descriptors: 0 };
        let body = [Value::Text(text.to_owned())];
        let bytes = wire::encode(3, self.serial, &fields, "", &body);
        self.bus.stream.write_all(&bytes).await.unwrap();
    }

    /// Answers a call, perhaps with a descriptor.
    pub(crate) async fn answer(&mut self, to: u32, body: &[Value], with: Option<&impl AsFd>) {
        self.serial += 1;
        let fields = Fields {
            path: "",
            interface: "",
            destination: "",
            error: "",
            reply_to: to,
            descriptors: u32::from(with.is_some()),
        };
        let bytes = wire::encode(2, self.serial, &fields, "", body);
        let Some(descriptor) = with else {
            return self.bus.stream.write_all(&bytes).await.unwrap();
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let all = [descriptor.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&all)));
        let parts = [IoSlice::new(&bytes)];
        let flags = SendFlags::empty();
        let sent = sendmsg(&self.bus.stream, &parts, &mut ancillary, flags).unwrap();
        assert_eq!(sent, bytes.len());
    }

    pub(crate) async fn signal(&mut self, member: &str, body: &[Value]) {
        self.serial += 1;
        let fields = Fields {
            path: "/org/freedesktop/login1",
            interface: "org.freedesktop.login1.Manager",
            destination: "",
            error: "",
            reply_to: 0,
            descriptors: 0,
        };
        let bytes = wire::encode(4, self.serial, &fields, member, body);
        self.bus.stream.write_all(&bytes).await.unwrap();
    }
}

pub(crate) fn listen(path: &Path) -> tokio::net::UnixListener {
    transport::unix_listen(path).unwrap()
}
