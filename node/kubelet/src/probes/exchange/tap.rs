//! A connection that remembers how the peer began.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Of a line that is longer no more is waited for, and no more is told.
const LONGEST: usize = 4096;
/// Enough to tell TLS from other things.
const FIRST_BYTES: usize = 5;

/// How the peer began.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub bytes: Vec<u8>,
    pub has_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The first line is given on as a whole, as Go reads it.
    Line,
    /// The first bytes are noted and given on.
    Bytes,
    Through,
}

pub(super) struct Tap<I> {
    inner: I,
    mode: Mode,
    seen: Arc<Mutex<Seen>>,
    /// How much of what was held back has been given on.
    given: usize,
    /// Of the read that gave the end of what is held back.
    failure: Option<io::Error>,
}

impl<I: AsyncRead + Unpin> Tap<I> {
    pub(super) fn first_line(inner: I) -> (Self, Arc<Mutex<Seen>>) {
        Self::new(inner, Mode::Line)
    }

    pub(super) fn first_bytes(inner: I) -> (Self, Arc<Mutex<Seen>>) {
        Self::new(inner, Mode::Bytes)
    }

    fn new(inner: I, mode: Mode) -> (Self, Arc<Mutex<Seen>>) {
        let seen = Arc::<Mutex<Seen>>::default();
        (Self { inner, mode, seen: seen.clone(), given: 0, failure: None }, seen)
    }

    /// Reads until the first line is there, or will not come.
    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer));
            let mut seen = self.seen.lock();
            let new = buffer.filled();
            seen.bytes.extend_from_slice(new);
            seen.has_ended = read.is_ok() && new.is_empty();
            if let Err(error) = read {
                // What was read before it comes first. The system tells of it once.
                if seen.bytes.is_empty() {
                    return Poll::Ready(Err(error));
                }
                self.failure = Some(error);
            }
            if new.is_empty() || new.contains(&b'\n') || seen.bytes.len() >= LONGEST {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Tap<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.mode == Mode::Line {
            ready!(this.poll_line(cx))?;
            this.mode = Mode::Through;
        }
        if this.mode == Mode::Through {
            let seen = this.seen.lock();
            let held = seen.bytes.get(this.given..).unwrap_or_default();
            let count = held.len().min(buffer.remaining());
            buffer.put_slice(&held[..count]);
            this.given += count;
            if count > 0 || seen.has_ended {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = this.failure.take() {
                return Poll::Ready(Err(error));
            }
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        let new = &buffer.filled()[before..];
        let mut seen = this.seen.lock();
        if this.mode == Mode::Bytes {
            let missing = FIRST_BYTES.saturating_sub(seen.bytes.len());
            seen.bytes.extend(new.iter().take(missing));
        }
        seen.has_ended |= new.is_empty();
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Tap<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
