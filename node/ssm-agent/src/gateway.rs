//! The message gateway, as the agent reaches it: signed calls, and WebSockets.

use std::{io, time::Duration};

use aws_ssm::{
    channel::{
        CONTROL_CHANNEL, CreateControlChannel, CreateControlChannelRequest, CreateDataChannel,
        CreateDataChannelRequest, DATA_CHANNEL, OpenChannel, SCHEMA,
    },
    instance::{UpdateInstanceInformation, UpdateInstanceInformationRequest},
};
use aws_wire::{CallError, Client, client::Endpoints, service};
use futures::{SinkExt, StreamExt, future::BoxFuture};
use http::{
    Request, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use hyper_util::rt::TokioIo;
use lifecycle::Scope;
use tokio::sync::mpsc;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::client::generate_key, protocol::Role},
};
use transport::{BoxError, HttpClient, Place};

/// How long the gateway may take to switch to a WebSocket.
const LIMIT: Duration = Duration::from_secs(15);
/// How often it is asked whether it is there, and when it is not.
const PING: Duration = Duration::from_secs(30);
const GONE: Duration = Duration::from_secs(90);
/// More than a stream has in its window.
const QUEUE: usize = 4096;

/// An open channel. It is over when `from` ends.
pub(crate) struct Channel {
    pub(crate) to: mpsc::Sender<Vec<u8>>,
    pub(crate) from: mpsc::Receiver<Vec<u8>>,
}

/// Why a channel is not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("failed to open a channel")]
    Open {
        #[source]
        source: BoxError,
    },
    #[error("the message gateway answered {status}")]
    Refused { status: StatusCode },
}

impl ChannelError {
    /// The gateway's own word, or that there is nobody to ask: it will be the same soon after.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Call(CallError::Credentials { .. }) => true,
            Self::Call(error) => error.fault().is_some_and(|it| it.status.is_client_error()),
            _ => false,
        }
    }
}

pub(crate) type Opening<'a> = BoxFuture<'a, Result<Channel, ChannelError>>;

/// What an agent needs of the other side.
pub(crate) trait Gateway: Send + Sync + 'static {
    fn tell(&self, what: UpdateInstanceInformationRequest) -> BoxFuture<'_, Result<(), CallError>>;
    fn control<'a>(&'a self, instance: &'a str) -> Opening<'a>;
    fn data<'a>(&'a self, session: &'a str, client: &'a str) -> Opening<'a>;
}

/// The region's.
pub(crate) struct MessageGateway {
    client: Client,
    endpoints: Endpoints,
    http: HttpClient,
    instance: String,
    scope: Scope,
}

impl MessageGateway {
    pub(crate) fn new(
        client: Client,
        endpoints: Endpoints,
        ca_pem: Option<&str>,
        instance: &str,
        scope: Scope,
    ) -> io::Result<Self> {
        let tls = ca_pem.map(|it| transport::tls::client(it, None)).transpose()?;
        let http = HttpClient::new(Place::Here, tls, LIMIT);
        Ok(Self { client, endpoints, http, instance: instance.to_owned(), scope })
    }

    async fn open(&self, path: String, token: String) -> Result<Channel, ChannelError> {
        let failed = |source: BoxError| ChannelError::Open { source };
        let service = service::find("ssmmessages").ok_or_else(|| failed("unknown".into()))?;
        let url = self.endpoints.url(service, self.client.region());
        let request = Request::get(format!("{}{path}", url.trim_end_matches('/')))
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, generate_key())
            .body(transport::empty())
            .map_err(|it| failed(it.into()))?;
        let mut response = self.http.send(request).await.map_err(|it| failed(it.into()))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ChannelError::Refused { status: response.status() });
        }
        let upgrading = tokio::time::timeout(LIMIT, hyper::upgrade::on(&mut response)).await;
        let socket = upgrading.map_err(|it| failed(it.into()))?.map_err(|it| failed(it.into()))?;
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(socket), Role::Client, None);
        let open = OpenChannel {
            message_schema_version: SCHEMA.to_owned(),
            request_id: entropy::uuid(),
            token_value: token,
            client_instance_id: Some(self.instance.clone()),
            client_id: Some(entropy::uuid()),
            client_version: None,
        };
        let mut socket = socket.await;
        let first = serde_json::to_string(&open).map_err(|it| failed(it.into()))?;
        socket.send(Message::text(first)).await.map_err(|it| failed(it.into()))?;
        let (to, outgoing) = mpsc::channel(QUEUE);
        let (incoming, from) = mpsc::channel(QUEUE);
        drop(self.scope.spawn("channel", carry(socket, outgoing, incoming)));
        Ok(Channel { to, from })
    }
}

impl Gateway for MessageGateway {
    fn tell(&self, what: UpdateInstanceInformationRequest) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async { self.client.call::<UpdateInstanceInformation>(what).await.map(drop) })
    }

    fn control<'a>(&'a self, instance: &'a str) -> Opening<'a> {
        Box::pin(async move {
            let request = CreateControlChannelRequest {
                channel_id: instance.to_owned(),
                message_schema_version: SCHEMA.to_owned(),
                request_id: entropy::uuid(),
            };
            let token = self.client.call::<CreateControlChannel>(request).await?.token_value;
            self.open(format!("{CONTROL_CHANNEL}{instance}?role=subscribe&stream=input"), token)
                .await
        })
    }

    fn data<'a>(&'a self, session: &'a str, client: &'a str) -> Opening<'a> {
        Box::pin(async move {
            let request = CreateDataChannelRequest {
                session_id: session.to_owned(),
                message_schema_version: SCHEMA.to_owned(),
                request_id: entropy::uuid(),
                client_id: client.to_owned(),
            };
            let token = self.client.call::<CreateDataChannel>(request).await?.token_value;
            self.open(format!("{DATA_CHANNEL}{session}?role=publish_subscribe"), token).await
        })
    }
}

/// Both directions, which never wait for each other.
async fn carry<S>(
    socket: WebSocketStream<S>,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
    incoming: mpsc::Sender<Vec<u8>>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = socket.split();
    let receive = async {
        while let Ok(Some(Ok(message))) = tokio::time::timeout(GONE, stream.next()).await {
            let bytes = match message {
                Message::Binary(bytes) => bytes.to_vec(),
                Message::Text(text) => text.as_bytes().to_vec(),
                Message::Close(_) => return,
                _ => continue,
            };
            if incoming.send(bytes).await.is_err() {
                return;
            }
        }
    };
    let send = async {
        loop {
            let message = match tokio::time::timeout(PING, outgoing.recv()).await {
                Ok(Some(bytes)) => Message::Binary(bytes.into()),
                Ok(None) => return,
                Err(_) => Message::Ping(Vec::new().into()),
            };
            if !matches!(tokio::time::timeout(GONE, sink.send(message)).await, Ok(Ok(()))) {
                return;
            }
        }
    };
    tokio::select! {
        () = receive => {}
        () = send => {}
    }
    drop(tokio::time::timeout(LIMIT, sink.close()).await);
}
