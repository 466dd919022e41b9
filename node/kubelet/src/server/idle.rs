//! Ends a stream over which nothing has passed for `streamingConnectionIdleTimeout`.
//!
//! The runtime's side is watched, so that a caller's WebSocket pings keep nothing alive. A caller
//! that does not read stops the runtime's data too, and is caught by the same limit.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// A connection that notes when something last passed.
pub(super) struct Watched<I> {
    inner: I,
    last: Arc<Mutex<Instant>>,
}

/// The watched connection, and a future that ends when it was idle for `limit`; zero is for ever.
pub(super) fn watch<I>(
    inner: I,
    limit: Duration,
) -> (Watched<I>, impl Future<Output = ()> + use<I>) {
    let last = Arc::new(Mutex::new(Instant::now()));
    let seen = last.clone();
    let idle = async move {
        if limit.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let end = *seen.lock() + limit;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    };
    (Watched { inner, last }, idle)
}

impl<I> Watched<I> {
    fn note(&self) {
        *self.last.lock() = Instant::now();
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if result.is_ready() {
            self.note();
        }
        result
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, data);
        if result.is_ready() {
            self.note();
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_its_limit_after_the_last_byte() {
        let (near, mut far) = tokio::io::duplex(16);
        let started = Instant::now();
        let (mut watched, idle) = watch(near, Duration::from_secs(10));
        let work = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            far.write_all(b"x").await.unwrap();
            watched.read_u8().await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! { () = work => {}, () = idle => {} }
        assert_eq!(started.elapsed(), Duration::from_secs(17));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_zero_is_none() {
        let (_watched, idle) = watch(tokio::io::empty(), Duration::ZERO);
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, idle).await.is_err());
    }
}
