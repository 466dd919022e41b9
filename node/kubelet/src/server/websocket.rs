//! Kubernetes' channels in a WebSocket (`v4.channel.k8s.io`, `v5.channel.k8s.io`) to SPDY streams.
//!
//! The first byte of a message is the channel: 0 stdin, 1 stdout, 2 stderr, 3 error (the exit status
//! as a `Status` object), 4 resize. In v5, 255 closes the channel that the second byte names; that is
//! how `echo x | kubectl exec -i … -- cat` ends.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use super::{
    spdy::{Encoder, Frame, decode},
    streams::Wanted,
};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
const BLOCK: usize = 32 * 1024;

/// The SPDY streams, by channel.
struct Streams {
    ids: Vec<(u8, u32)>,
}

impl Streams {
    fn open(wanted: Wanted, encoder: &mut Encoder, out: &mut BytesMut) -> Self {
        let listed = [
            (ERROR, "error", true),
            (STDIN, "stdin", wanted.stdin),
            (STDOUT, "stdout", wanted.stdout),
            (STDERR, "stderr", wanted.stderr),
            (RESIZE, "resize", wanted.tty),
        ];
        let mut streams = Self { ids: Vec::new() };
        let mut id = 1;
        for (channel, kind, is_wanted) in listed {
            if is_wanted {
                encoder.open(id, &[("streamtype", kind)], out);
                streams.ids.push((channel, id));
                id += 2;
            }
        }
        streams
    }

    fn id(&self, channel: u8) -> Option<u32> {
        self.ids.iter().find(|(known, _)| *known == channel).map(|(_, id)| *id)
    }

    fn channel(&self, id: u32) -> Option<u8> {
        self.ids.iter().find(|(_, known)| *known == id).map(|(channel, _)| *channel)
    }
}

/// Exec and attach: until the runtime has ended the streams, or the caller has gone.
pub(super) async fn channels<C, B>(
    client: C,
    mut backend: B,
    wanted: Wanted,
    is_v5: bool,
) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = WebSocketStream::from_raw_socket(client, Role::Server, None).await;
    let mut encoder = Encoder::default();
    let mut out = BytesMut::new();
    let streams = Streams::open(wanted, &mut encoder, &mut out);
    // Nothing is read from these.
    for channel in [ERROR, STDOUT, STDERR] {
        if let Some(id) = streams.id(channel) {
            encoder.data(id, &[], true, &mut out);
        }
    }
    backend.write_all_buf(&mut out).await?;
    let (mut reader, mut writer) = tokio::io::split(backend);
    let (mut received, mut open) = (BytesMut::with_capacity(BLOCK), 0);
    for channel in [ERROR, STDOUT, STDERR] {
        open += usize::from(streams.id(channel).is_some());
    }
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(Ok(message)) = message else { return Ok(()) };
                match message {
                    Message::Binary(data) => {
                        forward(&streams, &encoder, &data, is_v5, &mut out);
                    }
                    Message::Close(_) => return Ok(()),
                    _ => {}
                }
            }
            count = reader.read_buf(&mut received) => {
                let is_end = count? == 0;
                while let Some(frame) = decode(&mut received)? {
                    tracing::trace!(?frame, "from the runtime");
                    match frame {
                        Frame::Data { stream, data, is_last } => {
                            if let Some(channel) = streams.channel(stream) {
                                send(&mut socket, channel, &data).await?;
                                open -= usize::from(is_last).min(open);
                            }
                        }
                        Frame::Reset { stream } => {
                            let is_output = streams
                                .channel(stream)
                                .is_some_and(|it| matches!(it, ERROR | STDOUT | STDERR));
                            open -= usize::from(is_output).min(open);
                        }
                        Frame::Ping { id } => encoder.ping(id, &mut out),
                        Frame::GoAway | Frame::Other => {}
                    }
                }
                if is_end || open == 0 {
                    break;
                }
            }
        }
        if !out.is_empty() {
            writer.write_all_buf(&mut out).await?;
        }
    }
    close(&mut socket).await;
    // The caller answers the close, and only then is the connection over.
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}

/// One message of the caller.
fn forward(streams: &Streams, encoder: &Encoder, data: &[u8], is_v5: bool, out: &mut BytesMut) {
    let Some((channel, payload)) = data.split_first() else { return };
    match *channel {
        CLOSE if is_v5 => {
            let closed = payload.first().filter(|it| matches!(**it, STDIN | RESIZE));
            if let Some(id) = closed.and_then(|it| streams.id(*it)) {
                encoder.data(id, &[], true, out);
            }
        }
        STDIN | RESIZE if !payload.is_empty() => {
            if let Some(id) = streams.id(*channel) {
                encoder.data(id, payload, false, out);
            }
        }
        _ => {}
    }
}

async fn send<C>(socket: &mut WebSocketStream<C>, channel: u8, data: &[u8]) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    if data.is_empty() {
        return Ok(());
    }
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.extend_from_slice(&[channel]);
    message.extend_from_slice(data);
    socket.send(Message::Binary(message.freeze())).await.map_err(io::Error::other)
}

/// Port-forward: the messages are a SPDY connection's bytes.
pub(super) async fn tunnel<C, B>(client: C, backend: B) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = WebSocketStream::from_raw_socket(client, Role::Server, None).await;
    let (mut reader, mut writer) = tokio::io::split(backend);
    let mut block = BytesMut::with_capacity(BLOCK);
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(data))) => writer.write_all(&data).await?,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => {}
            },
            count = reader.read_buf(&mut block) => {
                if count? == 0 {
                    break;
                }
                let data: Bytes = block.split().freeze();
                socket.send(Message::Binary(data)).await.map_err(io::Error::other)?;
            }
        }
    }
    close(&mut socket).await;
    Ok(())
}

/// Callers take anything but a normal closure for an error.
async fn close<C: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<C>) {
    let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    drop(socket.close(Some(frame)).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_version_five_can_close_stdin() {
        let mut encoder = Encoder::default();
        let mut out = BytesMut::new();
        let wanted = Wanted { stdin: true, stdout: true, stderr: false, tty: false };
        let streams = Streams::open(wanted, &mut encoder, &mut out);
        let id = streams.id(STDIN).unwrap();
        out.clear();
        forward(&streams, &encoder, &[CLOSE, STDIN], false, &mut out);
        assert!(out.is_empty());
        forward(&streams, &encoder, &[CLOSE, STDIN], true, &mut out);
        let frame = decode(&mut out).unwrap().unwrap();
        assert_eq!(frame, Frame::Data { stream: id, data: Bytes::new(), is_last: true });
        forward(&streams, &encoder, &[STDIN, b'x'], true, &mut out);
        let frame = decode(&mut out).unwrap().unwrap();
        assert_eq!(frame, Frame::Data { stream: id, data: Bytes::from("x"), is_last: false });
        forward(&streams, &encoder, &[STDOUT, b'x'], true, &mut out);
        assert!(out.is_empty(), "callers write to stdin only");
    }
}
