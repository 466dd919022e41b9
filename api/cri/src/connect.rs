//! Dials a runtime.
//!
//! Channels connect lazily and reconnect by themselves: a runtime that is restarted, or not there
//! yet, is an error of the call, not of the channel.

use std::{io, path::PathBuf, sync::Arc};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Endpoint, Uri};

use crate::Channel;

/// Why an endpoint cannot be dialled at all.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("`{endpoint}` is not a runtime endpoint: a Unix socket (`unix:///run/…`) is needed")]
    NotUnix { endpoint: String },
}

/// A channel to the runtime at `endpoint` (`unix:///path` or `/path`).
pub fn connect(endpoint: &str) -> Result<Channel, ConnectError> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if !path.starts_with('/') {
        return Err(ConnectError::NotUnix { endpoint: endpoint.to_owned() });
    }
    let path = Arc::new(PathBuf::from(path));
    Ok(channel(move || {
        let path = path.clone();
        async move { transport::unix_connect(&path).await }
    }))
}

/// The process that serves a runtime's socket, if it is in this PID namespace.
pub async fn server_pid(endpoint: &str) -> Option<i32> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    let stream = transport::unix_connect(path.as_ref()).await.ok()?;
    stream.peer_cred().ok()?.pid().filter(|it| *it > 0)
}

/// A channel over whatever `dial` yields.
pub fn channel<F, D, I>(dial: F) -> Channel
where
    F: Fn() -> D + Send + Sync + 'static,
    D: Future<Output = io::Result<I>> + Send + 'static,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connector = tower::service_fn(move |_: Uri| {
        let dialled = dial();
        async move { dialled.await.map(TokioIo::new) }
    });
    // The authority is what goes into `:authority`; nothing resolves it.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_serves_a_socket_is_known() {
        let folder = std::env::temp_dir().join(format!("nst-peer-{}", std::process::id()));
        let endpoint = format!("unix://{}", folder.display());
        let listener = transport::unix_listen(&folder).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(server_pid(&endpoint).await, Some(own));
        drop(listener);
        std::fs::remove_file(&folder).unwrap();
        assert_eq!(server_pid(&endpoint).await, None);
    }

    #[tokio::test]
    async fn a_tcp_endpoint_is_refused() {
        assert!(connect("tcp://127.0.0.1:3735").is_err());
        assert!(connect("unix:///run/containerd/containerd.sock").is_ok());
        assert!(connect("/run/containerd/containerd.sock").is_ok());
    }
}
