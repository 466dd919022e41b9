//! What port-forward's tunnel and the channels share of a WebSocket.
//!
//! **Invariant:** the two directions never wait for each other. A process that echoes what it is
//! sent blocks on its output, and with it its input, until somebody reads.

use std::{io, time::Duration};

use bytes::BytesMut;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Bytes, Message, Utf8Bytes,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

pub(super) const BLOCK: usize = 32 * 1024;
/// How long a caller may take to answer the end.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

pub(super) type Sink<C> = SplitSink<WebSocketStream<C>, Message>;
pub(super) type Stream<C> = SplitStream<WebSocketStream<C>>;

pub(super) async fn accept<C: AsyncRead + AsyncWrite + Unpin>(client: C) -> (Sink<C>, Stream<C>) {
    WebSocketStream::from_raw_socket(client, Role::Server, None).await.split()
}

/// The next message that carries data; `None` when the caller has ended or gone. Old clients send
/// text where others send bytes.
pub(super) async fn next<C>(stream: &mut Stream<C>) -> Option<Bytes>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match stream.next().await {
            Some(Ok(Message::Binary(data))) => return Some(data),
            Some(Ok(Message::Text(text))) => return Some(text.into()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(_)) => {}
        }
    }
}

/// Port-forward: the messages are a SPDY connection's bytes.
pub(super) async fn tunnel<C, B>(client: C, backend: B) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = accept(client).await;
    let (mut reader, mut writer) = tokio::io::split(backend);
    let inbound = async {
        while let Some(data) = next(&mut stream).await {
            writer.write_all(&data).await?;
        }
        io::Result::Ok(())
    };
    let outbound = async {
        let mut block = BytesMut::new();
        loop {
            block.reserve(BLOCK);
            if reader.read_buf(&mut block).await? == 0 {
                return io::Result::Ok(());
            }
            let data = block.split().freeze();
            sink.send(Message::Binary(data)).await.map_err(io::Error::other)?;
        }
    };
    tokio::select! {
        result = inbound => return result,
        result = outbound => result?,
    }
    close(sink, stream).await;
    Ok(())
}

/// Ends in order: callers take anything but a normal closure for an error.
pub(super) async fn close<C>(mut sink: Sink<C>, mut stream: Stream<C>)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    let closing = async {
        if sink.send(Message::Close(Some(frame))).await.is_ok() {
            // The caller answers, and only then is the connection over.
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    drop(tokio::time::timeout(CLOSE_LIMIT, closing).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_backend_that_echoes_more_than_all_buffers_hold_gets_through() {
        const SIZE: usize = 4 << 20;
        let (client, near) = tokio::io::duplex(1024);
        let (backend, far) = tokio::io::duplex(1024);
        let echo = async {
            let (mut reader, mut writer) = tokio::io::split(far);
            drop(tokio::io::copy(&mut reader, &mut writer).await);
        };
        let caller = async {
            let socket = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
            let (mut sink, mut stream) = socket.split();
            let send = async {
                for _ in 0..SIZE / BLOCK {
                    sink.send(Message::Binary(vec![7; BLOCK].into())).await.unwrap();
                }
            };
            let receive = async {
                let mut count = 0;
                while count < SIZE {
                    let message = stream.next().await.unwrap().unwrap();
                    count += message.len();
                }
                count
            };
            tokio::join!(send, receive).1
        };
        tokio::select! {
            count = caller => assert_eq!(count, SIZE),
            result = tunnel(near, backend) => panic!("{result:?}"),
            () = echo => panic!("the backend ended"),
        }
    }
}
