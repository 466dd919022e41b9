//! Kubernetes' channels in a WebSocket, translated to the runtime's SPDY streams and back.
//!
//! A message begins with its channel: a byte, or in the base64 protocols a digit. For exec and
//! attach 0 is stdin, 1 stdout, 2 stderr, 3 the result (a `Status` object; before v4 the text of the
//! error, if any), 4 the terminal's size. In v5, 255 closes the channel that the second byte names:
//! that is how `echo x | kubectl exec -i … -- cat` ends. For port-forward each port has two: its
//! data, and its errors.
//!
//! Upstream: `k8s.io/kubelet/pkg/cri/streaming/{remotecommand,portforward}/websocket.go`.

use std::io;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use futures::SinkExt;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    spdy::{Encoder, Frame, decode},
    streams::Wanted,
    websocket::{self, BLOCK, Sink, Stream},
};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Answers to the runtime's pings that wait to be written. One that has so many open is not waiting.
const PINGS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V4,
    /// Can close stdin.
    V5,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Protocol {
    pub version: Version,
    pub is_base64: bool,
}

/// The names of the protocols, the newest first. Clients without a name speak the first one.
pub(super) const PROTOCOLS: [(&str, Protocol); 5] = [
    ("v5.channel.k8s.io", Protocol { version: Version::V5, is_base64: false }),
    ("v4.channel.k8s.io", Protocol { version: Version::V4, is_base64: false }),
    ("v4.base64.channel.k8s.io", Protocol { version: Version::V4, is_base64: true }),
    ("channel.k8s.io", Protocol { version: Version::V1, is_base64: false }),
    ("base64.channel.k8s.io", Protocol { version: Version::V1, is_base64: true }),
];

/// One SPDY stream and its channel.
struct Line {
    channel: u8,
    id: u32,
    headers: Vec<(&'static str, String)>,
    /// The caller writes into it.
    is_input: bool,
    /// The runtime does.
    is_output: bool,
    /// The runtime tells here how the process ended.
    is_result: bool,
    /// What the caller hears first.
    greeting: Option<Bytes>,
}

/// The streams of one connection.
pub(super) struct Channels {
    protocol: Protocol,
    lines: Vec<Line>,
}

impl Channels {
    pub(super) fn of_process(protocol: Protocol, wanted: Wanted) -> Self {
        let listed = [
            (ERROR, "error", true),
            (STDIN, "stdin", wanted.stdin),
            (STDOUT, "stdout", wanted.stdout),
            (STDERR, "stderr", wanted.stderr),
            (RESIZE, "resize", wanted.tty),
        ];
        let opened = listed.into_iter().filter(|(_, _, is_wanted)| *is_wanted);
        let mut lines: Vec<Line> = opened
            .zip((1..).step_by(2))
            .map(|((channel, kind, _), id)| Line {
                channel,
                id,
                headers: vec![("streamtype", kind.to_owned())],
                is_input: matches!(channel, STDIN | RESIZE),
                is_output: !matches!(channel, STDIN | RESIZE),
                is_result: channel == ERROR,
                greeting: None,
            })
            .collect();
        // An empty message on the first channel that can carry one says that the connection stands.
        // kubectl, which alone speaks v5, does not wait for it, and complains when it comes early.
        let first =
            if protocol.version == Version::V5 { &[][..] } else { &[STDOUT, STDERR, ERROR] };
        let first = first.iter().find(|it| lines.iter().any(|line| line.channel == **it)).copied();
        for line in lines.iter_mut().filter(|it| Some(it.channel) == first) {
            line.greeting = Some(Bytes::new());
        }
        Self { protocol, lines }
    }

    /// Each port's number comes first on both of its channels.
    pub(super) fn of_ports(protocol: Protocol, ports: &[u16]) -> Self {
        let mut lines = Vec::new();
        let mut id = 1;
        for ((request, port), channel) in ports.iter().enumerate().zip((0..).step_by(2)) {
            for (kind, offset) in [("error", 1), ("data", 0)] {
                lines.push(Line {
                    channel: channel + offset,
                    id,
                    headers: vec![
                        ("streamtype", kind.to_owned()),
                        ("port", port.to_string()),
                        ("requestid", request.to_string()),
                    ],
                    is_input: kind == "data",
                    is_output: true,
                    is_result: false,
                    greeting: Some(Bytes::copy_from_slice(&port.to_le_bytes())),
                });
                id += 2;
            }
        }
        Self { protocol, lines }
    }

    fn open(&self, encoder: &mut Encoder, out: &mut BytesMut) {
        for line in &self.lines {
            let headers: Vec<_> =
                line.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            encoder.open(line.id, &headers, out);
        }
        for line in self.lines.iter().filter(|it| !it.is_input) {
            encoder.data(line.id, &[], true, out);
        }
    }

    /// What the caller hears first, channel by channel: clients know a port's data by that order.
    fn greetings(&self) -> Vec<Message> {
        let mut greeted: Vec<_> =
            self.lines.iter().filter_map(|it| Some((it.channel, it.greeting.as_ref()?))).collect();
        greeted.sort_by_key(|(channel, _)| *channel);
        greeted.into_iter().map(|(channel, greeting)| self.message(channel, greeting)).collect()
    }

    /// One message of the caller, as frames for the runtime.
    fn inbound(&self, encoder: &Encoder, message: &[u8], out: &mut BytesMut) {
        let Some((first, rest)) = message.split_first() else { return };
        let Some((channel, payload)) = self.read(*first, rest) else { return };
        if channel == CLOSE && self.protocol.version == Version::V5 {
            let input = payload.first().and_then(|it| self.input(*it));
            if let Some(line) = input {
                encoder.data(line.id, &[], true, out);
            }
        } else if let Some(line) = self.input(channel)
            && !payload.is_empty()
        {
            encoder.data(line.id, &payload, false, out);
        }
    }

    fn read(&self, first: u8, rest: &[u8]) -> Option<(u8, Vec<u8>)> {
        if !self.protocol.is_base64 {
            return Some((first, rest.to_vec()));
        }
        let channel = first.checked_sub(b'0')?;
        Some((channel, BASE64_STANDARD.decode(rest).ok()?))
    }

    fn input(&self, channel: u8) -> Option<&Line> {
        self.lines.iter().find(|it| it.channel == channel && it.is_input)
    }

    fn output(&self, id: u32) -> Option<&Line> {
        self.lines.iter().find(|it| it.id == id && it.is_output)
    }

    fn message(&self, channel: u8, data: &[u8]) -> Message {
        if self.protocol.is_base64 {
            let digit = char::from(b'0'.saturating_add(channel));
            return Message::Text(format!("{digit}{}", BASE64_STANDARD.encode(data)).into());
        }
        let mut message = BytesMut::with_capacity(data.len() + 1);
        message.put_u8(channel);
        message.extend_from_slice(data);
        Message::Binary(message.freeze())
    }

    /// What the runtime said, for the caller. The oldest protocols hear of failures only, as text.
    fn outbound(&self, line: &Line, data: &Bytes) -> Option<Message> {
        if line.is_result && self.protocol.version == Version::V1 {
            let text = failure(data)?;
            return Some(self.message(line.channel, text.as_bytes()));
        }
        (!data.is_empty()).then(|| self.message(line.channel, data))
    }
}

fn failure(status: &[u8]) -> Option<String> {
    if status.is_empty() {
        return None;
    }
    match serde_json::from_slice::<Value>(status) {
        Ok(status) if status["status"] == "Success" => None,
        Ok(status) => Some(status["message"].as_str().unwrap_or_default().to_owned()),
        Err(_) => Some(String::from_utf8_lossy(status).into_owned()),
    }
}

/// Carries until the runtime has ended its streams, or the caller has gone.
pub(super) async fn carry<C, B>(client: C, backend: B, channels: Channels) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = websocket::accept(client).await;
    let (reader, mut writer) = tokio::io::split(backend);
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    channels.open(&mut encoder, &mut out);
    writer.write_all_buf(&mut out).await?;
    let (pings, pinged) = mpsc::channel(PINGS);
    let callers = from_caller(&channels, &encoder, &mut stream, writer, pinged);
    let runtimes = from_runtime(&channels, &mut sink, reader, pings);
    tokio::select! {
        () = callers => return Ok(()),
        result = runtimes => result?,
    }
    websocket::close(sink, stream).await;
    Ok(())
}

/// Ends when the caller has gone. What a process no longer reads is thrown away: its output and its
/// result are still on their way.
async fn from_caller<C, W>(
    channels: &Channels,
    encoder: &Encoder,
    stream: &mut Stream<C>,
    mut writer: W,
    mut pinged: mpsc::Receiver<u32>,
) where
    C: AsyncRead + AsyncWrite + Unpin,
    W: AsyncWrite + Unpin,
{
    let (mut out, mut is_open) = (BytesMut::new(), true);
    loop {
        tokio::select! {
            message = websocket::next(stream) => match message {
                Some(message) => channels.inbound(encoder, &message, &mut out),
                None => return,
            },
            Some(id) = pinged.recv() => encoder.ping(id, &mut out),
        }
        if is_open && let Err(error) = writer.write_all_buf(&mut out).await {
            tracing::debug!(%error, "the runtime takes no more input");
            is_open = false;
        }
        out.clear();
    }
}

/// Ends when the runtime has closed the connection or all that it writes to.
async fn from_runtime<C, R>(
    channels: &Channels,
    sink: &mut Sink<C>,
    mut reader: R,
    pings: mpsc::Sender<u32>,
) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    for message in channels.greetings() {
        sink.send(message).await.map_err(io::Error::other)?;
    }
    let mut open: Vec<u32> =
        channels.lines.iter().filter(|it| it.is_output).map(|it| it.id).collect();
    let mut received = BytesMut::new();
    while !open.is_empty() {
        received.reserve(BLOCK);
        // A connection that is cut ends the streams as well as one that is closed.
        if matches!(reader.read_buf(&mut received).await, Ok(0) | Err(_)) {
            break;
        }
        while let Some(frame) = decode(&mut received)? {
            match frame {
                Frame::Data { stream, data, is_last } => {
                    let line = channels.output(stream);
                    let message = line.and_then(|line| channels.outbound(line, &data));
                    if let Some(message) = message {
                        sink.feed(message).await.map_err(io::Error::other)?;
                    }
                    if is_last {
                        open.retain(|it| *it != stream);
                    }
                }
                Frame::Reset { stream } => open.retain(|it| *it != stream),
                Frame::Ping { id } => drop(pings.try_send(id)),
                Frame::GoAway | Frame::Other => {}
            }
        }
        sink.flush().await.map_err(io::Error::other)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
