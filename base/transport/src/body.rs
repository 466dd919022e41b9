//! One body type for requests and responses of every server and client here.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::sync::mpsc::Receiver;

/// How much of a body that is too long is thrown away before the connection is given up.
const MOST_DRAINED: usize = 256 << 20;
/// And for how long.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// The error type of erased seams.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body whose kind is erased: whole, streamed or received.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

pub fn empty() -> Body {
    full(Bytes::new())
}

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of the chunks that arrive on `chunks`; it ends when the sender is dropped.
pub fn stream(chunks: Receiver<Bytes>) -> Body {
    Chunks(chunks).boxed_unsync()
}

/// Reads a whole body, at most `limit` bytes. `None` when it is longer.
pub async fn collect<B>(mut body: B, limit: usize) -> Result<Option<Bytes>, B::Error>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    read(&mut body, limit).await
}

/// [`collect`] for a request that is going to be answered.
///
/// The rest of one that is too long is still taken off the connection while the caller answers: a
/// body that nobody reads makes HTTP/2 reset the stream and HTTP/1.1 close the connection, and the
/// client sees that instead of the answer.
pub async fn collect_request<B>(mut body: B, limit: usize) -> Result<Option<Bytes>, B::Error>
where
    B: hyper::body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    let whole = read(&mut body, limit).await?;
    if whole.is_none() {
        drain(body);
    }
    Ok(whole)
}

async fn read<B>(body: &mut B, limit: usize) -> Result<Option<Bytes>, B::Error>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Ok(None);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole.freeze()))
}

/// Throws away what still comes, within bounds.
fn drain<B>(mut body: B)
where
    B: hyper::body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    let rest = async move {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, Bytes::len);
            if taken > MOST_DRAINED {
                break;
            }
        }
    };
    #[expect(clippy::disallowed_methods, reason = "ends with the body, or soon")]
    tokio::spawn(async move { drop(tokio::time::timeout(DRAIN_LIMIT, rest).await) });
}

struct Chunks(Receiver<Bytes>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}
