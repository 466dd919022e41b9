//! Joins a caller and a backend, byte for byte.
//!
//! A backend that has said its last word and closed takes no more input, and what a caller still sends
//! then fails: that must not cut off what the backend said before. So a write to the backend that fails
//! ends nothing but the input.
//!
//! **Invariant:** what the backend wrote before it closed reaches the caller, unless that is gone.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const BLOCK: usize = 64 * 1024;

/// Ends when both have ended, or when the caller cannot be read from or written to any more.
pub async fn splice<C, B>(caller: C, backend: B) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (from_caller, to_caller) = tokio::io::split(caller);
    let (from_backend, to_backend) = tokio::io::split(backend);
    tokio::try_join!(input(from_caller, to_backend), output(from_backend, to_caller)).map(drop)
}

async fn input(
    mut caller: impl AsyncRead + Unpin,
    mut backend: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let (mut block, mut is_open) = (BytesMut::new(), true);
    loop {
        block.reserve(BLOCK);
        let count = caller.read_buf(&mut block).await?;
        if is_open {
            let passed = match count {
                0 => backend.shutdown().await,
                _ => {
                    async { backend.write_all_buf(&mut block).await.and(backend.flush().await) }
                        .await
                }
            };
            is_open = passed.is_ok();
        }
        if count == 0 {
            return Ok(());
        }
        block.clear();
    }
}

/// A backend that is cut off has ended as well as one that closes.
async fn output(
    mut backend: impl AsyncRead + Unpin,
    mut caller: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut block = BytesMut::new();
    loop {
        block.reserve(BLOCK);
        if matches!(backend.read_buf(&mut block).await, Ok(0) | Err(_)) {
            return caller.shutdown().await;
        }
        caller.write_all_buf(&mut block).await?;
        caller.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::{DuplexStream, ReadBuf};

    use super::*;

    /// A backend that takes no input, and still has something to say.
    struct Deaf(DuplexStream);

    impl AsyncRead for Deaf {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Deaf {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
        }
    }

    #[tokio::test]
    async fn the_last_line_arrives_although_the_backend_takes_no_more_input() {
        let (mut caller, near) = tokio::io::duplex(64);
        let (backend, mut far) = tokio::io::duplex(64);
        let talking = async {
            caller.write_all(b"a ping").await.unwrap();
            tokio::task::yield_now().await;
            far.write_all(b"last line\n").await.unwrap();
            drop(far);
            let mut heard = String::new();
            caller.read_to_string(&mut heard).await.unwrap();
            drop(caller);
            heard
        };
        let (spliced, heard) = tokio::join!(splice(near, Deaf(backend)), talking);
        assert_eq!(heard, "last line\n");
        spliced.unwrap();
    }

    #[tokio::test]
    async fn input_and_its_end_reach_the_backend() {
        let (mut caller, near) = tokio::io::duplex(16);
        let (backend, mut far) = tokio::io::duplex(16);
        let talking = async {
            caller.write_all(b"more than sixteen bytes").await.unwrap();
            caller.shutdown().await.unwrap();
            let mut heard = String::new();
            caller.read_to_string(&mut heard).await.unwrap();
            heard
        };
        let echoing = async {
            let mut said = String::new();
            far.read_to_string(&mut said).await.unwrap();
            far.write_all(said.to_uppercase().as_bytes()).await.unwrap();
            drop(far);
        };
        let (spliced, heard, ()) = tokio::join!(splice(near, backend), talking, echoing);
        assert_eq!(heard, "MORE THAN SIXTEEN BYTES");
        spliced.unwrap();
    }
}
