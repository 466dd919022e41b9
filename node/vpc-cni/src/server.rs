//! The plug-in's socket. See `api_cni::backend` for what is said on it.

use std::{io, sync::Arc, time::Duration};

use api_cni::backend::{self, MAX_FRAME, Request, Response, Sandbox, VERSION};
use lifecycle::Scope;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};
use tracing::{debug, warn};

use crate::ipamd::Ipamd;

/// A plug-in that has not said what it wants by then hangs.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Answers calls until it is dropped.
pub async fn serve(listener: UnixListener, ipamd: Arc<Ipamd>, scope: Scope) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let ipamd = ipamd.clone();
                drop(scope.spawn("cni-call", async move {
                    if let Err(error) = answer(stream, &ipamd).await {
                        debug!(%error, "a plug-in went away");
                    }
                }));
            }
            Err(error) => {
                warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, ipamd: &Ipamd) -> io::Result<()> {
    let read = tokio::time::timeout(READ_LIMIT, read_request(&mut stream)).await;
    let response = match read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? {
        Ok(request) => respond(request, ipamd).await,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Response::Failed { message: error.to_string() }
        }
        Err(error) => return Err(error),
    };
    stream.write_all(&backend::frame(&response)?).await?;
    stream.shutdown().await
}

async fn read_request(stream: &mut UnixStream) -> io::Result<Request> {
    let len = stream.read_u32().await?;
    if len > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the frame is too long"));
    }
    let mut body = vec![0; len as usize];
    stream.read_exact(&mut body).await?;
    serde_json::from_slice(&body)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

async fn respond(request: Request, ipamd: &Ipamd) -> Response {
    let failed = |error: &(dyn std::error::Error + 'static)| Response::Failed {
        message: telemetry::chain(error).to_string(),
    };
    match request {
        Request::Health => Response::Healthy,
        Request::AddNetwork(sandbox) | Request::DelNetwork(sandbox)
            if sandbox.client_version != VERSION =>
        {
            wrong_version(&sandbox)
        }
        Request::AddNetwork(sandbox) => match ipamd.add(&sandbox).await {
            Ok(assignment) => Response::Added(assignment),
            Err(error) => failed(&error),
        },
        Request::DelNetwork(sandbox) => Response::Deleted { address: ipamd.delete(&sandbox) },
    }
}

fn wrong_version(sandbox: &Sandbox) -> Response {
    let found = &sandbox.client_version;
    Response::Failed { message: format!("wrong client version {found:?} (!= {VERSION:?})") }
}
