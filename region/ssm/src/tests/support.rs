//! A region with instances that are only said to be there; agents and clients that speak the
//! protocol by hand.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_ssm::{
    channel::{
        CreateControlChannel, CreateControlChannelRequest, CreateDataChannel,
        CreateDataChannelRequest, SessionTask, Task,
    },
    instance::{UpdateInstanceInformation, UpdateInstanceInformationRequest},
    message::{self, AgentMessage, payload},
    session::{Parameters, StartSession, StartSessionRequest, StartSessionResponse},
};
use aws_wire::{Fault, Operation};
use clock::Clock;
use futures::{SinkExt, StreamExt};
use jiff::Timestamp;
use lifecycle::Scope;
use parking_lot::Mutex;
use region_gateway::{Caller, CallerKind, Handle};
use region_store::Store;
use serde_json::json;
use tokio::io::DuplexStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use crate::{
    Config, Instance, Instances, Ssm,
    channels::{channels, serve},
};

pub(super) const ACCOUNT: &str = "111122223333";
pub(super) const INSTANCE: &str = "i-00000000000000001";

/// Instances by their ids.
#[derive(Default)]
pub(super) struct World(pub(super) Mutex<BTreeMap<String, Instance>>);

impl Instances for World {
    fn find(&self, id: &str) -> Option<Instance> {
        self.0.lock().get(id).cloned()
    }
}

pub(super) struct Region {
    pub(super) ssm: Ssm,
    pub(super) world: Arc<World>,
    pub(super) store: Store,
    pub(super) scope: Scope,
}

pub(super) fn config(world: &Arc<World>) -> Config {
    Config {
        account: ACCOUNT.into(),
        region: "us-east-1".into(),
        public: BTreeMap::new(),
        instances: world.clone(),
        endpoint: "127.0.0.1:4566".into(),
    }
}

pub(super) fn region() -> Region {
    let (world, store) = (Arc::new(World::default()), Store::in_memory());
    let tags = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
    world.0.lock().insert(INSTANCE.to_owned(), Instance { is_running: true, tags });
    let clock = Clock::simulated(Timestamp::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let ssm = Ssm::open(&store, config(&world), clock).unwrap();
    Region { ssm, world, store, scope: Scope::new() }
}

pub(super) fn user(name: &str) -> Caller {
    Caller {
        arn: format!("arn:aws:iam::{ACCOUNT}:user/{name}"),
        user_id: format!("AIDA{name}"),
        kind: CallerKind::User { name: name.to_owned() },
        ..Caller::root(ACCOUNT, "us-east-1", Timestamp::UNIX_EPOCH)
    }
}

/// An instance, by the credentials of its metadata service.
pub(super) fn instance(id: &str) -> Caller {
    let source = format!("arn:aws:ec2:us-east-1:{ACCOUNT}:instance/{id}");
    let key = "ec2:SourceInstanceArn".to_owned();
    Caller { session_context: BTreeMap::from([(key, source)]), ..stranger(id) }
}

/// Somebody who has taken a role, and an instance's name for the session.
pub(super) fn stranger(id: &str) -> Caller {
    let role_arn = format!("arn:aws:iam::{ACCOUNT}:role/node");
    Caller {
        arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/node/{id}"),
        kind: CallerKind::AssumedRole { role_arn, session: id.to_owned() },
        ..user("x")
    }
}

/// A connection to a channel, from its other end.
pub(super) struct Wire(WebSocketStream<DuplexStream>);

impl Region {
    pub(super) async fn call<O: Operation>(
        &self,
        caller: &Caller,
        request: O::Request,
    ) -> Result<O::Response, Fault>
    where
        Ssm: Handle<O>,
    {
        Handle::<O>::handle(&self.ssm, caller, request).await
    }

    pub(super) async fn connect(&self, path: &str) -> Wire {
        let (near, far) = tokio::io::duplex(4096);
        let serving = serve(self.ssm.clone(), channels(path), far);
        drop(self.scope.spawn("channel", serving));
        Wire(WebSocketStream::from_raw_socket(near, Role::Client, None).await)
    }

    pub(super) async fn open(&self, path: &str, token: &str) -> Wire {
        let mut wire = self.connect(path).await;
        let open = json!({
            "MessageSchemaVersion": "1.0", "RequestId": entropy::uuid(), "TokenValue": token,
        });
        wire.0.send(Message::text(open.to_string())).await.unwrap();
        wire
    }

    /// An agent's control channel, as agents open it.
    pub(super) async fn agent(&self, id: &str) -> Wire {
        let told = UpdateInstanceInformationRequest {
            instance_id: id.to_owned(),
            platform_type: Some("Linux".to_owned()),
            agent_version: Some("3.0.161.0".to_owned()),
            ..Default::default()
        };
        self.call::<UpdateInstanceInformation>(&instance(id), told).await.unwrap();
        let request = CreateControlChannelRequest {
            channel_id: id.to_owned(),
            ..CreateControlChannelRequest::default()
        };
        let made = self.call::<CreateControlChannel>(&instance(id), request).await.unwrap();
        let wire = self.open(&format!("/v1/control-channel/{id}"), &made.token_value).await;
        while !self.ssm.is_connected(id) {
            tokio::task::yield_now().await;
        }
        wire
    }

    pub(super) async fn agents_end(&self, session: &str) -> Wire {
        let request = CreateDataChannelRequest {
            session_id: session.to_owned(),
            ..CreateDataChannelRequest::default()
        };
        let made = self.call::<CreateDataChannel>(&instance(INSTANCE), request).await.unwrap();
        self.open(&format!("/v1/data-channel/{session}"), &made.token_value).await
    }

    pub(super) async fn start(&self, caller: &Caller) -> Result<StartSessionResponse, Fault> {
        let request = StartSessionRequest {
            target: INSTANCE.to_owned(),
            reason: Some("to look".to_owned()),
            parameters: Parameters::new(),
            ..StartSessionRequest::default()
        };
        self.call::<StartSession>(caller, request).await
    }

    pub(super) async fn clients_end(&self, started: &StartSessionResponse) -> Wire {
        let path = format!("/v1/data-channel/{}", started.session_id.as_ref().unwrap());
        self.open(&path, started.token_value.as_ref().unwrap()).await
    }
}

impl Wire {
    pub(super) async fn say(&mut self, kind: &str, sequence: i64, bytes: &[u8]) {
        let message = AgentMessage {
            message_type: kind.to_owned(),
            schema_version: 1,
            created: 1,
            sequence,
            id: entropy::bytes(),
            payload_type: payload::OUTPUT,
            payload: bytes.to_vec(),
            ..AgentMessage::default()
        };
        self.raw(message.encode()).await;
    }

    pub(super) async fn raw(&mut self, bytes: Vec<u8>) {
        self.0.send(Message::Binary(bytes.into())).await.ok();
    }

    /// Answers pings, and takes no notice of anything else, until the scope is over.
    pub(super) fn keep(mut self, scope: &Scope) {
        drop(scope.spawn("wire", async move { while self.hear().await.is_some() {} }));
    }

    /// The next message; `None`: the connection has ended.
    pub(super) async fn hear(&mut self) -> Option<AgentMessage> {
        loop {
            match self.0.next().await? {
                Ok(Message::Binary(bytes)) => return Some(AgentMessage::decode(&bytes).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next message of this kind.
    pub(super) async fn hear_of(&mut self, kind: &str) -> AgentMessage {
        loop {
            let message = self.hear().await.unwrap_or_else(|| panic!("no {kind}"));
            if message.message_type == kind {
                return message;
            }
        }
    }

    /// What an agent is handed.
    pub(super) async fn session(&mut self) -> SessionTask {
        let message = self.hear_of(message::INTERACTIVE_SHELL).await;
        let task: Task = serde_json::from_slice(&message.payload).unwrap();
        serde_json::from_str(&task.content).unwrap()
    }
}
